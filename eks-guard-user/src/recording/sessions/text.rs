//! Text that agents chose, on an operator's terminal: nothing in it may act on the terminal or hide.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write;

use serde_json::Value;

use crate::output::{acts_or_hides, visible};
use crate::recording::sessions::error::SessionsError;

/// [`visible`] for JSON text, where such characters stand inside strings only: they become `\uXXXX`, which reads back as
/// the very same string.
pub(super) fn visible_json(json: &str) -> Cow<'_, str> {
    let unsafe_here = |c: char| acts_or_hides(c) && c != '\n';
    if !json.chars().any(unsafe_here) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len() + 16);
    let mut units = [0; 2];
    for c in json.chars() {
        if !unsafe_here(c) {
            safe.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut units) {
            write!(safe, "\\u{unit:04x}").expect("a String takes everything");
        }
    }
    Cow::Owned(safe)
}

/// [`visible`] for every string in a value, names of fields included.
pub(super) fn visible_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(visible(&text).into_owned()),
        Value::Array(items) => Value::Array(items.into_iter().map(visible_value).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| (visible(&name).into_owned(), visible_value(value)))
                .collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// A remark about lines that could not be read.
pub(super) fn remark_damage(
    remarks: &mut dyn Write,
    session: &str,
    damaged: u64,
) -> Result<(), SessionsError> {
    if damaged == 0 {
        return Ok(());
    }
    let lines = if damaged == 1 {
        "1 line".to_owned()
    } else {
        format!("{damaged} lines")
    };
    writeln!(
        remarks,
        "note: {lines} of {} could not be read (cut off or damaged)",
        visible(session)
    )
    .map_err(SessionsError::Output)
}

/// Columns with two spaces between them, as wide as their widest cell; the last column is as long as it is.
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(header: [&str; N]) -> Self {
        Self {
            rows: vec![header.map(str::to_owned)],
        }
    }

    /// Adds a row; cells are made safe to print here, so that no caller can forget it.
    pub(super) fn row(&mut self, cells: [Cow<'_, str>; N]) {
        self.rows.push(cells.map(|cell| {
            let cell = visible(&cell);
            if cell.is_empty() {
                "-".to_owned()
            } else {
                cell.into_owned()
            }
        }));
    }

    pub(super) fn render(&self) -> String {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                write!(line, "{cell:width$}  ").expect("a String takes everything");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}
