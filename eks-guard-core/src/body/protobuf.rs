//! Kubernetes protobuf bodies (`k8s\0` + `runtime.Unknown`) of the kinds clients write that way.
