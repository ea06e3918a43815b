//! The rig: a real etcd, kube-apiserver and controller manager on loopback, and what tests ask of them.
//! Order of reading: `cluster` starts it, `audit` says what reached it, `guarded` runs a command under eks-guard.

pub mod audit;
pub mod bench;
pub mod both;
pub mod cluster;
pub mod command;
pub mod demo;
pub mod guarded;
pub mod http;
pub mod kubeconfig;
pub mod kubelet;
pub mod leash;
pub mod network;
pub mod pki;
pub mod policies;
pub mod probe;
pub mod programs;
pub mod records;
pub mod workdir;
