//! One request against one snapshot.

use std::sync::Arc;

use crate::policy::compile::Snapshot;
use crate::policy::evidence::Evidence;
use crate::policy::facts::Facts;
use crate::policy::judge::{Ground, Judgement};
use crate::policy::look::{Look, Wanted};
use crate::policy::message;
use crate::policy::operation::{Operation, PatchKind};
use crate::policy::permit::Permit;
use crate::principal::Principal;
use crate::reason::Refusal;
use crate::request_info::ApiRequest;

/// Content type of a server-side apply.
const APPLY: &str = "application/apply-patch+yaml";

/// What was decided. Nothing but [`Decision::Permit`] can be forwarded.
#[derive(Debug)]
#[must_use = "a decision that nobody looks at protects nothing"]
pub enum Decision {
    /// Allowed, with the request inside.
    Permit(Permit),
    /// Refused; the request is given back for the record.
    Refuse(ApiRequest, Refusal),
    /// Rules allow it, unless objects that are not known speak against it: look at them, and decide again.
    Look(Look),
}

/// What was found, without a borrow of the request.
enum Found {
    Allow(Arc<str>),
    Refuse(Refusal),
    Open(Arc<str>, Wanted),
}

impl Snapshot {
    /// Decides on one request of one agent. The same request with the same facts is decided the same way.
    pub fn decide(&self, principal: &Principal, request: ApiRequest, facts: &Facts<'_>) -> Decision {
        let found = {
            let operation = operation_of(&request).knowing(self.namespaces());
            let evidence = Evidence::new(principal, request.info(), Some(&request), facts);
            match self.judge(&operation, &evidence) {
                Judgement::Allow(rule) => Found::Allow(rule.label.clone()),
                Judgement::Refuse(ground) => Found::Refuse(self.refusal(&operation, &evidence, ground)),
                Judgement::Open(rule, wanted) => Found::Open(rule.into(), wanted),
            }
        };
        match found {
            Found::Allow(rule) => Decision::Permit(Permit::new(request, rule, self.generation())),
            Found::Refuse(refusal) => Decision::Refuse(request, refusal),
            Found::Open(rule, wanted) => Decision::Look(Look::new(request, wanted, rule)),
        }
    }

    pub(crate) fn refusal(
        &self,
        operation: &Operation<'_>,
        evidence: &Evidence<'_>,
        ground: Ground<'_>,
    ) -> Refusal {
        let (reason, rule) = message::reason(ground);
        let message = message::sentence(self, operation, evidence, ground);
        Refusal {
            reason,
            rule,
            message,
        }
    }
}

/// The request as rules are matched on it.
pub(crate) fn operation_of(request: &ApiRequest) -> Operation<'_> {
    Operation::new(request.info(), request.object_name(), patch_kind(request))
}

/// Server-side apply is known by the content type of the body alone.
fn patch_kind(request: &ApiRequest) -> PatchKind {
    match request.body() {
        Some(body) if body.content_type() == APPLY => PatchKind::Apply,
        Some(_) | None => PatchKind::Existing,
    }
}
