//! Flags, environment and files, checked as a whole: every mistake is reported at once, before anything is touched.

mod args;
pub mod exit;
mod surroundings;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eks_guard_core::policy::Snapshot;

use crate::policy;
use crate::run::user::{self, Account, Sudo, UserError};
use crate::telemetry::chain;
use crate::upstream::{KubeconfigOptions, RunAs};

pub use args::RunArgs;
pub use surroundings::Surroundings;

/// Longest agent or model name.
const MAX_NAME: usize = 128;

/// Everything a run needs to know, checked.
#[derive(Debug)]
pub struct RunConfig {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Folder the command starts in.
    pub directory: PathBuf,
    /// Whose command it is.
    pub account: Account,
    /// Whose kubeconfig is used.
    pub operator: Operator,
    /// Name of the agent.
    pub agent: String,
    /// Claimed model.
    pub model: Option<String>,
    /// What is allowed.
    pub snapshot: Arc<Snapshot>,
    /// Where that stands; none allows discovery only.
    pub policy_files: Vec<PathBuf>,
    /// `--kubeconfig`, absolute.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
    /// `KUBECONFIG` of the environment.
    pub kubeconfig_env: Option<OsString>,
    /// Folder of the records, absolute.
    pub records: PathBuf,
    /// The environment the guard was started with.
    pub variables: Vec<(OsString, OsString)>,
    /// Names that stay in it.
    pub keep_env: Vec<String>,
    /// Who may write start-up files.
    pub startup_files: StartupFiles,
    /// Whether notes are printed.
    pub notes: Notes,
}

/// Whether the command may write what shells and sessions start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupFiles {
    /// It may not: one that is new or changed ends the run.
    Guarded,
    /// It may.
    LeftToCommand,
}

/// The person who started the guard.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Home folder, where the kubeconfig is looked for.
    pub home: PathBuf,
    /// The account that called sudo; `None` when root started the guard itself.
    pub account: Option<Account>,
}

/// Whether the guard says what it set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notes {
    /// Short notes at the start.
    Print,
    /// Errors only.
    Quiet,
}

/// Everything that is wrong, one line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    /// One sentence each: what cannot be done, why, what helps.
    pub problems: Vec<String>,
    /// Exit code.
    pub code: u8,
}

impl ConfigError {
    fn new(machine: Vec<String>, usage: Vec<String>) -> ConfigError {
        let code = if usage.is_empty() {
            exit::MACHINE
        } else {
            exit::USAGE
        };
        ConfigError {
            problems: [machine, usage].concat(),
            code,
        }
    }
}

impl RunConfig {
    /// Checks flags and surroundings.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn check(args: RunArgs, around: &Surroundings) -> Result<RunConfig, ConfigError> {
        let machine = around.problems();
        let mut problems = Vec::new();
        let mut note = |problem: String| problems.push(problem);
        let sudo = Sudo {
            uid: around.variable("SUDO_UID"),
            gid: around.variable("SUDO_GID"),
        };
        let account = user::resolve(args.user.as_deref(), &sudo).map_err(|error| {
            // Who is not root has not used sudo either: `machine` says so, and sudo brings the user along.
            if around.euid == 0 || error != UserError::NoUser {
                note(error.to_string());
            }
        });
        let operator = operator(&sudo, around).map_err(|error| note(error.to_string()));
        let agent = args.agent.unwrap_or_else(|| agent_of(&args.command));
        let names = [("--agent", Some(&agent)), ("--model", args.model.as_ref())];
        let names = names.map(|(what, name)| name.and_then(|name| name_problem(what, name)));
        names.into_iter().flatten().for_each(&mut note);
        let directory = around.directory.as_ref().map_err(|error| {
            note(format!(
                "cannot find the working folder: {error}. Change to a folder that exists"
            ));
        });
        let snapshot = policy::load(&args.policies).map_err(|error| {
            chain(&error).lines().map(str::to_owned).for_each(&mut note);
        });
        let (Ok(account), Ok(operator), Ok(directory), Ok(snapshot), true, true) = (
            account,
            operator,
            directory,
            snapshot,
            problems.is_empty(),
            machine.is_empty(),
        ) else {
            return Err(ConfigError::new(machine, problems));
        };
        let records = args.records.unwrap_or_else(|| around.records());
        Ok(RunConfig {
            command: args.command,
            account,
            operator,
            agent,
            model: args.model,
            snapshot: Arc::new(snapshot),
            policy_files: args.policies,
            kubeconfig: args.kubeconfig.map(|file| directory.join(file)),
            context: args.context,
            kubeconfig_env: around.variable("KUBECONFIG"),
            records: directory.join(records),
            directory: directory.clone(),
            variables: around.variables.clone(),
            keep_env: args.keep_env,
            startup_files: if args.allow_startup_files {
                StartupFiles::LeftToCommand
            } else {
                StartupFiles::Guarded
            },
            notes: if args.quiet { Notes::Quiet } else { Notes::Print },
        })
    }

    /// Home folders below which credentials are hidden.
    #[must_use]
    pub fn homes(&self) -> Vec<PathBuf> {
        vec![
            self.account.home.clone(),
            self.operator.home.clone(),
            PathBuf::from("/root"),
        ]
    }

    /// Where the operator's kubeconfig is looked for, and whose credential plugins are started.
    #[must_use]
    pub fn kubeconfig_options(&self) -> KubeconfigOptions {
        KubeconfigOptions {
            file: self.kubeconfig.clone(),
            context: self.context.clone(),
            kubeconfig_env: self.kubeconfig_env.clone(),
            home: self.operator.home.clone(),
            search_path: self.search_path(),
            run_as: self.operator.account.as_ref().map(|account| RunAs {
                uid: account.uid,
                gid: account.gid,
                home: account.home.clone(),
            }),
        }
    }

    /// Where the operator's credential plugins are looked for.
    #[must_use]
    pub fn search_path(&self) -> Option<OsString> {
        let found = self.variables.iter().find(|(name, _)| name == "PATH");
        found.map(|(_, value)| value.clone())
    }
}

fn operator(sudo: &Sudo, around: &Surroundings) -> Result<Operator, user::UserError> {
    let account = user::invoking(sudo)?;
    let home = || {
        around
            .variable("HOME")
            .map(PathBuf::from)
            .filter(|home| home.is_absolute())
    };
    let home = account.as_ref().map(|account| account.home.clone()).or_else(home);
    Ok(Operator {
        home: home.unwrap_or_else(|| PathBuf::from("/root")),
        account,
    })
}

/// `claude` for `/usr/local/bin/claude`; what has no file name is not found later, and that is what is said then.
fn agent_of(command: &[OsString]) -> String {
    let Some(program) = command.first().filter(|program| !program.is_empty()) else {
        return "command".to_owned();
    };
    let name = Path::new(program).file_name().unwrap_or(program);
    name.to_string_lossy().into_owned()
}

fn name_problem(what: &str, name: &str) -> Option<String> {
    let wrong = name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control);
    wrong.then(|| {
        format!("cannot use {what} {name:?}: give a name of 1 to {MAX_NAME} bytes without control characters")
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use crate::config::{ConfigError, RunArgs, RunConfig, Surroundings, exit};

    fn around(uid: u32, variables: &[(&str, &str)]) -> Surroundings {
        Surroundings {
            euid: uid,
            kernel: "6.12.3-generic".to_owned(),
            directory: Ok(PathBuf::from("/project")),
            variables: variables
                .iter()
                .map(|(name, value)| (OsString::from(name), OsString::from(value)))
                .collect(),
        }
    }

    fn args(command: &str) -> RunArgs {
        RunArgs {
            command: vec![command.into()],
            user: Some("1234:1235".to_owned()),
            ..RunArgs::default()
        }
    }

    fn problems(args: RunArgs, around: &Surroundings) -> ConfigError {
        RunConfig::check(args, around).unwrap_err()
    }

    #[test]
    fn defaults_come_from_the_command_and_the_surroundings() {
        let around = around(0, &[("HOME", "/homes/op"), ("KUBECONFIG", "/k")]);
        let given = RunArgs {
            kubeconfig: Some("k.yaml".into()),
            records: Some("rec".into()),
            ..args("/usr/bin/claude")
        };
        let config = RunConfig::check(given, &around).unwrap();
        assert_eq!(config.agent, "claude");
        assert_eq!(config.kubeconfig, Some("/project/k.yaml".into()));
        assert_eq!(config.records, PathBuf::from("/project/rec"));
        assert_eq!(config.operator.home, PathBuf::from("/homes/op"));
        assert_eq!(config.kubeconfig_env, Some("/k".into()));
        let config = RunConfig::check(args("ls"), &around).unwrap();
        assert_eq!(config.records, PathBuf::from("/var/lib/eks-guard/records"));
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let given = RunArgs {
            user: Some("no-such-user-here".to_owned()),
            agent: Some(String::new()),
            model: Some("a\nb".to_owned()),
            policies: vec!["/no/such/policy.yaml".into()],
            ..args("ls")
        };
        let error = problems(given, &around(1000, &[]));
        let text = error.to_string();
        assert_eq!(error.code, exit::USAGE);
        for part in [
            "sudo",
            "no-such-user-here",
            "--agent",
            "--model",
            "/no/such/policy.yaml",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn the_machine_has_its_own_exit_code() {
        assert_eq!(problems(args("ls"), &around(1000, &[])).code, exit::MACHINE);
        let nobody_named = RunArgs {
            user: None,
            ..args("ls")
        };
        let error = problems(nobody_named, &around(1000, &[]));
        assert_eq!((error.code, error.problems.len()), (exit::MACHINE, 1), "{error}");
        let old = Surroundings {
            kernel: "5.4.0".to_owned(),
            ..around(0, &[])
        };
        let error = problems(args("ls"), &old);
        assert_eq!(error.code, exit::MACHINE);
        assert!(error.to_string().contains("5.4.0"));
    }

    #[test]
    fn plain_root_must_name_a_user() {
        let error = problems(
            RunArgs {
                user: None,
                ..args("ls")
            },
            &around(0, &[("HOME", "/root")]),
        );
        assert_eq!(error.code, exit::USAGE);
        assert!(error.to_string().contains("--user"));
    }
}
