//! The bypass matrix: what became of every row of the catalogue, in every boundary, under every profile, on every kernel.
//! Each test brings its own columns; `page` keeps them in `docs/bypass-matrix.md`, `shown` prints what one run of the suites found.

pub mod page;
pub mod shown;

use std::path::PathBuf;
use std::{env, fmt, fs};

use anyhow::{Context, Result};
use eks_guard_core::catalogue::report::{Checked, ProfileReport, RowReport};
use eks_guard_core::catalogue::rows;
use serde::{Deserialize, Serialize};

/// Names the folder into which columns are written, one JSON document a line; who wants to see them sets it.
pub const FOLDER: &str = "EKS_GUARD_MATRIX";

/// Names of boundaries.
pub const RUN: &str = "run";
/// As [`RUN`].
pub const POD: &str = "pod";

/// A row that this kernel does not know.
const UNKNOWN_CELL: &str = "N/A (kernel)";
/// In the reason of a row that the kernel does not know.
const UNKNOWN: &str = "this kernel does not know it";
const REACHED: &str = "REACHED";

/// One column of the matrix: a cell for each row of the catalogue, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    head: Head,
    cells: Vec<String>,
}

/// What a column is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Head {
    /// Verdicts.
    Tried(Group, Series),
    /// What the same attempts come to without the boundary.
    Without(Group),
    /// What closes the rows of a boundary.
    Closed(String),
}

/// A boundary and a profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Group {
    boundary: String,
    profile: String,
}

/// Major and minor version of a kernel: what differs between builds of one series is no matter of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Series(u32, u32);

impl Column {
    /// What became of the rows of a profile, on the kernel of this release.
    pub fn tried(boundary: &str, profile: &ProfileReport, release: &str) -> Result<Self> {
        let cell = |row: &RowReport| match row.result.reason() {
            Some(reason) if reason.starts_with(UNKNOWN) => UNKNOWN_CELL.to_owned(),
            _ => row.result.word().to_owned(),
        };
        Ok(Self {
            head: Head::Tried(Group::new(boundary, &profile.name), Series::of(release)?),
            cells: profile.rows.iter().map(cell).collect(),
        })
    }

    /// What the same attempts came to without the boundary.
    #[must_use]
    pub fn without(boundary: &str, profile: &ProfileReport) -> Self {
        let cell = |row: &RowReport| {
            let without = row.unguarded.as_ref();
            without.map_or("-", |without| without.result.word()).to_owned()
        };
        Self {
            head: Head::Without(Group::new(boundary, &profile.name)),
            cells: profile.rows.iter().map(cell).collect(),
        }
    }

    /// What closes them: the catalogue's own words.
    #[must_use]
    pub fn closed_by(boundary: &str, profile: &ProfileReport) -> Self {
        let cell = |row: &RowReport| match (row.checked, row.result.reason()) {
            (Checked::Configuration | Checked::Elsewhere, Some(reason)) => {
                format!("{}; {reason}", row.control)
            }
            _ => row.control.clone(),
        };
        Self {
            head: Head::Closed(boundary.to_owned()),
            cells: profile.rows.iter().map(cell).collect(),
        }
    }

    /// Reads a line of [`record`].
    pub fn read(line: &str) -> Result<Self> {
        serde_json::from_str(line).context("reading a column of the matrix")
    }

    /// Rows in which something was reached.
    pub fn reached(&self) -> impl Iterator<Item = &'static str> {
        let cells = self.cells.iter().zip(rows());
        cells.filter(|(cell, _)| *cell == REACHED).map(|(_, row)| row.id)
    }
}

/// Leaves the verdicts among columns under a name of their own to whoever wants to see them.
pub fn record(name: &str, columns: &[Column]) -> Result<()> {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else {
        return Ok(());
    };
    let mut text = String::new();
    for column in columns {
        if matches!(column.head, Head::Tried(..)) {
            text.push_str(&serde_json::to_string(column)?);
            text.push('\n');
        }
    }
    let file = folder.join(name);
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&file, text))
        .with_context(|| format!("writing {}", file.display()))
}

impl Group {
    fn new(boundary: &str, profile: &str) -> Self {
        Self {
            boundary: boundary.to_owned(),
            profile: profile.to_owned(),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.boundary, self.profile)
    }
}

impl Series {
    /// `6.18` of `6.18.44-cloud`.
    fn of(release: &str) -> Result<Self> {
        let mut numbers = release.split(['.', '-']).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self(major, minor)),
            _ => anyhow::bail!("{release:?} is no kernel's release"),
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}
