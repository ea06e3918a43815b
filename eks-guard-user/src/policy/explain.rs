//! `eks-guard policy explain`: one request, asked of the code that decides.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use eks_guard_core::policy::{Answer, Facts};

use crate::policy::who::Who;
use crate::policy::words::{Asked, Words};
use crate::policy::{ALLOWED, INVALID, REFUSED, load, read_file, render};

const EXAMPLES: &str = "\
Examples:
  eks-guard policy explain --policy policy.yaml --as my-agent delete pods web-0 -n shop
  eks-guard policy explain --policy policy.yaml --as my-agent list deployments.apps -A
  eks-guard policy explain --policy policy.yaml --as my-agent get pods/log web-0 -n shop -o json
  eks-guard policy explain --policy policy.yaml --as my-agent get /metrics
  eks-guard policy explain --policy policy.yaml --as my-agent --pod-namespace shop --pod-label team=web list pods -n shop
  eks-guard policy explain --policy policy.yaml --as my-agent POST /api/v1/namespaces/shop/pods --body pod.json
  eks-guard policy explain --policy policy.yaml --as my-agent PATCH /apis/apps/v1/namespaces/shop/deployments/web --body patch.json \\
    --content-type application/merge-patch+json

Exit codes: 0 allowed, 1 refused, 2 the policy or the command line is wrong.";

/// `eks-guard policy explain --policy FILE --as AGENT VERB RESOURCE [NAME]`
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExplainArgs {
    /// Policy file; may be given several times; `-` is standard input
    #[arg(long = "policy", value_name = "FILE", required = true)]
    pub policies: Vec<PathBuf>,
    /// Who asks.
    #[command(flatten)]
    pub who: Who,
    /// What is asked for.
    #[command(flatten)]
    pub words: Words,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// How an explanation is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// `eks-guard policy explain`: prints the decision with its reasons.
///
/// # Errors
/// Only when `out` or `err` cannot be written.
pub fn explain(args: &ExplainArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let snapshot = match load(&args.policies) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            writeln!(err, "{error}")?;
            return Ok(INVALID);
        }
    };
    let body = match args.words.body.as_deref().map(read_file).transpose() {
        Ok(body) => body.unwrap_or_default(),
        Err(error) => {
            writeln!(err, "cannot read the body: check the path: {error}")?;
            return Ok(INVALID);
        }
    };
    let asked = match Asked::read(&args.words, body.as_bytes()) {
        Ok(asked) => asked,
        Err(error) => {
            writeln!(err, "{error}")?;
            return Ok(INVALID);
        }
    };
    for note in asked.notes(&args.words) {
        writeln!(err, "note: {note}")?;
    }
    let facts = Facts::at(jiff::Timestamp::now().into());
    let explanation = asked.explain(&snapshot, &args.who.principal(), &facts);
    render::write(&explanation, args.output, out)?;
    Ok(match explanation.answer {
        Answer::Allowed { .. } => ALLOWED,
        Answer::Refused(_) => REFUSED,
    })
}
