//! The agent's headers: what is read, what is refused. Nothing here goes upstream; the upstream request has its own.

use eks_guard_core::reason::{Reason, Refusal};
use eks_guard_core::request_info::{ApiRequest, RequestScope};
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Version};

use crate::proxy::Proxy;
use crate::proxy::context::Connection;

/// Headers of which two mean two readings.
const SINGLE: [HeaderName; 5] = [HOST, AUTHORIZATION, CONTENT_TYPE, ACCEPT, CONTENT_LENGTH];

/// Refuses heads that two parsers could understand in two ways.
pub(crate) fn check(proxy: &Proxy, connection: &Connection, head: &Parts) -> Result<(), Refusal> {
    check_framing(&head.headers)?;
    check_authority(proxy, connection, head)
}

fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.keys_len() != headers.len() {
        for name in &SINGLE {
            if headers.get_all(name).iter().nth(1).is_some() {
                return Err(malformed(format!(
                    "The request was refused: it has more than one {name} header; send one."
                )));
            }
        }
    }
    if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
        let message =
            "The request was refused: it has both Content-Length and Transfer-Encoding; send one of them.";
        return Err(malformed(message));
    }
    if headers.contains_key(CONTENT_ENCODING) {
        let message = "The request was refused: its body is encoded (Content-Encoding); send it as it is.";
        return Err(Refusal::new(Reason::UnsupportedMediaType, message));
    }
    Ok(())
}

fn check_authority(proxy: &Proxy, connection: &Connection, head: &Parts) -> Result<(), Refusal> {
    let host = head.headers.get(HOST).map(|value| value.to_str().unwrap_or(""));
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let must_have_host = head.version <= Version::HTTP_11;
    if host.is_none() && (must_have_host || authority.is_none()) {
        return Err(malformed(
            "The request was refused: it does not say which host it is for; send a Host header.",
        ));
    }
    for named in [host, authority].into_iter().flatten() {
        if !connection.is_known_authority(proxy, named) {
            let shown: String = named.chars().filter(|c| !c.is_control()).take(256).collect();
            return Err(malformed(format!(
                "The request was refused: it is for the host \"{shown}\", and this connection leads to the cluster's API server only."
            )));
        }
    }
    Ok(())
}

/// Refuses protocol upgrades of requests that are plain calls: kube-apiserver would answer a watch over a WebSocket,
/// and would take a bearer token from the WebSocket's protocol list.
pub(crate) fn check_upgrade(headers: &HeaderMap, request: &ApiRequest) -> Result<(), Refusal> {
    let connection_upgrade = headers.get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .to_ascii_lowercase()
            .windows(7)
            .any(|part| part == b"upgrade")
    });
    let websocket = headers
        .keys()
        .any(|name| name.as_str().starts_with("sec-websocket-"));
    if !(headers.contains_key(UPGRADE) || connection_upgrade || websocket) || is_connect(request) {
        return Ok(());
    }
    Err(malformed(
        "The request was refused: it asks for a protocol upgrade, which only exec, attach and port-forward have; send it as a plain request.",
    ))
}

/// Whether the request is a stream into a pod, service or node, which policy decides on by its own rules.
fn is_connect(request: &ApiRequest) -> bool {
    match request.info().scope() {
        RequestScope::Resource(resource) => {
            matches!(resource.subresource, "exec" | "attach" | "portforward" | "proxy")
        }
        RequestScope::NonResource(_) => false,
    }
}

fn malformed(message: impl Into<String>) -> Refusal {
    Refusal::new(Reason::RequestMalformed, message)
}
