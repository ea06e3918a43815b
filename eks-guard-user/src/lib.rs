//! The rooms of the `eks-guard` program, in the order in which one request is handled.

pub mod cli;
pub mod config;
pub mod ebpf;
pub mod recording;
pub mod run;
pub mod telemetry;
pub mod upstream;
