//! The rooms of the `eks-guard` program, in groups that follow a run: asked for, built, one request, the ground below.

// What was asked for.
pub mod cli;
pub mod config;
pub mod policy;

// Everything is put together here, and taken down again.
pub mod app;
pub mod node;
// What its nodes tell each other and the cluster.
mod fleet;
// And tried from inside.
pub mod verify;

// One connection and its requests.
pub mod identity;
pub mod proxy;
// The reply's way back.
pub mod kubeapi;
pub mod masking;

// The ground they stand on: the kernel, the record, the command, TLS, the API server's side. None imports another.
pub mod ebpf;
pub mod netlink;
pub mod probe;
pub mod recording;
pub mod run;
pub mod tls;
pub mod upstream;

// Used everywhere.
pub mod drain;
pub mod metrics;
mod output;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
