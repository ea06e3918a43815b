//! Exit codes of the guard itself; everything else is the command's own.

/// Wrong usage, configuration or policy.
pub const USAGE: u8 = 2;
/// This machine cannot hold the boundary: no root, no cgroup2, kernel too old, BPF refused.
pub const MACHINE: u8 = 3;
/// The API server: unreachable, not the one of the kubeconfig, or it refuses the credential.
pub const API_SERVER: u8 = 4;
