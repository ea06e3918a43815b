//! What an agent is told of its own rights: the API server's answer, which is about the guard's credential, narrowed to
//! what the guard would let through. So `kubectl auth can-i` tells the truth, and nothing of the guard's own role.

mod access;
mod rules;

use serde_json::{Value, json};

use crate::discovery::Discovery;
use crate::policy::compile::Snapshot;
use crate::policy::facts::Facts;
use crate::principal::Principal;
use crate::request_info::{RequestInfo, Verb};

/// A question about the caller's own rights (`authorization.k8s.io/v1`, `authentication.k8s.io/v1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Review {
    /// `SelfSubjectAccessReview`: may I do this?
    Access,
    /// `SelfSubjectRulesReview`: what may I do in this namespace?
    Rules,
    /// `SelfSubjectReview`: who am I?
    Subject,
}

/// The API server's answer is not the one to such a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer to a review of one's own rights has no {0}")]
pub struct ReviewError(pub(crate) &'static str);

impl Review {
    /// The question that a request asks, if it is one.
    #[must_use]
    pub fn of(info: &RequestInfo) -> Option<Self> {
        let resource = info.resource().filter(|_| info.verb == Verb::Create)?;
        match (resource.group, resource.resource, resource.subresource) {
            ("authorization.k8s.io", "selfsubjectaccessreviews", "") => Some(Self::Access),
            ("authorization.k8s.io", "selfsubjectrulesreviews", "") => Some(Self::Rules),
            ("authentication.k8s.io", "selfsubjectreviews", "") => Some(Self::Subject),
            _ => None,
        }
    }
}

/// Who asks about its rights, and what these are decided by.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The policies in force.
    pub snapshot: &'a Snapshot,
    /// The agent.
    pub principal: &'a Principal,
    /// Facts of the moment.
    pub facts: &'a Facts<'a>,
}

impl Asker<'_> {
    /// Rewrites the API server's answer, in JSON, into the one for this agent.
    ///
    /// # Errors
    /// It is not such an answer: nothing of it may be passed on.
    pub fn answer(&self, review: Review, served: &Discovery, answer: &[u8]) -> Result<Vec<u8>, ReviewError> {
        let mut answer: Value = serde_json::from_slice(answer).map_err(|_| ReviewError("JSON"))?;
        let status = match review {
            Review::Access => access::status(self, served, &answer)?,
            Review::Rules => rules::status(self, served, &answer)?,
            Review::Subject if answer["kind"] == "SelfSubjectReview" => subject(self.principal),
            // In another shape, the guard's own identity would stand elsewhere in it.
            Review::Subject => return Err(ReviewError("kind")),
        };
        let object = answer.as_object_mut().ok_or(ReviewError("object"))?;
        object.insert("status".to_owned(), status);
        Ok(answer.to_string().into_bytes())
    }
}

/// Who the guard says the agent is. The API server knows the guard's own identity only.
fn subject(principal: &Principal) -> Value {
    let mut extra = json!({"eks-guard.dev/agent": [principal.agent]});
    let mut uid = "";
    if let Some(pod) = &principal.pod {
        uid = &pod.uid;
        extra["eks-guard.dev/pod"] = json!([format!("{}/{}", pod.namespace, pod.name)]);
        extra["eks-guard.dev/service-account"] =
            json!([format!("{}/{}", pod.namespace, pod.service_account)]);
    }
    json!({"userInfo": {
        "username": format!("eks-guard:{}", principal.agent),
        "uid": uid,
        "groups": ["eks-guard:agents"],
        "extra": extra,
    }})
}
