//! The only place where a refusal becomes a response.

use bytes::Bytes;
use eks_guard_core::reason::{Reason, Refusal};
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode, Version};
use http_body_util::Full;

use crate::kubeapi::status::{Cause, Details, Status};
use crate::proxy::record::RequestRecord;
use crate::proxy::reply::ReplyBody;

/// Seconds after which a refusal that passes by itself is worth a retry.
const RETRY_SECONDS: u32 = 1;

/// The response of a refusal; closes the record with it.
pub(crate) fn refusal(
    record: &mut RequestRecord,
    refusal: &Refusal,
    method: &Method,
    version: Version,
) -> Response<ReplyBody> {
    let reason = refusal.reason;
    let code = StatusCode::from_u16(reason.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let retry = retry_after(reason);
    let body = if method == Method::HEAD {
        Bytes::new()
    } else {
        status_body(record, refusal, retry)
    };
    let audit_id = HeaderValue::from_str(record.id());
    record.refused(refusal, code, body.len());

    let mut response = Response::new(ReplyBody::Own(Full::new(body)));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(audit_id) = audit_id {
        headers.insert("audit-id", audit_id);
    }
    if let Some(seconds) = retry {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if code == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE"));
    }
    if version <= Version::HTTP_11 && may_leave_body_unread(reason) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn status_body(record: &RequestRecord, refusal: &Refusal, retry_after_seconds: Option<u32>) -> Bytes {
    let mut causes = vec![Cause {
        reason: refusal.reason.as_str(),
        message: &refusal.message,
        field: "",
    }];
    if let Some(rule) = &refusal.rule {
        causes.push(Cause {
            reason: refusal.reason.as_str(),
            message: rule,
            field: "rule",
        });
    }
    causes.push(Cause {
        reason: refusal.reason.as_str(),
        message: record.id(),
        field: "record",
    });
    let mut details = Details {
        causes,
        retry_after_seconds,
        ..Details::default()
    };
    if let Some(event) = record.event() {
        details.name = &event.name;
        details.group = &event.group;
        details.kind = &event.resource;
    }
    let code = refusal.reason.http_status();
    let status = Status::failure(code, refusal.reason.status_reason(), &refusal.message, details);
    serde_json::to_vec(&status).map_or_else(|_| Bytes::new(), Bytes::from)
}

/// What passes by itself.
fn retry_after(reason: Reason) -> Option<u32> {
    matches!(reason.http_status(), 429 | 503).then_some(RETRY_SECONDS)
}

/// Refusals given before the body was read: the next request on an HTTP/1.1 connection could not be told from it.
fn may_leave_body_unread(reason: Reason) -> bool {
    matches!(
        reason.http_status(),
        400 | 405 | 408 | 413 | 415 | 429 | 431 | 503
    )
}
