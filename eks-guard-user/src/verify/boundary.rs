//! The probe as the command of a run, started as a person would start it; and the same probe, by the same user, without a boundary.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use eks_guard_core::catalogue::probe::Answer;

use crate::config::RunConfig;
use crate::probe::answers;
use crate::verify::collaborators::Collaborators;
use crate::verify::error::VerifyError;

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
        Ok(answers(command, &collaborators.plan)?)
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
        Ok(answers(command, &collaborators.plan)?)
    }
}
