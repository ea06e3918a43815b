//! Reading records from disk: one line at a time, whatever a crash, a full disk or a newer version left in them.

use std::fs::{File, read_dir};
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use crate::recording::sessions::error::SessionsError;
use crate::recording::sessions::line::Line;
use crate::recording::writer::{EXTENSION, MAX_LINE, is_session_name};

/// The folder of the records.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The ids of all sessions, in the order of their names.
    pub(super) fn sessions(&self) -> Result<Vec<String>, SessionsError> {
        let failed = |source: io::Error| {
            let (hint, source) = if source.kind() == io::ErrorKind::NotFound {
                (
                    "there is no such folder; nothing was recorded yet, or --records is wrong",
                    None,
                )
            } else if source.kind() == io::ErrorKind::PermissionDenied {
                ("records are root's; run it with sudo", None)
            } else {
                ("check the folder", Some(source))
            };
            SessionsError::Folder {
                folder: self.path.clone(),
                hint,
                source,
            }
        };
        let mut names = Vec::new();
        for entry in read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let file_name = entry.file_name();
            let name = file_name
                .to_str()
                .and_then(|name| name.strip_suffix(&format!(".{EXTENSION}")));
            if let Some(name) = name.filter(|name| is_session_name(name))
                && entry.file_type().is_ok_and(|kind| kind.is_file())
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The session a person means: an id, the beginning of one, or `latest`.
    pub(super) fn find(&self, wanted: &str) -> Result<String, SessionsError> {
        let sessions = self.sessions()?;
        if sessions.is_empty() {
            return Err(SessionsError::Empty {
                folder: self.path.clone(),
            });
        }
        let unknown = || SessionsError::Unknown {
            name: wanted.to_owned(),
            folder: self.path.clone(),
        };
        if wanted == "latest" {
            let mut latest = None;
            for session in sessions {
                let started = self.open(&session)?.first_time();
                latest = latest.max(Some((started, session)));
            }
            return latest.map(|(_, session)| session).ok_or_else(unknown);
        }
        if sessions.iter().any(|session| session == wanted) {
            return Ok(wanted.to_owned());
        }
        let mut matching: Vec<_> = sessions
            .into_iter()
            .filter(|session| session.starts_with(wanted))
            .collect();
        match (matching.len(), matching.pop()) {
            (1, Some(session)) => Ok(session),
            (0, _) | (_, None) => Err(unknown()),
            (count, Some(_)) => Err(SessionsError::Ambiguous {
                name: wanted.to_owned(),
                count,
            }),
        }
    }

    pub(super) fn open(&self, session: &str) -> Result<Lines, SessionsError> {
        let path = self.path.join(session).with_added_extension(EXTENSION);
        let file = File::open(&path).map_err(|source| SessionsError::Record {
            path: path.clone(),
            source,
        })?;
        // The writer holds the lock for as long as the session runs; a killed one's lock is gone.
        let running = match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => flock(&file, FlockOperation::Unlock).is_err(),
            Err(_) => true,
        };
        Ok(Lines {
            reader: BufReader::with_capacity(64 * 1024, file),
            path,
            running,
            damaged: 0,
            line: Vec::new(),
        })
    }
}

/// The lines of one record, as far as they are whole.
pub(super) struct Lines {
    reader: BufReader<File>,
    path: PathBuf,
    running: bool,
    damaged: u64,
    line: Vec<u8>,
}

impl Lines {
    /// Whether the session's guard is alive.
    pub(super) fn running(&self) -> bool {
        self.running
    }

    /// How many lines were passed over so far.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The next event, with the line it stands in; lines that are not whole events are counted and passed over.
    pub(super) fn next(&mut self) -> Result<Option<(Line, &str)>, SessionsError> {
        let event = loop {
            if !self.read_line()? {
                return Ok(None);
            }
            let whole = self.line.last() == Some(&b'\n') && std::str::from_utf8(&self.line).is_ok();
            match Line::parse(&self.line).filter(|_| whole) {
                Some(event) => break event,
                None if self.line.iter().all(u8::is_ascii_whitespace) => {}
                // The writer may be in the middle of the last line.
                None if self.running && self.line.last() != Some(&b'\n') => {}
                None => self.damaged += 1,
            }
        };
        let text = std::str::from_utf8(&self.line).unwrap_or_default().trim_end();
        Ok(Some((event, text)))
    }

    /// Reads one line into the buffer, at most as much of it as a line may be long; false at the end.
    fn read_line(&mut self) -> Result<bool, SessionsError> {
        self.line.clear();
        let limit = MAX_LINE as u64 + 1;
        let mut read = (&mut self.reader).take(limit).read_until(b'\n', &mut self.line);
        if self.line.len() > MAX_LINE && self.line.last() != Some(&b'\n') {
            read = read.and(self.reader.skip_until(b'\n'));
            self.line.truncate(1);
            self.line.push(b'\n');
        }
        read.map(|bytes| bytes > 0 || !self.line.is_empty())
            .map_err(|source| SessionsError::Record {
                path: self.path.clone(),
                source,
            })
    }

    /// When the session started, for finding the latest; text in RFC 3339 sorts as time does.
    fn first_time(mut self) -> String {
        match self.next() {
            Ok(Some((line, _))) => line.time,
            Ok(None) | Err(_) => String::new(),
        }
    }
}
