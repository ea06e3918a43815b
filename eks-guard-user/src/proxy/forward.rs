//! Forwarding: takes the permit by value and generates the upstream request from it. No other way leads upstream.

use bytes::Bytes;
use eks_guard_core::policy::Permit;
use eks_guard_core::reason::{Reason, Refusal};
use eks_guard_core::request_info::{Method, Streaming};
use http::HeaderValue;

use crate::proxy::Proxy;
use crate::proxy::reply::{self, Forwarded, ReplyKind, Source};
use crate::proxy::upstream::{Class, Outgoing};

/// What the guard calls itself upstream, behind what the agent calls itself.
const USER_AGENT: &str = concat!("eks-guard/", env!("CARGO_PKG_VERSION"));

/// Longest part of the agent's own User-Agent that is passed on.
const AGENT_USER_AGENT_LIMIT: usize = 256;

/// What goes upstream of an agent's headers.
pub(crate) struct Outward<'a> {
    /// The negotiated `Accept`.
    pub(crate) accept: &'a str,
    /// The agent's `User-Agent`.
    pub(crate) user_agent: Option<&'a HeaderValue>,
}

/// What goes along with a permit.
pub(crate) struct Onward<'a> {
    /// Headers of the agent.
    pub(crate) outward: &'a Outward<'a>,
    /// The record id, `Audit-ID` upstream.
    pub(crate) record_id: &'a str,
}

impl Proxy {
    /// Sends what was permitted and returns a reply that may pass.
    pub(crate) async fn forward(&self, permit: Permit, onward: Onward<'_>) -> Result<Forwarded, Refusal> {
        let request = permit.request();
        let kind = ReplyKind::of(request);
        let warnings = request
            .warnings()
            .iter()
            .filter_map(|text| warning(text))
            .collect();
        let (content_type, body) = match request.body() {
            Some(body) => (
                Some(HeaderValue::from_static(body.content_type())),
                Bytes::copy_from_slice(body.json()),
            ),
            None => (None, Bytes::new()),
        };
        let outgoing = Outgoing {
            method: method(request.method()),
            path: self.upstream.path(request.path_and_query())?,
            accept: header(onward.outward.accept)?,
            user_agent: user_agent(onward.outward.user_agent),
            audit_id: Some(header(onward.record_id)?),
            content_type,
            body,
            class: match request.streaming() {
                Streaming::Short => Class::Short,
                Streaming::Watch | Streaming::Log => Class::Stream,
            },
            may_repeat: !request.info().verb.is_mutating(),
        };
        let (response, lease) = self.upstream.send(&outgoing).await?;
        reply::check(kind, &response)?;
        Ok(Forwarded {
            response: response.map(Source::Stream),
            lease,
            warnings,
        })
    }
}

fn method(method: Method) -> http::Method {
    match method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Delete => http::Method::DELETE,
    }
}

fn header(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(text).map_err(|_| {
        Refusal::new(
            Reason::Internal,
            "The request was not sent: the guard made a header that cannot be sent.",
        )
    })
}

/// The agent's own word, printable and bounded, then the guard's. Up to the first slash stands whom the API server takes for the
/// manager of fields when a request names none, and `unknown` for who says nothing (apiserver pkg/endpoints/handlers,
/// `managerOrUserAgent`): that stays as it is.
fn user_agent(agent: Option<&HeaderValue>) -> HeaderValue {
    let said = agent.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let said: String = said
        .chars()
        .filter(|c| !c.is_control())
        .take(AGENT_USER_AGENT_LIMIT)
        .collect();
    let said = if said.is_empty() { "unknown" } else { &said };
    let slash = if said.contains('/') { "" } else { "/" };
    HeaderValue::from_str(&format!("{said}{slash} {USER_AGENT}"))
        .unwrap_or_else(|_| HeaderValue::from_static(USER_AGENT))
}

/// A warning as kube-apiserver writes it: `299 - "text"`.
fn warning(text: &str) -> Option<HeaderValue> {
    let mut quoted = String::with_capacity(text.len() + 8);
    quoted.push_str("299 - \"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    HeaderValue::from_str(&quoted).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kube-apiserver takes it from a User-Agent (`prefixFromUserAgent`); empty is `unknown` there.
    fn manager(user_agent: &str) -> &str {
        match user_agent.split('/').next() {
            Some("") | None => "unknown",
            Some(manager) => manager,
        }
    }

    #[test]
    fn the_manager_of_fields_is_the_same_as_without_the_guard() {
        for said in [
            "",
            "curl",
            "kubectl/v1.36.3 (linux/amd64)",
            "my agent",
            "my agent 1/2",
        ] {
            let value = HeaderValue::from_str(said).unwrap();
            for sent in [
                user_agent(Some(&value)),
                user_agent(Some(&value).filter(|_| !said.is_empty())),
            ] {
                let sent = sent.to_str().unwrap();
                assert_eq!(manager(sent), manager(said), "{sent}");
                assert!(sent.ends_with(USER_AGENT) && sent.starts_with(said), "{sent}");
            }
        }
        let odd = HeaderValue::from_bytes(b"k\xc3\xbcbectl").unwrap();
        assert_eq!(manager(user_agent(Some(&odd)).to_str().unwrap()), "unknown");
    }
}
