//! `eks-guard sessions`: what the records say, for people and for programs.

mod line;
mod list;
mod reader;
mod show;
mod text;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::recording::sessions::reader::Folder;
use crate::recording::writer::DEFAULT_FOLDER;

/// Arguments of `eks-guard sessions`.
#[derive(Args, Clone, Debug)]
pub struct SessionsArgs {
    /// Folder of the records
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_FOLDER, global = true)]
    pub records: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: SessionsCommand,
}

/// Subcommands of `eks-guard sessions`.
#[derive(Clone, Debug, Subcommand)]
pub enum SessionsCommand {
    /// List recorded sessions, newest last
    List(ListArgs),
    /// Show what happened in one session
    Show(ShowArgs),
}

/// Arguments of `eks-guard sessions list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = ListOutput::Table)]
    pub output: ListOutput,
    /// Sessions of this agent only
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// At most this many, the newest
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Arguments of `eks-guard sessions show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// Session id, its beginning, or `latest`
    #[arg(value_name = "SESSION", default_value = "latest")]
    pub session: String,
    /// Form of the output; jsonl gives the lines as they were written
    #[arg(short, long, value_enum, default_value_t = ShowOutput::Table)]
    pub output: ShowOutput,
    /// Refused requests and connections only
    #[arg(long)]
    pub refused: bool,
    /// Requests that may change something only
    #[arg(long)]
    pub mutating: bool,
}

/// Forms of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListOutput {
    /// Columns for people
    Table,
    /// One JSON array
    Json,
    /// One YAML list
    Yaml,
}

/// Forms of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShowOutput {
    /// Columns for people
    Table,
    /// One JSON array of events
    Json,
    /// One YAML list of events
    Yaml,
    /// One JSON object per line, as recorded
    Jsonl,
}

/// Why sessions cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum SessionsError {
    /// The folder cannot be read.
    #[error("cannot read the records in {folder}: {hint}", folder = folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Cause and remedy in short.
        hint: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// One record cannot be read.
    #[error("cannot read the record {path}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no such session.
    #[error("no session {name:?} in {folder}: `eks-guard sessions list` shows what there is", folder = folder.display())]
    Unknown {
        /// What was asked for.
        name: String,
        /// The folder.
        folder: PathBuf,
    },
    /// More than one session's id starts so.
    #[error("{count} sessions start with {name:?}: write more of the id")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// The output could not be written.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

impl SessionsError {
    /// The reader of the output has gone, as `head` does: nothing to complain about.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Runs one subcommand. Results go to `out`, remarks about damaged lines to `remarks`; a session that still runs has
/// lasted until `now`.
///
/// # Errors
/// The records cannot be read, there is no such session, or the output cannot be written.
pub fn run(
    args: &SessionsArgs,
    out: &mut dyn Write,
    remarks: &mut dyn Write,
    now: Timestamp,
) -> Result<(), SessionsError> {
    let folder = Folder::new(args.records.clone());
    match &args.command {
        SessionsCommand::List(list) => list::run(&folder, list, out, remarks, now),
        SessionsCommand::Show(show) => show::run(&folder, show, out, remarks),
    }
}

/// A remark about lines that could not be read.
fn remark_damage(remarks: &mut dyn Write, session: &str, damaged: u64) -> Result<(), SessionsError> {
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
        text::visible(session)
    )
    .map_err(SessionsError::Output)
}

#[cfg(test)]
mod tests;
