//! `eks-guard run` as a person uses it: what passes through the boundary, what does not, and what is left behind.
//! Needs root: real cgroups, namespaces and eBPF.

#[path = "run/boundary.rs"]
mod boundary;
#[path = "run/death.rs"]
mod death;
#[path = "run/hostile.rs"]
mod hostile;
#[path = "run/outside.rs"]
mod outside;
#[path = "run/secrets.rs"]
mod secrets;
#[path = "run/session.rs"]
mod session;
#[path = "run/startup.rs"]
mod startup;
#[path = "run/support.rs"]
mod support;
#[path = "run/terminal.rs"]
mod terminal;
#[path = "run/through.rs"]
mod through;
