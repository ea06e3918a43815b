//! A new person's evening: every command in the documents is run, as it stands there, against a real API server.
//!
//! `sudo` is left out (the suite runs as root, with the variables sudo sets), the built program takes the place of the
//! release build; of `cargo xtask` the demo is played, other tasks are looked up. A comment `# exit code N` says what a command ends with.

#[path = "readme/commands.rs"]
mod commands;
#[path = "readme/evening.rs"]
mod evening;

use anyhow::{Context, Result, ensure};
use rig::documents::{blocks, document, pages};

use crate::commands::commands;
use crate::evening::Evening;

#[test]
fn every_command_of_the_documents_works() -> Result<()> {
    let readme = document("README.md")?;
    let policy = blocks(&readme, "yaml")
        .into_iter()
        .next()
        .context("README.md shows a policy")?;
    let evening = Evening::begin(&policy)?;
    let mut run = 0;
    for name in pages()? {
        for command in commands(&document(&name)?) {
            evening
                .run(&command)
                .with_context(|| format!("{name}: {}", command.line))?;
            run += 1;
        }
    }
    ensure!(run > 10, "the documents show {run} commands only");
    Ok(())
}

#[test]
fn the_program_in_the_readme_is_all_that_is_needed() -> Result<()> {
    let readme = document("README.md")?;
    for needed in [
        "cargo xtask demo",
        "cargo xtask test",
        "run --policy policy.yaml",
        "policy check",
        "sessions show",
    ] {
        ensure!(
            commands(&readme)
                .iter()
                .any(|command| command.line.contains(needed)),
            "README.md does not show {needed:?}"
        );
    }
    ensure!(
        !readme.contains("<!--"),
        "README.md has a gap that waits to be filled"
    );
    Ok(())
}
