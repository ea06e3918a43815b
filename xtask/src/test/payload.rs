//! What the guests of the suite `kernels` run: the compiled suite `netns`, put where that suite looks for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::setup::link;
use crate::{console, paths, process};

const SUITE: &str = "netns";

pub(super) fn build() -> Result<()> {
    console::step("building the tests that guests run");
    let mut cargo = process::cargo(&["test", "--locked", "--workspace", "--test", SUITE, "--no-run"]);
    cargo
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit());
    let output = cargo.output().context("starting cargo test")?;
    ensure!(
        output.status.success(),
        "the suite {SUITE} does not compile; the compiler's message is above"
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let built =
        executable(&messages).with_context(|| format!("cargo names no executable of suite {SUITE}"))?;
    let folder = paths::workspace().join("target/rig/guest");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    link(&built, &folder.join(SUITE))
}

/// The program that cargo made of the suite: the only one whose name is the suite's with a hash.
fn executable(messages: &str) -> Option<PathBuf> {
    let mut named = messages.lines().filter_map(|message| {
        let path = message.split_once("\"executable\":\"")?.1.split('"').next()?;
        Path::new(path)
            .file_name()?
            .to_str()?
            .strip_prefix(SUITE)?
            .strip_prefix('-')?;
        Some(PathBuf::from(path))
    });
    named.next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_executable_among_the_messages() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"executable\":null}\n",
            "{\"reason\":\"compiler-artifact\",\"executable\":\"/w/target/debug/leash\",\"fresh\":true}\n",
            "{\"reason\":\"compiler-artifact\",\"executable\":\"/w/target/debug/deps/netns-0a1b\",\"fresh\":true}\n",
        );
        assert_eq!(
            executable(messages),
            Some(PathBuf::from("/w/target/debug/deps/netns-0a1b"))
        );
        assert_eq!(executable("{\"executable\":\"/w/target/debug/netns\"}"), None);
    }
}
