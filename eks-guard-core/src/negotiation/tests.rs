//! What clients ask for, and what is asked of the API server.

use crate::negotiation::{MAX_ACCEPT_BYTES, accept};
use crate::reason::Reason;
use crate::request_info::ApiRequest;

const PODS: &str = "/api/v1/pods";

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn negotiate(path: &str, value: Option<&str>) -> Result<String, Reason> {
    let request = ApiRequest::parse("GET", path, None).unwrap();
    accept(&request, value).map_err(|refusal| refusal.reason)
}

fn assert_rewrites(rows: &[(&str, &str)]) {
    for (asked, sent) in rows {
        assert_eq!(negotiate(PODS, Some(asked)).as_deref(), Ok(*sent), "{asked}");
        assert_eq!(
            negotiate(PODS, Some(sent)).as_deref(),
            Ok(*sent),
            "{asked}, once more"
        );
    }
}

#[test]
fn tables_and_metadata_keep_their_parameters() {
    let kubectl_get = format!("{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json");
    assert_rewrites(&[
        (&kubectl_get, &kubectl_get),
        (
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        ),
        (
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1beta1",
            "application/json;as=PartialObjectMetadata;v=v1beta1;g=meta.k8s.io",
        ),
    ]);
}

#[test]
fn what_the_guard_cannot_read_gives_way_to_json() {
    assert_rewrites(&[
        ("application/json", "application/json"),
        (
            "application/vnd.kubernetes.protobuf,application/json",
            "application/json",
        ),
        ("application/vnd.kubernetes.protobuf", "application/json"),
        ("application/cbor", "application/json"),
        ("application/cbor-seq", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/yaml, */*", "application/json"),
        ("text/html, application/json", "application/json"),
        ("application/json, application/json", "application/json"),
        ("APPLICATION/JSON", "application/json"),
        (
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
            "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json",
        ),
        (
            &format!("application/vnd.kubernetes.protobuf,{TABLE}"),
            &format!("{TABLE},application/json"),
        ),
    ]);
}

#[test]
fn other_parameters_do_not_pass() {
    assert_rewrites(&[
        ("application/json;stream=watch", "application/json"),
        ("application/json;charset=utf-8;pretty=1", "application/json"),
        (
            "application/json;as=Secret;v=v1;g=meta.k8s.io",
            "application/json",
        ),
        ("application/json;as=table;v=v1;g=meta.k8s.io", "application/json"),
        ("application/json;as=Table;v=v2;g=meta.k8s.io", "application/json"),
        (
            "application/json;as=Table;v=v1;g=apidiscovery.k8s.io",
            "application/json",
        ),
        ("application/json;as=Table;v=v1", "application/json"),
        ("application/json;as=Table;g=meta.k8s.io", "application/json"),
        ("application/json;g=meta.k8s.io", "application/json"),
        (
            "application/json;as=Table;as=Table;v=v1;g=meta.k8s.io",
            "application/json",
        ),
        (&format!("{TABLE};stream=watch"), TABLE),
        ("application/json ; AS=Table ; v=v1 ; g = meta.k8s.io", TABLE),
    ]);
}

#[test]
fn quality_decides_the_order() {
    assert_rewrites(&[
        (
            &format!("application/json;q=0.5,{TABLE}"),
            &format!("{TABLE},application/json"),
        ),
        (
            &format!("application/json,{TABLE};q=0.999"),
            &format!("application/json,{TABLE}"),
        ),
        (
            &format!("application/json;q=0.5,{TABLE};q=0.05"),
            &format!("application/json,{TABLE}"),
        ),
        (
            &format!("application/json;q=1.000,{TABLE};q=1"),
            &format!("application/json,{TABLE}"),
        ),
    ]);
}

#[test]
fn nothing_acceptable_is_refused() {
    let no_json = [
        "application/yaml",
        "text/plain",
        "text/*",
        "nonsense",
        ";",
        ",",
        "application/json;q=2",
        "application/json;q=1.001",
        "application/json;q=0.1234",
        "application/json;q=",
        "application/json;q=-1",
        "application/json;as",
        "application/json;q=0.+1",
    ];
    for value in no_json {
        assert_eq!(
            negotiate(PODS, Some(value)),
            Err(Reason::NotAcceptable),
            "{value}"
        );
    }
}

#[test]
fn no_header_means_json() {
    assert_eq!(negotiate(PODS, None).as_deref(), Ok("application/json"));
    assert_eq!(negotiate(PODS, Some("")).as_deref(), Ok("application/json"));
    assert_eq!(negotiate(PODS, Some(" \t")).as_deref(), Ok("application/json"));
}

#[test]
fn plain_paths_and_logs_pass_the_header() {
    let discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let openapi = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    for path in [
        "/apis",
        "/openapi/v2",
        "/version",
        "/api/v1/namespaces/d/pods/p/log",
    ] {
        for value in [discovery, openapi, "application/json, */*"] {
            assert_eq!(negotiate(path, Some(value)).as_deref(), Ok(value), "{path}");
        }
        assert_eq!(negotiate(path, None).as_deref(), Ok("*/*"), "{path}");
    }
    for path in [
        "/apis/g.example/v1/namespaces/d/pods/p/log",
        "/api/v1/namespaces/d/pods/log",
        "/api/v1/nodes/p/log",
    ] {
        assert_eq!(
            negotiate(path, Some(openapi)),
            Err(Reason::NotAcceptable),
            "{path}"
        );
    }
}

#[test]
fn the_header_is_bounded_and_visible_ascii_everywhere() {
    for path in ["/apis", PODS] {
        let longest = format!("application/json,a/{}", "b".repeat(MAX_ACCEPT_BYTES - 19));
        assert_eq!(longest.len(), MAX_ACCEPT_BYTES);
        assert!(negotiate(path, Some(&longest)).is_ok(), "{path}");
        assert_eq!(
            negotiate(path, Some(&format!("{longest}b"))),
            Err(Reason::NotAcceptable),
            "{path}"
        );
        for value in [
            "application/json\r\nX: y",
            "application/json,é",
            "a\u{0}/b",
            "a\u{7f}/b",
        ] {
            assert_eq!(
                negotiate(path, Some(value)),
                Err(Reason::NotAcceptable),
                "{path} {value}"
            );
        }
    }
}
