//! The CustomResourceDefinition in `deploy/crds`: an example of eks-guard-core writes it, and says whether it is old.

use std::process::Command;

use anyhow::Result;

use crate::{paths, process};

/// The file, in the workspace.
const FILE: &str = "deploy/crds/agentpolicies.eks-guard.dev.yaml";

/// Writes the file.
pub(crate) fn write() -> Result<()> {
    process::run_quiet(build(), "building the writer")?;
    process::run(example(&[FILE]), "writing the CustomResourceDefinition")
}

/// What builds the example, with the features that everything else is built with.
pub(crate) fn build() -> Command {
    process::cargo(&["build", "--locked", "--workspace", "--example", "crd"])
}

/// What fails when the file is old.
pub(crate) fn check() -> Command {
    example(&["--check", FILE])
}

fn example(args: &[&str]) -> Command {
    let mut example = process::built("examples/crd");
    example.current_dir(paths::workspace()).args(args);
    example
}
