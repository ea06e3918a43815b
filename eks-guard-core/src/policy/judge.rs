//! The order in which everything is asked: protection, deny, requireApproval, mask, allow; otherwise no.

use crate::policy::compile::{RuleEntry, Snapshot};
use crate::policy::matching::Reach;
use crate::policy::operation::Operation;
use crate::policy::protection::{Protection, is_secret};
use crate::principal::Principal;
use crate::request_info::Verb;

/// What was found, with the rule that decided.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Judgement<'a> {
    /// Allowed by this rule.
    Allow(&'a RuleEntry),
    /// Refused.
    Refuse(Ground<'a>),
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

impl Snapshot {
    /// Judges one request. Allocates nothing.
    pub(crate) fn judge(&self, principal: &Principal, operation: &Operation<'_>) -> Judgement<'_> {
        if let Some(protection) = Protection::of(operation) {
            return Judgement::Refuse(Ground::Protected(protection));
        }
        let restricting = self
            .candidates(principal, operation, Reach::Touches)
            .find(|rule| self.applies(rule, principal, operation));
        if let Some(rule) = restricting {
            return Judgement::Refuse(Ground::Restricted(rule));
        }
        let mut allowing = None;
        for step in operation.each_verb() {
            let rule = self
                .candidates(principal, &step, Reach::Covers)
                .find(|rule| self.applies(rule, principal, &step));
            let Some(rule) = rule else {
                return Judgement::Refuse(Ground::NothingAllows(step.verb));
            };
            allowing = allowing.or(Some(rule));
        }
        match allowing {
            None => Judgement::Refuse(Ground::NothingAllows(operation.verb)),
            Some(rule) if is_secret(operation) => Judgement::Refuse(Ground::Secret(rule)),
            Some(rule) => Judgement::Allow(rule),
        }
    }

    /// Whether a rule matches the request and its policy selects the agent.
    pub(crate) fn applies(&self, rule: &RuleEntry, principal: &Principal, operation: &Operation<'_>) -> bool {
        rule.clause.matches(operation) && self.selects(rule, principal)
    }
}
