//! The rooms of the `eks-guard` program, in the order in which one request is handled.

pub mod app;
pub mod cli;
pub mod config;
pub mod drain;
pub mod ebpf;
pub mod identity;
pub mod kubeapi;
pub mod masking;
pub mod metrics;
pub mod policy;
pub mod proxy;
pub mod recording;
pub mod run;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
pub mod upstream;
