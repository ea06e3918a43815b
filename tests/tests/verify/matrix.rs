//! `docs/bypass-matrix.md`: what became of every row, in every boundary, under every profile, on the kernel it was tried on. Each
//! test brings its own columns.

use std::fs;

use anyhow::{Result, bail, ensure};
use eks_guard_core::catalogue::report::{Checked, ProfileReport, RowReport};
use eks_guard_core::catalogue::rows;
use rig::programs;

const INTRODUCTION: &str = "\
# Bypass matrix

Every route of the bypass catalogue (`eks-guard-core/src/catalogue`), and what became of it: in the boundary of `eks-guard run`, and in
agents' pods on a node that `eks-guard node` guards. A column is a boundary, a profile and a kernel. `cargo xtask test verify` tries all
routes and compares this page with what it found; when they differ it says which rows, and writes the page anew into `target`. On your
own machines: `sudo eks-guard verify --run` and `eks-guard verify --node`.

REACHED: the boundary does not hold. REDIRECTED: the guard answered in place of the API server. BLOCKED: refused, dropped, or closed
without an answer. N/A: not tried here; the last columns say what to look at instead, or which test tries it. N/A (kernel): this kernel
does not know it. Columns \"without\" are the same attempts by the same user without the boundary; they depend on the machine and are not
compared.

`run` gives its command no capability, whoever it is. In a pod the runtime's system call filter is left out. A pod in the node's network
has capabilities in no column: that must be refused at admission (rows P10, N17, N18, P11).

Suite `kernels` tries the pods' rows on 6.1 and 6.12 as well, without columns of their own here: nothing was reached. On kernels before
6.6 another layer guards the pod's cable ([node.md](node.md)).
";

/// In the reason of a row that the kernel of the machine does not know.
const UNKNOWN: &str = "this kernel does not know it";
const UNKNOWN_CELL: &str = "N/A (kernel)";
const WITHOUT: &str = "without";
const CLOSED: &str = "Closed in";

/// One column of the page.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    header: String,
    cells: Vec<String>,
}

impl Column {
    /// What became of the rows of a profile.
    pub(crate) fn tried(boundary: &str, profile: &ProfileReport, kernel: &str) -> Self {
        let cell = |row: &RowReport| match row.result.reason() {
            Some(reason) if reason.starts_with(UNKNOWN) => UNKNOWN_CELL.to_owned(),
            _ => row.result.word().to_owned(),
        };
        Self {
            header: format!("{boundary}, {}, {}", profile.name, series(kernel)),
            cells: profile.rows.iter().map(cell).collect(),
        }
    }

    /// What the same attempts came to without the boundary.
    pub(crate) fn without(boundary: &str, profile: &ProfileReport) -> Self {
        let cell = |row: &RowReport| {
            let without = row.unguarded.as_ref();
            without.map_or("-", |without| without.result.word()).to_owned()
        };
        Self {
            header: format!("{WITHOUT} {boundary}, {}", profile.name),
            cells: profile.rows.iter().map(cell).collect(),
        }
    }

    fn is_tried(&self) -> bool {
        !self.header.starts_with(WITHOUT) && !self.header.starts_with(CLOSED)
    }

    /// What closes them: the catalogue's own words.
    pub(crate) fn closed_by(boundary: &str, profile: &ProfileReport) -> Self {
        let cell = |row: &RowReport| match (row.checked, row.result.reason()) {
            (Checked::Configuration | Checked::Elsewhere, Some(reason)) => {
                format!("{}; {reason}", row.control)
            }
            _ => row.control.clone(),
        };
        Self {
            header: format!("{CLOSED} {boundary} by"),
            cells: profile.rows.iter().map(cell).collect(),
        }
    }
}

/// `6.18` of `6.18.44-cloud`: what differs between builds of one series is no matter of this page.
fn series(kernel: &str) -> String {
    kernel.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// The page says what the columns say. A column about another kernel than this machine's is not in the page, and so not compared;
/// neither is what depends on the machine.
pub(crate) fn is_up_to_date(name: &str, found: &[Column]) -> Result<()> {
    let path = programs::workspace().join("docs/bypass-matrix.md");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let page = read(&text).unwrap_or_default();
    ensure!(
        found.iter().all(|column| column.cells.len() == rows().count()),
        "a report lacks rows"
    );
    let in_page = |column: &Column| page.iter().find(|other| other.header == column.header);
    let differing: Vec<String> = found
        .iter()
        .filter_map(|column| Some(differences(in_page(column)?, column)))
        .flatten()
        .collect();
    let missing = found.iter().filter(|column| in_page(column).is_none());
    let missing: Vec<&str> = missing.map(|column| column.header.as_str()).collect();
    // Whoever has the kernel of the page keeps it up to date; on another one only the catalogue's own words are compared.
    let kernel = |column: &Column| {
        column
            .header
            .rsplit_once(", ")
            .map(|(_, kernel)| kernel.to_owned())
    };
    let is_other_kernel = !page.is_empty()
        && !page.iter().any(|column| {
            found
                .iter()
                .any(|found| found.is_tried() && kernel(found) == kernel(column))
        });
    if differing.is_empty() && (missing.is_empty() || is_other_kernel) {
        return Ok(());
    }
    let new = programs::workspace().join(format!("target/bypass-matrix-{name}.md"));
    fs::write(&new, render(page, found))?;
    bail!(
        "{} is out of date; compare it with {}\nnew columns: {missing:?}\n{}",
        path.display(),
        new.display(),
        differing.join("\n")
    )
}

/// The rows in which a column of the page is not what was found.
fn differences(written: &Column, found: &Column) -> Vec<String> {
    if written.header.starts_with(WITHOUT) {
        return Vec::new();
    }
    let says_the_same = |one: &str, other: &str| {
        // What a kernel does not know is refused as well; which of both it is depends on its modules.
        let refused = |cell: &str| [UNKNOWN_CELL, "BLOCKED", "N/A"].contains(&cell);
        one == other || ((one == UNKNOWN_CELL || other == UNKNOWN_CELL) && refused(one) && refused(other))
    };
    let header = &found.header;
    let cells = written.cells.iter().zip(&found.cells).zip(rows());
    cells
        .filter(|((written, found), _)| !says_the_same(written, found))
        .map(|((written, found), row)| {
            format!("{}: {}: {written:?} in the page, {found:?} found", row.id, header)
        })
        .collect()
}

/// The columns of the page, without ids and routes; none when it is not about the rows of the catalogue.
fn read(text: &str) -> Option<Vec<Column>> {
    let mut lines = text.lines().filter(|line| line.starts_with("| "));
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_start_matches("| ").trim_end_matches(" |");
        line.split(" | ").map(str::to_owned).collect()
    };
    let headers = cells(lines.next()?);
    let table: Vec<Vec<String>> = lines.map(cells).collect();
    let is_catalogue = table.len() == rows().count()
        && table.iter().zip(rows()).all(|(line, row)| {
            line.len() == headers.len() && line[..2] == [row.id.to_owned(), row.route.to_owned()]
        });
    let column = |(at, header): (usize, &String)| Column {
        header: header.clone(),
        cells: table.iter().map(|line| line[at].clone()).collect(),
    };
    is_catalogue.then(|| headers.iter().enumerate().skip(2).map(column).collect())
}

/// The page with these columns in place of those of the same name; new ones stand before what closes the rows.
fn render(mut page: Vec<Column>, found: &[Column]) -> String {
    for column in found {
        match page.iter_mut().find(|other| other.header == column.header) {
            Some(old) => *old = column.clone(),
            None => page.push(column.clone()),
        }
    }
    // Stable: verdicts first, then what they come to without, then why.
    page.sort_by_key(|column| {
        (
            column.header.starts_with(CLOSED),
            column.header.starts_with(WITHOUT),
        )
    });
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("{INTRODUCTION}\n");
    let headers = page.iter().map(|column| column.header.as_str());
    text.push_str(&line(["Id", "Route"].into_iter().chain(headers).collect()));
    text.push_str(&format!("|{}\n", "---|".repeat(page.len() + 2)));
    for (at, row) in rows().enumerate() {
        let cells = page
            .iter()
            .filter_map(|column| column.cells.get(at))
            .map(String::as_str);
        text.push_str(&line([row.id, row.route].into_iter().chain(cells).collect()));
    }
    text
}
