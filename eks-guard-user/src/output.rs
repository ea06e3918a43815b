//! What commands print: documents for programs, columns for people, and nothing that acts on a terminal.

use std::borrow::Cow;
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

/// Makes text safe to print: what a terminal would act on, or would not show, is written as `\u{…}`.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts_or_hides) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts_or_hides(c) {
            safe.extend(c.escape_default())
        } else {
            safe.push(c)
        }
    }
    Cow::Owned(safe)
}

/// Control characters, and those that reorder, hide or imitate: bidirectional marks, zero width, separators, tags.
pub(crate) fn acts_or_hides(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}
