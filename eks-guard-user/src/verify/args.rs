//! The arguments of `eks-guard verify`, and those of the run that it starts.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, ValueEnum, ValueHint};

use crate::config::{RunArgs, Surroundings};
use crate::probe::profile::Profile;
use crate::telemetry::Colour;
use crate::verify::AGENT;

const EXAMPLES: &str = "\
Examples:
  sudo eks-guard verify --run
  sudo eks-guard verify --run --kubeconfig staging.yaml --user nobody --report report.json
  eks-guard verify --node --config node.yaml --report report.json
  eks-guard verify --node --pod shop/bot --profile restricted -o json
  eks-guard verify --node --watch --interval 60 --listen 127.0.0.1:9474
  eks-guard verify --check report.json
  eks-guard verify --check report.json --key PUBLICKEY -o json

What --run does: starts the boundary of `eks-guard run` on this machine with a probe as its command, tries every route of the bypass catalogue inside it, and the same outside it, so that what is blocked is known to be blocked by the boundary. It opens connections to the API server and sends it nothing but the beginning of a TLS handshake.

What --node does: asks `eks-guard node` which pods of this node are agents, and starts the probe in the network, files and cgroup of each, under each profile that fits: restricted, default capabilities, +NET_RAW, +NET_ADMIN, hostNetwork. The agent's own processes are not touched; the probe has a cgroup of its own below that of a container, which is removed. What the runtime adds (a system call filter, a security module) is left out, so that the node's own layers are what is tried.

What --watch does: tries a few routes for each layer from inside every agent, round after round, until it is ended. It prints what changed to a terminal and every round to a file, answers /metrics with --listen, and tells the cluster: the node's condition EksGuardEnforced and the taint eks-guard.dev/not-enforced. Where the daemon tries its agents itself (`verify` in its configuration), condition and taint are the daemon's, and this command leaves them alone. What was told last stays when it ends.

What the signature says: the report was written by whoever holds the key in the state folder of that machine, and has not been changed since. It does not say that the machine is honest: its root can write any report.

Exit codes:
  0  every route is closed
  1  a route leads out or could not be tried, or a layer is lost; with --watch: in the last round
  2  wrong usage, configuration or kubeconfig, or a report that is not valid
  3  this machine cannot hold the boundary, or no daemon answers
  4  the API server cannot be used";

/// Arguments of `eks-guard verify`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES, group = ArgGroup::new("what").required(true).args(["boundary", "node", "check"]))]
pub struct VerifyArgs {
    /// Try the boundary of `eks-guard run` on this machine
    #[arg(long = "run")]
    pub boundary: bool,
    /// Try the boundary of the agents on this node
    #[arg(long)]
    pub node: bool,
    /// Check the signature of a report, and say what it says; needs neither root nor a network
    #[arg(long, value_name = "REPORT")]
    pub check: Option<PathBuf>,
    /// Public key that must have signed it, as a report prints it
    #[arg(long, value_name = "PUBLICKEY", conflicts_with_all = ["boundary", "node"])]
    pub key: Option<String>,
    /// The operator's kubeconfig [default: $KUBECONFIG, else ~/.kube/config of whoever called sudo]
    #[arg(long, value_name = "FILE", conflicts_with = "node")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", conflicts_with = "node")]
    pub context: Option<String>,
    /// Try as this user: NAME, UID or UID:GID [default: whoever called sudo]
    #[arg(long, value_name = "USER", value_hint = ValueHint::Username, conflicts_with = "node")]
    pub user: Option<String>,
    /// Folder of the records [default: /var/lib/eks-guard/records]
    #[arg(long, value_name = "DIR", conflicts_with = "node")]
    pub records: Option<PathBuf>,
    /// The node's configuration (kind NodeConfig)
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/eks-guard/node.yaml",
        conflicts_with = "boundary"
    )]
    pub config: PathBuf,
    /// Only this agent; may be repeated [default: all]
    #[arg(long = "pod", value_name = "NAMESPACE/NAME", conflicts_with_all = ["boundary", "check"])]
    pub pods: Vec<String>,
    /// Only this profile; may be repeated [default: all that fit]
    #[arg(long = "profile", value_name = "PROFILE", conflicts_with_all = ["boundary", "check"])]
    pub profiles: Vec<Profile>,
    /// An address that the node rewrites to the API server; may be repeated
    #[arg(long = "alias", value_name = "ADDRESS:PORT", conflicts_with_all = ["boundary", "check"])]
    pub aliases: Vec<SocketAddr>,
    /// Somebody who passes on to the API server; may be repeated. A listener of this program on the node is always tried
    #[arg(long = "relay", value_name = "ADDRESS:PORT", conflicts_with_all = ["boundary", "check"])]
    pub relays: Vec<SocketAddr>,
    /// Try again and again until ended; exit code and metrics say how the last round went
    #[arg(long, conflicts_with_all = ["check", "pods", "profiles", "aliases", "relays", "report"])]
    pub watch: bool,
    /// Seconds from the end of a round to the next [default: the configuration's, else 300]
    #[arg(long, value_name = "SECONDS", requires = "watch", value_parser = clap::value_parser!(u32).range(5..=86_400))]
    pub interval: Option<u32>,
    /// Answer /metrics and /healthz here while watching
    #[arg(long, value_name = "ADDRESS:PORT", requires = "watch")]
    pub listen: Option<SocketAddr>,
    /// The probe [default: eks-guard-probe beside this program]
    #[arg(long, value_name = "FILE")]
    pub probe: Option<PathBuf>,
    /// Write the signed report here
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    pub report: Option<PathBuf>,
    /// How the report is printed
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

impl VerifyArgs {
    /// What the run would be given by a person.
    pub(crate) fn run_args(&self, probe: &Path, user: Option<String>) -> RunArgs {
        RunArgs {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            agent: Some(AGENT.to_owned()),
            user,
            records: self.records.clone(),
            quiet: true,
            command: vec![probe.into(), "suite".into()],
            ..RunArgs::default()
        }
    }

    /// The same, as it is typed; the user by name, so that nothing is resolved twice.
    pub(crate) fn run_flags(&self, user: &str) -> Vec<OsString> {
        let mut flags: Vec<OsString> = ["run", "--quiet", "--agent", AGENT, "--user", user]
            .map(OsString::from)
            .into();
        let files = [("--kubeconfig", &self.kubeconfig), ("--records", &self.records)];
        for (flag, file) in files {
            if let Some(file) = file {
                flags.extend([flag.into(), file.into()]);
            }
        }
        if let Some(context) = &self.context {
            flags.extend(["--context".into(), context.into()]);
        }
        flags
    }

    pub(crate) fn colour(&self, around: &Surroundings) -> Colour {
        if around.variable("NO_COLOR").is_none() && io::stdout().is_terminal() {
            Colour::On
        } else {
            Colour::Off
        }
    }
}
