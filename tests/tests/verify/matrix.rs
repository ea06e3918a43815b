//! `docs/bypass-matrix.md`: what became of every row, under every profile, on the kernel it was tried on.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, bail};
use eks_guard_core::catalogue::report::{ProfileReport, Report, RowReport};
use rig::programs;

const INTRODUCTION: &str = "\
# Bypass matrix

Every route of the bypass catalogue (`eks-guard-core/src/catalogue`), and what became of it in the boundary of `eks-guard run`.
`cargo xtask test verify` tries them and compares this page with what it found; when they differ it writes the page anew to
`target/bypass-matrix.md`. On your own machine: `sudo eks-guard verify --run`.

REACHED: the boundary does not hold. REDIRECTED: the guard answered in place of the API server. BLOCKED: refused, dropped, or closed
without an answer. N/A: not tried here, for the reason in the last column. \"Without\" is the same attempt by the same ordinary user
without the boundary.
";

/// The page says what the report says. A page about another kernel is compared by its rows only.
pub(crate) fn is_up_to_date(report: &Report) -> Result<()> {
    let page = programs::workspace().join("docs/bypass-matrix.md");
    let (found, expected) = (fs::read_to_string(&page).unwrap_or_default(), render(report)?);
    let same_kernel = found.contains(&format!("kernel {}", kernel(report)));
    let ids = |text: &str| -> Vec<String> {
        let cells = text.lines().filter_map(|line| line.strip_prefix("| "));
        cells
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect()
    };
    if found == expected || (!found.is_empty() && !same_kernel && ids(&found) == ids(&expected)) {
        return Ok(());
    }
    let new = programs::workspace().join("target/bypass-matrix.md");
    fs::write(&new, expected)?;
    bail!(
        "{} is out of date; compare it with {}",
        page.display(),
        new.display()
    )
}

fn render(report: &Report) -> Result<String> {
    let (restricted, root) = (profile(report, "restricted")?, profile(report, "root")?);
    let kernel = kernel(report);
    let mut text = format!("{INTRODUCTION}\nTried on kernel {kernel}.\n\n");
    for other in &report.profiles {
        if let Some(reason) = &other.not_offered {
            writeln!(text, "- Profile {}: not offered: {reason}.", other.name)?;
        }
    }
    writeln!(
        text,
        "\n| Id | Route | run, restricted, {kernel} | run, root, {kernel} | Without | Closed by |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    for (row, as_root) in restricted.rows.iter().zip(&root.rows) {
        let without = row
            .unguarded
            .as_ref()
            .map_or("-", |without| without.result.word());
        let (word, root_word) = (row.result.word(), as_root.result.word());
        let closed_by = closed_by(row);
        writeln!(
            text,
            "| {} | {} | {word} | {root_word} | {without} | {closed_by} |",
            row.id, row.route
        )?;
    }
    Ok(text)
}

fn closed_by(row: &RowReport) -> String {
    match row.result.reason() {
        Some(reason) => format!("{}; {reason}", row.control),
        None => row.control.clone(),
    }
}

fn profile<'a>(report: &'a Report, name: &str) -> Result<&'a ProfileReport> {
    let found = report.profiles.iter().find(|profile| profile.name == name);
    found.with_context(|| format!("no profile {name}"))
}

/// `6.18` of `6.18.44-cloud`: what differs between builds of one series is no matter of this page.
fn kernel(report: &Report) -> String {
    report
        .facts
        .kernel
        .split('.')
        .take(2)
        .collect::<Vec<_>>()
        .join(".")
}
