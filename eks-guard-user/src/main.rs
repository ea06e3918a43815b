//! The `eks-guard` program: arguments, logging, run, exit code.
fn main() {}
