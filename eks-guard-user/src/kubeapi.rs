//! Shapes of the Kubernetes API that the guard writes itself.

pub mod condition;
pub mod status;
