//! What can be typed. Checking what it means is `config`'s work.

pub mod completion;

use clap::{Parser, Subcommand};

use crate::cli::completion::CompletionArgs;
use crate::config::RunArgs;
use crate::node::NodeArgs;
use crate::policy::PolicyArgs;
use crate::recording::sessions::SessionsArgs;
use crate::verify::VerifyArgs;

const START: &str = "\
Start here:
  eks-guard policy check policy.yaml
  sudo eks-guard run --policy policy.yaml --agent my-agent -- kubectl get pods -n shop
  sudo eks-guard sessions show latest

`eks-guard COMMAND --help` has examples and the exit codes.";

/// A production access boundary for AI agents on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "eks-guard", version, after_help = START, max_term_width = 110)]
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
    /// Guard the agents of a Kubernetes node: the program of the DaemonSet
    Node(NodeArgs),
    /// Check policies, and ask what they allow
    Policy(PolicyArgs),
    /// Show what was recorded
    Sessions(SessionsArgs),
    /// Try every known way around the boundary of this machine, and sign what was found
    Verify(VerifyArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
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
