//! `eks-guard verify`: tries every known way around the boundary of a run or of a node's agents, and signs what it found.

mod args;
mod boundary;
mod collaborators;
mod envelope;
mod error;
mod facts;
mod key;
mod node;
mod render;
#[cfg(test)]
mod tests;
mod watch;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use eks_guard_core::catalogue::Boundary;
use eks_guard_core::catalogue::report::{ProfileReport, Report};
use jiff::Timestamp;

use crate::config::{RunConfig, Surroundings, exit};
use crate::telemetry::{chain, say};
use crate::verify::boundary::Probe;
use crate::verify::collaborators::Collaborators;
use crate::verify::envelope::Statement;
use crate::verify::error::VerifyError;
use crate::verify::key::SigningKey;

pub use crate::verify::args::{Output, VerifyArgs};

/// Exit code: something was reached, or could not be run.
pub const OPEN: u8 = 1;
/// Name of the agent in records and policies.
const AGENT: &str = "eks-guard-verify";
/// The user's own profile: no capability, no new privileges.
const RESTRICTED: &str = "restricted";
/// As user 0, without a capability all the same.
const ROOT: &str = "root";
/// What containers may have and `run` never gives.
const NOT_OFFERED: [&str; 3] = ["default capabilities", "+NET_RAW", "+NET_ADMIN"];
const RUN_IS_NOT_WATCHED: &str = "--watch is for --node: every `eks-guard run` builds a boundary of its own, and \
                                  `verify --run` tries one that is built for it. To try that again and again, call it again and again";
const NO_CAPABILITY: &str = "`run` gives the command no capability whatever";

impl VerifyArgs {
    /// Runs the command. The report goes to `out`; the exit code comes back.
    ///
    /// # Errors
    /// Only when `out` cannot be written.
    pub fn run(&self, around: &Surroundings, out: &mut dyn Write, now: Timestamp) -> io::Result<u8> {
        if self.watch && self.boundary {
            say(RUN_IS_NOT_WATCHED);
            return Ok(exit::USAGE);
        }
        if self.watch {
            return match self.watch_node(around, out) {
                Ok(code) => Ok(code),
                Err(VerifyError::Output(error)) => Err(error),
                Err(error) => {
                    say(&chain(&error));
                    Ok(error.code())
                }
            };
        }
        let statement = match &self.check {
            Some(file) => check(file, self.key.as_deref(), out)?,
            None => self.verify(around, now),
        };
        match statement {
            Ok(statement) => {
                let problems = statement.predicate.report.problems();
                render::write(&statement, self.output, self.colour(around), out)?;
                problems.iter().for_each(|problem| say(problem));
                Ok(if problems.is_empty() { 0 } else { OPEN })
            }
            Err(error) => {
                say(&chain(&error));
                Ok(error.code())
            }
        }
    }

    fn verify(&self, around: &Surroundings, now: Timestamp) -> Result<Statement, VerifyError> {
        let (report, state) = if self.node {
            self.verify_node(around, now)?
        } else {
            (self.verify_run(around, now)?, around.state())
        };
        let key = SigningKey::open(&state)?;
        let statement = Statement::new(report, facts::subjects(&self.probe()?)?, &key);
        if let Some(file) = &self.report {
            let text = envelope::sign(&statement, &key)?;
            fs::write(file, text).map_err(VerifyError::at("write the report", file))?;
        }
        Ok(statement)
    }

    fn verify_run(&self, around: &Surroundings, now: Timestamp) -> Result<Report, VerifyError> {
        let probe = self.probe()?;
        let first = RunConfig::check(self.run_args(&probe, self.user.clone()), around)?;
        let upstream = crate::upstream::load(&first.kubeconfig_options())?;
        let facts = facts::facts(around, &upstream, &first, now)?;
        let mut profiles = Vec::new();
        if first.account.is_root() {
            profiles.push(ProfileReport::not_offered(
                RESTRICTED,
                "the command was to run as root: see that profile",
            ));
        } else {
            profiles.push(self.profile(RESTRICTED, &first, &upstream)?);
        }
        profiles.extend(NOT_OFFERED.map(|name| ProfileReport::not_offered(name, NO_CAPABILITY)));
        let as_root = RunConfig::check(self.run_args(&probe, Some("root".to_owned())), around)?;
        profiles.push(self.profile(ROOT, &as_root, &upstream)?);
        Ok(Report { facts, profiles })
    }

    /// The same attempts outside and inside, by the same user.
    fn profile(
        &self,
        name: &str,
        config: &RunConfig,
        upstream: &crate::upstream::Upstream,
    ) -> Result<ProfileReport, VerifyError> {
        let account = &config.account;
        let probe = Probe {
            config,
            flags: self.run_flags(&account.name),
        };
        say(&format!(
            "trying every route as {} without the boundary, then inside it",
            account.name
        ));
        let outside = probe.outside(&Collaborators::start(upstream)?)?;
        let inside = probe.inside(&Collaborators::start(upstream)?)?;
        Ok(ProfileReport::new(Boundary::Run, name, &inside, &outside))
    }

    pub(crate) fn probe(&self) -> Result<PathBuf, VerifyError> {
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("eks-guard-probe"));
        let path = self
            .probe
            .clone()
            .or_else(beside)
            .unwrap_or_else(|| "eks-guard-probe".into());
        fs::canonicalize(&path).map_err(|source| VerifyError::NoProbe { path, source })
    }
}

/// A report that was written earlier, here or elsewhere.
fn check(file: &Path, key: Option<&str>, out: &mut dyn Write) -> io::Result<Result<Statement, VerifyError>> {
    let text = fs::read(file).map_err(VerifyError::at("read the report", file));
    let checked = text.and_then(|text| envelope::open(&text, key));
    if let Ok(statement) = &checked {
        let signer = &statement.predicate.public_key;
        let trust = if key.is_some() {
            "by the given key"
        } else {
            "by the key it names; compare that key, or give --key"
        };
        writeln!(out, "signature valid, {trust}: {signer}")?;
    }
    Ok(checked)
}

/// Codes of a run that did not start are passed on; they say whose turn it is.
pub(crate) const fn not_built(code: u8) -> u8 {
    match code {
        exit::MACHINE | exit::API_SERVER => code,
        _ => exit::USAGE,
    }
}
