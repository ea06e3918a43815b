//! A report as a table for people, and as JSON and YAML for programs.

use std::io::{self, Write};

use eks_guard_core::catalogue::probe::{Tried, Verdict};
use eks_guard_core::catalogue::report::{ProfileReport, RowReport};

use crate::output;
use crate::telemetry::Colour;
use crate::verify::args::Output;
use crate::verify::envelope::Statement;

/// Prints it.
pub(crate) fn write(
    statement: &Statement,
    output: Output,
    colour: Colour,
    out: &mut dyn Write,
) -> io::Result<()> {
    match output {
        Output::Table => table(statement, colour, out),
        Output::Json => output::json(statement, out),
        Output::Yaml => output::yaml(statement, out),
    }
}

fn table(statement: &Statement, colour: Colour, out: &mut dyn Write) -> io::Result<()> {
    let report = &statement.predicate.report;
    let facts = &report.facts;
    writeln!(
        out,
        "eks-guard {} on kernel {}, boundary of `{}`, {}",
        facts.version, facts.kernel, facts.boundary, facts.time
    )?;
    writeln!(out, "key {}", statement.predicate.public_key)?;
    for gap in &facts.not_closed {
        writeln!(out, "NOT CLOSED {gap}")?;
    }
    for layer in &facts.lost {
        writeln!(out, "LOST {layer}")?;
    }
    for profile in &report.profiles {
        match &profile.not_offered {
            Some(reason) => writeln!(out, "\nprofile {}: not offered: {reason}", profile.title())?,
            None => rows(profile, colour, out)?,
        }
    }
    Ok(())
}

fn rows(profile: &ProfileReport, colour: Colour, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nprofile {}", profile.title())?;
    writeln!(
        out,
        "{:<4}  {:<10}  {:<9}  {:<20}  ROUTE",
        "ID", "RESULT", "WITHOUT", "ERRNO"
    )?;
    for row in &profile.rows {
        let without = row
            .unguarded
            .as_ref()
            .map_or("-", |unguarded| unguarded.result.word());
        let errno = row.evidence.errno.as_deref().unwrap_or("-");
        let result = painted(&row.result, colour);
        writeln!(
            out,
            "{:<4}  {result}  {without:<9}  {errno:<20}  {}{}",
            row.id,
            row.route,
            why(row)
        )?;
    }
    Ok(())
}

fn why(row: &RowReport) -> String {
    row.result
        .reason()
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default()
}

/// Padded to the width of the column; escape sequences have none.
fn painted(result: &Tried, colour: Colour) -> String {
    let word = format!("{:<10}", result.word());
    let code = match result {
        Tried::NotRun(_) | Tried::Verdict(Verdict::Reached) => "31",
        Tried::Verdict(Verdict::Redirected | Verdict::Blocked) => "32",
        Tried::Verdict(Verdict::NotApplicable(_)) => "2",
    };
    match colour {
        Colour::On => format!("\x1b[{code}m{word}\x1b[0m"),
        Colour::Off => word,
    }
}
