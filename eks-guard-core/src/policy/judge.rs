//! The order in which everything is asked: protection, policies that cannot be used, deny, requireApproval, allow, grant,
//! mask; otherwise no.

use crate::policy::compile::{RuleEntry, Snapshot};
use crate::policy::document::{Effect, InvalidPolicy, JustInTime, Masking, Mode};
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
    /// A policy that cannot be used may be about the principal.
    Invalid(&'a InvalidPolicy),
    /// A rule that restricts matched.
    Restricted(&'a RuleEntry),
    /// This rule allows it, but the reply would carry values of Secrets.
    Secret(&'a RuleEntry),
    /// This rule allows it, but only inside a grant.
    Ungranted(&'a RuleEntry),
    /// No rule allows this verb.
    NothingAllows(Verb),
}

/// Which policies decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Those in mode Enforce: what is decided.
    Enforced,
    /// All of them, as if those in mode Observe were enforced too.
    WithObserved,
}

/// One question, asked of one rule after the other.
#[derive(Clone, Copy)]
struct Question<'s, 'p> {
    snapshot: &'s Snapshot,
    principal: &'p Principal,
    view: View,
}

impl Snapshot {
    /// Judges one request. Allocates nothing.
    pub(crate) fn judge(&self, principal: &Principal, operation: &Operation<'_>) -> Judgement<'_> {
        self.judge_in(View::Enforced, principal, operation)
    }

    /// The same, in one view.
    pub(crate) fn judge_in(
        &self,
        view: View,
        principal: &Principal,
        operation: &Operation<'_>,
    ) -> Judgement<'_> {
        let question = Question {
            snapshot: self,
            principal,
            view,
        };
        question.judge(operation).unwrap_or_else(Judgement::Refuse)
    }

    /// Whether a rule matches the request and its policy selects the principal.
    pub(crate) fn applies(&self, rule: &RuleEntry, principal: &Principal, operation: &Operation<'_>) -> bool {
        rule.clause.matches(operation) && self.selects(rule, principal)
    }
}

impl<'s> Question<'s, '_> {
    fn judge(self, operation: &Operation<'_>) -> Result<Judgement<'s>, Ground<'s>> {
        let protection = Protection::of(operation);
        match protection {
            // Rules that restrict streams are asked first, so that an approval is called one.
            Some(Protection::Connect) | None => {}
            Some(protection) => return Err(Ground::Protected(protection)),
        }
        if let Some(invalid) = self.snapshot.invalid_for(self.principal) {
            return Err(Ground::Invalid(invalid));
        }
        let restricting = self.first(operation, Reach::Touches, |_| true);
        let masking = match restricting {
            Some(rule) if rule.effect == Effect::Mask => Some(rule),
            Some(rule) => return Err(Ground::Restricted(rule)),
            None => None,
        };
        if let Some(protection) = protection {
            return Err(Ground::Protected(protection));
        }
        let allowing = self.allowing(operation, |rule| rule.just_in_time == JustInTime::Never);
        let allowing = allowing.map_err(|verb| match self.allowing(operation, |_| true) {
            Ok(rule) => Ground::Ungranted(rule),
            Err(_) => Ground::NothingAllows(verb),
        })?;
        if masking.is_none() && !is_secret(operation) {
            return Ok(Judgement::Allow(allowing));
        }
        let in_clear =
            |rule: &RuleEntry| rule.masking == Masking::None && rule.just_in_time == JustInTime::Never;
        match (self.allowing(operation, in_clear), masking) {
            (Ok(rule), _) => Ok(Judgement::Allow(rule)),
            (Err(_), Some(rule)) => Err(Ground::Restricted(rule)),
            (Err(_), None) => Err(Ground::Secret(allowing)),
        }
    }

    /// The rule that allows it, when rules of this kind allow every verb it needs; else the verb that none allows.
    fn allowing(
        self,
        operation: &Operation<'_>,
        kind: impl Fn(&RuleEntry) -> bool,
    ) -> Result<&'s RuleEntry, Verb> {
        let mut allowing = Err(operation.verb);
        for step in operation.each_verb() {
            let rule = self.first(&step, Reach::Covers, &kind).ok_or(step.verb)?;
            allowing = allowing.or(Ok(rule));
        }
        allowing
    }

    /// The first rule of this kind that applies, in the order in which they decide.
    fn first(
        self,
        operation: &Operation<'_>,
        reach: Reach,
        kind: impl Fn(&RuleEntry) -> bool,
    ) -> Option<&'s RuleEntry> {
        self.snapshot
            .candidates(self.principal, operation, reach)
            .filter(|rule| self.view == View::WithObserved || rule.mode == Mode::Enforce)
            .filter(|rule| kind(rule))
            .find(|rule| self.snapshot.applies(rule, self.principal, operation))
    }
}
