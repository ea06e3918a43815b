//! One request against one snapshot.

use std::sync::Arc;

use crate::policy::compile::Snapshot;
use crate::policy::judge::{Ground, Judgement};
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
}

/// What was found, without a borrow of the request.
enum Found {
    Allow(Arc<str>),
    Refuse(Refusal),
}

impl Snapshot {
    /// Decides on one request of one agent.
    pub fn decide(&self, principal: &Principal, request: ApiRequest) -> Decision {
        let found = {
            let operation = operation_of(&request).knowing(self.namespaces());
            match self.judge(principal, &operation) {
                Judgement::Allow(rule) => Found::Allow(rule.label.clone()),
                Judgement::Refuse(ground) => Found::Refuse(self.refusal(principal, &operation, ground)),
            }
        };
        match found {
            Found::Allow(rule) => Decision::Permit(Permit::new(request, rule, self.generation())),
            Found::Refuse(refusal) => Decision::Refuse(request, refusal),
        }
    }

    pub(crate) fn refusal(
        &self,
        principal: &Principal,
        operation: &Operation<'_>,
        ground: Ground<'_>,
    ) -> Refusal {
        let (reason, rule) = message::reason(ground);
        let message = message::sentence(self, principal, operation, ground);
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
