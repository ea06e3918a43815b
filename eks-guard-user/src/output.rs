//! What commands print: documents for programs, columns for people.

use std::io::{self, Write};

use serde::Serialize;

/// Prints a document as JSON, a member a line.
pub(crate) fn json(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let json = serde_json::to_string_pretty(document).map_err(io::Error::other)?;
    writeln!(out, "{json}")
}

/// Prints a document as YAML.
pub(crate) fn yaml(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let yaml = serde_saphyr::to_string(document).map_err(io::Error::other)?;
    write!(out, "{yaml}")
}

/// Prints rows below their head; the last column is not filled up.
pub(crate) fn table<const N: usize>(
    head: &[String; N],
    rows: Vec<[String; N]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let all = || std::iter::once(head).chain(&rows);
    let mut widths = [0; N];
    for row in all() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in all() {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
