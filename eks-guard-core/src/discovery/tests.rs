//! What is served, what is not, and what is no answer.

use super::{Discovery, DiscoveryError};
use crate::reason::Reason;
use crate::request_info::{ApiRequest, Verb};

const CORE: &[u8] = br#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":[
  {"metadata":{"creationTimestamp":null},"versions":[{"version":"v1","resources":[
    {"resource":"pods","responseKind":{"group":"","version":"","kind":"Pod"},"scope":"Namespaced","verbs":["create","get","proxy"],
     "subresources":[{"subresource":"log","responseKind":{"group":"","version":"","kind":"Pod"},"verbs":["get"]}]},
    {"resource":"namespaces","scope":"Cluster","verbs":["get"],"subresources":[{"subresource":"finalize","verbs":["update"]}]},
    {"resource":"nodes","scope":"Cluster","verbs":["get"]}],"freshness":"Current"}]}]}"#;
const GROUPS: &[u8] = br#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[
  {"metadata":{"name":"example.com"},"versions":[
    {"version":"v2","resources":[{"resource":"widgets","scope":"Namespaced","verbs":["list"]}]},
    {"version":"v1","resources":[]}]},
  {"metadata":{"name":"stale.example.com"},"versions":[{"version":"v1","freshness":"Stale"}]}]}"#;

fn discovery() -> Discovery {
    Discovery::read([CORE, GROUPS]).expect("both are lists")
}

fn refused(discovery: &Discovery, path: &str) -> Option<Reason> {
    let request = ApiRequest::parse("GET", path, None).expect(path);
    discovery
        .check(request.info())
        .err()
        .map(|refusal| refusal.reason)
}

#[test]
fn what_is_not_served_is_refused() {
    let discovery = discovery();
    let served = [
        "/version",
        "/api/v1/pods",
        "/api/v1/namespaces/a/pods/b",
        "/api/v1/namespaces/a/pods/b/log",
        "/api/v1/namespaces/a",
        "/api/v1/nodes/n",
        "/apis/example.com/v2/namespaces/a/widgets",
    ];
    let unknown = [
        "/api/v1/secrets",
        "/api/v2/pods",
        "/api/v1/namespaces/a/pods/b/status",
        "/api/v1/namespaces/a/nodes/n",
        "/apis/apps/v1/deployments",
        "/apis/example.com/v1/widgets",
        "/apis/example.com/v2/widgets/w/status",
        "/apis/example.com/v2/pods",
        "/apis/stale.example.com/v1/widgets",
    ];
    for path in served {
        assert_eq!(refused(&discovery, path), None, "{path}");
        assert_eq!(
            refused(&Discovery::default(), path).is_some(),
            path != "/version",
            "nothing is served where nothing is known: {path}"
        );
    }
    for path in unknown {
        assert_eq!(refused(&discovery, path), Some(Reason::ResourceUnknown), "{path}");
    }
}

#[test]
fn each_resource_says_what_it_can_do() {
    let discovery = discovery();
    let pods = discovery
        .served()
        .iter()
        .find(|it| (&*it.resource, &*it.subresource) == ("pods", ""))
        .unwrap();
    assert!(pods.is_namespaced);
    assert_eq!(*pods.verbs, [Verb::Get, Verb::Create]);
    assert_eq!(discovery.served().len(), 6);
}

#[test]
fn other_answers_are_no_discovery() {
    let old = br#"{"kind":"APIGroupList","apiVersion":"v1","groups":[]}"#;
    assert!(
        matches!(Discovery::read([CORE, &old[..]]), Err(DiscoveryError::Kind(kind)) if kind == "APIGroupList")
    );
    assert!(matches!(
        Discovery::read([&b"404"[..]]),
        Err(DiscoveryError::Json(_))
    ));
}
