//! The order in which everything is asked: protection, deny, requireApproval, mask, allow; otherwise no.

use crate::policy::compile::{RuleEntry, Snapshot};
use crate::policy::condition::{self, Outcome};
use crate::policy::evidence::Evidence;
use crate::policy::look::Wanted;
use crate::policy::matching::Reach;
use crate::policy::operation::Operation;
use crate::policy::protection::{Protection, is_secret};
use crate::request_info::Verb;

/// What was found, with the rule that decided.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Judgement<'a> {
    /// Allowed by this rule.
    Allow(&'a RuleEntry),
    /// Refused.
    Refuse(Ground<'a>),
    /// Allowed or refused, depending on objects that have to be looked at; with the first rule that asks for them.
    Open(&'a RuleEntry, Wanted),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ground<'a> {
    /// A compiled-in rule that no policy overrides.
    Protected(Protection),
    /// A rule that restricts matched.
    Restricted(&'a RuleEntry),
    /// This rule allows it, but the reply would carry values of Secrets.
    Secret(&'a RuleEntry),
    /// No rule allows this verb.
    NothingAllows(Verb),
}

/// What was found among rules of one kind.
#[derive(Clone, Copy)]
struct Found<'a> {
    /// The first that matches.
    certain: Option<&'a RuleEntry>,
    /// The first that may match, and what all that may match want to know.
    open: Option<(&'a RuleEntry, Wanted)>,
}

impl Snapshot {
    /// Judges one request. Allocates nothing unless a condition does.
    ///
    /// What is refused whatever the objects are is refused at once: nothing is looked at for it.
    pub(crate) fn judge(&self, operation: &Operation<'_>, evidence: &Evidence<'_>) -> Judgement<'_> {
        if let Some(protection) = Protection::of(operation) {
            return Judgement::Refuse(Ground::Protected(protection));
        }
        let restricting = self.find(operation, Reach::Touches, evidence);
        if let Some(rule) = restricting.certain {
            return Judgement::Refuse(Ground::Restricted(rule));
        }
        let (mut allowing, mut open) = (None, restricting.open);
        for step in operation.each_verb() {
            let found = self.find(&step, Reach::Covers, evidence);
            let rule = match (found.certain, found.open) {
                (Some(rule), _) => rule,
                (None, Some((rule, wanted))) => {
                    open = with(open, rule, wanted);
                    rule
                }
                (None, None) => return Judgement::Refuse(Ground::NothingAllows(step.verb)),
            };
            allowing = allowing.or(Some(rule));
        }
        match (allowing, open) {
            (None, _) => Judgement::Refuse(Ground::NothingAllows(operation.verb)),
            (Some(rule), _) if is_secret(operation) => Judgement::Refuse(Ground::Secret(rule)),
            (Some(_), Some((rule, wanted))) => Judgement::Open(rule, wanted),
            (Some(rule), None) => Judgement::Allow(rule),
        }
    }

    fn find<'a>(&'a self, operation: &Operation<'_>, reach: Reach, evidence: &Evidence<'_>) -> Found<'a> {
        let mut open = None;
        for rule in self.candidates(evidence.principal, operation, reach) {
            match self.outcome(rule, operation, evidence) {
                Outcome::Differs => {}
                Outcome::Open(wanted) => open = with(open, rule, wanted),
                Outcome::Matches => {
                    return Found {
                        certain: Some(rule),
                        open,
                    };
                }
            }
        }
        Found { certain: None, open }
    }

    /// Whether a rule matches the request, its policy selects the agent, and its conditions hold.
    pub(crate) fn outcome(
        &self,
        rule: &RuleEntry,
        operation: &Operation<'_>,
        evidence: &Evidence<'_>,
    ) -> Outcome {
        if rule.clause.matches(operation) && self.selects(rule, evidence.principal) {
            condition::outcome(&rule.conditions, rule.clause.reach, operation, evidence)
        } else {
            Outcome::Differs
        }
    }
}

/// Keeps the first rule, and the most that is wanted.
fn with<'a>(
    open: Option<(&'a RuleEntry, Wanted)>,
    rule: &'a RuleEntry,
    wanted: Wanted,
) -> Option<(&'a RuleEntry, Wanted)> {
    Some(open.map_or((rule, wanted), |(first, already)| (first, already.max(wanted))))
}
