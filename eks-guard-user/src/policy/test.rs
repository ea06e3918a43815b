//! `eks-guard policy test`: cases in YAML, each decided by the code that decides and held against what is expected.

mod cases;
mod report;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use eks_guard_core::policy::{Answer, Explanation, Facts, Snapshot};
use eks_guard_core::reason::Reason;

use crate::policy::test::cases::{Case, Cases, Expectation};
use crate::policy::{ALLOWED, INVALID, PolicyError, REFUSED, load, read_file};

const EXAMPLES: &str = "\
Examples:
  eks-guard policy test policy-test.yaml
  eks-guard policy test tests/*.yaml --policy policy.yaml -o json

A file of cases:
  apiVersion: eks-guard.dev/v1alpha1
  kind: PolicyTest
  policies: [policy.yaml]          # beside this file; --policy adds others
  cases:
    - name: developers see pods
      principal: {agent: my-agent}
      request: {verb: get, resource: pods, name: web-0, namespace: shop}
      expect: {decision: allow}
    - name: nobody makes privileged pods
      principal: {agent: my-agent, namespace: agents, labels: {team: web}}
      request:
        method: POST
        path: /api/v1/namespaces/shop/pods
        body: {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {hostPID: true, containers: []}}
      expect: {decision: deny, rule: my-policy/no-host-access}

Decisions are allow, deny, mask, requireApproval, and observe: policies in mode Observe would decide otherwise.

Exit codes: 0 all passed, 1 some failed, 2 a file or the command line is wrong.";

/// `eks-guard policy test FILE…`
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct TestArgs {
    /// Files of cases
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Policy file that all cases are decided by, beside those that their files name; may be given several times
    #[arg(long = "policy", value_name = "FILE")]
    pub policies: Vec<PathBuf>,
    /// How to print the results
    #[arg(short, long, value_enum, default_value_t = TestOutput::Table)]
    pub output: TestOutput,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TestOutput {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// Why cases cannot be decided.
#[derive(Debug, thiserror::Error)]
enum TestError {
    #[error("cannot read the file of cases {}: check the path: {cause}", path.display())]
    Unread { path: PathBuf, cause: io::Error },
    #[error("{0}")]
    Cases(String),
    #[error("{}: no policy decides: name files in `policies`, or give --policy", .0.display())]
    NoPolicies(PathBuf),
    #[error(transparent)]
    Policies(#[from] PolicyError),
}

/// One case, decided.
struct Outcome {
    file: String,
    name: String,
    expected: Expectation,
    found: Found,
    passed: bool,
}

/// What was decided.
struct Found {
    decision: cases::Decision,
    reason: Option<Reason>,
    rule: Option<String>,
    message: Option<String>,
    /// The policies that select the agent.
    policies: Vec<String>,
}

/// Decides every case.
///
/// # Errors
/// Only when `out` or `err` cannot be written.
pub fn test(args: &TestArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let mut outcomes = Vec::new();
    let mut is_invalid = false;
    for file in &args.files {
        match decide_all(file, &args.policies) {
            Ok(decided) => outcomes.extend(decided),
            Err(error) => {
                is_invalid = true;
                writeln!(err, "{error}")?;
            }
        }
    }
    if is_invalid {
        return Ok(INVALID);
    }
    report::write(&outcomes, args.output, out)?;
    let all_passed = outcomes.iter().all(|outcome| outcome.passed);
    Ok(if all_passed { ALLOWED } else { REFUSED })
}

fn decide_all(file: &Path, more: &[PathBuf]) -> Result<Vec<Outcome>, TestError> {
    let text = read_file(file).map_err(|cause| TestError::Unread {
        path: file.to_owned(),
        cause,
    })?;
    let name = file.display().to_string();
    let cases = Cases::read(&name, &text).map_err(TestError::Cases)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut policies: Vec<PathBuf> = cases.policies.iter().map(|path| folder.join(path)).collect();
    policies.extend_from_slice(more);
    if policies.is_empty() {
        return Err(TestError::NoPolicies(file.to_owned()));
    }
    let snapshot = load(&policies)?.knowing(cases.namespaces.into());
    Ok(cases
        .cases
        .into_iter()
        .map(|case| decide(&name, &snapshot, case))
        .collect())
}

fn decide(file: &str, snapshot: &Snapshot, case: Case) -> Outcome {
    let facts = Facts {
        time: case.time,
        old_object: case.old_object.as_fact(),
        object: case.object.as_fact(),
    };
    let explanation = case.asked.explain(snapshot, &case.principal, &facts);
    let found = found(explanation, case.expected.decision);
    let agrees =
        |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|it| found == Some(it));
    let passed = found.decision == case.expected.decision
        && agrees(&case.expected.rule, found.rule.as_deref())
        && agrees(&case.expected.reason, found.reason.map(|reason| reason.as_str()));
    Outcome {
        file: file.to_owned(),
        name: case.name,
        expected: case.expected,
        found,
        passed,
    }
}

/// What was decided; of a case about policies in mode Observe, what those would decide.
fn found(explanation: Explanation, wanted: cases::Decision) -> Found {
    let policies = explanation.policies;
    if let (cases::Decision::Observe, Some(observed)) = (wanted, explanation.observed) {
        return Found {
            decision: cases::Decision::Observe,
            reason: observed.reason,
            rule: observed.rule,
            message: None,
            policies,
        };
    }
    match explanation.answer {
        Answer::Allowed { rule } => Found {
            decision: cases::Decision::Allow,
            reason: None,
            rule: Some(rule),
            message: None,
            policies,
        },
        Answer::Refused(refusal) => Found {
            decision: cases::Decision::of(refusal.reason),
            reason: Some(refusal.reason),
            rule: refusal.rule,
            message: Some(refusal.message),
            policies,
        },
    }
}
