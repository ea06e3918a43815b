//! Results of cases: a line each and what went wrong for people, JSON and YAML for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::output;
use crate::policy::count;
use crate::policy::test::cases::{Decision, Expectation};
use crate::policy::test::{Outcome, TestOutput};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    passed: usize,
    failed: usize,
    cases: Vec<CaseDocument<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CaseDocument<'a> {
    file: &'a str,
    name: &'a str,
    passed: bool,
    expected: &'a Expectation,
    found: FoundDocument<'a>,
}

impl<'a> CaseDocument<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        let found = &outcome.found;
        Self {
            file: &outcome.file,
            name: &outcome.name,
            passed: outcome.passed,
            expected: &outcome.expected,
            found: FoundDocument {
                decision: found.decision,
                reason: found.reason.map(|reason| reason.as_str()),
                rule: found.rule.as_deref(),
                message: found.message.as_deref(),
                policies: &found.policies,
            },
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FoundDocument<'a> {
    decision: Decision,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    policies: &'a [String],
}

pub(super) fn write(outcomes: &[Outcome], output: TestOutput, out: &mut dyn Write) -> io::Result<()> {
    match output {
        TestOutput::Table => table(outcomes, out),
        TestOutput::Json => output::json(&document(outcomes), out),
        TestOutput::Yaml => output::yaml(&document(outcomes), out),
    }
}

fn failed(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| !outcome.passed).count()
}

fn document(outcomes: &[Outcome]) -> Document<'_> {
    let failed = failed(outcomes);
    Document {
        passed: outcomes.len() - failed,
        failed,
        cases: outcomes.iter().map(CaseDocument::of).collect(),
    }
}

fn table(outcomes: &[Outcome], out: &mut dyn Write) -> io::Result<()> {
    for Outcome {
        file,
        name,
        expected,
        found,
        passed,
    } in outcomes
    {
        writeln!(
            out,
            "{}  {file}: {name}",
            if *passed { "ok    " } else { "FAILED" }
        )?;
        if *passed {
            continue;
        }
        let rule = |rule: Option<&str>| rule.map_or(String::new(), |rule| format!(", rule {rule}"));
        let reason = |reason: Option<&str>| reason.map_or(String::new(), |reason| format!(", {reason}"));
        writeln!(
            out,
            "        expected: {}{}{}",
            expected.decision,
            reason(expected.reason.as_deref()),
            rule(expected.rule.as_deref())
        )?;
        writeln!(
            out,
            "        found:    {}{}{}",
            found.decision,
            reason(found.reason.map(|reason| reason.as_str())),
            rule(Some(found.rule.as_deref().unwrap_or("none")))
        )?;
        if let Some(message) = &found.message {
            writeln!(out, "        why:      {message}")?;
        }
    }
    let failed = failed(outcomes);
    writeln!(out, "{}, {failed} failed", count(outcomes.len(), "case", "cases"))
}
