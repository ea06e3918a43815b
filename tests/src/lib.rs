//! The rig: a real etcd, kube-apiserver and controller manager, and what tests ask of them.
//! Order of reading: `cluster` starts it, `audit` says what reached it, `guarded` runs a command under eks-guard;
//! `node` puts a node with pods and a network beside it.

pub mod audit;
pub mod balancer;
pub mod bench;
pub mod both;
pub mod cgroups;
pub mod clients;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod conditions;
pub mod daemon;
pub mod demo;
pub mod differential;
pub mod documents;
pub mod guarded;
pub mod http;
pub mod kubeconfig;
pub mod kubelet;
pub mod leash;
pub mod matrix;
pub mod netns;
pub mod node;
pub mod nri;
pub mod options;
pub mod pki;
pub mod place;
pub mod policies;
pub mod probe;
pub mod profiles;
pub mod programs;
pub mod records;
pub mod vm;
pub mod wait;
pub mod workdir;
