//! kubectl through the guard: what is allowed is as if the guard were not there; what is refused never reaches the API server.

use anyhow::{Result, ensure};
use rig::cluster::shared;

#[test]
fn smoke() -> Result<()> {
    let cluster = shared()?;
    let guarded = rig::guarded::Guarded::new(cluster, "smoke", rig::policies::EVERYTHING)?;
    let out = guarded.kubectl(&["get", "namespaces", "-v=6"])?;
    println!("{} \n{}\n{}", out.code, out.stdout, out.stderr);
    ensure!(out.code == 0);
    Ok(())
}
