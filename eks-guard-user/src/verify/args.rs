//! The arguments of `eks-guard verify`, and those of the run that it starts.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, ValueEnum, ValueHint};

use crate::config::{RunArgs, Surroundings};
use crate::telemetry::Colour;
use crate::verify::AGENT;

const EXAMPLES: &str = "\
Examples:
  sudo eks-guard verify --run
  sudo eks-guard verify --run --kubeconfig staging.yaml --user nobody --report report.json
  eks-guard verify --check report.json
  eks-guard verify --check report.json --key PUBLICKEY -o json

What it does: starts the boundary of `eks-guard run` on this machine with a probe as its command, tries every route of the bypass catalogue inside it, and the same outside it, so that what is blocked is known to be blocked by the boundary. It opens connections to the API server and sends it nothing but the beginning of a TLS handshake.

What the signature says: the report was written by whoever holds the key in the state folder of that machine, and has not been changed since. It does not say that the machine is honest: its root can write any report.

Exit codes:
  0  every route is closed
  1  a route leads out, or could not be tried
  2  wrong usage or kubeconfig, or a report that is not valid
  3  this machine cannot hold the boundary
  4  the API server cannot be used";

/// Arguments of `eks-guard verify`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES, group = ArgGroup::new("what").required(true).args(["boundary", "check"]))]
pub struct VerifyArgs {
    /// Try the boundary of `eks-guard run` on this machine
    #[arg(long = "run")]
    pub boundary: bool,
    /// Check the signature of a report, and say what it says; needs neither root nor a network
    #[arg(long, value_name = "REPORT")]
    pub check: Option<PathBuf>,
    /// Public key that must have signed it, as `verify --run` prints it
    #[arg(long, value_name = "PUBLICKEY", conflicts_with = "boundary")]
    pub key: Option<String>,
    /// The operator's kubeconfig [default: $KUBECONFIG, else ~/.kube/config of whoever called sudo]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Try as this user: NAME, UID or UID:GID [default: whoever called sudo]
    #[arg(long, value_name = "USER", value_hint = ValueHint::Username)]
    pub user: Option<String>,
    /// Folder of the records [default: /var/lib/eks-guard/records]
    #[arg(long, value_name = "DIR")]
    pub records: Option<PathBuf>,
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
