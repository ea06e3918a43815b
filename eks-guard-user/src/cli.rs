//! What can be typed. Checking what it means is `config`'s work.

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::config::RunArgs;
use crate::policy::PolicyArgs;
use crate::recording::sessions::SessionsArgs;

const EXIT_CODES: &str = "\
Exit codes of `run`: the command's own (128+N when signal N ended it, 127 when it was not found, 126 when it could not be executed), or, with nothing started:
  2  wrong usage, kubeconfig or policy
  3  this machine cannot hold the boundary: no root, no cgroup2, kernel too old, BPF refused
  4  the API server is unreachable, is not the one of the kubeconfig, or refuses the credential";

/// A production access boundary for AI agents on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "eks-guard", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command inside the boundary: it reaches the API server through the guard, or not at all
    Run(RunArgs),
    /// Check policies, and ask what they allow
    Policy(PolicyArgs),
    /// Show what was recorded
    Sessions(SessionsArgs),
    /// Print a completion script
    Completion {
        /// For which shell
        shell: Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use crate::cli::{Cli, Command};

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_after_the_command_is_the_commands() {
        let cli = Cli::try_parse_from([
            "eks-guard",
            "run",
            "--agent",
            "a",
            "--",
            "ls",
            "--policy",
            "-l",
            "--",
        ])
        .unwrap();
        let Command::Run(run) = cli.command else {
            panic!("not run")
        };
        assert_eq!(run.command, ["ls", "--policy", "-l", "--"]);
        assert!(run.policies.is_empty());
        let cli = Cli::try_parse_from(["eks-guard", "run", "ls", "--agent", "x"]).unwrap();
        let Command::Run(run) = cli.command else {
            panic!("not run")
        };
        assert_eq!((run.command.len(), run.agent), (3, None));
    }

    #[test]
    fn a_command_is_required() {
        assert_eq!(
            Cli::try_parse_from(["eks-guard", "run"]).unwrap_err().exit_code(),
            2
        );
    }
}
