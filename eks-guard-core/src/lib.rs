//! The pure core of eks-guard: what a request is, whether it may happen, and how it is recorded.
//! No sockets, no clock, no files, no async: time and facts are arguments, so every decision can be replayed.

pub mod body;
pub mod catalogue;
pub mod discovery;
pub mod negotiation;
pub mod policy;
pub mod principal;
pub mod reason;
pub mod record;
pub mod request_info;
pub mod yaml;
