//! `cargo xtask bench`: measurements beside the field, each with targets that hold or do not.

use anyhow::{Result, bail};
use clap::Args;

/// A measurement: prints its table and fails when a target does not hold.
type Bench = (&'static str, fn() -> Result<()>);

const BENCHES: &[Bench] = &[];

#[derive(Args)]
pub(crate) struct Options {
    /// Names of benches; none or `all`: every one
    names: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let known: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
    if let Some(name) = options
        .names
        .iter()
        .find(|name| *name != "all" && !known.contains(&name.as_str()))
    {
        bail!("no bench is named {name}; there are: {}", known.join(", "));
    }
    let all = options.names.is_empty() || options.names.iter().any(|name| name == "all");
    for (name, bench) in BENCHES {
        if all || options.names.iter().any(|wanted| wanted == name) {
            bench()?;
        }
    }
    Ok(())
}
