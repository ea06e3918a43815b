//! Where a precondition stands in which body, and what stays beside it.

use crate::body::{Body, Pin, PinError};
use crate::request_info::ApiRequest;

const POD: &str = "/api/v1/namespaces/d/pods/x";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const OPERATIONS: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

fn request(method: &str, path: &str, content_type: &str, body: &str) -> ApiRequest {
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query)));
    let request = ApiRequest::parse(method, path, query).unwrap();
    if body.is_empty() {
        return request;
    }
    let body = Body::read(&request, Some(content_type), body.as_bytes()).unwrap();
    request.with_body(body).unwrap()
}

fn at() -> Pin {
    Pin::At {
        uid: "u-1".to_owned(),
        resource_version: "7".to_owned(),
    }
}

fn pinned(request: &ApiRequest, pin: &Pin) -> Result<String, PinError> {
    let body = request.pinned(pin)?.body().unwrap().json().to_vec();
    Ok(String::from_utf8(body).unwrap())
}

/// Method, path, content type and body, and the body with a precondition.
const HELD: [(&str, &str, &str, &str, &str); 10] = [
    (
        "PUT",
        POD,
        JSON,
        r#"{"metadata":{"name":"x"},"spec":{"a":1.0}}"#,
        r#"{"metadata":{"name":"x","resourceVersion":"7","uid":"u-1"},"spec":{"a":1.0}}"#,
    ),
    (
        "PATCH",
        POD,
        MERGE,
        r#"{"spec":{"a":1e3}}"#,
        r#"{"spec":{"a":1e3},"metadata":{"resourceVersion":"7","uid":"u-1"}}"#,
    ),
    (
        "PATCH",
        POD,
        MERGE,
        r#"{"metadata":{"resourceVersion":null,"labels":null}}"#,
        r#"{"metadata":{"resourceVersion":"7","labels":null,"uid":"u-1"}}"#,
    ),
    (
        "PATCH",
        POD,
        STRATEGIC,
        r#"{"$patch":"merge","spec":{"$patch":"replace"}}"#,
        r#"{"$patch":"merge","spec":{"$patch":"replace"},"metadata":{"resourceVersion":"7","uid":"u-1"}}"#,
    ),
    (
        "PATCH",
        POD,
        APPLY,
        "metadata: {name: x}",
        r#"{"metadata":{"name":"x","resourceVersion":"7","uid":"u-1"}}"#,
    ),
    (
        "PATCH",
        POD,
        OPERATIONS,
        r#"[{"op":"remove","path":"/spec/a"}]"#,
        r#"[{"op":"remove","path":"/spec/a"},{"op":"add","path":"/metadata/resourceVersion","value":"7"}]"#,
    ),
    (
        "PATCH",
        POD,
        OPERATIONS,
        "[]",
        r#"[{"op":"add","path":"/metadata/resourceVersion","value":"7"}]"#,
    ),
    (
        "DELETE",
        POD,
        JSON,
        r#"{"propagationPolicy":"Orphan"}"#,
        r#"{"propagationPolicy":"Orphan","preconditions":{"resourceVersion":"7","uid":"u-1"}}"#,
    ),
    (
        "POST",
        "/api/v1/namespaces/d/pods/x/eviction",
        JSON,
        r#"{"kind":"Eviction","deleteOptions":{"gracePeriodSeconds":0}}"#,
        r#"{"kind":"Eviction","deleteOptions":{"gracePeriodSeconds":0,"preconditions":{"resourceVersion":"7","uid":"u-1"}}}"#,
    ),
    (
        "POST",
        "/api/v1/namespaces/d/pods/x/binding",
        JSON,
        r#"{"metadata":{"name":"x"},"target":{"name":"n"}}"#,
        r#"{"metadata":{"name":"x","resourceVersion":"7","uid":"u-1"},"target":{"name":"n"}}"#,
    ),
];

#[test]
fn every_kind_of_body_holds_one() {
    for (method, path, content_type, body, wanted) in HELD {
        let request = request(method, path, content_type, body);
        assert_eq!(pinned(&request, &at()).as_deref(), Ok(wanted), "{method} {body}");
        let (before, after) = (request.body().unwrap(), request.pinned(&at()).unwrap());
        assert_eq!(after.body().unwrap().content_type(), before.content_type());
        assert_eq!(after.path_and_query(), request.path_and_query());
    }
}

#[test]
fn a_delete_without_options_gets_them_and_those_of_its_query() {
    let path = format!("{POD}?dryRun=All&gracePeriodSeconds=0");
    let pinned = request("DELETE", &path, JSON, "").pinned(&at()).unwrap();
    assert_eq!(pinned.path_and_query(), POD);
    assert_eq!(
        std::str::from_utf8(pinned.body().unwrap().json()).unwrap(),
        r#"{"kind":"DeleteOptions","apiVersion":"v1","dryRun":["All"],"gracePeriodSeconds":0,"preconditions":{"resourceVersion":"7","uid":"u-1"}}"#
    );
}

/// Method, content type and body, and whether it is about the object that is stored.
const SAID: [(&str, &str, &str, bool); 13] = [
    (
        "PUT",
        JSON,
        r#"{"metadata":{"name":"x","resourceVersion":"7"}}"#,
        true,
    ),
    (
        "PUT",
        JSON,
        r#"{"metadata":{"name":"x","resourceVersion":"00"}}"#,
        true,
    ),
    (
        "PUT",
        JSON,
        r#"{"metadata":{"name":"x","resourceVersion":"8"}}"#,
        false,
    ),
    (
        "PUT",
        JSON,
        r#"{"metadata":{"name":"x","resourceVersion":7}}"#,
        false,
    ),
    ("PUT", JSON, r#"{"metadata":{"name":"x","uid":"u-2"}}"#, false),
    ("PATCH", MERGE, r#"{"metadata":{"resourceVersion":"6"}}"#, false),
    ("PATCH", APPLY, r#"{"metadata":{"uid":"u-2"}}"#, false),
    (
        "PATCH",
        OPERATIONS,
        r#"[{"op":"replace","path":"/metadata/resourceVersion","value":"8"}]"#,
        false,
    ),
    (
        "PATCH",
        OPERATIONS,
        r#"[{"op":"test","path":"/metadata/resourceVersion","value":"8"}]"#,
        true,
    ),
    (
        "PATCH",
        OPERATIONS,
        r#"[{"op":"remove","path":"/metadata/resourceVersion"}]"#,
        true,
    ),
    ("DELETE", JSON, r#"{"preconditions":{"uid":"u-1"}}"#, true),
    (
        "DELETE",
        JSON,
        r#"{"preconditions":{"resourceVersion":"8"}}"#,
        false,
    ),
    // Zero is a version like any other here.
    (
        "DELETE",
        JSON,
        r#"{"preconditions":{"resourceVersion":"0"}}"#,
        false,
    ),
];

#[test]
fn what_the_agent_says_itself_is_kept_or_is_a_conflict() {
    for (method, content_type, body, agrees) in SAID {
        let pinned = pinned(&request(method, POD, content_type, body), &at());
        match agrees {
            true => assert!(pinned.is_ok_and(|it| it.contains(r#""7""#)), "{body}"),
            false => assert_eq!(pinned, Err(PinError::Changed), "{body}"),
        }
    }
}

#[test]
fn what_would_take_it_away_again_is_refused() {
    for (content_type, body) in [
        (STRATEGIC, r#"{"$patch":"replace","metadata":{}}"#),
        (STRATEGIC, r#"{"$retainKeys":["spec"]}"#),
        (STRATEGIC, r#"{"metadata":{"$patch":"delete"}}"#),
        (STRATEGIC, r#"{"metadata":{"$retainKeys":["name"],"name":"x"}}"#),
    ] {
        let pinned = pinned(&request("PATCH", POD, content_type, body), &at());
        assert!(
            matches!(pinned, Err(PinError::Impossible(_))),
            "{body}: {pinned:?}"
        );
    }
    let none = request(
        "POST",
        "/api/v1/namespaces/d/pods",
        JSON,
        r#"{"metadata":{"name":"x"}}"#,
    );
    assert!(matches!(none.pinned(&at()), Err(PinError::Impossible(_))));
}

#[test]
fn where_there_was_none_there_must_be_none() {
    let apply = request(
        "PATCH",
        POD,
        APPLY,
        r#"{"metadata":{"name":"x","resourceVersion":"9"}}"#,
    );
    assert_eq!(
        pinned(&apply, &Pin::Absent).as_deref(),
        Ok(r#"{"metadata":{"name":"x","resourceVersion":"1"}}"#)
    );
}

#[test]
fn a_rehearsal_is_the_same_request_as_a_dry_run() {
    for (query, wanted) in [
        ("", "?dryRun=All"),
        ("?dryRun=All&force=true", "?dryRun=All&force=true"),
        (
            "?fieldManager=m&force=true",
            "?dryRun=All&fieldManager=m&force=true",
        ),
    ] {
        let request = request(
            "PATCH",
            &format!("{POD}{query}"),
            APPLY,
            r#"{"metadata":{"name":"x"}}"#,
        );
        let rehearsal = request.rehearsal();
        assert_eq!(rehearsal.path_and_query(), format!("{POD}{wanted}"));
        assert_eq!(rehearsal.body(), request.body());
    }
    let scale = request("PATCH", &format!("{POD}/status?pretty=true"), MERGE, "{}");
    assert_eq!(scale.object_path(), POD);
    assert_eq!(request("DELETE", POD, JSON, "").object_path(), POD);
}
