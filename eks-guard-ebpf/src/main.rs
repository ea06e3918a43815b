//! The kernel programs; built for the BPF target by `cargo xtask build`.
fn main() {}
