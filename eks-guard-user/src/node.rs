//! `eks-guard node`: the guard of all agents on one Kubernetes node.

pub mod addresses;
pub(crate) mod admin;
pub mod agents;
pub mod api_ports;
pub mod api_set;
pub mod cables;
pub mod canaries;
pub mod cgroup;
pub mod config;
pub mod controller;
pub mod daemon;
pub mod enforcement;
pub mod filter;
pub mod kernel;
pub mod kube;
pub mod listener;
pub(crate) mod metrics;
pub(crate) mod namespaces;
pub(crate) mod nri;
pub mod older;
pub mod pods;
pub mod policies;
pub mod programs;
pub mod proxy_process;
pub mod refusals;
pub(crate) mod reporting;
pub mod state;
pub mod status;
pub mod trial;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use crate::config::{Surroundings, exit};
use crate::node::config::{NodeConfig, NodeConfigError};
use crate::node::daemon::Reload;
use crate::node::status::{Status, ask, table};
use crate::output;
use crate::telemetry::{chain, say};

/// The variable that names the node, as a DaemonSet sets it from `spec.nodeName`.
pub(crate) const NODE_NAME: &str = "NODE_NAME";

const EXAMPLES: &str = "\
Examples:
  eks-guard node --config node.yaml --check
  eks-guard node --config node.yaml
  eks-guard node status --config node.yaml -o json
  eks-guard node status --state /var/lib/eks-guard/node
  eks-guard node uninstall --config node.yaml

Exit codes: 0 ended by SIGTERM or SIGINT, 2 wrong configuration, 3 this machine or the cluster cannot be used.
However it ends, agents stay closed off: only `uninstall` opens them.";

/// `eks-guard node …`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct NodeArgs {
    #[command(subcommand)]
    command: Option<NodeCommand>,
    /// The node's configuration (kind NodeConfig)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/eks-guard/node.yaml"
    )]
    config: PathBuf,
    /// Check the configuration and touch nothing
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Show what the daemon guards, and what is wrong
    Status(StatusArgs),
    /// Take the guard off this node; refused while agents run here
    Uninstall,
}

/// `eks-guard node status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The daemon's state folder [default: what the configuration says, even one with mistakes]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How it is printed
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Output,
    /// As JSON; the same as `-o json`
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// How a status is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

impl NodeArgs {
    /// Runs the command. Answers go to `out`; the exit code comes back.
    ///
    /// # Errors
    /// Only when `out` cannot be written.
    pub fn run(self, around: &Surroundings, out: &mut dyn Write) -> io::Result<u8> {
        let node_name = around
            .variable(NODE_NAME)
            .map(|name| name.to_string_lossy().into_owned());
        let config = NodeConfig::load(&self.config, node_name.as_deref());
        if let Some(NodeCommand::Status(args)) = self.command {
            return args.run(&self.config, config, out);
        }
        let config = match config {
            Ok(config) => config,
            Err(error) => {
                say(&chain(&error));
                return Ok(exit::USAGE);
            }
        };
        match self.command {
            None if self.check => {
                writeln!(out, "{}: valid", self.config.display())?;
                Ok(0)
            }
            Some(NodeCommand::Uninstall) => Ok(code(programs::uninstall(&config))),
            Some(NodeCommand::Status(_)) | None => {
                let problems = around.problems();
                problems.iter().for_each(|problem| say(problem));
                if !problems.is_empty() {
                    return Ok(exit::MACHINE);
                }
                let log = around
                    .variable("EKS_GUARD_LOG")
                    .map(|filter| filter.to_string_lossy().into_owned());
                let reload = Reload::of(self.config, node_name, config.clone());
                Ok(code(daemon::run(config, reload, log)))
            }
        }
    }
}

impl StatusArgs {
    /// Asks the daemon. It goes on with its last good configuration, so mistakes in the file are no reason not to answer.
    fn run(
        self,
        file: &Path,
        config: Result<NodeConfig, NodeConfigError>,
        out: &mut dyn Write,
    ) -> io::Result<u8> {
        let state = match (self.state, config) {
            (Some(state), _) => state,
            (None, Ok(config)) => config.state,
            (None, Err(error)) => {
                say(&format!("warning: {}", chain(&error)));
                NodeConfig::state_of(file)
            }
        };
        let output = if self.json { Output::Json } else { self.output };
        match ask(&state) {
            Ok(status) => show(&status, output, out),
            Err(error) => {
                say(&chain(&error));
                Ok(exit::MACHINE)
            }
        }
    }
}

fn code(ended: Result<(), daemon::Failure>) -> u8 {
    match ended {
        Ok(()) => 0,
        Err(failure) => {
            say(&chain(failure.as_ref()));
            exit::MACHINE
        }
    }
}

fn show(status: &Status, form: Output, out: &mut dyn Write) -> io::Result<u8> {
    match form {
        Output::Table => table(status, out)?,
        Output::Json => output::json(status, out)?,
        Output::Yaml => output::yaml(status, out)?,
    }
    Ok(0)
}
