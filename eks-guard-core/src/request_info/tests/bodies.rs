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
fn delete_options_stand_in_one_place() {
    for query in [
        "dryRun=All",
        "gracePeriodSeconds=0",
        "propagationPolicy=Orphan",
        "uid=u",
        "resourceVersion=5",
    ] {
        let refusal = with_body(&format!("DELETE /api/v1/nodes/n?{query}"), DELETE_OPTIONS).unwrap_err();
        assert_eq!(refusal.reason, Reason::RequestMalformed, "{query}");
        accepted(&format!("DELETE /api/v1/nodes/n?{query}"));
    }
    for line in [
        "DELETE /api/v1/nodes/n?timeout=1s",
        "DELETE /api/v1/nodes?labelSelector=a&resourceVersion=5",
    ] {
        assert!(with_body(line, DELETE_OPTIONS).is_ok(), "{line}");
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
