//! Prints the verdict matrix that the suites have left in a folder: `matrix FOLDER`. Exit code 1: something was reached.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use rig::matrix::shown;

fn main() -> Result<ExitCode> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let columns = shown::read(&folder.context("usage: matrix FOLDER")?)?;
    write!(io::stdout().lock(), "{}", shown::table(&columns))?;
    Ok(
        if columns.iter().any(|column| column.reached().next().is_some()) {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        },
    )
}
