//! Who asks: the process behind a connection, as the kernel knows it, and the principal that policies decide on.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eks_guard_core::principal::Principal;
use eks_guard_core::record::Caller;
use tokio::sync::Semaphore;
use tokio::task;
use tokio::time::timeout;

/// Longest command line that is kept.
const COMMAND_LINE_LIMIT: u64 = 4096;

/// A process can make reads of its own command line hang; so few may wait, and not for long.
const CONCURRENT_READS: usize = 4;
const READ_DEADLINE: Duration = Duration::from_millis(250);

/// Reads callers' facts from `/proc`.
#[derive(Clone, Debug)]
pub struct Callers {
    reads: Arc<Semaphore>,
}

impl Default for Callers {
    fn default() -> Self {
        Self {
            reads: Arc::new(Semaphore::new(CONCURRENT_READS)),
        }
    }
}

impl Callers {
    /// The process that opened a connection. A process that is gone or cannot be read leaves its id only.
    pub async fn caller(&self, pid: u32) -> Caller {
        let unknown = Caller {
            pid,
            ..Caller::default()
        };
        let Ok(permit) = Arc::clone(&self.reads).try_acquire_owned() else {
            return unknown;
        };
        let read = task::spawn_blocking(move || {
            let _permit = permit;
            read_caller(pid)
        });
        match timeout(READ_DEADLINE, read).await {
            Ok(Ok(caller)) => caller,
            Ok(Err(_)) | Err(_) => unknown,
        }
    }
}

/// The principal of a run: the kernel put the connection into the run's cgroup, so the run's agent asks.
#[must_use]
pub fn principal(agent: &str, model_claimed: Option<&str>) -> Principal {
    Principal {
        model_claimed: model_claimed.map(str::to_owned),
        ..Principal::named(agent)
    }
}

/// The guarded command as it was typed, in the form of a caller: its process does not exist yet.
#[must_use]
pub fn command(words: &[OsString]) -> Caller {
    let mut raw = Vec::new();
    for word in words {
        raw.extend_from_slice(word.as_bytes());
        raw.push(0);
    }
    raw.truncate(usize::try_from(COMMAND_LINE_LIMIT).unwrap_or(usize::MAX));
    Caller {
        pid: 0,
        executable: words
            .first()
            .map(|program| program.to_string_lossy().into_owned())
            .unwrap_or_default(),
        command_line: command_line(&raw),
    }
}

fn read_caller(pid: u32) -> Caller {
    let folder = Path::new("/proc").join(pid.to_string());
    let executable = fs::read_link(folder.join("exe")).map_or_else(
        |_| String::new(),
        |path| {
            path.to_string_lossy()
                .chars()
                .filter(|c| !c.is_control())
                .collect()
        },
    );
    let mut raw = Vec::new();
    let read = File::open(folder.join("cmdline"))
        .and_then(|file| file.take(COMMAND_LINE_LIMIT).read_to_end(&mut raw));
    let command_line = if read.is_ok() {
        command_line(&raw)
    } else {
        String::new()
    };
    Caller {
        pid,
        executable,
        command_line,
    }
}

/// Arguments separated by spaces, credentials replaced.
fn command_line(raw: &[u8]) -> String {
    let mut line = String::with_capacity(raw.len());
    let mut previous_was_secret_flag = false;
    for argument in raw
        .split(|&byte| byte == 0)
        .filter(|argument| !argument.is_empty())
    {
        let argument = String::from_utf8_lossy(argument);
        if !line.is_empty() {
            line.push(' ');
        }
        if previous_was_secret_flag && !argument.starts_with('-') {
            line.push_str(REDACTED);
        } else {
            redact_into(&mut line, &argument);
        }
        previous_was_secret_flag =
            argument.starts_with('-') && !argument.contains('=') && names_secret(&argument);
    }
    line
}

const REDACTED: &str = "[redacted]";

/// Words in a flag or variable name whose value is a credential.
const SECRET_WORDS: [&str; 7] = [
    "token",
    "password",
    "passwd",
    "secret",
    "api-key",
    "apikey",
    "credential",
];

/// Starts of texts that are credentials wherever they stand: bearer headers, JWTs, EKS tokens, AWS key ids.
const SECRET_STARTS: [&str; 6] = ["bearer ", "basic ", "eyj", "k8s-aws-v1.", "akia", "asia"];

fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

fn redact_into(line: &mut String, argument: &str) {
    let lower = argument.to_ascii_lowercase();
    let name_end = argument
        .find(['=', ':'])
        .filter(|&end| names_secret(&argument[..end]));
    let secret_start = SECRET_STARTS.iter().filter_map(|start| lower.find(start)).min();
    let authorization = lower.find("authorization:").map(|at| at + "authorization:".len());
    let keep = [name_end.map(|end| end + 1), secret_start, authorization]
        .into_iter()
        .flatten()
        .min();
    let kept = keep.and_then(|keep| argument.get(..keep)).unwrap_or(argument);
    line.extend(kept.chars().map(|c| if c.is_control() { ' ' } else { c }));
    if keep.is_some() {
        line.push_str(REDACTED);
    }
}

#[cfg(test)]
mod tests {
    use super::{Callers, command, command_line};

    #[test]
    fn the_guarded_command_is_shown_as_typed() {
        let command = command(&["./agent.sh", "--token", "abc"].map(Into::into));
        assert_eq!((command.pid, command.executable.as_str()), (0, "./agent.sh"));
        assert_eq!(command.command_line, "./agent.sh --token [redacted]");
    }

    #[test]
    fn command_line_keeps_words_and_hides_credentials() {
        let table = [
            ("kubectl\0get\0pods\0", "kubectl get pods"),
            ("kubectl\0--token=abc\0get\0", "kubectl --token=[redacted] get"),
            ("kubectl\0--token\0abc\0get\0", "kubectl --token [redacted] get"),
            (
                "curl\0-H\0Authorization: Bearer abc\0",
                "curl -H Authorization:[redacted]",
            ),
            ("curl\0-H\0X: eyJhbGciOi\0", "curl -H X: [redacted]"),
            ("env\0DB_PASSWORD=x\0run\0", "env DB_PASSWORD=[redacted] run"),
            ("mysql\0--password\0-v\0", "mysql --password -v"),
            ("sh\0-c\0a\nb\0", "sh -c a b"),
            ("", ""),
        ];
        for (raw, expected) in table {
            assert_eq!(command_line(raw.as_bytes()), expected, "{raw:?}");
        }
    }

    #[tokio::test]
    async fn reads_a_living_process_and_survives_a_dead_one() {
        let callers = Callers::default();
        let own = callers.caller(std::process::id()).await;
        assert!(own.executable.starts_with('/'), "{own:?}");
        assert!(!own.command_line.is_empty());
        let gone = callers.caller(u32::MAX).await;
        assert_eq!(
            (gone.pid, gone.executable.as_str(), gone.command_line.as_str()),
            (u32::MAX, "", "")
        );
    }
}
