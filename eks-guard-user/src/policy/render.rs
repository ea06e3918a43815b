//! Explanations as text for people, and as JSON and YAML for programs.

use std::io::{self, Write};

use eks_guard_core::policy::{Answer, Effect, Explanation, Finding, Observation, RuleExplanation};
use serde::Serialize;

use crate::output;
use crate::policy::explain::Output;

/// The answer as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    allowed: bool,
    agent: &'a str,
    request: &'a str,
    policies: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<ObservedDocument<'a>>,
    rules: Vec<RuleDocument<'a>>,
}

/// What policies in mode Observe would change.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ObservedDocument<'a> {
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
}

impl<'a> ObservedDocument<'a> {
    fn of(observed: &'a Observation) -> Self {
        Self {
            allowed: observed.reason.is_none(),
            reason: observed.reason.map(|reason| reason.as_str()),
            rule: observed.rule.as_deref(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleDocument<'a> {
    rule: &'a str,
    effect: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    finding: &'static str,
    because: &'a [String],
}

/// Prints an explanation.
pub(super) fn write(explanation: &Explanation, output: Output, out: &mut dyn Write) -> io::Result<()> {
    match output {
        Output::Text => text(explanation, out),
        Output::Json => output::json(&document(explanation), out),
        Output::Yaml => output::yaml(&document(explanation), out),
    }
}

fn document(explanation: &Explanation) -> Document<'_> {
    let (allowed, reason, rule, message) = match &explanation.answer {
        Answer::Allowed { rule } => (true, None, Some(rule.as_str()), None),
        Answer::Refused(refusal) => (
            false,
            Some(refusal.reason.as_str()),
            refusal.rule.as_deref(),
            Some(refusal.message.as_str()),
        ),
    };
    Document {
        allowed,
        agent: &explanation.agent,
        request: &explanation.request,
        policies: &explanation.policies,
        reason,
        rule,
        message,
        observed: explanation.observed.as_ref().map(ObservedDocument::of),
        rules: explanation.rules.iter().map(rule_document).collect(),
    }
}

fn rule_document(rule: &RuleExplanation) -> RuleDocument<'_> {
    RuleDocument {
        rule: &rule.rule,
        effect: rule.effect.as_str(),
        location: rule.origin.as_ref().map(ToString::to_string),
        finding: finding(rule.finding),
        because: &rule.because,
    }
}

const fn finding(finding: Finding) -> &'static str {
    match finding {
        Finding::Decides => "decides",
        Finding::Matches => "matches",
        Finding::Observes => "observes",
        Finding::Open => "open",
        Finding::Differs => "differs",
        Finding::NotSelected => "notSelected",
    }
}

fn text(explanation: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    match &explanation.answer {
        Answer::Allowed { rule } => {
            writeln!(out, "allowed: {}", explanation.request)?;
            writeln!(out, "rule:    {rule}")?;
        }
        Answer::Refused(refusal) => {
            writeln!(out, "refused: {}", explanation.request)?;
            writeln!(out, "reason:  {}", refusal.reason.as_str())?;
            writeln!(out, "rule:    {}", refusal.rule.as_deref().unwrap_or("none"))?;
            writeln!(out, "message: {}", refusal.message)?;
        }
    }
    let policies = if explanation.policies.is_empty() {
        "no policy".to_owned()
    } else {
        explanation.policies.join(", ")
    };
    writeln!(out, "agent:   {}, selected by {policies}", explanation.agent)?;
    if let Some(observed) = &explanation.observed {
        let rule = observed.rule.as_deref().unwrap_or("none");
        let would = match observed.reason {
            None => "allowed".to_owned(),
            Some(reason) => format!("refused ({})", reason.as_str()),
        };
        writeln!(
            out,
            "observe: policies in mode Observe would change it: {would}, rule {rule}"
        )?;
    }
    writeln!(out, "path:    {}", path(&explanation.rules))?;
    rules(&explanation.rules, out)
}

/// Whether a rule is asked in a step.
type IsIn = fn(&RuleExplanation) -> bool;

/// The steps of deciding, in their order, as far as it went.
fn path(rules: &[RuleExplanation]) -> String {
    let steps: [(&str, IsIn); 5] = [
        ("compiled-in", |rule| {
            rule.origin.is_none() && rule.effect == Effect::Deny
        }),
        ("deny", |rule| {
            rule.origin.is_some() && rule.effect == Effect::Deny
        }),
        ("requireApproval", |rule| rule.effect == Effect::RequireApproval),
        ("allow", |rule| rule.effect == Effect::Allow),
        ("mask", |rule| rule.effect == Effect::Mask),
    ];
    let step = |(name, is_in): (&str, IsIn)| {
        let met = |finding: Finding| rules.iter().find(|rule| is_in(rule) && rule.finding == finding);
        match (met(Finding::Decides), met(Finding::Open), met(Finding::Matches)) {
            (Some(rule), _, _) => format!("{name}: {} decides", rule.rule),
            (None, Some(rule), _) => format!("{name}: {} depends", rule.rule),
            (None, None, Some(rule)) => format!("{name}: {}", rule.rule),
            (None, None, None) => format!("{name}: none"),
        }
    };
    steps.into_iter().map(step).collect::<Vec<_>>().join(" → ")
}

/// A table of the rules; compiled-in ones only where they matter.
fn rules(rules: &[RuleExplanation], out: &mut dyn Write) -> io::Result<()> {
    let shown = rules
        .iter()
        .filter(|rule| rule.origin.is_some() || rule.finding != Finding::Differs);
    let rows: Vec<[String; 4]> = shown.map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let head = ["RULE", "EFFECT", "MATCHES", "WHY"].map(str::to_owned);
    output::table(&head, rows, out)
}

fn row(rule: &RuleExplanation) -> [String; 4] {
    let matches = match rule.finding {
        Finding::Decides => "yes, decides",
        Finding::Matches => "yes",
        Finding::Observes => "yes, observes only",
        Finding::Open => "depends",
        Finding::Differs => "no",
        Finding::NotSelected => "other agents",
    };
    let mut why = rule.because.join("; ");
    if let Some(origin) = &rule.origin {
        let space = if why.is_empty() { "" } else { " " };
        why += &format!("{space}({origin})");
    }
    [
        rule.rule.clone(),
        rule.effect.to_string(),
        matches.to_owned(),
        why,
    ]
}
