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
without an answer. N/A: not tried here, for the reason in the last column. The columns \"without\" are the same attempts by the same user
without the boundary, where root has every capability.
";

/// In the reason of a row that the kernel of the machine does not know.
const UNKNOWN: &str = "this kernel does not know it";

/// The page says what the report says. What depends on the machine is not compared: what the same attempts come to without the
/// boundary, why a row is not applicable, and whether the kernel knows a protocol that is refused anyway. A page about another
/// kernel is compared by its routes only.
pub(crate) fn is_up_to_date(report: &Report) -> Result<()> {
    let page = programs::workspace().join("docs/bypass-matrix.md");
    let (found, expected) = (fs::read_to_string(&page).unwrap_or_default(), render(report)?);
    let same_kernel = found.contains(&format!("kernel {}.\n", kernel(report)));
    let (written, tried) = (lines(&found), lines(&expected));
    let differing: Vec<String> = written
        .iter()
        .zip(&tried)
        .filter(|(written, tried)| !written.says_the_same(tried, same_kernel))
        .map(|(written, tried)| format!("{written:?} in the page, {tried:?} found"))
        .collect();
    if written.len() == tried.len() && differing.is_empty() {
        return Ok(());
    }
    let new = programs::workspace().join("target/bypass-matrix.md");
    fs::write(&new, expected)?;
    bail!(
        "{} is out of date; compare it with {}\n{}",
        page.display(),
        new.display(),
        differing.join("\n")
    )
}

/// What of a row is compared.
#[derive(Debug)]
struct Line<'a> {
    id: &'a str,
    route: &'a str,
    words: [&'a str; 2],
    control: &'a str,
    is_unknown_to_the_kernel: bool,
}

impl Line<'_> {
    fn says_the_same(&self, other: &Line<'_>, same_kernel: bool) -> bool {
        let same_words =
            self.words == other.words || self.is_unknown_to_the_kernel || other.is_unknown_to_the_kernel;
        self.id == other.id
            && self.route == other.route
            && (!same_kernel || (same_words && self.control == other.control))
    }
}

fn lines(page: &str) -> Vec<Line<'_>> {
    page.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Line<'_>> {
    let cells: Vec<&str> = text
        .strip_prefix("| ")?
        .strip_suffix(" |")?
        .split(" | ")
        .collect();
    let &[id, route, word, _, root_word, _, closed_by] = cells.as_slice() else {
        return None;
    };
    (id != "Id").then(|| Line {
        id,
        route,
        words: [word, root_word],
        control: closed_by
            .split_once("; ")
            .map_or(closed_by, |(control, _)| control),
        is_unknown_to_the_kernel: closed_by.contains(UNKNOWN),
    })
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
        "\n| Id | Route | run, restricted, {kernel} | without | run, root, {kernel} | without | Closed by |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for (row, as_root) in restricted.rows.iter().zip(&root.rows) {
        let (without, root_without) = (without(row), without(as_root));
        let (word, root_word) = (row.result.word(), as_root.result.word());
        let closed_by = closed_by(row);
        writeln!(
            text,
            "| {} | {} | {word} | {without} | {root_word} | {root_without} | {closed_by} |",
            row.id, row.route
        )?;
    }
    Ok(text)
}

fn without(row: &RowReport) -> &'static str {
    row.unguarded
        .as_ref()
        .map_or("-", |without| without.result.word())
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
