//! The request body: bounded in size, time and memory, then read exactly by the core.

use bytes::{Bytes, BytesMut};
use eks_guard_core::body::{Body, MAX_BODY};
use eks_guard_core::reason::{Reason, Refusal};
use eks_guard_core::request_info::{ApiRequest, Method};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use std::sync::Arc;

use crate::proxy::{Proxy, Workload};

/// A request with its body inside, and the share of memory it may use until it is sent and answered.
pub(crate) struct WithBody {
    pub(crate) request: ApiRequest,
    pub(crate) memory: Option<Memory>,
}

/// A share of the memory that an agent has for bodies, and of that which all agents have together.
pub(crate) struct Memory {
    _shares: [OwnedSemaphorePermit; 2],
}

/// Reads the body of a request, if it has one, and joins the two.
pub(crate) async fn read(
    proxy: &Proxy,
    workload: &Workload,
    request: ApiRequest,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<WithBody, Refusal> {
    if body.is_end_stream() {
        return Ok(WithBody {
            request,
            memory: None,
        });
    }
    let memory = reserve([&workload.body_memory, &proxy.body_memory], &body)?;
    let deadline = proxy.limits.body;
    let bytes = timeout(deadline, collect(body)).await.map_err(|_| {
        let message = format!(
            "The request was refused: its body was not complete after {} s.",
            deadline.as_secs()
        );
        Refusal::new(Reason::RequestTimeout, message)
    })??;
    if bytes.is_empty() {
        return Ok(WithBody {
            request,
            memory: None,
        });
    }
    if request.method() == Method::Get {
        let message = "The request was refused: a GET request has no body; send it without one.";
        return Err(Refusal::new(Reason::BodyMalformed, message));
    }
    let content_type = headers
        .get(CONTENT_TYPE)
        .map(|value| value.to_str())
        .transpose()
        .map_err(|_| {
            Refusal::new(
                Reason::UnsupportedMediaType,
                "The request was refused: its Content-Type is not ASCII.",
            )
        })?;
    let body = Body::read(&request, content_type, &bytes)?;
    Ok(WithBody {
        request: request.with_body(body)?,
        memory: Some(memory),
    })
}

/// Takes the memory the body may need, or refuses: bodies of other requests fill the agent's share, or all of it.
fn reserve([own, all]: [&Arc<Semaphore>; 2], body: &Incoming) -> Result<Memory, Refusal> {
    let hint = body.size_hint();
    if hint.lower() > limit() {
        return Err(too_large());
    }
    let bytes = hint.exact().unwrap_or(limit()).max(1);
    let bytes = u32::try_from(bytes).map_err(|_| too_large())?;
    let share = |memory: &Arc<Semaphore>, whose: &str| {
        Arc::clone(memory).try_acquire_many_owned(bytes).map_err(|_| {
            let message = format!(
                "The request was refused: too many request bodies are under way for {whose}; retry in a moment."
            );
            Refusal::new(Reason::Overloaded, message)
        })
    };
    Ok(Memory {
        _shares: [share(own, "this agent")?, share(all, "all agents")?],
    })
}

async fn collect(mut body: Incoming) -> Result<Bytes, Refusal> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "request body broken");
            Refusal::new(
                Reason::RequestMalformed,
                "The request was refused: its body broke off or is framed wrongly.",
            )
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > MAX_BODY {
            return Err(too_large());
        }
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn limit() -> u64 {
    u64::try_from(MAX_BODY).unwrap_or(u64::MAX)
}

fn too_large() -> Refusal {
    let message = "The request was refused: its body is longer than 3 MiB, which the API server would not take; split it.";
    Refusal::new(Reason::BodyTooLarge, message)
}
