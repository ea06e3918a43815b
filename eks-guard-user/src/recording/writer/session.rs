//! A session's file with the lines that begin and end it.

use std::io;
use std::path::Path;

use eks_guard_core::record::{Event, SessionState, Stage};

use crate::recording::RecordError;
use crate::recording::writer::SessionEnd;
use crate::recording::writer::event::{SessionFacts, line, own_event, session_event};
use crate::recording::writer::file::{RecordFile, RecordSink};

/// The file of a session under way. Whoever writes its lines need not be the process that holds it.
#[derive(Debug)]
pub struct SessionFile {
    file: RecordFile,
    facts: SessionFacts,
}

impl SessionFile {
    /// Makes the folder (mode 0700) and the file (mode 0600), and writes the event that starts the session.
    ///
    /// # Errors
    /// The session's name cannot name a file, or the disk refuses any of these steps.
    pub fn open(folder: &Path, facts: SessionFacts) -> Result<Self, RecordError> {
        let file = RecordFile::create(folder, &facts.session)?;
        let mut start = session_event(&facts, SessionState::Started);
        start.caller.clone_from(&facts.command);
        let mut this = Self { file, facts };
        this.write(&start)?;
        Ok(this)
    }

    /// What it is of.
    #[must_use]
    pub fn facts(&self) -> &SessionFacts {
        &self.facts
    }

    /// Says that events may be missing from here, and why nobody knows how many.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn gap(&mut self, why: &str) -> Result<(), RecordError> {
        self.write(&Event {
            message: Some(why.to_owned()),
            ..own_event(&self.facts, Stage::Gap)
        })
    }

    /// Writes the event that ends the session.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn end(&mut self, end: SessionEnd) -> Result<(), RecordError> {
        self.write(&Event {
            exit_code: end.exit_code,
            message: end.message,
            ..session_event(&self.facts, SessionState::Ended)
        })
    }

    fn write(&mut self, event: &Event) -> Result<(), RecordError> {
        let line = line(event)?;
        let written = self.file.append(&line).and_then(|()| self.file.flush());
        written.map_err(|error| RecordError {
            message: format!("writing {} failed: {error}", self.file.path().display()),
        })
    }
}

impl RecordSink for SessionFile {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.append(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn path(&self) -> &Path {
        self.file.path()
    }
}
