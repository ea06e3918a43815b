//! What is read for which method, and what has to agree with the URL.

mod patches;

use super::{Body, MAX_BODY};
use crate::reason::{Reason, Refusal};
use crate::request_info::{Method, RequestInfo, RequestScope, ResourceInfo, Verb};

const JSON: Option<&str> = Some("application/json");
const PROTOBUF: Option<&str> = Some("application/vnd.kubernetes.protobuf");
const MERGE: Option<&str> = Some("application/merge-patch+json");
const APPLY: Option<&str> = Some("application/apply-patch+yaml");

/// A URL by its parts: `group/version namespace resource name subresource`, `-` for an empty one.
fn url(method: Method, parts: &str) -> RequestInfo {
    let mut parts = parts.split(' ').map(|part| if part == "-" { "" } else { part });
    let mut next = || parts.next().unwrap_or_default();
    let group_version = next();
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let (namespace, resource, name, subresource) = (next(), next(), next(), next());
    let verb = match method {
        Method::Get => Verb::Get,
        Method::Post => Verb::Create,
        Method::Put => Verb::Update,
        Method::Patch => Verb::Patch,
        Method::Delete => Verb::Delete,
    };
    let info = ResourceInfo {
        group,
        version,
        namespace,
        resource,
        subresource,
        name,
    };
    RequestInfo::new(verb, RequestScope::Resource(info))
}

fn read(method: Method, parts: &str, content_type: Option<&str>, body: &str) -> Result<Body, Refusal> {
    Body::read_for(method, &url(method, parts), content_type, body.as_bytes())
}

fn reason(method: Method, parts: &str, content_type: Option<&str>, body: &str) -> Option<Reason> {
    read(method, parts, content_type, body)
        .err()
        .map(|refusal| refusal.reason)
}

#[test]
fn refuses_the_bodies_that_two_parsers_read_differently() {
    let pods = |body: &str| read(Method::Post, "v1 d pods", JSON, body);
    for body in [
        r#"{"spec":{"hostPID":true,"containers":[{"securityContext":{"privileged":true}}]},"spec":{"containers":[{}]}}"#,
        r#"{"spec":{"hostPID":false,"host\u0050ID":true}}"#,
        r#"{"metadata":{"name":"a","name":"b"}}"#,
        "\u{feff}{}",
        "{} {}",
        "{}\0",
        "[]",
        "null",
        "\"x\"",
    ] {
        assert_eq!(pods(body).unwrap_err().reason, Reason::BodyMalformed, "{body}");
    }
    let info = url(Method::Post, "v1 d pods");
    for body in [&b"{\"a\":\"\xff\"}"[..], b"\x1f\x8b\x08\x00", b"k8s\0"] {
        let refusal = Body::read_for(Method::Post, &info, JSON, body).unwrap_err();
        assert_eq!(refusal.reason, Reason::BodyMalformed);
    }
    let body = pods(r#"{ "spec": {"HostPID": true, "n": [9007199254740993, 1.0, 1E3]} }"#).unwrap();
    assert_eq!(
        body.json(),
        br#"{"spec":{"HostPID":true,"n":[9007199254740993,1.0,1E3]}}"#
    );
}

#[test]
fn names_the_field_that_stands_twice() {
    let refusal = read(
        Method::Post,
        "v1 d pods",
        JSON,
        r#"{"spec":{"a":[{"b":1,"b":2}]}}"#,
    )
    .unwrap_err();
    assert_eq!(
        refusal.message,
        "the JSON body is refused: the field `spec.a[0].b` stands twice"
    );
}

#[test]
fn reads_the_content_types_of_each_method() {
    let object = r#"{"a":1}"#;
    for (method, content_type, sent) in [
        (Method::Post, None, "application/json"),
        (Method::Post, Some(""), "application/json"),
        (Method::Post, Some("Application/JSON"), "application/json"),
        (
            Method::Post,
            Some("application/json;charset=UTF-8"),
            "application/json",
        ),
        (
            Method::Post,
            Some("application/json ; charset=\"utf-8\""),
            "application/json",
        ),
        (Method::Delete, JSON, "application/json"),
        (Method::Post, Some("application/yaml"), "application/json"),
        (Method::Delete, Some("application/yaml"), "application/json"),
        (Method::Patch, MERGE, "application/merge-patch+json"),
        (
            Method::Patch,
            Some("application/strategic-merge-patch+json"),
            "application/strategic-merge-patch+json",
        ),
        (Method::Patch, APPLY, "application/apply-patch+yaml"),
    ] {
        let parts = if method == Method::Post {
            "v1 d pods"
        } else {
            "v1 d pods p"
        };
        assert_eq!(
            read(method, parts, content_type, object).unwrap().content_type(),
            sent
        );
    }
    let operations = r#"[{"op":"remove","path":"/a"}]"#;
    let patch = read(
        Method::Patch,
        "v1 d pods p",
        Some("application/json-patch+json"),
        operations,
    )
    .unwrap();
    assert_eq!(
        (patch.content_type(), patch.json()),
        ("application/json-patch+json", operations.as_bytes())
    );
}

#[test]
fn refuses_other_content_types() {
    for (method, content_type) in [
        (Method::Post, "text/yaml"),
        (Method::Post, "application/x-yaml"),
        (Method::Post, "application/cbor"),
        (Method::Post, "text/plain"),
        (Method::Post, "application/json, application/yaml"),
        (Method::Post, "application/json; charset=utf-16"),
        (Method::Post, "application/json; charset=utf-8; charset=utf-8"),
        (Method::Post, "application/json; stream=watch"),
        (Method::Post, "application/json-patch+json"),
        (Method::Post, " "),
        (Method::Put, "application/merge-patch+json"),
        (Method::Patch, "application/json"),
        (Method::Patch, "application/vnd.kubernetes.protobuf"),
        (Method::Patch, "application/apply-patch+cbor"),
        (Method::Patch, "application/yaml"),
    ] {
        let refused = reason(method, "v1 d pods p", Some(content_type), "{}");
        assert_eq!(refused, Some(Reason::UnsupportedMediaType), "{content_type}");
    }
    assert_eq!(
        reason(Method::Patch, "v1 d pods p", None, "{}"),
        Some(Reason::UnsupportedMediaType)
    );
}

#[test]
fn yaml_is_read_as_the_json_it_stands_for() {
    const YAML: Option<&str> = Some("application/yaml");
    let apply = |body| read(Method::Patch, "apps/v1 d deployments x", APPLY, body);
    let create = |body| read(Method::Post, "apps/v1 d deployments", YAML, body);
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n";
    for body in [
        apply(r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"}}"#).unwrap(),
        apply(text).unwrap(),
        create(text).unwrap(),
    ] {
        assert_eq!(
            (body.api_version(), body.kind(), body.object_name()),
            ("apps/v1", "Deployment", Some("x"))
        );
        assert_eq!(
            body.json(),
            br#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"}}"#
        );
    }
    assert_eq!(create(text).unwrap().content_type(), "application/json");
    assert_eq!(
        apply(text).unwrap().content_type(),
        "application/apply-patch+yaml"
    );
    for body in [
        "{a: &x 1, b: *x}",
        "{}\n---\n{}",
        "a: 1\na: 2",
        "a: 1\n'a': 2",
        "a: {b: 1, b: 2}",
        "a: yes",
        "kind: [a]",
        "metadata: {Name: x}",
        "- a",
        "a",
        "k8s\0",
        r#"{"a":1,"a":2}"#,
        "apiVersion: v1",
        "metadata: {namespace: e}",
    ] {
        for read in [apply(body), create(body)] {
            assert_eq!(read.unwrap_err().reason, Reason::BodyMalformed, "{body}");
        }
    }
    let refusal = create("a:\n- b: no\n").unwrap_err();
    assert_eq!(
        refusal.message,
        "the YAML body is refused: line 2: readers disagree about `no`; quote it, or write it as JSON does"
    );
    let folds = apply("{\"a\":\"x\u{2028}y\u{85}z\"}").unwrap();
    assert_eq!(folds.json(), br#"{"a":"x\u2028y\u0085z"}"#);
}

#[test]
fn the_shape_of_the_body_follows_its_type() {
    let patch = |content_type, body| reason(Method::Patch, "v1 d pods p", Some(content_type), body);
    assert_eq!(
        patch("application/json-patch+json", "{}"),
        Some(Reason::BodyMalformed)
    );
    assert_eq!(patch("application/json-patch+json", "[]"), None);
    assert_eq!(
        patch("application/merge-patch+json", "[]"),
        Some(Reason::BodyMalformed)
    );
    assert_eq!(patch("application/merge-patch+json", "{}"), None);
}

#[test]
fn a_body_stands_where_the_method_has_one() {
    for (method, parts, empty, full) in [
        (Method::Get, "v1 d pods", None, Some(Reason::BodyMalformed)),
        (Method::Post, "v1 d pods", Some(Reason::BodyMalformed), None),
        (
            Method::Put,
            "v1 d pods p status",
            Some(Reason::BodyMalformed),
            None,
        ),
        (Method::Patch, "v1 d pods p", Some(Reason::BodyMalformed), None),
        (Method::Delete, "v1 d pods p", None, None),
        (Method::Delete, "v1 d pods", None, None),
        (
            Method::Post,
            "v1 d pods p exec",
            None,
            Some(Reason::ConnectRefused),
        ),
        (
            Method::Get,
            "v1 d pods p attach",
            None,
            Some(Reason::ConnectRefused),
        ),
        (
            Method::Put,
            "v1 d services s proxy",
            None,
            Some(Reason::ConnectRefused),
        ),
        (
            Method::Post,
            "v1 d pods p eviction",
            Some(Reason::BodyMalformed),
            None,
        ),
        (
            Method::Post,
            "example.com/v1 d pods p exec",
            Some(Reason::BodyMalformed),
            None,
        ),
    ] {
        let content_type = if method == Method::Patch { MERGE } else { JSON };
        assert_eq!(
            reason(method, parts, content_type, ""),
            empty,
            "{method:?} {parts}"
        );
        assert_eq!(
            reason(method, parts, content_type, "{}"),
            full,
            "{method:?} {parts}"
        );
    }
    let nothing = read(Method::Delete, "v1 d pods p", Some("text/plain"), "").unwrap();
    assert!(nothing.is_empty() && nothing.json().is_empty());
}

/// The bodies of `agreeing` are taken at this URL, those of `refused` are malformed.
fn check(method: Method, parts: &str, content_type: Option<&str>, agreeing: &[&str], refused: &[&str]) {
    for body in agreeing {
        assert_eq!(
            reason(method, parts, content_type, body),
            None,
            "{method:?} {parts} {body}"
        );
    }
    for body in refused {
        let reason = reason(method, parts, content_type, body);
        assert_eq!(reason, Some(Reason::BodyMalformed), "{method:?} {parts} {body}");
    }
}

#[test]
fn a_created_object_belongs_to_the_collection_of_the_url() {
    let agreeing = [
        r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","namespace":"d"}}"#,
        r#"{"metadata":{"generateName":"x-"}}"#,
        r#"{"apiVersion":"","kind":"","metadata":{"namespace":"","name":null}}"#,
    ];
    let refused = [
        r#"{"apiVersion":"v1","kind":"Deployment"}"#,
        r#"{"apiVersion":"apps/v1beta1"}"#,
        r#"{"metadata":{"namespace":"kube-system"}}"#,
        r#"{"apiVersion":"apps/v1","kind":"List","items":[]}"#,
        r#"{"Kind":"Secret"}"#,
        r#"{"kind":"ReplicaSet"}"#,
        r#"{"apiVersion":"apps/v1","kind":"DeploymentList","items":[]}"#,
    ];
    check(Method::Post, "apps/v1 d deployments", JSON, &agreeing, &refused);
    let agreeing = [r#"{"apiVersion":"v1","metadata":{"name":"n"}}"#];
    let refused = [r#"{"metadata":{"name":"n","namespace":"n"}}"#];
    check(Method::Post, "v1 - namespaces", JSON, &agreeing, &refused);
}

#[test]
fn a_replaced_object_is_the_one_of_the_url() {
    let agreeing = [
        r#"{"metadata":{"name":"x"}}"#,
        r#"{"metadata":{"name":"x","namespace":"d"}}"#,
    ];
    let refused = [
        r#"{"metadata":{"name":"y"}}"#,
        r#"{"metadata":{}}"#,
        "{}",
        r#"{"metadata":{"name":"x","namespace":"e"}}"#,
    ];
    check(Method::Put, "apps/v1 d deployments x", JSON, &agreeing, &refused);
    check(
        Method::Put,
        "v1 n namespaces n",
        JSON,
        &[r#"{"metadata":{"name":"n"}}"#],
        &["{}"],
    );
}

#[test]
fn a_subresource_has_a_kind_of_its_own_but_belongs_to_the_object_of_the_url() {
    let agreeing = [
        r#"{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"x"}}"#,
        "{}",
    ];
    let refused = [
        r#"{"metadata":{"name":"y"}}"#,
        r#"{"metadata":{"namespace":"e"}}"#,
        r#"{"apiVersion":"apps/v1","kind":"Deployment"}"#,
    ];
    check(
        Method::Put,
        "apps/v1 d deployments x scale",
        JSON,
        &agreeing,
        &refused,
    );
    let agreeing =
        [r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"x","namespace":"d"}}"#];
    check(Method::Post, "v1 d pods x eviction", JSON, &agreeing, &refused);
    let agreeing = [r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest"}"#];
    check(
        Method::Post,
        "v1 d serviceaccounts x token",
        JSON,
        &agreeing,
        &refused,
    );
}

#[test]
fn kinds_that_are_built_in_belong_to_their_resource() {
    for (parts, kind) in [
        ("v1 d endpoints", "Endpoints"),
        ("networking.k8s.io/v1 d ingresses", "Ingress"),
        ("networking.k8s.io/v1 d networkpolicies", "NetworkPolicy"),
        ("storage.k8s.io/v1 - storageclasses", "StorageClass"),
        ("v1 d bindings", "Binding"),
        (
            "authorization.k8s.io/v1 - selfsubjectaccessreviews",
            "SelfSubjectAccessReview",
        ),
        ("example.com/v1 d oxen", "Ox"),
    ] {
        let body = format!(r#"{{"kind":"{kind}"}}"#);
        check(Method::Post, parts, JSON, &[&body], &[]);
    }
    let other = [r#"{"kind":"Secret"}"#];
    for parts in [
        "v1 d configmaps",
        "apps/v1 d deployments",
        "rbac.authorization.k8s.io/v1 d roles",
    ] {
        check(Method::Post, parts, JSON, &[], &other);
    }
    check(
        Method::Patch,
        "v1 d pods x status",
        MERGE,
        &[r#"{"kind":"Pod"}"#],
        &other,
    );
    check(
        Method::Patch,
        "v1 d pods x status",
        MERGE,
        &[],
        &[r#"{"apiVersion":"v2"}"#],
    );
}

#[test]
fn the_body_of_a_delete_is_its_options() {
    let agreeing = [
        r#"{"apiVersion":"v1","kind":"DeleteOptions","dryRun":["All"]}"#,
        r#"{"apiVersion":"apps/v1","kind":"DeleteOptions"}"#,
        r#"{"propagationPolicy":"Orphan"}"#,
    ];
    check(
        Method::Delete,
        "apps/v1 d deployments x",
        JSON,
        &agreeing,
        &[r#"{"kind":"Deployment"}"#],
    );
}

#[test]
fn a_created_object_is_known_by_the_name_in_its_body() {
    let body = read(
        Method::Post,
        "v1 d configmaps",
        None,
        r#"{"metadata":{"name":"n"}}"#,
    )
    .unwrap();
    assert_eq!((body.object_name(), body.generate_name()), (Some("n"), None));
    let body = read(
        Method::Post,
        "v1 d configmaps",
        None,
        r#"{"metadata":{"generateName":"n-"}}"#,
    )
    .unwrap();
    assert_eq!((body.object_name(), body.generate_name()), (None, Some("n-")));
}

#[test]
fn protobuf_goes_upstream_as_json_and_agrees_with_the_url_too() {
    let config_map = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x07\x0a\x05\x0a\x03abc\x1a\x00\x22\x00";
    let read =
        |parts: &str, bytes: &[u8]| Body::read_for(Method::Post, &url(Method::Post, parts), PROTOBUF, bytes);
    let body = read("v1 d configmaps", config_map).unwrap();
    assert_eq!(
        body.json(),
        br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"abc"}}"#
    );
    assert_eq!(
        (body.content_type(), body.object_name()),
        ("application/json", Some("abc"))
    );
    assert_eq!(
        read("apps/v1 d deployments", config_map).unwrap_err().reason,
        Reason::BodyMalformed
    );

    let deployment = b"k8s\0\x0a\x15\x0a\x07apps/v1\x12\x0aDeployment";
    assert_eq!(
        read("apps/v1 d deployments", deployment).unwrap().json(),
        br#"{"kind":"Deployment","apiVersion":"apps/v1"}"#
    );
    let unknown = b"k8s\0\x0a\x15\x0a\x07apps/v1\x12\x0aDeploymend";
    let refusal = read("apps/v1 d deployments", unknown).unwrap_err();
    assert_eq!(refusal.reason, Reason::UnsupportedMediaType);
    assert!(
        refusal.message.ends_with("send the object as application/json"),
        "{}",
        refusal.message
    );
    assert_eq!(
        read("v1 d configmaps", b"{}").unwrap_err().reason,
        Reason::BodyMalformed
    );
    // A key twice in a map is last-wins for Go and refused here.
    let entries = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x10\x12\x06\x0a\x01k\x12\x01a\x12\x06\x0a\x01k\x12\x01b";
    assert_eq!(
        read("v1 d configmaps", entries).unwrap_err().reason,
        Reason::BodyMalformed
    );
}

#[test]
fn bodies_are_read_up_to_the_limit_and_sent_up_to_the_limit() {
    let info = url(Method::Post, "v1 d configmaps");
    let sized = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
    let read = |body: &str| {
        Body::read_for(Method::Post, &info, JSON, body.as_bytes()).map_err(|refusal| refusal.reason)
    };
    assert_eq!(read(&sized(MAX_BODY)).unwrap().json().len(), MAX_BODY);
    assert_eq!(read(&sized(MAX_BODY + 1)), Err(Reason::BodyTooLarge));
    let grows = format!("{{\"a\":\"{}\"}}", "\u{85}".repeat(MAX_BODY / 6));
    assert_eq!(read(&grows), Err(Reason::BodyTooLarge));
}

#[test]
fn debug_output_does_not_hold_what_is_in_the_body() {
    let body = read(
        Method::Post,
        "v1 d secrets",
        JSON,
        r#"{"kind":"Secret","data":{"p":"aHVudGVyMg=="}}"#,
    )
    .unwrap();
    let shown = format!("{body:?}");
    assert!(
        shown.contains("Secret") && !shown.contains("aHVudGVyMg"),
        "{shown}"
    );
}
