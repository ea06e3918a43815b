//! Policies in mode Observe: what they would have decided, and nothing else.

use crate::policy::compile::Snapshot;
use crate::policy::decide::operation_of;
use crate::policy::evidence::Evidence;
use crate::policy::facts::Facts;
use crate::policy::judge::{Ground, Judgement, View};
use crate::policy::message;
use crate::policy::operation::Operation;
use crate::principal::Principal;
use crate::reason::Reason;
use crate::request_info::ApiRequest;

/// What would be decided if the policies in mode Observe were enforced, when that is something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Why it would be refused; `None` when it would be allowed.
    pub reason: Option<Reason>,
    /// The rule that would decide, when one would.
    pub rule: Option<String>,
}

impl Snapshot {
    /// What policies in mode Observe would change about this request. Says nothing, and costs next to nothing, when no
    /// such policy is about the principal.
    #[must_use]
    pub fn observe(
        &self,
        principal: &Principal,
        request: &ApiRequest,
        facts: &Facts<'_>,
    ) -> Option<Observation> {
        if !self.observes(principal) {
            return None;
        }
        let operation = operation_of(request).knowing(self.namespaces());
        let evidence = Evidence::new(principal, request.info(), Some(request), facts);
        self.observation(&operation, &evidence)
    }

    pub(crate) fn observation(
        &self,
        operation: &Operation<'_>,
        evidence: &Evidence<'_>,
    ) -> Option<Observation> {
        let observed = observation(self.judge_in(View::WithObserved, operation, evidence));
        let enforced = observation(self.judge(operation, evidence));
        (observed.reason != enforced.reason).then_some(observed)
    }
}

fn observation(judgement: Judgement<'_>) -> Observation {
    match judgement {
        Judgement::Allow(rule) => Observation {
            reason: None,
            rule: Some(rule.label.to_string()),
        },
        Judgement::Refuse(ground) => refusal(ground),
        Judgement::Open(rule, _) => Observation {
            reason: Some(Reason::ObjectUnknown),
            rule: Some(rule.to_owned()),
        },
    }
}

fn refusal(ground: Ground<'_>) -> Observation {
    let (reason, rule) = message::reason(ground);
    Observation {
        reason: Some(reason),
        rule,
    }
}
