//! Paths and queries: one canonical form, and the same reading as kube-apiserver's of the agent's line and of the guard's.

/// A second reading of kube-apiserver's algorithm, which the core's own tests use too.
#[path = "../../../eks-guard-core/src/request_info/tests/reference.rs"]
mod reference;

use eks_guard_core::request_info::ApiRequest;

use crate::target::Reading;

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];

/// What queries are asked of.
const LINES: [(&str, &str); 8] = [
    ("GET", "/api/v1/namespaces/default/pods"),
    ("GET", "/api/v1/namespaces/default/pods/a"),
    ("GET", "/api/v1/namespaces/default/pods/a/log"),
    ("POST", "/api/v1/namespaces/default/pods/a/exec"),
    ("DELETE", "/apis/apps/v1/namespaces/default/deployments"),
    ("PATCH", "/apis/g.example/v1/foos/a"),
    ("GET", "/apis"),
    ("GET", "/api/v1/watch/configmaps"),
];

/// The first byte chooses the method, the rest is the path.
pub(crate) fn path(bytes: &[u8]) -> Reading {
    let Some((choice, path)) = text(bytes) else {
        return Reading::Refused;
    };
    check(METHODS[choice % METHODS.len()], path, "")
}

/// The first byte chooses method and path, the rest is the query.
pub(crate) fn query(bytes: &[u8]) -> Reading {
    let Some((choice, query)) = text(bytes) else {
        return Reading::Refused;
    };
    let (method, path) = LINES[choice % LINES.len()];
    check(method, path, query)
}

/// The first byte as a choice, and the rest as the text that the HTTP libraries hand on.
pub(crate) fn text(bytes: &[u8]) -> Option<(usize, &str)> {
    let (choice, rest) = bytes.split_first()?;
    Some((usize::from(*choice), std::str::from_utf8(rest).ok()?))
}

fn check(method: &str, path: &str, query: &str) -> Reading {
    let Ok(request) = ApiRequest::parse(method, path, Some(query)) else {
        return Reading::Refused;
    };
    let target = request.path_and_query();
    let (sent_path, sent_query) = target.split_once('?').unwrap_or((&target, ""));
    assert!(
        target.bytes().all(|byte| byte.is_ascii_graphic()),
        "{target:?} cannot stand in a request line"
    );

    let again = ApiRequest::parse(method, sent_path, Some(sent_query));
    let again = again.unwrap_or_else(|refusal| panic!("the guard refuses its own {target}: {refusal}"));
    assert_eq!(again.info(), request.info(), "{target}");
    assert_eq!(again.path_and_query(), target);
    assert!(again.warnings().is_empty(), "{target}");

    let understood = reference::of_request(&request);
    let upstream = reference::new_request_info(method, sent_path, sent_query);
    assert_eq!(upstream.as_ref(), Some(&understood), "{target}");

    let mut direct = reference::new_request_info(method, path, query)
        .unwrap_or_else(|| panic!("kube-apiserver would not have read {method} {path}?{query}"));
    if !direct.is_resource && direct.path.len() > 1 && direct.path.ends_with('/') {
        direct.path.pop();
    }
    if direct.verb == "watch" && direct.resource == "namespaces" {
        // A watch by prefix knows the namespace twice; the parameter that replaces it only by name.
        direct.namespace.clear();
    }
    if direct.verb == "watch" && direct.name.is_empty() {
        // A watch by prefix does not look at the selector; the parameter does.
        direct.name.clone_from(&understood.name);
    }
    assert_eq!(direct, understood, "{method} {path}?{query}");
    Reading::Taken
}
