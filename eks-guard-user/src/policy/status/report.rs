//! What is said of the policies: a document for programs, and the same in columns.

use std::io::{self, Write};

use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::fleet::{Leases, NodeLease, SILENCE, name_of, some_of};
use crate::output::{self, visible};
use crate::proxy::upstream::CallError;
use crate::telemetry::chain;

/// The whole document.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    policies: Vec<PolicyReport>,
    /// Why nodes are not shown, or not all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// One policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyReport {
    name: String,
    generation: u64,
    /// Whether it can be used and every node decides by it.
    ready: bool,
    accepted: Condition,
    programmed: Condition,
    /// How many nodes decide by it, of how many.
    node_count: String,
    problems: Vec<Problem>,
    nodes: Vec<NodeReport>,
}

/// A condition.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Condition {
    status: String,
    reason: String,
    message: String,
}

/// What is wrong, and what to do next.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Problem {
    problem: String,
    next: String,
}

/// One node, as it stands to a policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeReport {
    name: String,
    state: State,
    /// The generation that it decides by; none: it has none of this policy.
    generation: Option<u64>,
    /// How long ago it said so.
    seconds_ago: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum State {
    Current,
    Behind,
    Silent,
}

impl Report {
    pub(super) fn of(policies: &[Value], leases: &Result<Leases, CallError>, now: Timestamp) -> Self {
        let warning = match leases {
            Ok(leases) if leases.is_cut => Some("there are more nodes than are shown".to_owned()),
            Ok(_) => None,
            Err(error) if error.is(StatusCode::FORBIDDEN) => Some(
                "nodes are not shown: you must be allowed to list leases in the namespace eks-guard"
                    .to_owned(),
            ),
            Err(error) => Some(format!("nodes are not shown: {}", chain(error))),
        };
        let nodes = leases.as_ref().ok().map(|leases| leases.nodes.as_slice());
        let policies = policies.iter().map(|object| PolicyReport::of(object, nodes, now));
        Self {
            policies: policies.collect(),
            warning,
        }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_ready(&self) -> bool {
        self.policies.iter().all(|policy| policy.ready)
    }

    /// One policy a line, and below what is wrong.
    pub(super) fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.policies.is_empty() {
            writeln!(out, "there are no policies: agents may do nothing but discovery")?;
        } else {
            let head = ["POLICY", "GENERATION", "ACCEPTED", "PROGRAMMED", "NODES"];
            let rows = self.policies.iter().map(|policy| {
                [
                    policy.name.clone(),
                    policy.generation.to_string(),
                    policy.accepted.cell(),
                    policy.programmed.cell(),
                    policy.node_count.clone(),
                ]
            });
            output::table(&head.map(str::to_owned), rows.collect(), out)?;
        }
        for policy in &self.policies {
            for Problem { problem, next } in &policy.problems {
                let (name, problem) = (visible(&policy.name), visible(problem));
                writeln!(out, "PROBLEM {name}: {problem}\n  next: {next}")?;
            }
        }
        self.warning
            .iter()
            .try_for_each(|warning| writeln!(out, "WARNING {warning}"))
    }

    /// The same, and each node of each policy.
    pub(super) fn wide(&self, out: &mut dyn Write) -> io::Result<()> {
        self.table(out)?;
        let rows = self.policies.iter().flat_map(|policy| {
            policy.nodes.iter().map(|node| {
                [
                    policy.name.clone(),
                    node.name.clone(),
                    format!("{:?}", node.state),
                    node.generation
                        .map_or_else(|| "none".to_owned(), |it| it.to_string()),
                    node.seconds_ago.map_or_else(|| "never".to_owned(), ago),
                ]
            })
        });
        let rows: Vec<_> = rows.collect();
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        let head = ["POLICY", "NODE", "STATE", "GENERATION", "SAID"];
        output::table(&head.map(str::to_owned), rows, out)
    }
}

impl PolicyReport {
    fn of(object: &Value, nodes: Option<&[NodeLease]>, now: Timestamp) -> Self {
        let metadata = &object["metadata"];
        let uid = metadata["uid"].as_str().unwrap_or_default();
        let generation = metadata["generation"].as_u64().unwrap_or_default();
        let accepted = Condition::of(object, "Accepted", generation);
        let programmed = Condition::of(object, "Programmed", generation);
        let rows = nodes.unwrap_or_default().iter();
        let rows: Vec<NodeReport> = rows
            .map(|node| NodeReport::of(node, uid, generation, now))
            .collect();
        let current = rows.iter().filter(|node| node.state == State::Current).count();
        let said = text(&object["status"]["nodes"]);
        let node_count = match nodes {
            Some(_) => format!("{current}/{}", rows.len()),
            None if said.is_empty() => "-".to_owned(),
            None => said,
        };
        let problems = problems(&accepted, &programmed, nodes.map(|_| rows.as_slice()));
        Self {
            name: text(&metadata["name"]),
            generation,
            ready: problems.is_empty(),
            accepted,
            programmed,
            node_count,
            problems,
            nodes: rows,
        }
    }
}

impl Condition {
    /// What is said of this generation; what is said of another is no answer.
    fn of(object: &Value, kind: &str, generation: u64) -> Self {
        let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let Some(said) = conditions.find(|condition| condition["type"] == kind) else {
            return Self::unknown("NotSaid", "no node has said what became of it");
        };
        if said["observedGeneration"] != generation {
            return Self::unknown(
                "NotSaidYet",
                &format!("nothing is said of generation {generation} yet"),
            );
        }
        Self {
            status: text(&said["status"]),
            reason: text(&said["reason"]),
            message: text(&said["message"]),
        }
    }

    fn unknown(reason: &str, message: &str) -> Self {
        Self {
            status: "Unknown".to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    fn is_true(&self) -> bool {
        self.status == "True"
    }

    fn cell(&self) -> String {
        if self.is_true() {
            self.status.clone()
        } else {
            format!("{} ({})", visible(&self.status), visible(&self.reason))
        }
    }

    fn problem(&self, next: &str) -> Problem {
        Problem {
            problem: self.message.clone(),
            next: next.to_owned(),
        }
    }
}

impl NodeReport {
    fn of(lease: &NodeLease, uid: &str, generation: u64, now: Timestamp) -> Self {
        let decides_by = lease.said.generation_of(uid);
        let state = if lease.is_old(now) {
            State::Silent
        } else if decides_by == Some(generation) {
            State::Current
        } else {
            State::Behind
        };
        Self {
            name: lease.node.clone(),
            state,
            generation: decides_by,
            seconds_ago: lease.age(now).map(|age| age.as_secs()),
        }
    }
}

/// What stands against a policy; none where nodes are not known.
fn problems(accepted: &Condition, programmed: &Condition, nodes: Option<&[NodeReport]>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !accepted.is_true() {
        problems.push(accepted.problem(match accepted.reason.as_str() {
            "Invalid" => "correct it and apply it again; `eks-guard policy check FILE` shows every mistake with its place",
            "TooManyPolicies" => "remove policies, or join some into one",
            "NotSaidYet" => "wait a moment; if that stays, look at the logs of the node that holds the lease eks-guard/policy-status",
            _ => "look whether `eks-guard node` runs with `policySource: cluster`, and what `eks-guard node status` says there",
        }));
    }
    let in_state = |state: State| {
        let nodes = nodes.unwrap_or_default().iter();
        nodes.filter(move |node| node.state == state)
    };
    let named = |state: State| some_of(in_state(state).map(NodeReport::words));
    if in_state(State::Behind).next().is_some() {
        problems.push(Problem {
            problem: format!("not every node decides by it: {}", named(State::Behind)),
            next: "wait a moment; if that stays, look at `eks-guard node status` there".to_owned(),
        });
    }
    if let Some(first) = in_state(State::Silent).next() {
        let (silence, lease) = (SILENCE.as_secs(), name_of(&first.name));
        problems.push(Problem {
            problem: format!("nodes have said nothing for {silence} s: {}", named(State::Silent)),
            next: format!(
                "look at the pod of eks-guard there; for a node without one: kubectl delete lease -n eks-guard {lease}"
            ),
        });
    }
    if problems.is_empty() && !programmed.is_true() {
        problems.push(programmed.problem(match programmed.reason.as_str() {
            "NodesBehind" | "NotSaidYet" => "wait a moment, and ask again",
            _ => "look whether `eks-guard node` runs on the nodes: kubectl get leases -n eks-guard",
        }));
    }
    problems
}

impl NodeReport {
    fn words(&self) -> String {
        match (self.state, self.seconds_ago, self.generation) {
            (State::Silent, Some(seconds), _) => format!("{} ({} ago)", self.name, ago(seconds)),
            (State::Silent, None, _) => format!("{} (never)", self.name),
            (State::Current | State::Behind, _, Some(generation)) => {
                format!("{} (generation {generation})", self.name)
            }
            (State::Current | State::Behind, _, None) => format!("{} (none of it)", self.name),
        }
    }
}

/// Seconds, in the largest unit of which there are two.
fn ago(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
