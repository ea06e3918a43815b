//! `eks-guard policy status`: what became of the cluster's policies, as the API server has it: which can be used, which node
//! decides by which generation, what is wrong, and what to do next.

mod report;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use http::StatusCode;
use http::uri::InvalidUri;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::runtime;

use crate::fleet::{AGENT_POLICIES, Leases};
use crate::metrics::Metrics;
use crate::output;
use crate::policy::status::report::Report;
use crate::policy::{ALLOWED, INVALID, REFUSED};
use crate::proxy::Limits;
use crate::proxy::upstream::{CallError, UpstreamPool};
use crate::telemetry::chain;
use crate::upstream::{KubeconfigOptions, UpstreamError, load};

const EXAMPLES: &str = "\
Examples:
  eks-guard policy status
  eks-guard policy status shop-developer
  eks-guard policy status --context production -o wide
  eks-guard policy status -o json | jq -r '.policies[] | select(.ready | not) | .name'

It asks the API server as you: you must be allowed to list agentpolicies, and leases in the namespace eks-guard to see nodes.
How long ago a node spoke is by this machine's clock and the node's.

Exit codes: 0 all can be used and every node decides by them, 1 some not, 2 there is no answer.";

/// `eks-guard policy status [NAME]`
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// Only this policy, with its nodes
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Your kubeconfig [default: $KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = StatusOutput::Table)]
    pub output: StatusOutput,
}

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusOutput {
    /// For people.
    Table,
    /// For people, with the nodes of every policy.
    Wide,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum StatusError {
    #[error("cannot use the kubeconfig")]
    Kubeconfig(#[source] UpstreamError),
    #[error("the address of the API server cannot be used")]
    Address(#[source] InvalidUri),
    #[error("cannot start asking")]
    Runtime(#[source] io::Error),
    #[error("there is no policy {0}: `kubectl get agentpolicies` lists those that there are")]
    NoPolicy(String),
    #[error(
        "the cluster does not know AgentPolicy objects: kubectl apply --server-side -f deploy/crds/agentpolicies.eks-guard.dev.yaml"
    )]
    NoKind,
    #[error("you may not read the policies: you must be allowed to get and list agentpolicies.eks-guard.dev")]
    Forbidden,
    #[error("cannot read the policies")]
    Asked(#[source] CallError),
}

/// What the API server says.
struct Answer {
    policies: Vec<Value>,
    leases: Result<Leases, CallError>,
}

/// Asks, and prints the answer.
///
/// # Errors
/// Only when `out` or `err` cannot be written.
pub fn status(
    args: &StatusArgs,
    operator: &KubeconfigOptions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let answer = match answer(args, operator) {
        Ok(answer) => answer,
        Err(error) => {
            writeln!(err, "{}", chain(&error))?;
            return Ok(INVALID);
        }
    };
    let report = Report::of(&answer.policies, &answer.leases, Timestamp::now());
    match args.output {
        StatusOutput::Table if args.name.is_none() => report.table(out)?,
        StatusOutput::Table | StatusOutput::Wide => report.wide(out)?,
        StatusOutput::Json => output::json(&report, out)?,
        StatusOutput::Yaml => output::yaml(&report, out)?,
    }
    Ok(if report.is_ready() { ALLOWED } else { REFUSED })
}

fn answer(args: &StatusArgs, operator: &KubeconfigOptions) -> Result<Answer, StatusError> {
    let upstream = load(&KubeconfigOptions {
        file: args.kubeconfig.clone(),
        context: args.context.clone(),
        ..operator.clone()
    });
    let upstream = upstream.map_err(StatusError::Kubeconfig)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(StatusError::Runtime)?.block_on(async {
        let limits = Limits::default();
        let pool = UpstreamPool::new(
            upstream.endpoint,
            upstream.credentials,
            Arc::new(Metrics::default()),
            limits.connect,
            limits.response_head,
        );
        ask(&pool.map_err(StatusError::Address)?, args.name.as_deref()).await
    })
}

async fn ask(pool: &UpstreamPool, name: Option<&str>) -> Result<Answer, StatusError> {
    let policies = match name {
        None => {
            let mut list = pool
                .read(AGENT_POLICIES)
                .await
                .map_err(|error| match error.status() {
                    Some(StatusCode::NOT_FOUND) => StatusError::NoKind,
                    Some(StatusCode::FORBIDDEN) => StatusError::Forbidden,
                    Some(_) | None => StatusError::Asked(error),
                })?;
            let items = list["items"].as_array_mut().map(std::mem::take);
            items.unwrap_or_default()
        }
        Some(name) => {
            let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC);
            let object = pool.read(&format!("{AGENT_POLICIES}/{encoded}")).await;
            vec![object.map_err(|error| match error.status() {
                Some(StatusCode::NOT_FOUND) => StatusError::NoPolicy(name.to_owned()),
                Some(StatusCode::FORBIDDEN) => StatusError::Forbidden,
                Some(_) | None => StatusError::Asked(error),
            })?]
        }
    };
    Ok(Answer {
        policies,
        leases: Leases::list(pool).await,
    })
}
