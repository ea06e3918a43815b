//! `eks-guard sessions`: what the records say, for people and for programs.

mod args;
mod error;
mod line;
mod list;
mod reader;
mod show;
mod text;

use std::io::Write;

use jiff::Timestamp;

use crate::recording::sessions::reader::Folder;

pub use crate::recording::sessions::args::{
    ListArgs, ListOutput, SessionsArgs, SessionsCommand, ShowArgs, ShowOutput,
};
pub use crate::recording::sessions::error::SessionsError;

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

#[cfg(test)]
mod tests;
