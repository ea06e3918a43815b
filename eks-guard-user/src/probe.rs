//! Starts `eks-guard-probe`, which tries the routes of the bypass catalogue, as any command or inside a pod, and reads what it
//! found.

pub mod place;
pub mod profile;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};

use eks_guard_core::catalogue::probe::{Answer, Plan};

/// First argument that makes this program enter a pod and start the probe there. Never typed by a person.
pub(crate) const INSIDE: &str = "__probe";
/// Exit codes of the probe itself: nothing reached, reached, not run.
const ANSWERED: [i32; 3] = [0, 1, 2];

/// Why there are no answers.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It cannot be started, or told what to try.
    #[error("cannot run the probe")]
    Run(#[source] io::Error),
    /// The plan or an answer is not what it should be.
    #[error("cannot understand what the probe said")]
    Answer(#[source] serde_json::Error),
    /// It ended without an answer, with this exit code; why stands on standard error.
    #[error("the probe was not run: what stands in the way is said above")]
    Ended(u8),
}

/// Runs the inner process when the first argument asks for it.
#[must_use]
pub fn inner_process(first_argument: &OsStr) -> Option<ExitCode> {
    (first_argument == INSIDE).then(place::main)
}

/// Runs a command that becomes the probe, and waits for all its answers.
///
/// # Errors
/// It does not start, or ends without answers.
pub fn answers(mut command: Command, plan: &Plan) -> Result<Vec<Answer>, ProbeError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(ProbeError::Run)?;
    let mut line = serde_json::to_vec(plan).map_err(ProbeError::Answer)?;
    line.push(b'\n');
    if let Some(mut stdin) = child.stdin.take() {
        // What could not be started does not read it; its exit code says why.
        stdin.write_all(&line).ok();
    }
    let output = child.wait_with_output().map_err(ProbeError::Run)?;
    let code = output.status.code().unwrap_or_default();
    if output.stdout.is_empty() || !ANSWERED.contains(&code) {
        return Err(ProbeError::Ended(u8::try_from(code).unwrap_or_default()));
    }
    let lines = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).map_err(ProbeError::Answer))
        .collect()
}

/// The path by which processes that this one starts can open a file that it holds open.
pub(crate) fn handed(file: &File) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
}
