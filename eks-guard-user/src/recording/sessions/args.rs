//! The arguments of `eks-guard sessions`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::recording::writer::DEFAULT_FOLDER;

const EXAMPLES: &str = "\
Examples:
  sudo eks-guard sessions list --agent reviewer --limit 10
  sudo eks-guard sessions show latest
  sudo eks-guard sessions show latest --refused
  sudo eks-guard sessions show 01a2149c-5eb2 --mutating -o jsonl

Records are root's: read them with sudo. Times are UTC.

Environment:
  EKS_GUARD_STATE_DIR  folder whose `records` folder is read in place of /var/lib/eks-guard

Exit codes: 0 shown, 2 the records cannot be read or there is no such session.";

/// Arguments of `eks-guard sessions`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
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
