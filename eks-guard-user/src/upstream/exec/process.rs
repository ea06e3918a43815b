//! Running a plugin: no terminal, bounded output, bounded time, nothing left running.

use std::io;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use zeroize::Zeroizing;

/// The most a plugin may print; a credential is a few kilobytes.
const MAX_OUTPUT: usize = 256 * 1024;
/// The most of what it says on standard error that is kept; the rest is read and dropped.
const MAX_STDERR: usize = 16 * 1024;
/// The most of it that is shown.
const SHOWN: usize = 300;

/// The output of a plugin, wiped when dropped.
pub(super) type Output = Zeroizing<Vec<u8>>;

/// Why a plugin gave nothing. The text follows the plugin's name.
#[derive(Debug, thiserror::Error)]
pub(super) enum PluginError {
    #[error("cannot be started: {0}")]
    Start(io::Error),
    #[error("did not answer within {} s and was stopped{stderr}: log in first, in another terminal", after.as_secs())]
    Timeout { after: Duration, stderr: String },
    #[error("failed ({status}){stderr}; log in, or run it by hand to see what it lacks")]
    Failed { status: ExitStatus, stderr: String },
    #[error("printed more than {} KiB and was stopped: it is not a credential plugin", MAX_OUTPUT / 1024)]
    TooMuch,
    #[error("could not be read: {0}")]
    Read(io::Error),
}

/// Runs the command and returns what it printed.
pub(super) async fn run(command: Command, timeout: Duration) -> Result<Output, PluginError> {
    let mut command = tokio::process::Command::from(command);
    let mut running = Running(command.kill_on_drop(true).spawn().map_err(PluginError::Start)?);
    let (stdout, stderr) = (running.0.stdout.take(), running.0.stderr.take());
    let mut said = Vec::new();
    let finished = {
        let work = async {
            let (output, (), status) = tokio::try_join!(
                read_output(stdout),
                read_stderr(stderr, &mut said),
                wait(&mut running.0)
            )?;
            Ok::<_, PluginError>((output, status))
        };
        tokio::time::timeout(timeout, work).await
    };
    match finished {
        Ok(Ok((output, status))) if status.success() => Ok(output),
        Ok(Ok((_, status))) => Err(PluginError::Failed {
            status,
            stderr: stderr_text(&said),
        }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(PluginError::Timeout {
            after: timeout,
            stderr: stderr_text(&said),
        }),
    }
}

/// A running plugin; dropped before its end, its whole process group is killed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The id is gone once the child was waited for, and then the group may be somebody else's.
        let group = self
            .0
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(group) = group
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::debug!(%error, "a credential plugin's processes could not be stopped");
        }
    }
}

async fn wait(child: &mut Child) -> Result<ExitStatus, PluginError> {
    child.wait().await.map_err(PluginError::Read)
}

async fn read_output(pipe: Option<impl AsyncRead + Unpin>) -> Result<Output, PluginError> {
    // Filled to its end and never grown: growing would leave a copy of the credential behind.
    let mut buffer = Zeroizing::new(vec![0; MAX_OUTPUT + 1]);
    let mut filled = 0;
    if let Some(mut pipe) = pipe {
        loop {
            let read = pipe
                .read(&mut buffer[filled..])
                .await
                .map_err(PluginError::Read)?;
            filled += read;
            if filled > MAX_OUTPUT {
                return Err(PluginError::TooMuch);
            }
            if read == 0 {
                break;
            }
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

async fn read_stderr(pipe: Option<impl AsyncRead + Unpin>, said: &mut Vec<u8>) -> Result<(), PluginError> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut chunk = [0; 4096];
    loop {
        let read = pipe.read(&mut chunk).await.map_err(PluginError::Read)?;
        if read == 0 {
            return Ok(());
        }
        let room = MAX_STDERR.saturating_sub(said.len());
        said.extend_from_slice(&chunk[..read.min(room)]);
    }
}

fn stderr_text(said: &[u8]) -> String {
    let line = one_line(said);
    if line.is_empty() {
        String::new()
    } else {
        format!(": {line}")
    }
}

/// Foreign text as the end of a one-line error: printable, short, and without anything that looks like a credential.
pub(super) fn one_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    let line = words
        .map(|word| if looks_secret(word) { "[hidden]" } else { word })
        .collect::<Vec<_>>()
        .join(" ");
    if line.chars().count() <= SHOWN {
        return line;
    }
    // The last words of a traceback are the ones that say what happened.
    let skip = line.chars().count() - SHOWN;
    format!("…{}", line.chars().skip(skip).collect::<String>())
}

/// A long run of the characters that tokens and keys are written in. Paths and URLs have shorter runs between their
/// separators; a long one there is hidden too.
fn looks_secret(word: &str) -> bool {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "+_-=%".contains(c);
    word.split(|c| !is_token(c)).any(|run| {
        let digits = run.chars().any(|c| c.is_ascii_digit());
        run.len() >= 32 || run.len() >= 20 && digits
    })
}
