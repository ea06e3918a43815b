//! The arguments of `eks-guard run` as they are typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueHint};

const RUN_EXAMPLES: &str = "\
Examples:
  sudo eks-guard run --policy policy.yaml -- kubectl get pods
  sudo eks-guard run --policy team.yaml --policy extra.yaml --agent reviewer -- ./agent.sh
  sudo eks-guard run --kubeconfig staging.yaml --context staging --policy p.yaml -- bash
  eks-guard run --user nobody --policy policy.yaml -- ./agent.sh     (as root in a container or a CI job, without sudo)

What the command does not see: environment variables that carry credentials (their names are printed), ~/.aws, ~/.azure, ~/.config/gcloud, ~/.kube (emptied, with a generated config), the files that the kubeconfig names, and sockets that start processes elsewhere (docker, containerd, the session bus). Names that end in _API_KEY stay: the agent needs its model.

Environment:
  EKS_GUARD_LOG        log filter, for example debug or eks_guard=trace (default warn)
  EKS_GUARD_STATE_DIR  folder whose `records` folder is used in place of /var/lib/eks-guard
  NO_COLOR             no colour, whatever standard error is

Exit codes: the command's own (128+N when signal N ended it, 127 when it was not found, 126 when it could not be executed), or, with nothing started:
  2  wrong usage, kubeconfig or policy
  3  this machine cannot hold the boundary: no root, no cgroup2, kernel too old, BPF refused; also when the command was
     ended because something outside took a cover away, or because it wrote a start-up file
  4  the API server is unreachable, is not the one of the kubeconfig, or refuses the credential";

/// Arguments of `eks-guard run`.
#[derive(Debug, Default, Args)]
#[command(after_help = RUN_EXAMPLES, after_long_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// Policy file; may be given several times. Without one only discovery is allowed
    #[arg(long = "policy", value_name = "FILE")]
    pub policies: Vec<PathBuf>,
    /// The operator's kubeconfig [default: $KUBECONFIG, else ~/.kube/config of whoever called sudo]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Name under which policies know the agent [default: the command's file name]
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Model the agent says it runs; recorded as claimed, never decided on
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Run the command as this user: NAME, UID or UID:GID [default: whoever called sudo]
    #[arg(long, value_name = "USER", value_hint = ValueHint::Username)]
    pub user: Option<String>,
    /// Keep this environment variable although its name says that it carries a credential; may be given several times
    #[arg(long, value_name = "NAME")]
    pub keep_env: Vec<String>,
    /// Let the command write start-up files of shells and sessions (~/.bashrc, ~/.config/autostart, …), which your next
    /// shell runs outside the boundary. Without this they are read-only, and a new one ends the run
    #[arg(long)]
    pub allow_startup_files: bool,
    /// Folder of the records [default: /var/lib/eks-guard/records]
    #[arg(long, value_name = "DIR")]
    pub records: Option<PathBuf>,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}
