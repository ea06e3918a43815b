//! The `PolicyTest` document: who asks for what, and what is to be decided.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use eks_guard_core::policy::{Fact, Namespaces};
use eks_guard_core::principal::{Labels, Principal};
use eks_guard_core::reason::Reason;
use eks_guard_core::yaml::{self, At, DocumentError, Origin};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::policy::who::Who;
use crate::policy::words::{Asked, Words};

const KIND: &str = "PolicyTest";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    policies: Vec<String>,
    /// Labels of namespaces.
    #[serde(default)]
    namespaces: BTreeMap<String, Labels>,
    /// Who asks in cases that do not say so.
    #[serde(default)]
    principal: Option<Who>,
    cases: Vec<At<CaseDocument>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaseDocument {
    name: String,
    #[serde(default)]
    principal: Option<Who>,
    request: At<RequestDocument>,
    #[serde(default)]
    object: Stored,
    #[serde(default)]
    old_object: Stored,
    #[serde(default)]
    time: Option<At<String>>,
    expect: At<Expectation>,
}

/// A request in kubectl's words, or a method and a path.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestDocument {
    #[serde(default)]
    verb: Option<String>,
    #[serde(default)]
    api_group: Option<String>,
    #[serde(default)]
    resource: Option<String>,
    #[serde(default)]
    subresource: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    all_namespaces: bool,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    method: Option<String>,
    /// Path and query.
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    body: Option<Value>,
}

/// An object that is known, known not to be, or not known.
#[derive(Debug, Default)]
pub(super) enum Stored {
    #[default]
    Unknown,
    Absent,
    Present(Value),
}

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(if value.is_null() {
            Self::Absent
        } else {
            Self::Present(value)
        })
    }
}

impl Stored {
    pub(super) fn as_fact(&self) -> Fact<'_> {
        match self {
            Self::Unknown => Fact::Unknown,
            Self::Absent => Fact::Absent,
            Self::Present(object) => Fact::Present(object),
        }
    }
}

/// What is to be decided.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Expectation {
    pub(super) decision: Decision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// A decision, by the effect that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Decision {
    Allow,
    Deny,
    Mask,
    RequireApproval,
    Observe,
}

impl Decision {
    /// Everything that is refused for another reason counts as denied.
    pub(super) fn of(reason: Reason) -> Self {
        if reason == Reason::MaskingRequired {
            Self::Mask
        } else if reason == Reason::ApprovalRequired {
            Self::RequireApproval
        } else {
            Self::Deny
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Mask => "mask",
            Self::RequireApproval => "requireApproval",
            Self::Observe => "observe",
        })
    }
}

/// The cases of one file.
pub(super) struct Cases {
    /// Relative to the file.
    pub(super) policies: Vec<PathBuf>,
    pub(super) namespaces: Namespaces,
    pub(super) cases: Vec<Case>,
}

/// One case, ready to be decided.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) principal: Principal,
    pub(super) asked: Asked,
    pub(super) object: Stored,
    pub(super) old_object: Stored,
    pub(super) time: SystemTime,
    pub(super) expected: Expectation,
}

impl Cases {
    /// Reads one file.
    ///
    /// # Errors
    /// Every mistake, a line each.
    pub(super) fn read(name: &str, text: &str) -> Result<Self, String> {
        let file: Arc<str> = name.into();
        let lines = |errors: &[DocumentError]| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            lines.join("\n")
        };
        let documents: Vec<At<Document>> =
            yaml::documents(&file, text, KIND).map_err(|errors| lines(&errors))?;
        let mut read = Self {
            policies: Vec::new(),
            namespaces: Namespaces::default(),
            cases: Vec::new(),
        };
        let mut errors = Vec::new();
        let mut labels = BTreeMap::new();
        for At { value: document, .. } in documents {
            read.policies
                .extend(document.policies.into_iter().map(PathBuf::from));
            labels.extend(document.namespaces);
            for case in document.cases {
                match case_of(&file, case, document.principal.as_ref()) {
                    Ok(case) => read.cases.push(case),
                    Err(error) => errors.push(error),
                }
            }
        }
        read.namespaces = labels.into_iter().collect();
        if !errors.is_empty() {
            return Err(lines(&errors));
        }
        if read.cases.is_empty() {
            return Err(format!(
                "{name}: no cases: a test that tries nothing proves nothing"
            ));
        }
        Ok(read)
    }
}

fn case_of(file: &Arc<str>, case: At<CaseDocument>, whoever: Option<&Who>) -> Result<Case, DocumentError> {
    let at = case.referenced;
    let fail = |location, message: String| DocumentError {
        origin: Origin::at(file, location),
        message,
    };
    let case = case.value;
    let who = case.principal.as_ref().or(whoever);
    let who = who.ok_or_else(|| {
        fail(
            at,
            "`principal` is missing; write `principal: {agent: my-agent}`".into(),
        )
    })?;
    let request = case.request.referenced;
    let asked = asked(case.request.value).map_err(|error| fail(request, error))?;
    let time = match case.time {
        None => jiff::Timestamp::now().into(),
        Some(time) => {
            let read: Result<jiff::Timestamp, _> = time.value.parse();
            let message = "time is written as in 2026-01-31T08:00:00Z";
            read.map_err(|_| fail(time.referenced, message.into()))?.into()
        }
    };
    let expected = case.expect;
    if let Some(reason) = &expected.value.reason
        && !Reason::ALL.iter().any(|it| it.as_str() == reason)
    {
        let message = format!("unknown reason {reason:?}; `eks-guard policy explain` prints those there are");
        return Err(fail(expected.referenced, message));
    }
    Ok(Case {
        name: case.name,
        principal: who.principal(),
        asked,
        object: case.object,
        old_object: case.old_object,
        time,
        expected: expected.value,
    })
}

/// The request of a case.
fn asked(request: RequestDocument) -> Result<Asked, String> {
    let body = match &request.body {
        None => Vec::new(),
        Some(body) => serde_json::to_vec(body).map_err(|error| format!("the body is no JSON: {error}"))?,
    };
    let words = match (request.method, request.path, request.verb, request.resource) {
        (Some(method), Some(path), None, None) => Words {
            verb: method,
            resource: path,
            ..Words::default()
        },
        (None, path, Some(verb), resource) => {
            let resource = match (path, resource) {
                (Some(path), None) => path,
                (None, Some(resource)) => resource,
                (Some(_), Some(_)) | (None, None) => {
                    return Err("beside a verb write either `resource` or `path`".into());
                }
            };
            let group = request.api_group.filter(|group| !group.is_empty());
            let group = group.map_or(String::new(), |group| format!(".{group}"));
            let part = request
                .subresource
                .map_or(String::new(), |part| format!("/{part}"));
            let (plural, rest) = resource.split_once('/').unwrap_or((&resource, ""));
            let rest = if rest.is_empty() || resource.starts_with('/') {
                String::new()
            } else {
                format!("/{rest}")
            };
            let resource = if resource.starts_with('/') {
                resource.clone()
            } else {
                format!("{plural}{group}{rest}{part}")
            };
            Words {
                verb,
                resource,
                ..Words::default()
            }
        }
        (_, _, _, _) => {
            return Err("write `verb` and `resource`, or `method` and `path`".into());
        }
    };
    let words = Words {
        namespace: request.namespace,
        all_namespaces: request.all_namespaces,
        name: request.name,
        content_type: request.content_type,
        ..words
    };
    Asked::read(&words, &body).map_err(|error| error.to_string())
}
