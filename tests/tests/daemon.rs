//! `eks-guard node` beside a real API server, with real eBPF: agents go through the guard or nowhere, everybody else is left
//! alone, and death opens nothing. Each test has a daemon of its own on a kubepods root of its own. Needs root.

#[path = "daemon/death.rs"]
mod death;
#[path = "daemon/guard.rs"]
#[allow(dead_code, reason = "shared with another suite")]
mod guard;
#[path = "daemon/proxy.rs"]
mod proxy;
#[path = "daemon/reach.rs"]
mod reach;
