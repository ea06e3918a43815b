//! The API server's reply: what of it may pass, and the stream to the agent whose end is the outcome.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use eks_guard_core::reason::{Reason, Refusal};
use eks_guard_core::request_info::{ApiRequest, RequestScope, Streaming};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, DATE, RETRY_AFTER, WARNING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::masking::{End, Ending, MaskBody, OnEnd};
use crate::proxy::admission::Slot;
use crate::proxy::record::RequestRecord;
use crate::proxy::upstream::Lease;

/// Headers of a reply that pass; all others stay behind.
const PASSED: [HeaderName; 8] = [
    CONTENT_TYPE,
    WARNING,
    RETRY_AFTER,
    CACHE_CONTROL,
    DATE,
    HeaderName::from_static("audit-id"),
    HeaderName::from_static("x-kubernetes-pf-flowschema-uid"),
    HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid"),
];

/// Which content types a reply may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    /// Objects: JSON.
    Objects,
    /// A container's log: text, or a Status in JSON.
    Log,
    /// Discovery, schema, health: anything.
    NonResource,
}

impl ReplyKind {
    pub(crate) fn of(request: &ApiRequest) -> Self {
        match request.info().scope() {
            RequestScope::NonResource(_) => Self::NonResource,
            RequestScope::Resource(resource) => {
                let is_log =
                    resource.group.is_empty() && resource.resource == "pods" && resource.subresource == "log";
                if is_log { Self::Log } else { Self::Objects }
            }
        }
    }
}

/// A reply that was checked.
pub(crate) struct Forwarded {
    pub(crate) response: Response<Source>,
    pub(crate) lease: Lease,
    pub(crate) warnings: Vec<HeaderValue>,
}

/// Where the body of a reply comes from.
pub(crate) enum Source {
    /// The API server, as it sends it.
    Stream(Incoming),
    /// A reply that was read to its end and rewritten.
    Whole(Full<Bytes>),
}

impl Body for Source {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Stream(body) => body.is_end_stream(),
            Self::Whole(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stream(body) => body.size_hint(),
            Self::Whole(body) => body.size_hint(),
        }
    }
}

/// A reply and everything that is held until it ended.
pub(crate) struct Reply {
    pub(crate) forwarded: Forwarded,
    pub(crate) on_break: OnBreak,
    pub(crate) slot: Slot,
}

/// What ends with a reply: its record, its place upstream, its slot.
pub(crate) struct ReplyEnd {
    record: RequestRecord,
    lease: Lease,
    _slot: Slot,
}

impl OnEnd for ReplyEnd {
    fn ended(mut self, end: End) {
        if end.ending == Ending::Complete {
            self.lease.complete();
        }
        self.record.close(end);
    }
}

/// A body of the guard's own, or one that streams from the API server.
pub(crate) enum ReplyBody {
    /// A refusal.
    Own(Full<Bytes>),
    /// A reply.
    Upstream(MaskBody<Source, ReplyEnd>, OnBreak),
}

/// What the agent sees when the API server breaks a reply off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnBreak {
    /// The reply breaks off as well.
    Break,
    /// The reply ends. So it is with a watch over HTTP/2: clients take a lost connection for the end of a watch, and go on
    /// from there, but a stream that was reset for a fault.
    End,
}

impl OnBreak {
    pub(crate) fn of(request: &ApiRequest, version: Version) -> Self {
        match request.streaming() {
            Streaming::Watch if version == Version::HTTP_2 => Self::End,
            Streaming::Watch | Streaming::Log | Streaming::Short => Self::Break,
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Upstream(body, on_break) => match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Err(_)) if *on_break == OnBreak::End => Poll::Ready(None),
                frame => Poll::Ready(frame),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Upstream(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Upstream(body, _) => body.size_hint(),
        }
    }
}

/// Refuses replies that could not be masked or that ask for something a proxy must not do.
pub(crate) fn check(kind: ReplyKind, response: &Response<Incoming>) -> Result<(), Refusal> {
    fault(kind, response).map_or(Ok(()), |how| {
        let message = format!(
            "The API server answered {how}; the guard does not relay that, because it could not be masked. The request was carried out."
        );
        Err(Refusal::new(Reason::UpstreamReply, message))
    })
}

/// How a reply comes that cannot be read, if it does.
pub(crate) fn fault(kind: ReplyKind, response: &Response<Incoming>) -> Option<String> {
    let status = response.status();
    if status.is_redirection() || status.is_informational() {
        return Some(format!("with {}, which is not followed", status.as_u16()));
    }
    if response.headers().contains_key(CONTENT_ENCODING) {
        return Some("in an encoding that was not asked for".to_owned());
    }
    let media_type = media_type(response.headers());
    let is_json = media_type.eq_ignore_ascii_case("application/json");
    let is_text = media_type.eq_ignore_ascii_case("text/plain");
    let is_error = status.is_client_error() || status.is_server_error();
    let passes = match kind {
        ReplyKind::Objects => is_json || (is_text && is_error),
        // A pod that runs nowhere has no log: the API server says so by having nothing to say.
        ReplyKind::Log => is_json || is_text || (status == StatusCode::NO_CONTENT && media_type.is_empty()),
        ReplyKind::NonResource => true,
    };
    (!passes).then(|| "in a format other than JSON".to_owned())
}

/// The reply on its way to the agent: named headers, then the body through the masking place.
pub(crate) fn stream(reply: Reply, mut record: RequestRecord) -> Response<ReplyBody> {
    let Reply {
        forwarded: Forwarded {
            response,
            lease,
            warnings,
        },
        on_break,
        slot,
    } = reply;
    let (head, body) = response.into_parts();
    record.replied(head.status);
    let headers = pass_headers(&head.headers, warnings);
    let end = ReplyEnd {
        record,
        lease,
        _slot: slot,
    };
    let mut response = Response::new(ReplyBody::Upstream(MaskBody::new(body, end), on_break));
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    response
}

fn pass_headers(upstream: &HeaderMap, warnings: Vec<HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(PASSED.len());
    for name in &PASSED {
        for value in upstream.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    for warning in warnings {
        headers.append(WARNING, warning);
    }
    headers
}

fn media_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}
