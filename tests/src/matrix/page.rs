//! `docs/bypass-matrix.md`: one row for each of the catalogue, one column for each boundary and profile. A cell is the verdict on
//! every kernel that the head of its column names; where they differ it names them.

use std::{fmt, fs};

use anyhow::{Result, bail, ensure};
use eks_guard_core::catalogue::rows;

use crate::matrix::{Column, Group, Head, RUN, Series, UNKNOWN_CELL};
use crate::programs;

const INTRODUCTION: &str = "\
# Bypass matrix

Every route of the bypass catalogue (`eks-guard-core/src/catalogue`), and what became of it: in the boundary of `eks-guard run`, and in
agents' pods on a node that `eks-guard node` guards. A column is a boundary and a profile, and names the kernels it was tried on. A cell
is the verdict on all of them; where they differ, it says which is whose. `cargo xtask test verify` tries all routes on this machine's
kernel, `cargo xtask test kernels` in guests with Debian's 6.1 and 6.12; both compare this page with what they found. When they differ
they say which rows, and write the page anew into `target`. On your own machines: `sudo eks-guard verify --run` and `eks-guard verify
--node`.

REACHED: the boundary does not hold. REDIRECTED: the guard answered in place of the API server. BLOCKED: refused, dropped, or closed
without an answer. N/A: not tried here; the last columns say what to look at instead, or which test tries it. N/A (kernel): this kernel
does not know it. Columns \"without\" are the same attempts by the same user without the boundary; they depend on the machine and are not
compared.

`run` gives its command no capability, whoever it is. Before 6.12 it closes row P11 by programs that take a kernel that tells its own types
(`CONFIG_DEBUG_INFO_BTF`). In a pod the runtime's system call filter is left out. A pod in the node's network has capabilities in no column: that must be refused at admission
(rows P10, N17, N18, P11). On kernels before 6.6 another layer guards the pod's cable ([node.md](node.md)).
";

const WITHOUT: &str = "without ";
const CLOSED: (&str, &str) = ("Closed in ", " by");
/// In what order profiles stand; others come behind.
const ORDER: [&str; 6] = [
    "restricted",
    "root",
    "default capabilities",
    "+NET_RAW",
    "+NET_ADMIN",
    "hostNetwork",
];

/// What is to be thought of a kernel that the page has no column about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherKernel {
    /// Somebody's machine: nothing.
    Passed,
    /// The page must have it.
    Missed,
}

/// The page says what the columns say; what depends on the machine is not compared.
pub fn is_up_to_date(name: &str, found: &[Column], other_kernel: OtherKernel) -> Result<()> {
    let path = programs::workspace().join("docs/bypass-matrix.md");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let page = read(&text).unwrap_or_default();
    ensure!(
        found.iter().all(|column| column.cells.len() == rows().count()),
        "a report lacks rows"
    );
    let in_page = |column: &Column| page.iter().find(|other| other.head == column.head);
    let differing: Vec<String> = found
        .iter()
        .filter_map(|column| Some(differences(in_page(column)?, column)))
        .flatten()
        .collect();
    // Whoever has a kernel of the page keeps it up to date.
    let is_kept = |column: &&Column| match column.head {
        Head::Tried(_, series) if other_kernel == OtherKernel::Passed && !page.is_empty() => page
            .iter()
            .any(|other| matches!(other.head, Head::Tried(_, known) if known == series)),
        Head::Tried(..) | Head::Without(_) | Head::Closed(_) => true,
    };
    let missing = found.iter().filter(|column| in_page(column).is_none());
    let missing: Vec<String> = missing
        .filter(is_kept)
        .map(|column| column.head.to_string())
        .collect();
    if differing.is_empty() && missing.is_empty() {
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
    if matches!(written.head, Head::Without(_)) {
        return Vec::new();
    }
    let says_the_same = |one: &str, other: &str| {
        // What a kernel does not know is refused as well; which of both it is depends on its modules.
        let refused = |cell: &str| [UNKNOWN_CELL, "BLOCKED", "N/A"].contains(&cell);
        one == other || ([one, other].contains(&UNKNOWN_CELL) && refused(one) && refused(other))
    };
    let cells = written.cells.iter().zip(&found.cells).zip(rows());
    cells
        .filter(|((written, found), _)| !says_the_same(written, found))
        .map(|((written, cell), row)| {
            format!(
                "{}: {}: {written:?} in the page, {cell:?} found",
                row.id, found.head
            )
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
    let heads = cells(lines.next()?);
    let table: Vec<Vec<String>> = lines.map(cells).collect();
    let is_catalogue = table.len() == rows().count()
        && table.iter().zip(rows()).all(|(line, row)| {
            line.len() == heads.len() && line[..2] == [row.id.to_owned(), row.route.to_owned()]
        });
    if !is_catalogue {
        return None;
    }
    let mut columns = Vec::new();
    for (at, head) in heads.iter().enumerate().skip(2) {
        for head in Head::read(head)? {
            let cells = table.iter().map(|line| head.cell(&line[at]));
            let cells = cells.collect::<Option<_>>()?;
            columns.push(Column { head, cells });
        }
    }
    Some(columns)
}

impl Head {
    /// All columns that stand in one of the page.
    fn read(text: &str) -> Option<Vec<Self>> {
        let group = |text: &str| {
            let (boundary, profile) = text.split_once(", ")?;
            Some(Group::new(boundary, profile))
        };
        if let Some(of) = text.strip_prefix(WITHOUT) {
            return Some(vec![Self::Without(group(of)?)]);
        }
        let closed = text
            .strip_prefix(CLOSED.0)
            .and_then(|rest| rest.strip_suffix(CLOSED.1));
        if let Some(boundary) = closed {
            return Some(vec![Self::Closed(boundary.to_owned())]);
        }
        let (of, kernels) = text.strip_suffix(')')?.split_once(" (")?;
        let group = group(of)?;
        let tried = |kernel| Some(Self::Tried(group.clone(), Series::of(kernel).ok()?));
        kernels.split(", ").map(tried).collect()
    }

    /// Its part of a cell of the page.
    fn cell(&self, text: &str) -> Option<String> {
        let Self::Tried(_, series) = self else {
            return Some(text.to_owned());
        };
        if !text.contains(": ") {
            return Some(text.to_owned());
        }
        let (series, mut parts) = (series.to_string(), text.split("; "));
        parts.find_map(|part| {
            let (kernels, word) = part.split_once(": ")?;
            let is_own = kernels.split(", ").any(|kernel| kernel == series);
            is_own.then(|| word.to_owned())
        })
    }
}

/// The page with these columns in place of those of the same name.
fn render(mut page: Vec<Column>, found: &[Column]) -> String {
    for column in found {
        match page.iter_mut().find(|other| other.head == column.head) {
            Some(old) => *old = column.clone(),
            None => page.push(column.clone()),
        }
    }
    let mut heads = vec!["Id".to_owned(), "Route".to_owned()];
    let mut lines: Vec<Vec<String>> = rows()
        .map(|row| vec![row.id.to_owned(), row.route.to_owned()])
        .collect();
    for (head, cells) in compact(&page) {
        heads.push(head);
        for (line, cell) in lines.iter_mut().zip(cells) {
            line.push(cell);
        }
    }
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = format!(
        "{INTRODUCTION}\n{}|{}\n",
        line(&heads),
        "---|".repeat(heads.len())
    );
    text.extend(lines.iter().map(|cells| line(cells)));
    text
}

/// One column for each boundary and profile, in the order of a reader: verdicts, then what they come to without the boundary,
/// then why.
pub(super) fn compact(columns: &[Column]) -> Vec<(String, Vec<String>)> {
    let mut sorted: Vec<&Column> = columns.iter().collect();
    sorted.sort_by_key(|column| order(&column.head));
    let mut compact: Vec<(String, Vec<String>)> = Vec::new();
    for of_group in sorted.chunk_by(|one, other| one.head.group() == other.head.group()) {
        let head = match &of_group[0].head {
            Head::Tried(group, _) => format!("{group} ({})", names(of_group)),
            head @ (Head::Without(_) | Head::Closed(_)) => head.to_string(),
        };
        let cells = (0..of_group[0].cells.len()).map(|at| verdicts(of_group, at));
        compact.push((head, cells.collect()));
    }
    compact
}

/// `BLOCKED`, or `6.1: N/A; 6.12, 6.18: BLOCKED`.
fn verdicts(columns: &[&Column], at: usize) -> String {
    let mut words: Vec<(&str, Vec<&Column>)> = Vec::new();
    for column in columns {
        let word = column.cells[at].as_str();
        match words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, kernels)) => kernels.push(column),
            None => words.push((word, vec![column])),
        }
    }
    if let [(word, _)] = words[..] {
        return word.to_owned();
    }
    let parts = words
        .iter()
        .map(|(word, columns)| format!("{}: {word}", names(columns)));
    parts.collect::<Vec<_>>().join("; ")
}

/// Kernels of columns.
fn names(columns: &[&Column]) -> String {
    let series = columns.iter().filter_map(|column| match column.head {
        Head::Tried(_, series) => Some(series.to_string()),
        Head::Without(_) | Head::Closed(_) => None,
    });
    series.collect::<Vec<_>>().join(", ")
}

impl Head {
    /// What stands in one column of the page: a kernel is no matter of it.
    fn group(&self) -> (usize, String, String) {
        match self {
            Self::Tried(group, _) => (0, group.boundary.clone(), group.profile.clone()),
            Self::Without(group) => (1, group.boundary.clone(), group.profile.clone()),
            Self::Closed(boundary) => (2, boundary.clone(), String::new()),
        }
    }
}

fn order(head: &Head) -> impl Ord + use<> {
    let (kind, boundary, profile) = head.group();
    let series = match head {
        Head::Tried(_, series) => Some(*series),
        Head::Without(_) | Head::Closed(_) => None,
    };
    let place = ORDER.iter().position(|known| *known == profile);
    (
        kind,
        boundary != RUN,
        boundary,
        place.unwrap_or(ORDER.len()),
        profile,
        series,
    )
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tried(group, series) => write!(f, "{group} ({series})"),
            Self::Without(group) => write!(f, "{WITHOUT}{group}"),
            Self::Closed(boundary) => write!(f, "{}{boundary}{}", CLOSED.0, CLOSED.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(profile: &str, kernel: Series, word: &str) -> Column {
        let mut cells = vec!["BLOCKED".to_owned(); rows().count()];
        cells[3] = word.to_owned();
        Column {
            head: Head::Tried(Group::new("pod", profile), kernel),
            cells,
        }
    }

    #[test]
    fn a_page_holds_every_verdict() {
        let columns = vec![
            column("restricted", Series(6, 1), UNKNOWN_CELL),
            column("restricted", Series(6, 12), "REDIRECTED"),
            column("restricted", Series(6, 18), "REDIRECTED"),
            column("+NET_RAW", Series(6, 1), "N/A"),
            Column {
                head: Head::Closed("pod".to_owned()),
                cells: vec!["by this; and: that".to_owned(); rows().count()],
            },
        ];
        let mut found = columns.clone();
        found.reverse();
        let text = render(Vec::new(), &found);
        assert!(text.contains("| pod, restricted (6.1, 6.12, 6.18) | pod, +NET_RAW (6.1) |"));
        assert!(text.contains("| 6.1: N/A (kernel); 6.12, 6.18: REDIRECTED | N/A |"));
        assert_eq!(read(&text).unwrap(), columns);
    }

    #[test]
    fn what_leads_out_is_told_from_what_is_refused() {
        let written = column("restricted", Series(6, 1), UNKNOWN_CELL);
        let found = |word| differences(&written, &column("restricted", Series(6, 1), word));
        for same in [UNKNOWN_CELL, "BLOCKED", "N/A"] {
            assert!(found(same).is_empty(), "{same}");
        }
        for other in ["REACHED", "REDIRECTED"] {
            assert_eq!(found(other).len(), 1, "{other}");
        }
    }
}
