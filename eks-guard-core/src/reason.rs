//! Stable reason codes: the machine-readable half of every refusal.

use serde::{Deserialize, Serialize};

/// Why a request was refused. The text form is stable: programs, dashboards and agents match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The request line, query or headers are outside the strict grammar.
    RequestMalformed,
    /// The request line and headers are longer, or more, than is taken (64 KiB, 100 headers over HTTP/1.1).
    HeadTooLarge,
    /// Not GET, POST, PUT, PATCH or DELETE, or a method the path does not take.
    MethodNotAllowed,
    /// The body is not what its content type says, or a field stands twice.
    BodyMalformed,
    /// The body is longer than the API server would take (3 MiB).
    BodyTooLarge,
    /// The body's content type, or the kind inside, cannot be read exactly.
    UnsupportedMediaType,
    /// No representation the guard may relay is acceptable to the caller.
    NotAcceptable,
    /// The request's own headers or body were not complete in time.
    RequestTimeout,
    /// The API server serves no such resource.
    ResourceUnknown,
    /// No rule allows the request: the default.
    NoRuleAllows,
    /// A rule with effect `deny` matched.
    DeniedByRule,
    /// A policy about this agent cannot be used: it has mistakes.
    PolicyInvalid,
    /// A rule allows it inside a grant only (`justInTime: Required`), and grants cannot be given yet.
    GrantRequired,
    /// A rule with effect `requireApproval` matched, and approvals cannot be given yet.
    ApprovalRequired,
    /// A rule with effect `mask` matched, or the kind carries secret values, and masking cannot be done yet.
    MaskingRequired,
    /// The request touches the guard itself; no policy can allow it.
    SelfProtection,
    /// A stream through the API server into a pod, service or node (exec, attach, port-forward, proxy).
    ConnectRefused,
    /// A rule has a condition about the object as it is stored or would become, and it could not be looked at.
    ObjectUnknown,
    /// A rule has a condition about the object, and there is none.
    ObjectNotFound,
    /// The object that was decided on is no longer the one that is stored.
    ObjectChanged,
    /// The API server would not make the change, so that there is no object to decide on.
    ChangeRejected,
    /// The record could not be made durable before a mutating request.
    RecordUnavailable,
    /// Too many requests are under way for this agent.
    Overloaded,
    /// The guard is stopping.
    Draining,
    /// The API server cannot be reached.
    UpstreamUnreachable,
    /// The API server did not prove to be the one of the kubeconfig.
    UpstreamUntrusted,
    /// The guard's own credential could not be obtained, or the API server refused it.
    UpstreamCredential,
    /// The API server answered with something that cannot be relayed safely.
    UpstreamReply,
    /// A fault of the guard itself.
    Internal,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 29] = [
        Self::RequestMalformed,
        Self::HeadTooLarge,
        Self::MethodNotAllowed,
        Self::BodyMalformed,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::NotAcceptable,
        Self::RequestTimeout,
        Self::ResourceUnknown,
        Self::NoRuleAllows,
        Self::DeniedByRule,
        Self::PolicyInvalid,
        Self::GrantRequired,
        Self::ApprovalRequired,
        Self::MaskingRequired,
        Self::SelfProtection,
        Self::ConnectRefused,
        Self::ObjectUnknown,
        Self::ObjectNotFound,
        Self::ObjectChanged,
        Self::ChangeRejected,
        Self::RecordUnavailable,
        Self::Overloaded,
        Self::Draining,
        Self::UpstreamUnreachable,
        Self::UpstreamUntrusted,
        Self::UpstreamCredential,
        Self::UpstreamReply,
        Self::Internal,
    ];

    /// The HTTP status (RFC 9110) of a refusal with this reason.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::RequestMalformed | Self::BodyMalformed => 400,
            Self::ResourceUnknown | Self::ObjectNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::RequestTimeout => 408,
            Self::ObjectChanged => 409,
            Self::BodyTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::ChangeRejected => 422,
            Self::NoRuleAllows
            | Self::DeniedByRule
            | Self::PolicyInvalid
            | Self::GrantRequired
            | Self::ApprovalRequired
            | Self::MaskingRequired
            | Self::SelfProtection
            | Self::ConnectRefused
            | Self::ObjectUnknown => 403,
            Self::Overloaded => 429,
            Self::HeadTooLarge => 431,
            Self::Internal => 500,
            Self::UpstreamUnreachable
            | Self::UpstreamUntrusted
            | Self::UpstreamCredential
            | Self::UpstreamReply => 502,
            Self::RecordUnavailable | Self::Draining => 503,
        }
    }

    /// The `reason` of the `metav1.Status` that carries the refusal: what client-go branches on.
    #[must_use]
    pub const fn status_reason(self) -> &'static str {
        match self.http_status() {
            400 => "BadRequest",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            406 => "NotAcceptable",
            408 => "Timeout",
            409 => "Conflict",
            413 | 431 => "RequestEntityTooLarge",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            _ => "InternalError",
        }
    }

    /// The stable code, as it stands in Status causes and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestMalformed => "RequestMalformed",
            Self::HeadTooLarge => "HeadTooLarge",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::BodyMalformed => "BodyMalformed",
            Self::BodyTooLarge => "BodyTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::NotAcceptable => "NotAcceptable",
            Self::RequestTimeout => "RequestTimeout",
            Self::ResourceUnknown => "ResourceUnknown",
            Self::NoRuleAllows => "NoRuleAllows",
            Self::DeniedByRule => "DeniedByRule",
            Self::PolicyInvalid => "PolicyInvalid",
            Self::GrantRequired => "GrantRequired",
            Self::ApprovalRequired => "ApprovalRequired",
            Self::MaskingRequired => "MaskingRequired",
            Self::SelfProtection => "SelfProtection",
            Self::ConnectRefused => "ConnectRefused",
            Self::ObjectUnknown => "ObjectUnknown",
            Self::ObjectNotFound => "ObjectNotFound",
            Self::ObjectChanged => "ObjectChanged",
            Self::ChangeRejected => "ChangeRejected",
            Self::RecordUnavailable => "RecordUnavailable",
            Self::Overloaded => "Overloaded",
            Self::Draining => "Draining",
            Self::UpstreamUnreachable => "UpstreamUnreachable",
            Self::UpstreamUntrusted => "UpstreamUntrusted",
            Self::UpstreamCredential => "UpstreamCredential",
            Self::UpstreamReply => "UpstreamReply",
            Self::Internal => "Internal",
        }
    }
}

/// A refusal on its way to becoming a response: a stable reason and a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", reason.as_str())]
pub struct Refusal {
    /// The stable code.
    pub reason: Reason,
    /// The rule that decided, when one did; `builtin:…` for compiled-in rules.
    pub rule: Option<String>,
    /// One sentence for the agent, a person or a model: what was refused and what would change it.
    pub message: String,
}

impl Refusal {
    /// A refusal that no rule decided.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            rule: None,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_code_is_explained_in_the_documents_with_its_status() {
        let page = include_str!("../../docs/reasons.md");
        // serde names all variants when it is given another one.
        let error = serde_json::from_str::<Reason>("\"none\"")
            .unwrap_err()
            .to_string();
        let codes: Vec<&str> = error
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| *name != "none")
            .collect();
        assert_eq!(codes, Reason::ALL.map(Reason::as_str));
        for code in codes {
            let reason: Reason = serde_json::from_str(&format!("{code:?}")).unwrap();
            assert_eq!(reason.as_str(), code);
            let row = format!("| `{code}` | {} | ", reason.http_status());
            assert!(page.contains(&row), "docs/reasons.md has no row {row:?}");
        }
    }
}
