//! Tests of the grammar and of RequestInfo. `vectors` holds the golden table of known differences between
//! kube-apiserver and proxies; the other modules take one rule each.

mod bodies;
mod classification;
mod grammar;
mod labels;
mod parameters;
mod properties;
mod reference;
mod selectors;
mod vectors;

use crate::reason::{Reason, Refusal};
use crate::request_info::{ApiRequest, RequestScope};

/// Parses `METHOD TARGET`, the target split at its first `?` as HTTP does.
fn parse(line: &str) -> Result<ApiRequest, Refusal> {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    ApiRequest::parse(method, path, query)
}

/// The request a line must be.
fn accepted(line: &str) -> ApiRequest {
    parse(line).unwrap_or_else(|refusal| panic!("{line}: {refusal}"))
}

/// The refusal a line must get.
fn refused(line: &str) -> Refusal {
    match parse(line) {
        Ok(request) => panic!("{line}: taken for {}", describe(&request)),
        Err(refusal) => refusal,
    }
}

fn assert_malformed(lines: &[&str]) {
    for line in lines {
        assert_eq!(refused(line).reason, Reason::RequestMalformed, "{line}");
    }
}

fn assert_method_refused(lines: &[&str]) {
    for line in lines {
        assert_eq!(refused(line).reason, Reason::MethodNotAllowed, "{line}");
    }
}

/// `verb group/version resource/subresource ns=… name=…`, the empty parts left out; `verb /path` for plain paths.
fn describe(request: &ApiRequest) -> String {
    let info = request.info();
    let resource = match info.scope() {
        RequestScope::NonResource(path) => return format!("{} {path}", info.verb),
        RequestScope::Resource(resource) => resource,
    };
    let mut text = format!("{} ", info.verb);
    if !resource.group.is_empty() {
        text += &format!("{}/", resource.group);
    }
    text += &format!("{} {}", resource.version, resource.resource);
    if !resource.subresource.is_empty() {
        text += &format!("/{}", resource.subresource);
    }
    for (label, value) in [("ns", resource.namespace), ("name", resource.name)] {
        if !value.is_empty() {
            text += &format!(" {label}={value}");
        }
    }
    text
}

/// Checks rows of (request line, what it is, canonical target).
fn assert_accepted(rows: &[(&str, &str, &str)]) {
    for (line, is, target) in rows {
        let request = accepted(line);
        assert_eq!(describe(&request), *is, "{line}");
        assert_eq!(request.path_and_query(), *target, "{line}");
    }
}
