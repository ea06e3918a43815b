//! Embeds the eBPF object when it has been built; without it everything but `run` and `node` works.

use std::path::PathBuf;
use std::{env, fs};

#[expect(
    clippy::disallowed_methods,
    reason = "cargo hands a build script its facts through the environment"
)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let object = manifest.join("../target/ebpf/eks-guard.o");
    let embedded = PathBuf::from(env::var("OUT_DIR")?).join("eks-guard.o");
    println!("cargo::rerun-if-changed={}", object.display());
    if object.exists() {
        fs::copy(&object, &embedded)?;
    } else {
        fs::write(&embedded, [])?;
        println!(
            "cargo::warning=no eBPF object yet: `eks-guard run` and `eks-guard node` need one; build it with `cargo xtask build`"
        );
    }
    Ok(())
}
