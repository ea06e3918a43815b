//! `eks-guard policy suggest`: the least policy that would have allowed what records say was asked for.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use eks_guard_core::policy::{Call, ObjectNames, Suggestion, suggest as suggest_policy};
use eks_guard_core::record::{Event, Stage};
use eks_guard_core::request_info::{RequestInfo, RequestScope, ResourceInfo, Verb};
use serde::Serialize;

use crate::output;
use crate::policy::{ALLOWED, INVALID, count, is_stdin};

const EXAMPLES: &str = "\
Examples:
  sudo eks-guard sessions show latest -o jsonl | eks-guard policy suggest - > policy.yaml
  sudo eks-guard policy suggest /var/lib/eks-guard/records/*.jsonl --agent my-agent --any-name

Refused calls count like allowed ones: look at every rule before you use it. A patch in a record may have been a server-side
apply, which needs create too. Values of Secrets are never suggested.

Exit codes: 0 printed, 2 a record or the command line is wrong.";

/// Longest line of a record that is read.
const MAX_LINE: u64 = 1024 * 1024;

/// `eks-guard policy suggest RECORD…`
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct SuggestArgs {
    /// Records, one JSON event a line; `-` is standard input
    #[arg(required = true, value_name = "RECORD")]
    pub records: Vec<PathBuf>,
    /// Calls of this agent only; needed when the records are of several
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Name of the policy
    #[arg(long, value_name = "NAME", default_value = "suggested")]
    pub name: String,
    /// Leave `resourceNames` out: for objects whose names are made up anew
    #[arg(long)]
    pub any_name: bool,
    /// How to print the policy
    #[arg(short, long, value_enum, default_value_t = SuggestOutput::Yaml)]
    pub output: SuggestOutput,
}

/// How a suggestion is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SuggestOutput {
    /// The policy, with what it leaves out as comments.
    Yaml,
    /// For programs.
    Json,
}

/// Why nothing can be suggested.
#[derive(Debug, thiserror::Error)]
enum SuggestError {
    #[error("cannot read the record {}: records are root's, check the path and use sudo: {cause}", path.display())]
    Unread { path: PathBuf, cause: io::Error },
    #[error("the records are of several agents ({0}); choose one with --agent")]
    SeveralAgents(String),
    #[error("no call of {0} is in the records")]
    Nothing(String),
    #[error(transparent)]
    Core(#[from] eks_guard_core::policy::SuggestError),
}

/// What was read of the records.
#[derive(Default)]
struct Observed {
    agents: BTreeSet<String>,
    calls: HashMap<RequestInfo, u64>,
    /// Lines that are no events.
    damaged: u64,
}

/// Prints the suggested policy.
///
/// # Errors
/// Only when `out` or `err` cannot be written.
pub fn suggest(args: &SuggestArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    match suggestion(args, err) {
        Ok((agent, suggestion)) => {
            match args.output {
                SuggestOutput::Yaml => yaml(&suggestion, out)?,
                SuggestOutput::Json => json(&agent, &suggestion, out)?,
            }
            Ok(ALLOWED)
        }
        Err(error) => {
            writeln!(err, "{error}")?;
            Ok(INVALID)
        }
    }
}

fn suggestion(args: &SuggestArgs, err: &mut dyn Write) -> Result<(String, Suggestion), SuggestError> {
    let mut observed = Observed::default();
    for path in &args.records {
        let unread = |cause| SuggestError::Unread {
            path: path.clone(),
            cause,
        };
        read(path, args.agent.as_deref(), &mut observed).map_err(unread)?;
    }
    if observed.damaged > 0 {
        let lines = count(
            usize::try_from(observed.damaged).unwrap_or(usize::MAX),
            "line",
            "lines",
        );
        writeln!(
            err,
            "note: {lines} of the records could not be read and are left out"
        )
        .ok();
    }
    let mut agents = observed.agents.iter();
    let agent = match (agents.next(), agents.next()) {
        (Some(agent), None) => agent.clone(),
        (Some(_), Some(_)) => {
            let agents: Vec<&str> = observed.agents.iter().map(String::as_str).collect();
            return Err(SuggestError::SeveralAgents(agents.join(", ")));
        }
        (None, _) => {
            let whose = args.agent.as_deref().unwrap_or("any agent");
            return Err(SuggestError::Nothing(whose.to_owned()));
        }
    };
    let mut calls: Vec<Call> = observed
        .calls
        .into_iter()
        .map(|(info, count)| Call { info, count })
        .collect();
    calls.sort_by_cached_key(|call| format!("{:?}", call.info));
    let names = if args.any_name {
        ObjectNames::Drop
    } else {
        ObjectNames::Keep
    };
    let suggestion = suggest_policy(&args.name, &agent, &calls, names)?;
    Ok((agent, suggestion))
}

/// Adds the calls of one record. Lines that a crash left behind, and events of a kind that is not known, are passed over.
fn read(path: &Path, agent: Option<&str>, observed: &mut Observed) -> io::Result<()> {
    let source: Box<dyn Read> = if is_stdin(path) {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path)?)
    };
    let mut reader = BufReader::new(source);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let Ok(event) = serde_json::from_slice::<Event>(&line) else {
            observed.damaged += 1;
            continue;
        };
        if event.stage != Stage::Outcome || agent.is_some_and(|agent| agent != event.agent) {
            continue;
        }
        if let Some(info) = info_of(&event) {
            observed.agents.insert(event.agent);
            *observed.calls.entry(info).or_default() += 1;
        }
    }
}

/// The request of an event; none for one that was not understood.
fn info_of(event: &Event) -> Option<RequestInfo> {
    let verb = Verb::ALL.into_iter().find(|verb| verb.as_str() == event.verb)?;
    let scope = if event.resource.is_empty() {
        (!event.path.is_empty()).then(|| RequestScope::NonResource(&event.path))?
    } else {
        RequestScope::Resource(ResourceInfo {
            group: &event.group,
            version: &event.version,
            namespace: &event.namespace,
            resource: &event.resource,
            subresource: &event.subresource,
            name: &event.name,
        })
    };
    Some(RequestInfo::new(verb, scope))
}

fn yaml(suggestion: &Suggestion, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "# Suggested from records: it allows what was asked for, the refused calls among it. Look at every rule before you use it."
    )?;
    if suggestion.needless > 0 {
        writeln!(
            out,
            "# Calls that every agent may make need no rule: {}.",
            suggestion.needless
        )?;
    }
    for (call, refusal) in &suggestion.withheld {
        let (rule, reason) = (refusal.rule.as_deref().unwrap_or("none"), refusal.reason.as_str());
        writeln!(
            out,
            "# Not allowed by it: {:?} ({}), {reason}, rule {rule}.",
            words(&call.info),
            call.count
        )?;
    }
    match &suggestion.document {
        Some(document) => write!(out, "{document}"),
        None => writeln!(out, "# No rule is needed."),
    }
}

/// `get pods/log web-0 shop`, without what is empty.
fn words(info: &RequestInfo) -> String {
    match info.scope() {
        RequestScope::NonResource(path) => format!("{} {path}", info.verb),
        RequestScope::Resource(it) => {
            let dot = if it.group.is_empty() { "" } else { "." };
            let slash = if it.subresource.is_empty() { "" } else { "/" };
            let resource = format!("{}{dot}{}{slash}{}", it.resource, it.group, it.subresource);
            let words = [info.verb.as_str(), &resource, it.name, it.namespace];
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            words.join(" ")
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    agent: &'a str,
    policy: Option<&'a str>,
    calls_without_need: u64,
    not_allowed: Vec<Withheld<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Withheld<'a> {
    request: String,
    calls: u64,
    reason: &'static str,
    rule: Option<&'a str>,
}

fn json(agent: &str, suggestion: &Suggestion, out: &mut dyn Write) -> io::Result<()> {
    let withheld = suggestion.withheld.iter().map(|(call, refusal)| Withheld {
        request: words(&call.info),
        calls: call.count,
        reason: refusal.reason.as_str(),
        rule: refusal.rule.as_deref(),
    });
    let document = Document {
        agent,
        policy: suggestion.document.as_deref(),
        calls_without_need: suggestion.needless,
        not_allowed: withheld.collect(),
    };
    output::json(&document, out)
}
