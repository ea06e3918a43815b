//! The profiles of `deploy/profiles`, and what each of them comes to: every way by which data leaks or rights grow, row by
//! row, with the requests that would take it and the decision of every profile.

mod escalation;
mod leaks;
#[cfg(test)]
mod tests;

use anyhow::{Result, anyhow};
use eks_guard_core::body::Body;
use eks_guard_core::policy::{Decision, Facts, Snapshot, read_policies};
use eks_guard_core::principal::Principal;
use eks_guard_core::reason::{Reason, Refusal};
use eks_guard_core::request_info::ApiRequest;

/// The namespace that profiles are written for.
pub const NAMESPACE: &str = "my-namespace";

/// A profile as it is shipped.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Name of the policy, and of the one agent it selects.
    pub name: &'static str,
    /// The document.
    pub document: &'static str,
}

/// Every profile, in the order of [`Ask::expect`].
pub const PROFILES: [Profile; 4] = [
    Profile {
        name: "read-only",
        document: include_str!("../../deploy/profiles/read-only.yaml"),
    },
    Profile {
        name: "namespace-developer",
        document: include_str!("../../deploy/profiles/namespace-developer.yaml"),
    },
    Profile {
        name: "operator",
        document: include_str!("../../deploy/profiles/operator.yaml"),
    },
    Profile {
        name: "break-glass",
        document: include_str!("../../deploy/profiles/break-glass.yaml"),
    },
];

/// What is to become of a request: allowed, or refused for this reason.
pub type Verdict = std::result::Result<(), Reason>;

const OK: Verdict = Ok(());
const DENY: Verdict = Err(Reason::DeniedByRule);
const APPROVE: Verdict = Err(Reason::ApprovalRequired);
const MASK: Verdict = Err(Reason::MaskingRequired);
const NOTHING: Verdict = Err(Reason::NoRuleAllows);
const GRANT: Verdict = Err(Reason::GrantRequired);
const PROTECTED: Verdict = Err(Reason::SelfProtection);
const STREAM: Verdict = Err(Reason::ConnectRefused);

/// What an agent without privileges gets, unless its operator wants otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Allowed.
    Allow,
    /// Allowed with values masked.
    Mask,
    /// Allowed once somebody has approved.
    Approve,
    /// Refused.
    Deny,
}

/// One way by which data leaks or rights grow.
#[derive(Clone, Debug)]
pub struct Row {
    /// Stable name.
    pub id: &'static str,
    /// The default.
    pub default: Default,
    /// Requests that would take this way, and their harmless neighbours.
    pub asks: Vec<Ask>,
    /// For what is no request of its own: why none is here.
    pub elsewhere: Option<&'static str>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `METHOD target`
    pub line: String,
    /// Content type; empty without a body.
    pub content_type: &'static str,
    /// Body.
    pub body: String,
    /// What becomes of it in every profile.
    pub expect: [Verdict; 4],
    /// The rule that decides in `namespace-developer` and `operator`, where it matters which.
    pub rule: Option<&'static str>,
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

impl Ask {
    fn plain(line: impl Into<String>, expect: [Verdict; 4]) -> Self {
        Self {
            line: line.into(),
            content_type: "",
            body: String::new(),
            expect,
            rule: None,
        }
    }

    /// A POST, a PUT or the options of a DELETE.
    fn json(line: impl Into<String>, body: impl Into<String>, expect: [Verdict; 4]) -> Self {
        Self {
            content_type: JSON,
            body: body.into(),
            ..Self::plain(line, expect)
        }
    }

    fn patch(target: &str, body: impl Into<String>, expect: [Verdict; 4]) -> Self {
        Self {
            content_type: MERGE,
            body: body.into(),
            ..Self::plain(format!("PATCH {target}"), expect)
        }
    }

    fn by(mut self, rule: &'static str) -> Self {
        self.rule = Some(rule);
        self
    }
}

/// A row that requests can take.
fn row(id: &'static str, default: Default, asks: Vec<Ask>) -> Row {
    Row {
        id,
        default,
        asks,
        elsewhere: None,
    }
}

/// Every row.
#[must_use]
pub fn rows() -> Vec<Row> {
    [leaks::rows(), escalation::rows()].concat()
}

/// A path of the core group, in [`NAMESPACE`].
fn core(rest: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{rest}")
}

/// A path of another group and version, in [`NAMESPACE`].
fn group(group_version: &str, rest: &str) -> String {
    format!("/apis/{group_version}/namespaces/{NAMESPACE}/{rest}")
}

/// A body with a name and whatever fields `rest` adds, each with a comma before it.
fn object(api_version: &str, kind: &str, rest: &str) -> String {
    format!(r#"{{"apiVersion":"{api_version}","kind":"{kind}","metadata":{{"name":"made"}}{rest}}}"#)
}

impl Profile {
    /// Compiles it.
    ///
    /// # Errors
    /// Its mistakes.
    pub fn compile(&self) -> Result<Snapshot> {
        let policies = read_policies(self.name, self.document)
            .map_err(|mistakes| anyhow!("{}: {mistakes:?}", self.name))?;
        Snapshot::compile(&policies, 1).map_err(|conflicts| anyhow!("{}: {conflicts:?}", self.name))
    }

    /// Decides on a request of the profile's agent.
    ///
    /// # Errors
    /// The request is outside the grammar.
    pub fn decide(&self, snapshot: &Snapshot, ask: &Ask, facts: &Facts<'_>) -> Result<Decision> {
        let request = ask
            .request()
            .map_err(|refusal| anyhow!("no policy decides on {}: {refusal}", ask.line))?;
        Ok(snapshot.decide(&Principal::named(self.name), request, facts))
    }
}

impl Ask {
    /// The request as the guard reads it.
    ///
    /// # Errors
    /// It is outside the grammar.
    pub fn request(&self) -> std::result::Result<ApiRequest, Refusal> {
        let (method, target) = self.line.split_once(' ').unwrap_or((&self.line, ""));
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        let request = ApiRequest::parse(method, path, query)?;
        if self.content_type.is_empty() {
            return Ok(request);
        }
        let body = Body::read(&request, Some(self.content_type), self.body.as_bytes())?;
        request.with_body(body)
    }
}
