//! A new person's evening: every command in the documents is run, as it stands there, against a real API server.
//!
//! `sudo` is left out (the suite runs as root, with the variables sudo sets), the built program takes the place of the
//! release build; of `cargo xtask` the demo is played, other tasks are looked up. A comment `# exit code N` says what a command ends with.

#[path = "readme/commands.rs"]
mod commands;
#[path = "readme/evening.rs"]
mod evening;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rig::programs;

use crate::commands::{blocks, commands};
use crate::evening::Evening;

fn document(name: &str) -> Result<String> {
    let path = programs::workspace().join(name);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// README.md first: the others build on what it leaves.
fn documents() -> Result<Vec<String>> {
    let mut names = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    let mut pages = Vec::new();
    for page in fs::read_dir(programs::workspace().join("docs"))? {
        let name = page?.file_name().to_string_lossy().into_owned();
        if Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "md")
        {
            pages.push(format!("docs/{name}"));
        }
    }
    pages.sort();
    names.extend(pages);
    Ok(names)
}

#[test]
fn every_command_of_the_documents_works() -> Result<()> {
    let readme = document("README.md")?;
    let policy = blocks(&readme, "yaml")
        .into_iter()
        .next()
        .context("README.md shows a policy")?;
    let evening = Evening::begin(&policy)?;
    let mut run = 0;
    for name in documents()? {
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
