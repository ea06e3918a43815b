//! Bodies joining their request.

use crate::body::Body;
use crate::reason::{Reason, Refusal};
use crate::request_info::ApiRequest;
use crate::request_info::tests::accepted;

const POD: &[u8] = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"d"}}"#;

const DELETE_OPTIONS: &[u8] = br#"{"apiVersion":"v1","kind":"DeleteOptions"}"#;

fn with_body(line: &str, bytes: &[u8]) -> Result<ApiRequest, Refusal> {
    let request = accepted(line);
    let body = Body::read(&request, None, bytes).unwrap_or_else(|refusal| panic!("{line}: {refusal}"));
    request.with_body(body)
}

#[test]
fn a_created_object_gives_the_request_its_name() {
    let line = "POST /api/v1/namespaces/d/pods";
    assert_eq!(accepted(line).object_name(), "");
    let request = with_body(line, POD).unwrap();
    assert_eq!(request.object_name(), "p");
    assert_eq!(request.info().resource().unwrap().name, "", "RBAC sees no name");
    assert!(request.body().is_some());
}

#[test]
fn a_name_in_the_path_is_the_objects_name() {
    for line in [
        "GET /api/v1/nodes/n",
        "DELETE /api/v1/nodes/n",
        "POST /api/v1/namespaces/d/pods/n/eviction",
    ] {
        assert_eq!(accepted(line).object_name(), "n", "{line}");
    }
    assert_eq!(
        with_body("PUT /api/v1/namespaces/d/pods/p", POD)
            .unwrap()
            .object_name(),
        "p"
    );
    assert_eq!(accepted("GET /version").object_name(), "");
}

#[test]
fn delete_options_of_the_query_move_into_the_body() {
    let all = "DELETE /api/v1/namespaces/d/pods/n?dryRun=All&gracePeriodSeconds=0&orphanDependents=false\
               &propagationPolicy=Orphan&resourceVersion=5&timeout=1s&uid=u";
    let body = |request: &ApiRequest| String::from_utf8(request.body().unwrap().json().to_vec()).unwrap();
    let request = with_body(all, DELETE_OPTIONS).unwrap();
    assert_eq!(
        body(&request),
        r#"{"apiVersion":"v1","kind":"DeleteOptions","dryRun":["All"],"gracePeriodSeconds":0,"orphanDependents":false,"propagationPolicy":"Orphan","preconditions":{"resourceVersion":"5","uid":"u"}}"#
    );
    assert_eq!(request.path_and_query(), "/api/v1/namespaces/d/pods/n?timeout=1s");
    let same = br#"{"preconditions":{"uid":"u"},"gracePeriodSeconds":0,"dryRun":["All"]}"#;
    let request = with_body(
        "DELETE /api/v1/nodes/n?dryRun=All&gracePeriodSeconds=0&resourceVersion=5&uid=u",
        same,
    )
    .unwrap();
    assert_eq!(
        body(&request),
        r#"{"gracePeriodSeconds":0,"dryRun":["All"],"preconditions":{"uid":"u","resourceVersion":"5"}}"#
    );
    let collection = with_body(
        "DELETE /api/v1/nodes?labelSelector=a&resourceVersion=5&dryRun=All",
        b"{}",
    )
    .unwrap();
    assert_eq!(body(&collection), r#"{"dryRun":["All"]}"#);
    assert_eq!(
        collection.path_and_query(),
        "/api/v1/nodes?labelSelector=a&resourceVersion=5"
    );
    // Without a body the API server reads the query.
    let plain = "DELETE /api/v1/nodes/n?dryRun=All";
    assert_eq!(accepted(plain).path_and_query(), "/api/v1/nodes/n?dryRun=All");
}

#[test]
fn delete_options_that_disagree_are_refused() {
    for (query, options) in [
        ("dryRun=All", r#"{"dryRun":[]}"#),
        ("dryRun=All", r#"{"dryRun":null}"#),
        ("gracePeriodSeconds=0", r#"{"gracePeriodSeconds":30}"#),
        (
            "propagationPolicy=Orphan",
            r#"{"propagationPolicy":"Background"}"#,
        ),
        ("uid=u", r#"{"preconditions":{"uid":"w"}}"#),
        ("uid=u", r#"{"preconditions":null}"#),
        (
            "resourceVersion=5",
            r#"{"preconditions":{"resourceVersion":"6"}}"#,
        ),
    ] {
        let refusal = with_body(&format!("DELETE /api/v1/nodes/n?{query}"), options.as_bytes()).unwrap_err();
        assert_eq!(refusal.reason, Reason::BodyMalformed, "{query} {options}");
    }
}

#[test]
fn an_empty_body_is_no_body() {
    for line in [
        "GET /api/v1/nodes/n",
        "DELETE /api/v1/nodes/n?gracePeriodSeconds=0",
    ] {
        let request = with_body(line, b"").unwrap();
        assert!(request.body().is_none(), "{line}");
        assert_eq!(request, accepted(line));
    }
}

#[test]
fn a_get_takes_no_body() {
    let body = Body::read(&accepted("POST /api/v1/namespaces/d/pods"), None, POD).unwrap();
    for line in ["GET /api/v1/namespaces/d/pods/p", "GET /version"] {
        let refusal = accepted(line).with_body(body.clone()).unwrap_err();
        assert_eq!(refusal.reason, Reason::RequestMalformed, "{line}");
    }
}
