//! Heads of HTTP/1.1 requests, and the headers that are read for their meaning: `Accept` and `Content-Type`.

use eks_guard_core::body::Body;
use eks_guard_core::negotiation;
use eks_guard_core::request_info::ApiRequest;
use http::HeaderValue;

use crate::body::is_stable;
use crate::proxy::framing::{Framing, Violation};
use crate::request_line::text;
use crate::target::Reading;

const HEAD_LIMIT: usize = 4096;
/// As many as the strict reader takes.
const MAX_HEADERS: usize = 100;

/// A connection's bytes, whose first says how they are cut into pieces. However they arrive, they are read alike; and the
/// library that reads what the strict reader lets pass sees a head end in the same place.
pub(crate) fn head(bytes: &[u8]) -> Reading {
    let Some((&piece, bytes)) = bytes.split_first() else {
        return Reading::Refused;
    };
    let mut whole = Framing::new(HEAD_LIMIT);
    let (fine, violation) = whole.advance(bytes);
    assert!(fine <= bytes.len());
    assert_eq!(violation.is_none(), fine == bytes.len());
    assert!(violation.is_some() || whole.open_head() <= HEAD_LIMIT);
    let cut = in_pieces(bytes, usize::from(piece) + 1);
    if violation == Some(Violation::HeadTooLarge) {
        // Where it is noticed depends on how much is looked at at once.
        assert_eq!(cut.1, violation);
        return Reading::Refused;
    }
    assert_eq!(cut, (fine, violation));
    let passed = &bytes[..fine];
    let Some(end) = passed
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
    else {
        return Reading::Refused;
    };
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(passed) {
        Ok(httparse::Status::Complete(length)) => assert_eq!(length, end, "{:?}", &passed[..end]),
        other => panic!("{other:?}: {:?}", String::from_utf8_lossy(&passed[..end])),
    }
    body_is_where_both_see_it(&request, passed, end);
    match violation {
        None => Reading::Taken,
        Some(_) => Reading::Refused,
    }
}

fn in_pieces(bytes: &[u8], length: usize) -> (usize, Option<Violation>) {
    let mut framing = Framing::new(HEAD_LIMIT);
    let mut fine = 0;
    for piece in bytes.chunks(length) {
        let (used, violation) = framing.advance(piece);
        fine += used;
        if violation.is_some() {
            return (fine, violation);
        }
    }
    (fine, None)
}

/// With a length, the next request begins behind so many bytes; without one and without chunks, at once.
fn body_is_where_both_see_it(request: &httparse::Request<'_, '_>, passed: &[u8], end: usize) {
    let named = |name: &'static str| {
        let mut values = request
            .headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name));
        let value = values.next().map(|header| header.value);
        assert!(values.next().is_none(), "{name} twice");
        value
    };
    let (length, coding) = (named("content-length"), named("transfer-encoding"));
    assert!(length.is_none() || coding.is_none(), "two ways to tell the end");
    if coding.is_some() {
        return;
    }
    let length = length.map_or(0, |value| {
        let text = std::str::from_utf8(value).expect("digits");
        text.trim().parse::<usize>().expect("a length")
    });
    if let Some(first) = end.checked_add(length).and_then(|next| passed.get(..next)) {
        let mut framing = Framing::new(HEAD_LIMIT);
        assert_eq!(framing.advance(first), (first.len(), None));
        assert!(framing.is_between_requests());
    }
}

/// The first byte chooses what is asked for and which header the rest is.
pub(crate) fn accept(bytes: &[u8]) -> Reading {
    let Some((choice, value)) = text(bytes) else {
        return Reading::Refused;
    };
    let path = match choice % 4 {
        0 => "/api/v1/namespaces/default/pods",
        1 => "/api/v1/namespaces/default/pods/a/log",
        2 => "/openapi/v3",
        _ => return content_type(value),
    };
    let request = ApiRequest::parse("GET", path, None).expect("it is a request");
    let Ok(sent) = negotiation::accept(&request, Some(value)) else {
        return Reading::Refused;
    };
    HeaderValue::from_str(&sent).expect("it can be sent");
    assert_eq!(
        negotiation::accept(&request, Some(&sent)),
        Ok(sent.clone()),
        "{value:?}"
    );
    if choice % 4 == 0 {
        for clause in sent.split(',') {
            let mut parts = clause.split(';');
            assert_eq!(
                parts.next(),
                Some("application/json"),
                "{value:?} became {sent:?}"
            );
            assert!(
                parts.all(|part| ["as=", "v=", "g="].iter().any(|key| part.starts_with(key))),
                "{value:?} became {sent:?}"
            );
        }
    }
    Reading::Taken
}

fn content_type(value: &str) -> Reading {
    const MAP: &[u8] = br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}"#;
    const PATH: &str = "/api/v1/namespaces/default/configmaps";
    let create = ApiRequest::parse("POST", PATH, None).expect("it is a request");
    let change = ApiRequest::parse("PATCH", &format!("{PATH}/a"), None).expect("it is a request");
    let mut reading = Reading::Refused;
    for request in [create, change] {
        if let Ok(body) = Body::read(&request, Some(value), MAP) {
            is_stable(&request, &body);
            reading = Reading::Taken;
        }
    }
    reading
}
