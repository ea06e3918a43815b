//! `eks-guard node` beside a real API server, with real eBPF: agents go through the guard or nowhere, everybody else is left
//! alone, and death opens nothing. Each test has a daemon of its own on a kubepods root of its own. Needs root.

#[path = "daemon/death.rs"]
mod death;
#[path = "daemon/families.rs"]
mod families;
#[path = "daemon/first_connect.rs"]
mod first_connect;
#[path = "daemon/gate.rs"]
mod gate;
#[path = "daemon/others.rs"]
mod others;
#[path = "daemon/policies.rs"]
mod policies;
#[path = "daemon/proxy.rs"]
mod proxy;
#[path = "daemon/reach.rs"]
mod reach;
#[path = "daemon/sandbox.rs"]
mod sandbox;

use rig::daemon as guard;
