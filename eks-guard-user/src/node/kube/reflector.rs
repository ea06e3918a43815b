//! List, then watch from there; list again only when the API server has forgotten where that was.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use eks_guard_core::reason::Refusal;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::node::kube::{Change, Form, Metadata, Object, Resource};
use crate::proxy::upstream::{Class, PLAIN, UpstreamPool};
use crate::telemetry::chain;

/// What is accepted where the metadata is enough. An API server that cannot leave the rest out sends it all.
const METADATA_LIST: HeaderValue = HeaderValue::from_static(
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
);
const METADATA: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json");
/// Objects per page of a list.
const PAGE: usize = 500;
/// Longest page, and longest event of a watch.
const MAX_PAGE: usize = 64 << 20;
const MAX_EVENT: usize = 8 << 20;
/// How long the API server keeps a watch open, and how much longer its end is waited for.
const WATCH_SECONDS: u64 = 290;
const WATCH_PATIENCE: Duration = Duration::from_secs(WATCH_SECONDS + 30);
/// How long a page may take.
const LIST_PATIENCE: Duration = Duration::from_secs(60);
/// Pause after the first failure; doubled with each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why the API server's word is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeError {
    /// It could not be asked.
    #[error("{0}")]
    Asked(String),
    /// It answered with another status.
    #[error("the API server answered {status} to {path}")]
    Status { path: &'static str, status: u16 },
    /// The answer broke off.
    #[error("the answer to {path} broke off")]
    Broken {
        path: &'static str,
        #[source]
        source: hyper::Error,
    },
    /// The answer is longer than it may be, or takes longer.
    #[error("the answer to {path} is too {what}")]
    Over { path: &'static str, what: &'static str },
    /// The answer is not what it should be.
    #[error("the answer to {path} cannot be read")]
    Malformed {
        path: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// The place to go on from is forgotten.
    #[error("the API server has forgotten the version to go on from")]
    Expired,
    /// Nobody wants to know any more.
    #[error("the changes are not taken any more")]
    Unwanted,
}

impl From<Refusal> for KubeError {
    fn from(refusal: Refusal) -> Self {
        Self::Asked(refusal.message)
    }
}

/// Tells every change of a resource until the receiver is gone. Failures are logged and tried again; what was told stays
/// true until something else is told.
pub(crate) async fn reflect<T: Object, M: Send>(
    upstream: &UpstreamPool,
    resource: &Resource,
    learned: fn(Change<T>) -> M,
    changes: &mpsc::Sender<M>,
) {
    let changes = &Changes { learned, changes };
    let mut version: Option<String> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match step(upstream, resource, changes, &mut version).await {
            Ok(()) => {
                pause = FIRST_PAUSE;
                continue;
            }
            Err(KubeError::Unwanted) => return,
            Err(KubeError::Expired) => {
                version = None;
                KubeError::Expired
            }
            Err(error) => error,
        };
        tracing::warn!(path = resource.path, error = %chain(&error), "the watch was broken off; it is tried again");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One list, or one watch to its end.
async fn step<T: Object, M: Send>(
    upstream: &UpstreamPool,
    resource: &Resource,
    changes: &Changes<'_, T, M>,
    version: &mut Option<String>,
) -> Result<(), KubeError> {
    match version {
        None => {
            let (listed, from) = list(upstream, resource).await?;
            changes.tell(Change::Listed(listed)).await?;
            *version = Some(from);
            Ok(())
        }
        Some(from) => {
            let path = resource.path;
            let over = |_| KubeError::Over {
                path,
                what: "long in coming",
            };
            timeout(WATCH_PATIENCE, watch(upstream, resource, changes, from))
                .await
                .map_err(over)?
        }
    }
}

/// Where changes go, in the receiver's own words.
struct Changes<'a, T, M> {
    learned: fn(Change<T>) -> M,
    changes: &'a mpsc::Sender<M>,
}

impl<T, M> Changes<'_, T, M> {
    async fn tell(&self, change: Change<T>) -> Result<(), KubeError> {
        let told = self.changes.send((self.learned)(change)).await;
        told.map_err(|_| KubeError::Unwanted)
    }
}

impl Form {
    fn of_list(self) -> HeaderValue {
        match self {
            Self::Whole => PLAIN,
            Self::Metadata => METADATA_LIST,
        }
    }

    fn of_watch(self) -> HeaderValue {
        match self {
            Self::Whole => PLAIN,
            Self::Metadata => METADATA,
        }
    }
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default)]
    metadata: ListMetadata,
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    r#continue: String,
}

async fn list<T: Object>(
    upstream: &UpstreamPool,
    resource: &Resource,
) -> Result<(Vec<T>, String), KubeError> {
    let path = resource.path;
    let mut items = Vec::new();
    let mut next = String::new();
    loop {
        let target = target(resource, &[("limit", &PAGE.to_string()), ("continue", &next)]);
        let page = async {
            let (response, mut lease) = upstream
                .get(target, Class::Short, resource.form.of_list())
                .await?;
            check(path, &response)?;
            let bytes = whole(path, response).await?;
            lease.complete();
            Ok::<_, KubeError>(bytes)
        };
        let page = timeout(LIST_PATIENCE, page).await;
        let bytes = page.map_err(|_| KubeError::Over { path, what: "slow" })??;
        let page: List<T> =
            serde_json::from_slice(&bytes).map_err(|source| KubeError::Malformed { path, source })?;
        items.extend(page.items);
        if page.metadata.r#continue.is_empty() {
            return Ok((items, page.metadata.resource_version));
        }
        next = page.metadata.r#continue;
    }
}

#[derive(Deserialize)]
struct Told {
    r#type: String,
    object: Value,
}

async fn watch<T: Object, M: Send>(
    upstream: &UpstreamPool,
    resource: &Resource,
    changes: &Changes<'_, T, M>,
    from: &mut String,
) -> Result<(), KubeError> {
    let path = resource.path;
    let target = target(
        resource,
        &[
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", from),
            ("timeoutSeconds", &WATCH_SECONDS.to_string()),
        ],
    );
    let accept = resource.form.of_watch();
    let (response, _lease) = upstream.get(target, Class::Stream, accept).await?;
    check(path, &response)?;
    let mut body = response.into_body();
    let mut pending = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| KubeError::Broken { path, source })?;
        pending.extend_from_slice(frame.data_ref().map_or(&[][..], Bytes::as_ref));
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line = pending.split_to(end + 1);
            event(path, &line, changes, from).await?;
        }
        if pending.len() > MAX_EVENT {
            return Err(KubeError::Over { path, what: "long" });
        }
    }
    Ok(())
}

async fn event<T: Object, M: Send>(
    path: &'static str,
    line: &[u8],
    changes: &Changes<'_, T, M>,
    from: &mut String,
) -> Result<(), KubeError> {
    let malformed = |source| KubeError::Malformed { path, source };
    let told: Told = serde_json::from_slice(line).map_err(malformed)?;
    if told.r#type == "ERROR" {
        let code = told
            .object
            .get("code")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        return Err(match u16::try_from(code).unwrap_or_default() {
            // Gone, as lists and watches say it of old versions.
            410 => KubeError::Expired,
            status => KubeError::Status { path, status },
        });
    }
    if told.r#type == "BOOKMARK" {
        let metadata = told.object.get("metadata").cloned().unwrap_or_default();
        let metadata: Metadata = serde_json::from_value(metadata).map_err(malformed)?;
        *from = metadata.resource_version;
        return Ok(());
    }
    let object: T = serde_json::from_value(told.object).map_err(malformed)?;
    let version = object.metadata().resource_version.clone();
    let change = if told.r#type == "DELETED" {
        Change::Gone(object)
    } else {
        Change::Set(object)
    };
    changes.tell(change).await?;
    *from = version;
    Ok(())
}

fn check(path: &'static str, response: &Response<Incoming>) -> Result<(), KubeError> {
    match response.status() {
        StatusCode::OK => Ok(()),
        StatusCode::GONE => Err(KubeError::Expired),
        status => Err(KubeError::Status {
            path,
            status: status.as_u16(),
        }),
    }
}

async fn whole(path: &'static str, response: Response<Incoming>) -> Result<Bytes, KubeError> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| KubeError::Broken { path, source })?;
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], Bytes::as_ref));
        if bytes.len() > MAX_PAGE {
            return Err(KubeError::Over { path, what: "long" });
        }
    }
    Ok(bytes.freeze())
}

fn target(resource: &Resource, parameters: &[(&str, &str)]) -> String {
    let selector = ("fieldSelector", resource.field_selector.as_str());
    let query: Vec<String> = parameters
        .iter()
        .chain([&selector])
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    format!("{}?{}", resource.path, query.join("&"))
}
