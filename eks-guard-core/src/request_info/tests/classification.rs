//! RequestInfo, rule by rule, for requests the grammar takes.

use crate::request_info::tests::{
    accepted, assert_accepted, assert_malformed, assert_method_refused, describe,
};
use crate::request_info::{Method, RequestInfo, RequestScope, Streaming, Verb};

#[test]
fn paths_without_a_resource_are_plain() {
    assert_accepted(&[
        ("GET /", "get /", "/"),
        ("GET /api", "get /api", "/api"),
        ("GET /api/", "get /api", "/api"),
        ("GET /api/v1", "get /api/v1", "/api/v1"),
        ("GET /apis", "get /apis", "/apis"),
        ("GET /apis/apps", "get /apis/apps", "/apis/apps"),
        ("GET /apis/apps/v1", "get /apis/apps/v1", "/apis/apps/v1"),
        ("GET /version", "get /version", "/version"),
        ("GET /healthz?verbose", "get /healthz", "/healthz?verbose="),
        (
            "GET /readyz/poststarthook/rbac%2Dbootstrap",
            "get /readyz/poststarthook/rbac-bootstrap",
            "/readyz/poststarthook/rbac-bootstrap",
        ),
        (
            "GET /livez?exclude=etcd&verbose=1",
            "get /livez",
            "/livez?exclude=etcd&verbose=1",
        ),
        (
            "GET /openapi/v2?timeout=32s",
            "get /openapi/v2",
            "/openapi/v2?timeout=32s",
        ),
        ("GET /api?timeout=32s", "get /api", "/api?timeout=32s"),
        ("GET /apis?timeout=32s", "get /apis", "/apis?timeout=32s"),
        (
            "GET /openapi/v3/apis/apps/v1?hash=8A%2FB%3D",
            "get /openapi/v3/apis/apps/v1",
            "/openapi/v3/apis/apps/v1?hash=8A%2FB%3D",
        ),
        // The attribute is the decoded path; the capital API is no API prefix.
        ("GET /a%20b/c", "get /a b/c", "/a%20b/c"),
        ("GET /API/v1/pods", "get /API/v1/pods", "/API/v1/pods"),
        ("POST /api/v1", "post /api/v1", "/api/v1"),
        ("PUT /logs", "put /logs", "/logs"),
        ("PATCH /logs", "patch /logs", "/logs"),
        ("DELETE /logs", "delete /logs", "/logs"),
    ]);
}

#[test]
fn methods_become_verbs() {
    assert_accepted(&[
        (
            "GET /api/v1/namespaces/d/pods/p",
            "get v1 pods ns=d name=p",
            "/api/v1/namespaces/d/pods/p",
        ),
        (
            "PUT /api/v1/namespaces/d/pods/p",
            "update v1 pods ns=d name=p",
            "/api/v1/namespaces/d/pods/p",
        ),
        (
            "PATCH /api/v1/namespaces/d/pods/p",
            "patch v1 pods ns=d name=p",
            "/api/v1/namespaces/d/pods/p",
        ),
        (
            "DELETE /api/v1/namespaces/d/pods/p",
            "delete v1 pods ns=d name=p",
            "/api/v1/namespaces/d/pods/p",
        ),
        (
            "DELETE /api/v1/namespaces/d/pods",
            "deletecollection v1 pods ns=d",
            "/api/v1/namespaces/d/pods",
        ),
        ("DELETE /api/v1/pods", "deletecollection v1 pods", "/api/v1/pods"),
        (
            "POST /api/v1/namespaces/d/pods",
            "create v1 pods ns=d",
            "/api/v1/namespaces/d/pods",
        ),
        (
            "GET /api/v1/namespaces/d/pods",
            "list v1 pods ns=d",
            "/api/v1/namespaces/d/pods",
        ),
        ("GET /api/v1/nodes", "list v1 nodes", "/api/v1/nodes"),
        (
            "GET /apis/apps/v1/deployments",
            "list apps/v1 deployments",
            "/apis/apps/v1/deployments",
        ),
        (
            "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
            "get rbac.authorization.k8s.io/v1 clusterroles name=system:node",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
        ),
    ]);
    for (line, method, text) in [
        ("GET /api", Method::Get, "GET"),
        ("POST /api", Method::Post, "POST"),
        ("PUT /api", Method::Put, "PUT"),
        ("PATCH /api", Method::Patch, "PATCH"),
        ("DELETE /api", Method::Delete, "DELETE"),
    ] {
        let request = accepted(line);
        assert_eq!((request.method(), request.method().as_str()), (method, text));
    }
}

#[test]
fn subresources_are_the_third_part() {
    assert_accepted(&[
        (
            "PATCH /apis/apps/v1/namespaces/d/deployments/web/scale",
            "patch apps/v1 deployments/scale ns=d name=web",
            "/apis/apps/v1/namespaces/d/deployments/web/scale",
        ),
        (
            "POST /api/v1/namespaces/d/pods/p/eviction",
            "create v1 pods/eviction ns=d name=p",
            "/api/v1/namespaces/d/pods/p/eviction",
        ),
        (
            "GET /api/v1/nodes/n/status",
            "get v1 nodes/status name=n",
            "/api/v1/nodes/n/status",
        ),
    ]);
}

#[test]
fn a_namespace_is_itself_the_resource_unless_another_follows() {
    assert_accepted(&[
        (
            "GET /api/v1/namespaces",
            "list v1 namespaces",
            "/api/v1/namespaces",
        ),
        (
            "POST /api/v1/namespaces",
            "create v1 namespaces",
            "/api/v1/namespaces",
        ),
        (
            "GET /api/v1/namespaces/x",
            "get v1 namespaces ns=x name=x",
            "/api/v1/namespaces/x",
        ),
        (
            "DELETE /api/v1/namespaces/x",
            "delete v1 namespaces ns=x name=x",
            "/api/v1/namespaces/x",
        ),
        (
            "PUT /api/v1/namespaces/x/status",
            "update v1 namespaces/status ns=x name=x",
            "/api/v1/namespaces/x/status",
        ),
        (
            "PUT /api/v1/namespaces/x/finalize",
            "update v1 namespaces/finalize ns=x name=x",
            "/api/v1/namespaces/x/finalize",
        ),
        (
            "GET /api/v1/namespaces/x/statuses",
            "list v1 statuses ns=x",
            "/api/v1/namespaces/x/statuses",
        ),
        (
            "GET /apis/g.example/v1/namespaces/x/status",
            "get g.example/v1 namespaces/status ns=x name=x",
            "/apis/g.example/v1/namespaces/x/status",
        ),
        (
            "GET /api/v1/namespaces/namespaces",
            "get v1 namespaces ns=namespaces name=namespaces",
            "/api/v1/namespaces/namespaces",
        ),
    ]);
    // Both would be RequestInfo of the namespace itself, by another path.
    assert_malformed(&[
        "GET /api/v1/namespaces/x/namespaces/x",
        "GET /api/v1/namespaces/x/namespaces",
        "GET /api/v1/namespaces/x/status/y",
        "GET /api/v1/namespaces/x/finalize/y",
    ]);
}

#[test]
fn only_0_and_false_switch_a_watch_off() {
    for off in [
        "watch=false",
        "watch=False",
        "watch=FALSE",
        "watch=fAlSe",
        "watch=0",
    ] {
        assert_accepted(&[(
            &format!("GET /api/v1/pods?{off}"),
            "list v1 pods",
            "/api/v1/pods?watch=false",
        )]);
    }
    for on in [
        "watch",
        "watch=",
        "watch=1",
        "watch=true",
        "watch=no",
        "watch=f",
        "watch=off",
        "watch=00",
        "watch=%20false",
    ] {
        assert_accepted(&[(
            &format!("GET /api/v1/pods?{on}"),
            "watch v1 pods",
            "/api/v1/pods?watch=true",
        )]);
    }
}

#[test]
fn a_name_in_the_field_selector_is_the_name_of_a_list_or_watch() {
    assert_accepted(&[
        (
            "GET /api/v1/namespaces/d/secrets?fieldSelector=metadata.name%3Ddb",
            "list v1 secrets ns=d name=db",
            "/api/v1/namespaces/d/secrets?fieldSelector=metadata.name%3Ddb",
        ),
        (
            "GET /api/v1/secrets?watch=1&fieldSelector=metadata.name==db,type=Opaque",
            "watch v1 secrets name=db",
            "/api/v1/secrets?fieldSelector=metadata.name%3D%3Ddb%2Ctype%3DOpaque&watch=true",
        ),
        (
            "GET /api/v1/secrets?fieldSelector=metadata.name!=db",
            "list v1 secrets",
            "/api/v1/secrets?fieldSelector=metadata.name%21%3Ddb",
        ),
        // No legal path segment, so kube-apiserver sees a list of everything.
        (
            "GET /api/v1/secrets?fieldSelector=metadata.name=a%2Fb",
            "list v1 secrets",
            "/api/v1/secrets?fieldSelector=metadata.name%3Da%2Fb",
        ),
        (
            "GET /api/v1/secrets?fieldSelector=metadata.name=..",
            "list v1 secrets",
            "/api/v1/secrets?fieldSelector=metadata.name%3D..",
        ),
        // requestinfo.go reads the selector for get only: a delete of a collection has no name.
        (
            "DELETE /api/v1/namespaces/d/secrets?fieldSelector=metadata.name%3Ddb",
            "deletecollection v1 secrets ns=d",
            "/api/v1/namespaces/d/secrets?fieldSelector=metadata.name%3Ddb",
        ),
        (
            "GET /api/v1/namespaces/d/secrets/x?fieldSelector=metadata.name%3Ddb",
            "get v1 secrets ns=d name=x",
            "/api/v1/namespaces/d/secrets/x",
        ),
    ]);
}

#[test]
fn the_watch_prefix_becomes_the_watch_parameter() {
    assert_accepted(&[
        (
            "GET /api/v1/watch/pods",
            "watch v1 pods",
            "/api/v1/pods?watch=true",
        ),
        (
            "GET /api/v1/%77atch/pods/",
            "watch v1 pods",
            "/api/v1/pods?watch=true",
        ),
        (
            "GET /api/v1/watch/pods?watch=1&limit=2",
            "watch v1 pods",
            "/api/v1/pods?limit=2&watch=true",
        ),
        (
            "GET /api/v1/watch/namespaces/d/pods",
            "watch v1 pods ns=d",
            "/api/v1/namespaces/d/pods?watch=true",
        ),
        (
            "GET /api/v1/watch/namespaces/d/pods/p",
            "watch v1 pods ns=d name=p",
            "/api/v1/namespaces/d/pods?fieldSelector=metadata.name%3Dp&watch=true",
        ),
        (
            "GET /api/v1/watch/namespaces/d/pods/p?fieldSelector=metadata.name=p",
            "watch v1 pods ns=d name=p",
            "/api/v1/namespaces/d/pods?fieldSelector=metadata.name%3Dp&watch=true",
        ),
        (
            "GET /api/v1/watch/namespaces/d/pods/a,b=c",
            "watch v1 pods ns=d name=a,b=c",
            "/api/v1/namespaces/d/pods?fieldSelector=metadata.name%3Da%5C%2Cb%5C%3Dc&watch=true",
        ),
        (
            "GET /api/v1/watch/namespaces",
            "watch v1 namespaces",
            "/api/v1/namespaces?watch=true",
        ),
        (
            "GET /api/v1/watch/namespaces/x",
            "watch v1 namespaces name=x",
            "/api/v1/namespaces?fieldSelector=metadata.name%3Dx&watch=true",
        ),
        (
            "GET /api/v1/namespaces/watch",
            "get v1 namespaces ns=watch name=watch",
            "/api/v1/namespaces/watch",
        ),
    ]);
}

#[test]
fn watch_prefixes_that_no_parameter_can_replace_are_refused() {
    assert_malformed(&[
        "GET /api/v1/watch",
        "GET /api/v1/watch/",
        "GET /apis/g.example/v1/watch",
        "GET /api/v1/watch/pods?watch=false",
        "GET /api/v1/watch/namespaces/d/pods/p?fieldSelector=metadata.name=q",
        "GET /api/v1/watch/namespaces/d/pods/p?fieldSelector=spec.nodeName=n",
        "GET /api/v1/watch/namespaces/d/pods/p?fieldSelector=",
        "GET /api/v1/watch/namespaces/d/pods/p/log",
        "GET /api/v1/watch/namespaces/d/status",
        // As canonical paths these would begin with a special prefix themselves.
        "GET /api/v1/watch/watch",
        "GET /api/v1/watch/watch/pods",
        "GET /api/v1/watch/proxy/pods",
    ]);
    assert_method_refused(&[
        "PUT /api/v1/watch/pods",
        "PATCH /api/v1/watch/pods/p",
        "POST /api/v1/watch/pods",
    ]);
}

#[test]
fn the_proxy_prefix_is_refused() {
    assert_malformed(&[
        "GET /api/v1/proxy",
        "GET /api/v1/proxy/nodes/n",
        "POST /apis/g.example/v1/proxy/namespaces/d/services/s",
        "GET /api/v1/%70roxy/nodes/n",
    ]);
}

#[test]
fn methods_that_no_route_takes_are_refused() {
    assert_method_refused(&[
        "POST /api/v1/namespaces/d/pods/p",
        "POST /api/v1/namespaces/x",
        // The custom resource would be created under the name in the body.
        "POST /apis/g.example/v1/namespaces/d/foos/y",
        "PUT /api/v1/namespaces/d/pods",
        "PATCH /api/v1/namespaces/d/pods",
        "PUT /api/v1/namespaces",
        "get /api/v1/pods",
        "Get /api/v1/pods",
        "HEAD /version",
        "PROPFIND /version",
        " /version",
    ]);
}

#[test]
fn streams_are_told_apart_from_short_replies() {
    for (line, streaming) in [
        ("GET /api/v1/pods", Streaming::Short),
        ("GET /version", Streaming::Short),
        ("GET /log", Streaming::Short),
        ("GET /api/v1/namespaces/d/pods/log", Streaming::Short),
        ("GET /api/v1/pods?watch=1", Streaming::Watch),
        ("GET /api/v1/watch/pods", Streaming::Watch),
        ("GET /api/v1/namespaces/d/pods/p/log", Streaming::Log),
        ("GET /api/v1/namespaces/d/pods/p/log?follow=true", Streaming::Log),
    ] {
        assert_eq!(accepted(line).streaming(), streaming, "{line}");
    }
}

#[test]
fn connect_subresources_are_understood_so_that_policy_can_refuse_them() {
    for (line, is) in [
        (
            "GET /api/v1/namespaces/d/pods/p/exec?command=sh",
            "get v1 pods/exec ns=d name=p",
        ),
        (
            "POST /api/v1/namespaces/d/pods/p/exec?command=sh",
            "create v1 pods/exec ns=d name=p",
        ),
        (
            "POST /api/v1/namespaces/d/pods/p/attach?stdin=1",
            "create v1 pods/attach ns=d name=p",
        ),
        (
            "GET /api/v1/namespaces/d/pods/p/portforward?ports=80",
            "get v1 pods/portforward ns=d name=p",
        ),
        (
            "DELETE /api/v1/namespaces/d/pods/p/proxy/x",
            "delete v1 pods/proxy ns=d name=p",
        ),
        (
            "PUT /api/v1/namespaces/d/services/s/proxy",
            "update v1 services/proxy ns=d name=s",
        ),
    ] {
        assert_eq!(describe(&accepted(line)), is, "{line}");
    }
}

#[test]
fn what_was_sent_equals_what_is_made_of_the_same_terms() {
    for (line, name) in [
        ("GET /api/v1/namespaces/shop/pods/web-0/log", "web-0"),
        ("GET /api/v1/namespaces/shop/status", "shop"),
        (
            "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system:node%3Ba",
            "system:node;a",
        ),
        ("GET /api/v1/watch/namespaces/shop/pods/web%20-0", "web -0"),
        ("GET /api/v1/pods?fieldSelector=metadata.name%3Dweb-0", "web-0"),
    ] {
        let request = accepted(line);
        let info = request.info();
        assert_eq!(info.resource().unwrap().name, name, "{line}");
        assert_eq!(*info, RequestInfo::new(info.verb, info.scope()), "{line}");
    }
    let request = accepted("GET /a%20b/c");
    let same = RequestInfo::new(Verb::Get, RequestScope::NonResource("/a b/c"));
    assert_eq!(*request.info(), same);
    assert_eq!(request.path(), "/a%20b/c");
}

#[test]
fn verbs_know_whether_they_change_anything() {
    let reads = [Verb::Get, Verb::List, Verb::Watch];
    let writes = [
        Verb::Create,
        Verb::Update,
        Verb::Patch,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Post,
        Verb::Put,
    ];
    assert!(reads.iter().all(|verb| !verb.is_mutating()));
    assert!(writes.iter().all(|verb| verb.is_mutating()));
}
