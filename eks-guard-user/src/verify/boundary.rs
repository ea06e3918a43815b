//! The probe as the command of a run, started as a person would start it; and the same probe, by the same user, without a boundary.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use eks_guard_core::catalogue::probe::{Answer, Plan};

use crate::config::RunConfig;
use crate::verify::collaborators::Collaborators;
use crate::verify::error::VerifyError;

/// Exit codes of the probe itself: nothing reached, reached, not run.
const ANSWERED: [i32; 3] = [0, 1, 2];

/// What is started.
pub(crate) struct Probe<'a> {
    /// Whose command it is.
    pub(crate) config: &'a RunConfig,
    /// Arguments of this program that make it a run.
    pub(crate) flags: Vec<OsString>,
}

impl Probe<'_> {
    /// As the command of a run.
    pub(crate) fn inside(&self, collaborators: &Collaborators) -> Result<Vec<Answer>, VerifyError> {
        let mut command = Command::new("/proc/self/exe");
        command.args(&self.flags).arg("--").args(&self.config.command);
        answers(command, &collaborators.plan)
    }

    /// As a process like any other. Root keeps its capabilities there: what they would allow is worth knowing.
    pub(crate) fn outside(&self, collaborators: &Collaborators) -> Result<Vec<Answer>, VerifyError> {
        let mut words = self.config.command.iter();
        let mut command = Command::new(words.next().cloned().unwrap_or_default());
        command.args(words);
        let account = &self.config.account;
        if !account.is_root() {
            command.uid(account.uid).gid(account.gid);
        }
        answers(command, &collaborators.plan)
    }
}

fn answers(mut command: Command, plan: &Plan) -> Result<Vec<Answer>, VerifyError> {
    let step = VerifyError::step("run the probe");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(&step)?;
    let mut line = serde_json::to_vec(plan).map_err(VerifyError::Answer)?;
    line.push(b'\n');
    if let Some(mut stdin) = child.stdin.take() {
        // A run that could not be started does not read it; its exit code says why.
        stdin.write_all(&line).ok();
    }
    let output = child.wait_with_output().map_err(&step)?;
    let code = output.status.code().unwrap_or_default();
    if output.stdout.is_empty() || !ANSWERED.contains(&code) {
        return Err(VerifyError::NotBuilt(u8::try_from(code).unwrap_or_default()));
    }
    let lines = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).map_err(VerifyError::Answer))
        .collect()
}
