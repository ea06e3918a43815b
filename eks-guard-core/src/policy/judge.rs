//! The order in which everything is asked: protection, policies that cannot be used, deny, requireApproval, allow, grant,
//! mask; otherwise no.

use crate::policy::compile::{RuleEntry, Snapshot};
use crate::policy::condition::{self, Outcome};
use crate::policy::document::{Effect, InvalidPolicy, JustInTime, Masking, Mode};
use crate::policy::evidence::Evidence;
use crate::policy::look::Wanted;
use crate::policy::matching::Reach;
use crate::policy::operation::Operation;
use crate::policy::protection::{self, Content, Protection, is_secret};
use crate::request_info::Verb;

/// What was found, with the rule that decided.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Judgement<'a> {
    /// Allowed by this rule.
    Allow(&'a RuleEntry),
    /// Refused.
    Refuse(Ground<'a>),
    /// Allowed or refused, depending on objects that have to be looked at; with the name of the first rule that asks for
    /// them.
    Open(&'a str, Wanted),
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

/// A rule that may match, and what it wants to know.
type Open<'a> = Option<(&'a RuleEntry, Wanted)>;

/// What was found among rules of one kind.
#[derive(Clone, Copy)]
struct Found<'a> {
    /// The first that matches.
    certain: Option<&'a RuleEntry>,
    /// The first that may match, and what all that may match want to know.
    open: Open<'a>,
}

/// Rules that together allow everything a request needs.
#[derive(Clone, Copy)]
struct Allowing<'a> {
    /// The first of them.
    rule: &'a RuleEntry,
    /// Those that allow it only if objects are as they want.
    open: Open<'a>,
}

/// One question, asked of one rule after the other.
#[derive(Clone, Copy)]
struct Question<'s, 'e> {
    snapshot: &'s Snapshot,
    evidence: &'e Evidence<'e>,
    view: View,
}

impl Snapshot {
    /// Judges one request. Allocates nothing unless it has a body, or a condition does.
    ///
    /// What is refused whatever the objects are is refused at once: nothing is looked at for it.
    pub(crate) fn judge(&self, operation: &Operation<'_>, evidence: &Evidence<'_>) -> Judgement<'_> {
        self.judge_in(View::Enforced, operation, evidence)
    }

    /// The same, in one view.
    pub(crate) fn judge_in(
        &self,
        view: View,
        operation: &Operation<'_>,
        evidence: &Evidence<'_>,
    ) -> Judgement<'_> {
        let question = Question {
            snapshot: self,
            evidence,
            view,
        };
        question.judge(operation).unwrap_or_else(Judgement::Refuse)
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

impl<'s> Question<'s, '_> {
    fn judge(self, operation: &Operation<'_>) -> Result<Judgement<'s>, Ground<'s>> {
        let protection = Protection::of(operation);
        match protection {
            // Rules that restrict streams are asked first, so that an approval is called one.
            Some(Protection::Connect) | None => {}
            Some(protection) => return Err(Ground::Protected(protection)),
        }
        let written = match protection::of_content(self.evidence) {
            Content::Clean => None,
            Content::Refused(protection) => return Err(Ground::Protected(protection)),
            Content::Open(protection, wanted) => Some((protection.label(), wanted)),
        };
        if let Some(invalid) = self.snapshot.invalid_for(self.evidence.principal) {
            return Err(Ground::Invalid(invalid));
        }
        let restricting = self.find(operation, Reach::Touches, |rule| rule.effect != Effect::Mask);
        if let Some(rule) = restricting.certain {
            return Err(Ground::Restricted(rule));
        }
        if let Some(protection) = protection {
            return Err(Ground::Protected(protection));
        }
        let allowing = self.allowing(operation, |rule| rule.just_in_time == JustInTime::Never);
        let allowing = allowing.map_err(|verb| match self.allowing(operation, |_| true) {
            Ok(allowing) => Ground::Ungranted(allowing.rule),
            Err(_) => Ground::NothingAllows(verb),
        })?;
        let (allowing, masking) = self.masked(operation, allowing)?;
        let rules = [restricting.open, allowing.open, masking].into_iter().flatten();
        let rules = rules.map(|(rule, wanted)| (&*rule.label, wanted));
        Ok(written
            .into_iter()
            .chain(rules)
            .reduce(|(first, wanted), (_, more)| (first, wanted.max(more)))
            .map_or(Judgement::Allow(allowing.rule), |(rule, wanted)| {
                Judgement::Open(rule, wanted)
            }))
    }

    /// What allows it when values in the reply have to be masked, or may have to: rules that let them through in clear.
    fn masked(
        self,
        operation: &Operation<'_>,
        allowing: Allowing<'s>,
    ) -> Result<(Allowing<'s>, Open<'s>), Ground<'s>> {
        let masking = self.find(operation, Reach::Touches, |rule| rule.effect == Effect::Mask);
        let ground = match masking.certain {
            Some(rule) => Some(Ground::Restricted(rule)),
            None if is_secret(operation) => Some(Ground::Secret(allowing.rule)),
            None if masking.open.is_none() => return Ok((allowing, None)),
            None => None,
        };
        let in_clear =
            |rule: &RuleEntry| rule.masking == Masking::None && rule.just_in_time == JustInTime::Never;
        match (self.allowing(operation, in_clear), ground) {
            (Ok(in_clear), _) => Ok((in_clear, None)),
            (Err(_), Some(ground)) => Err(ground),
            (Err(_), None) => Ok((allowing, masking.open)),
        }
    }

    /// What allows it, when rules of this kind allow every verb it needs; else the verb that none allows.
    fn allowing(
        self,
        operation: &Operation<'_>,
        kind: impl Fn(&RuleEntry) -> bool,
    ) -> Result<Allowing<'s>, Verb> {
        let mut allowing: Option<Allowing<'s>> = None;
        for step in operation.each_verb() {
            let found = self.find(&step, Reach::Covers, &kind);
            let (rule, open) = match (found.certain, found.open) {
                (Some(rule), _) => (rule, None),
                (None, Some((rule, wanted))) => (rule, Some((rule, wanted))),
                (None, None) => return Err(step.verb),
            };
            allowing = Some(match allowing {
                None => Allowing { rule, open },
                Some(first) => Allowing {
                    open: open.map_or(first.open, |(rule, wanted)| with(first.open, rule, wanted)),
                    ..first
                },
            });
        }
        allowing.ok_or(operation.verb)
    }

    /// The first rule of this kind that matches, in the order in which they decide, and those before it that may.
    fn find(self, operation: &Operation<'_>, reach: Reach, kind: impl Fn(&RuleEntry) -> bool) -> Found<'s> {
        let mut open = None;
        let candidates = self
            .snapshot
            .candidates(self.evidence.principal, operation, reach);
        let counts =
            |rule: &&RuleEntry| kind(rule) && (self.view == View::WithObserved || rule.mode == Mode::Enforce);
        for rule in candidates.filter(counts) {
            match self.snapshot.outcome(rule, operation, self.evidence) {
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
}

/// Keeps the first rule, and the most that is wanted.
fn with<'a>(open: Open<'a>, rule: &'a RuleEntry, wanted: Wanted) -> Open<'a> {
    Some(open.map_or((rule, wanted), |(first, already)| (first, already.max(wanted))))
}
