//! Why a request is allowed or refused: every rule that was looked at, found by the very code that decides.

use crate::policy::compile::{RuleEntry, Snapshot};
use crate::policy::condition::{self, Outcome};
use crate::policy::decide::operation_of;
use crate::policy::document::{Effect, Mode};
use crate::policy::evidence::Evidence;
use crate::policy::facts::Facts;
use crate::policy::judge::{Ground, Judgement};
use crate::policy::look;
use crate::policy::matching::Reach;
use crate::policy::message;
use crate::policy::observe::Observation;
use crate::policy::operation::{Operation, PatchKind};
use crate::policy::protection::{Protection, SECRETS_LABEL, is_secret};
use crate::principal::Principal;
use crate::reason::Refusal;
use crate::request_info::{ApiRequest, RequestInfo};
use crate::yaml::Origin;

/// A decision with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The agent that asks.
    pub agent: String,
    /// The request in words: `delete pods "web-0" in namespace "shop"`.
    pub request: String,
    /// Generation of the snapshot.
    pub generation: u64,
    /// Policies that select the agent.
    pub policies: Vec<String>,
    /// What is decided.
    pub answer: Answer,
    /// What policies in mode Observe would change about it.
    pub observed: Option<Observation>,
    /// Every rule, compiled-in ones too, in the order in which they decide.
    pub rules: Vec<RuleExplanation>,
}

/// What is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is forwarded.
    Allowed {
        /// The rule that allows it.
        rule: String,
    },
    /// It is not.
    Refused(Refusal),
}

/// One rule and one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleExplanation {
    /// `policy/rule`, or `builtin:…`.
    pub rule: String,
    /// What the rule does when it matches.
    pub effect: Effect,
    /// Where the rule stands; `None` for compiled-in rules.
    pub origin: Option<Origin>,
    /// Whether it matches.
    pub finding: Finding,
    /// Why: for rules that do not match, the differences; for rules that match more than they name, what they caught.
    pub because: Vec<String>,
}

/// Whether one rule matches one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It matches and decides.
    Decides,
    /// It matches, and another rule decides.
    Matches,
    /// Whether it matches depends on objects that are not known.
    Open,
    /// It does not match.
    Differs,
    /// It matches, and its policy only observes.
    Observes,
    /// Its policy does not select the agent.
    NotSelected,
}

impl Snapshot {
    /// Explains a request known by its RequestInfo: what `eks-guard policy explain` prints.
    #[must_use]
    pub fn explain(&self, principal: &Principal, info: &RequestInfo, facts: &Facts<'_>) -> Explanation {
        let operation = Operation::new(info, "", PatchKind::Existing).knowing(self.namespaces());
        self.explain_operation(&operation, &Evidence::new(principal, info, None, facts))
    }

    /// Explains a whole request, with what only its body says.
    #[must_use]
    pub fn explain_request(
        &self,
        principal: &Principal,
        request: &ApiRequest,
        facts: &Facts<'_>,
    ) -> Explanation {
        let operation = operation_of(request).knowing(self.namespaces());
        let evidence = Evidence::new(principal, request.info(), Some(request), facts);
        self.explain_operation(&operation, &evidence)
    }

    fn explain_operation(&self, operation: &Operation<'_>, evidence: &Evidence<'_>) -> Explanation {
        let principal = evidence.principal;
        let judgement = self.judge(operation, evidence);
        let answer = match judgement {
            Judgement::Allow(rule) => Answer::Allowed {
                rule: rule.label.to_string(),
            },
            Judgement::Refuse(ground) => Answer::Refused(self.refusal(operation, evidence, ground)),
            Judgement::Open(rule, wanted) => Answer::Refused(look::refusal(rule, wanted)),
        };
        let protections = Protection::ALL
            .into_iter()
            .map(|it| explain_protection(it, operation, judgement));
        let written = self
            .rules()
            .iter()
            .map(|rule| self.explain_rule(rule, operation, evidence, judgement));
        let mut rules: Vec<RuleExplanation> = protections.chain(written).collect();
        if is_secret(operation) {
            rules.push(explain_secret(judgement));
        }
        Explanation {
            agent: principal.agent.clone(),
            request: message::describe(operation),
            generation: self.generation(),
            policies: self
                .selected_by(principal)
                .map(|policy| policy.name.clone())
                .collect(),
            answer,
            observed: self.observation(operation, evidence),
            rules,
        }
    }

    fn explain_rule(
        &self,
        rule: &RuleEntry,
        operation: &Operation<'_>,
        evidence: &Evidence<'_>,
        judgement: Judgement<'_>,
    ) -> RuleExplanation {
        let (finding, because) = if !self.selects(rule, evidence.principal) {
            (Finding::NotSelected, Vec::new())
        } else if let Some((step, outcome)) = operation
            .each_verb()
            .filter(|step| rule.clause.matches(step))
            .map(|step| {
                let outcome = condition::outcome(&rule.conditions, rule.clause.reach, &step, evidence);
                (step, outcome)
            })
            .max_by_key(|(_, outcome)| *outcome)
        {
            let finding = match outcome {
                Outcome::Matches if rule.mode == Mode::Observe => Finding::Observes,
                Outcome::Matches if decides(rule, judgement) => Finding::Decides,
                Outcome::Matches => Finding::Matches,
                Outcome::Open(_) => Finding::Open,
                Outcome::Differs => Finding::Differs,
            };
            let mut because = match rule.clause.reach {
                Reach::Covers => Vec::new(),
                Reach::Touches => message::breadth(rule, operation),
            };
            because.extend(condition::shortcomings(&rule.conditions, step.verb, evidence));
            (finding, because)
        } else {
            let differences = rule.clause.mismatches(operation);
            let because = differences.map(|dimension| message::difference(rule, dimension, operation));
            (Finding::Differs, because.collect())
        };
        RuleExplanation {
            rule: rule.label.to_string(),
            effect: rule.effect,
            origin: rule.origin.clone(),
            finding,
            because,
        }
    }
}

fn decides(rule: &RuleEntry, judgement: Judgement<'_>) -> bool {
    let deciding = match judgement {
        Judgement::Allow(rule) | Judgement::Refuse(Ground::Restricted(rule)) => Some(rule),
        Judgement::Refuse(Ground::Ungranted(rule)) => Some(rule),
        Judgement::Open(..)
        | Judgement::Refuse(
            Ground::Protected(_) | Ground::Invalid(_) | Ground::Secret(_) | Ground::NothingAllows(_),
        ) => None,
    };
    deciding.is_some_and(|deciding| std::ptr::eq(deciding, rule))
}

fn explain_protection(
    protection: Protection,
    operation: &Operation<'_>,
    judgement: Judgement<'_>,
) -> RuleExplanation {
    let decides = matches!(judgement, Judgement::Refuse(Ground::Protected(it)) if it == protection);
    let is_open = matches!(judgement, Judgement::Open(rule, _) if rule == protection.label());
    let (finding, because) = if decides {
        (Finding::Decides, vec![protection.remedy().to_owned()])
    } else if is_open {
        (Finding::Open, vec![protection.remedy().to_owned()])
    } else if Protection::of(operation) != Some(protection) {
        (Finding::Differs, Vec::new())
    } else {
        (Finding::Matches, vec![protection.remedy().to_owned()])
    };
    RuleExplanation {
        rule: protection.label().to_owned(),
        effect: Effect::Deny,
        origin: None,
        finding,
        because,
    }
}

fn explain_secret(judgement: Judgement<'_>) -> RuleExplanation {
    let finding = match judgement {
        Judgement::Refuse(Ground::Secret(_)) => Finding::Decides,
        Judgement::Allow(_)
        | Judgement::Open(..)
        | Judgement::Refuse(
            Ground::Protected(_)
            | Ground::Invalid(_)
            | Ground::Restricted(_)
            | Ground::Ungranted(_)
            | Ground::NothingAllows(_),
        ) => Finding::Matches,
    };
    let because = vec!["replies carry values of Secrets, and this version cannot mask them".to_owned()];
    RuleExplanation {
        rule: SECRETS_LABEL.to_owned(),
        effect: Effect::Mask,
        origin: None,
        finding,
        because,
    }
}
