//! The look: proof that a request would be allowed if conditions about objects hold, and the only key to asking the API
//! server about these objects.

use std::sync::Arc;

use crate::body::{Pin, PinError};
use crate::policy::decide::operation_of;
use crate::reason::{Reason, Refusal};
use crate::request_info::ApiRequest;

/// A request that rules allow, except for conditions about objects that are not known. Only deciding makes one; who has
/// looked at the objects decides again.
///
/// Code outside the policy module cannot make one:
///
/// ```compile_fail,E0624
/// fn forge(request: eks_guard_core::request_info::ApiRequest) -> eks_guard_core::policy::Look {
///     eks_guard_core::policy::Look::new(request, eks_guard_core::policy::Wanted::Objects, "mine/rule".into())
/// }
/// ```
///
/// Nor can it make a permit of one:
///
/// ```compile_fail,E0308
/// fn forward(look: eks_guard_core::policy::Look) -> eks_guard_core::policy::Permit {
///     look
/// }
/// ```
#[derive(Debug)]
#[must_use = "a look that nobody takes leaves the request without an answer"]
pub struct Look {
    request: ApiRequest,
    wanted: Wanted,
    rule: Arc<str>,
}

/// Which objects a decision needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// The object as it is stored.
    OldObject,
    /// That, and the object as the request would leave it.
    Objects,
}

impl Look {
    pub(super) fn new(request: ApiRequest, wanted: Wanted, rule: Arc<str>) -> Self {
        Self {
            request,
            wanted,
            rule,
        }
    }

    /// The request that is decided on.
    #[must_use]
    pub fn request(&self) -> &ApiRequest {
        &self.request
    }

    /// What to look at.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// The first rule whose condition is open.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Spends the look, to decide again on what was seen.
    #[must_use]
    pub fn into_request(self) -> ApiRequest {
        self.request
    }

    /// Whether the request creates the object when there is none.
    #[must_use]
    pub fn creates(&self) -> bool {
        operation_of(&self.request).implied.is_some()
    }

    /// The request, to be decided again on what was seen: the API server carries it out on that object or not at all.
    ///
    /// # Errors
    /// [`Reason::ObjectChanged`] when the agent says itself that it means another state of the object,
    /// [`Reason::ObjectUnknown`] when the request has no place for the precondition.
    pub fn pinned(&self, pin: &Pin) -> Result<ApiRequest, Refusal> {
        self.request.pinned(pin).map_err(|error| match error {
            PinError::Changed => Refusal {
                reason: Reason::ObjectChanged,
                rule: Some(self.rule.to_string()),
                message: format!("{error}; read it again and try again"),
            },
            PinError::Impossible(why) => {
                self.unseen(&format!("it could not be held to what was seen: {why}"))
            }
        })
    }

    /// What is answered where nothing could be seen, and why.
    #[must_use]
    pub fn unseen(&self, why: &str) -> Refusal {
        let mut refusal = refusal(&self.rule, self.wanted);
        refusal.message = format!("{} ({why})", refusal.message);
        refusal
    }

    /// Spends the look where nothing could be seen.
    #[must_use]
    pub fn refuse(self) -> (ApiRequest, Refusal) {
        let refusal = refusal(&self.rule, self.wanted);
        (self.request, refusal)
    }
}

/// What is answered when the objects cannot be looked at.
pub(super) fn refusal(rule: &str, wanted: Wanted) -> Refusal {
    let object = match wanted {
        Wanted::OldObject => "the object as it is stored",
        Wanted::Objects => "the object as this request would leave it",
    };
    Refusal {
        reason: Reason::ObjectUnknown,
        rule: Some(rule.to_owned()),
        message: format!("what rule {rule:?} says depends on {object}, and the guard could not look at it"),
    }
}
