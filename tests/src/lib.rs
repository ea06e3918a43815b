//! The rig: a real test cluster, and what tests ask of it.

pub mod bench;
