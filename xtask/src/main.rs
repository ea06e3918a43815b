//! Every automation of the project, one subcommand a file.

mod ebpf;

use std::path::Path;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask stands in the workspace")?;
    ebpf::build(workspace)?;
    Ok(())
}
