//! One question of the guard itself and its whole answer, as JSON.

use std::time::Duration;

use bytes::Bytes;
use eks_guard_core::reason::Refusal;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tokio::time::timeout;

use crate::proxy::upstream::{Class, OWN_USER_AGENT, Outgoing, PLAIN, UpstreamPool};

/// Longest answer, and how long the whole may take.
const MAX_ANSWER: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

const JSON: &str = "application/json";

/// How the list of changes in a patch is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patch {
    /// Lists are replaced.
    Merge,
    /// Lists are merged by their keys.
    StrategicMerge,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The API server could not be asked.
    #[error("{0}")]
    Asked(String),
    /// It answered with an error.
    #[error("the API server answered {status} to {method} {path}")]
    Status {
        method: Method,
        path: String,
        status: StatusCode,
    },
    /// The answer is too long, broke off, or is not JSON.
    #[error("the answer to {path} cannot be read")]
    Read {
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer did not come in time.
    #[error("the answer to {0} is too slow")]
    Slow(String),
}

impl CallError {
    /// The status that the API server answered with, if it did.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Asked(_) | Self::Read { .. } | Self::Slow(_) => None,
        }
    }

    /// Whether the API server answered with this status.
    pub(crate) fn is(&self, wanted: StatusCode) -> bool {
        self.status() == Some(wanted)
    }
}

impl From<Refusal> for CallError {
    fn from(refusal: Refusal) -> Self {
        Self::Asked(refusal.message)
    }
}

impl UpstreamPool {
    /// Reads an object or a list.
    pub(crate) async fn read(&self, path: &str) -> Result<Value, CallError> {
        self.call(Method::GET, path, JSON, None).await
    }

    /// Creates an object in the collection at a path.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<Value, CallError> {
        self.call(Method::POST, path, JSON, Some(object)).await
    }

    /// Replaces an object, if it still has the version that the new one names.
    pub(crate) async fn replace(&self, path: &str, object: &Value) -> Result<Value, CallError> {
        self.call(Method::PUT, path, JSON, Some(object)).await
    }

    /// Changes some fields of an object.
    pub(crate) async fn patch(&self, path: &str, kind: Patch, changes: &Value) -> Result<Value, CallError> {
        let content_type = match kind {
            Patch::Merge => "application/merge-patch+json",
            Patch::StrategicMerge => "application/strategic-merge-patch+json",
        };
        self.call(Method::PATCH, path, content_type, Some(changes)).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Option<&Value>,
    ) -> Result<Value, CallError> {
        let outgoing = Outgoing {
            // Sent again, what was created or replaced the first time would be refused, as if somebody else had been faster.
            may_repeat: method == Method::GET || method == Method::PATCH,
            method: method.clone(),
            path: self.path(path.to_owned())?,
            accept: PLAIN,
            user_agent: HeaderValue::from_static(OWN_USER_AGENT),
            audit_id: None,
            content_type: body.map(|_| HeaderValue::from_static(content_type)),
            body: body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string())),
            class: Class::Short,
        };
        let read = |source| CallError::Read {
            path: path.to_owned(),
            source,
        };
        let asked = async {
            let (response, mut lease) = self.send(&outgoing).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let bytes = body.map_err(read)?.to_bytes();
            lease.complete();
            if !status.is_success() {
                let path = path.to_owned();
                return Err(CallError::Status { method, path, status });
            }
            serde_json::from_slice(&bytes).map_err(|error| read(error.into()))
        };
        let answer = timeout(PATIENCE, asked).await;
        answer.map_err(|_| CallError::Slow(path.to_owned()))?
    }
}
