//! `metav1.Status`: the form in which Kubernetes clients understand a refusal.

use serde::Serialize;

/// A failure as kube-apiserver would write it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    status: &'static str,
    message: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    code: u16,
}

#[derive(Debug, Serialize)]
struct Empty {}

/// What the failure is about, for programs.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details<'a> {
    /// Object name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: &'a str,
    /// API group.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub group: &'a str,
    /// The resource; Kubernetes calls it kind here.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub kind: &'a str,
    /// Machine-readable reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause<'a>>,
    /// Seconds after which a retry makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// One machine-readable reason.
#[derive(Debug, Serialize)]
pub struct Cause<'a> {
    /// Stable code.
    pub reason: &'a str,
    /// The sentence or value that goes with it.
    pub message: &'a str,
    /// Which of the guard's facts it is: empty, `rule` or `record`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub field: &'a str,
}

impl<'a> Status<'a> {
    /// A failure.
    #[must_use]
    pub fn failure(code: u16, reason: &'a str, message: &'a str, details: Details<'a>) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: Empty {},
            status: "Failure",
            message,
            reason,
            details: Some(details),
            code,
        }
    }
}
