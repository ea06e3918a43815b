//! The matrix of one run of the suites, for people: what the tests have recorded, as a table.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use eks_guard_core::catalogue::rows;

use crate::matrix::page::compact;
use crate::matrix::{Column, REACHED};

/// What was recorded in a folder.
pub fn read(folder: &Path) -> Result<Vec<Column>> {
    let mut columns: Vec<Column> = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        for line in text.lines() {
            add(&mut columns, Column::read(line)?);
        }
    }
    Ok(columns)
}

/// Two suites may have tried the same: what one reached is reached.
fn add(columns: &mut Vec<Column>, column: Column) {
    let Some(known) = columns.iter_mut().find(|known| known.head == column.head) else {
        columns.push(column);
        return;
    };
    for (known, cell) in known.cells.iter_mut().zip(column.cells) {
        if cell == REACHED {
            *known = cell;
        }
    }
}

/// A line for each row of the catalogue, and one that says whether the boundary holds.
#[must_use]
pub fn table(columns: &[Column]) -> String {
    let mut lines: Vec<String> = ["Id".to_owned()]
        .into_iter()
        .chain(rows().map(|row| row.id.to_owned()))
        .collect();
    for (head, cells) in compact(columns) {
        let width = lines.iter().map(String::len).max().unwrap_or(0) + 2;
        for (line, cell) in lines.iter_mut().zip([head].into_iter().chain(cells)) {
            *line = format!("{line:width$}{cell}");
        }
    }
    let mut text = lines.join("\n");
    let reached: Vec<String> = columns
        .iter()
        .flat_map(|column| column.reached().map(|id| format!("{id}: {}", column.head)))
        .collect();
    let verdicts: usize = columns.iter().map(|column| column.cells.len()).sum();
    let said = if reached.is_empty() {
        "nothing was REACHED".to_owned()
    } else {
        format!("REACHED: {}", reached.join("; "))
    };
    // Writing to a string does not fail.
    write!(text, "\n\n{verdicts} verdicts: {said}\n").ok();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Group, Head, Series};

    fn column(word: &str) -> Column {
        Column {
            head: Head::Tried(Group::new("pod", "restricted"), Series(6, 1)),
            cells: vec![word.to_owned(); rows().count()],
        }
    }

    #[test]
    fn what_one_suite_reached_is_reached() {
        let mut columns = Vec::new();
        for word in ["BLOCKED", REACHED, "BLOCKED"] {
            add(&mut columns, column(word));
        }
        assert_eq!(columns, [column(REACHED)]);
        let text = table(&columns);
        assert!(text.contains("REACHED: N01: pod, restricted (6.1);"), "{text}");
        assert!(table(&[column("BLOCKED")]).ends_with("nothing was REACHED\n"));
    }
}
