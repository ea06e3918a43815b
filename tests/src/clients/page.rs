//! `docs/compatibility.md`: a table for each client, a row for each operation, a column for each version.

use std::fs;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail, ensure};

use crate::clients::pins;
use crate::programs;

const PAGE: &str = "docs/compatibility.md";
/// Where a page that is out of date is written anew.
const NEW: &str = "target/compatibility.md";
/// What is compatible: the work was done, or it failed in the same way.
pub(super) const SAME: [&str; 2] = ["same as direct", "same error as direct"];
/// An operation that this version was not asked for.
const NONE: &str = "-";

const INTRODUCTION: &str = "\
# Compatibility

Clients as they are released, doing work on a real API server twice at the same time: straight, and through the guard with the same
rights. `cargo xtask test compatible` does it, and fails when a row of this page is not what it found; it then writes the page anew into
`target`. The policy allows everything that can be allowed, Secrets with `masking: None`.

`same as direct`: the same exit code, the same output, and in the end the same objects in the API server, with the same field managers;
times, identities, versions of objects, and ages are left out of the comparison. `same error as direct`: it fails in the same way, as
it has to here: nothing runs the pods of this cluster, and it has no metrics. `refused`: by design, with the reason of
[reasons.md](reasons.md); the audit log of the API server shows that nothing arrived. `differs`: by design, and how.
";

/// What became of the operations of one version of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    client: String,
    version: String,
    cells: Vec<(String, String)>,
}

impl Column {
    /// One without operations.
    #[must_use]
    pub fn new(client: &str, version: &str) -> Self {
        Self {
            client: client.to_owned(),
            version: version.to_owned(),
            cells: Vec::new(),
        }
    }

    /// The next operation.
    pub fn push(&mut self, operation: &str, verdict: &str) {
        self.cells.push((operation.to_owned(), verdict.to_owned()));
    }

    fn is_of(&self, client: &str, version: &str) -> bool {
        self.client == client && self.version == version
    }

    fn count(&self, what: impl Fn(&str) -> bool) -> usize {
        self.cells.iter().filter(|(_, verdict)| what(verdict)).count()
    }
}

/// The page says what was found.
pub fn is_up_to_date(found: &Column) -> Result<()> {
    let page = read(&fs::read_to_string(programs::workspace().join(PAGE)).unwrap_or_default());
    if page.contains(found) {
        return Ok(());
    }
    write_anew(page, found)?;
    bail!(
        "{PAGE} is out of date about {} {}: compare it with {NEW}",
        found.client,
        found.version
    )
}

/// The page is about the clients that are pinned, and about no others.
pub fn is_about_the_pinned_clients() -> Result<()> {
    let text = fs::read_to_string(programs::workspace().join(PAGE)).unwrap_or_default();
    let page = read(&text);
    let pinned = pins::all()?;
    for column in &page {
        let known = pinned
            .iter()
            .any(|(client, version)| column.is_of(client, version));
        ensure!(
            known,
            "{PAGE}: {} {} is no longer pinned",
            column.client,
            column.version
        );
    }
    ensure!(
        page.len() == pinned.len(),
        "{PAGE} is not about all of {pinned:?}"
    );
    ensure!(text == render(&page)?, "{PAGE} is not as it is generated");
    Ok(())
}

/// Tests of one process find their columns one after the other.
fn write_anew(page: Vec<Column>, found: &Column) -> Result<()> {
    static NEWER: Mutex<Option<Vec<Column>>> = Mutex::new(None);
    let mut newer = NEWER.lock().unwrap_or_else(PoisonError::into_inner);
    let columns = newer.get_or_insert(page);
    columns.retain(|column| !column.is_of(&found.client, &found.version));
    columns.push(found.clone());
    fs::write(programs::workspace().join(NEW), render(columns)?)?;
    Ok(())
}

/// The columns of a page.
fn read(text: &str) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    let (mut client, mut first) = ("", 0);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            (client, first) = (name, columns.len());
        }
        let Some(line) = line.strip_prefix("| ").filter(|_| !client.is_empty()) else {
            continue;
        };
        let mut cells = line.trim_end_matches(" |").split(" | ");
        let operation = cells.next().unwrap_or_default();
        if first == columns.len() {
            columns.extend(cells.map(|version| Column::new(client, version)));
            continue;
        }
        for (column, verdict) in columns[first..].iter_mut().zip(cells) {
            if verdict != NONE {
                column.push(operation, verdict);
            }
        }
    }
    columns
}

fn render(columns: &[Column]) -> Result<String> {
    let pinned = pins::all()?;
    let mut text = format!(
        "{INTRODUCTION}\n| Client | Version | Operations | Same as direct | Refused | Differ |\n|---|---|---|---|---|---|\n"
    );
    let mut sections: Vec<(&str, Vec<&Column>)> = Vec::new();
    for (client, version) in &pinned {
        let Some(column) = columns.iter().find(|column| column.is_of(client, version)) else {
            continue;
        };
        text.push_str(&format!(
            "| {client} | {version} | {} | {} | {} | {} |\n",
            column.cells.len(),
            column.count(|verdict| SAME.contains(&verdict)),
            column.count(|verdict| verdict.starts_with("refused")),
            column.count(|verdict| verdict.starts_with("differs")),
        ));
        match sections.iter_mut().find(|(name, _)| name == client) {
            Some((_, columns)) => columns.push(column),
            None => sections.push((client, vec![column])),
        }
    }
    for (client, columns) in sections {
        text.push_str(&section(client, &columns));
    }
    Ok(text)
}

fn section(client: &str, columns: &[&Column]) -> String {
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let versions = columns.iter().map(|column| column.version.as_str());
    let mut text = format!("\n## {client}\n\n");
    text.push_str(&line(std::iter::once("Operation").chain(versions).collect()));
    text.push_str(&format!("|{}\n", "---|".repeat(columns.len() + 1)));
    let mut operations: Vec<&str> = Vec::new();
    for (operation, _) in columns.iter().flat_map(|column| &column.cells) {
        if !operations.contains(&operation.as_str()) {
            operations.push(operation);
        }
    }
    for operation in operations {
        let verdicts = columns.iter().map(|column| {
            let mut cells = column.cells.iter();
            let cell = cells.find(|(name, _)| name == operation);
            cell.map_or(NONE, |(_, verdict)| verdict.as_str())
        });
        text.push_str(&line(std::iter::once(operation).chain(verdicts).collect()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_every_verdict() {
        let kubectl = pins::version("kubectl", "1.31").unwrap();
        let older = pins::version("kubectl", "1.29").unwrap();
        let mut columns = vec![Column::new("kubectl", &kubectl), Column::new("kubectl", &older)];
        columns[0].push("get", SAME[0]);
        columns[0].push("exec", "refused: ConnectRefused");
        columns[1].push("get", SAME[1]);
        let text = render(&columns).unwrap();
        assert!(
            text.contains(&format!("| kubectl | {kubectl} | 2 | 1 | 1 | 0 |")),
            "{text}"
        );
        assert!(text.contains("| exec | refused: ConnectRefused | - |"), "{text}");
        assert_eq!(read(&text), columns);
    }
}
