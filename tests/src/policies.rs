//! Policies that suites and the demo share.

/// Everything the guard can allow so far.
pub const EVERYTHING: &str = "\
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata:
  name: everything
spec:
  subjects:
    agents: ['*']
  rules:
    - name: everything
      effect: allow
      verbs: ['*']
      apiGroups: ['*']
      resources: ['*', '*/*']
      namespaces: ['*']
";
