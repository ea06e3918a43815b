//! `errands SCRIPT`: runs the steps of a script, one after the other and whatever becomes of them, and prints a JSON document
//! about each: `{"operation", "code", "said"}`. A step is a line `## OPERATION` and the shell lines up to the next.

#![allow(clippy::print_stdout, reason = "standard output is its answer")]

use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result};
use rig::clients::Entry;

fn main() -> Result<()> {
    let script = env::args().nth(1).context("errands SCRIPT")?;
    let text = fs::read_to_string(&script).with_context(|| format!("reading {script}"))?;
    for step in text.split("\n## ").skip(1) {
        let (operation, lines) = step.split_once('\n').context("a step has lines")?;
        let output = Command::new("/bin/sh")
            .args(["-e", "-c", lines])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running {operation}"))?;
        let entry = Entry {
            operation: operation.to_owned(),
            code: output.status.code().unwrap_or(-1),
            said: format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
        };
        println!("{}", serde_json::to_string(&entry)?);
    }
    Ok(())
}
