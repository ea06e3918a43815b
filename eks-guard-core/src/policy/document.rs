//! The `AgentPolicy` document (`eks-guard.dev/v1alpha1`) as operators write it.
