//! The rooms of the `eks-guard` program, in the order in which one request is handled.

pub mod ebpf;
pub mod policy;
pub mod recording;
pub mod upstream;
