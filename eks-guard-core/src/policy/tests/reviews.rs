//! What an agent is told of its rights: never more than both authorities allow, and never the guard's own role.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::discovery::Discovery;
use crate::policy::tests::{principal, request, snapshot};
use crate::policy::{Asker, Facts, Review, ReviewError, Snapshot};
use crate::principal::{PodIdentity, Principal};

const SERVED: &str = r#"{"kind":"APIGroupDiscoveryList","items":[
  {"versions":[{"version":"v1","resources":[
    {"resource":"pods","scope":"Namespaced","verbs":["get","list","create","delete"],"subresources":[
      {"subresource":"log","verbs":["get"]},{"subresource":"exec","verbs":["create"]}]},
    {"resource":"configmaps","scope":"Namespaced","verbs":["get","list","create"]},
    {"resource":"secrets","scope":"Namespaced","verbs":["get","list"]},
    {"resource":"nodes","scope":"Cluster","verbs":["get","list"]}]}]},
  {"metadata":{"name":"example.com"},"versions":[{"version":"v1","resources":[
    {"resource":"widgets","scope":"Cluster","verbs":["get","list"]}]}]}]}"#;

const READ: &str = r#"name: read, effect: allow, verbs: [get, list], apiGroups: [""], resources: [pods, pods/log, secrets], namespaces: [shop]"#;
const EVERYWHERE: &str =
    r#"name: all, effect: allow, verbs: ["*"], apiGroups: ["*"], resources: ["*", "*/*"], namespaces: ["*"]"#;
const ONE: &str = r#"name: one, effect: allow, verbs: [get], apiGroups: [""], resources: [configmaps], namespaces: [shop], resourceNames: [db]"#;
const METRICS: &str = "name: metrics, effect: allow, verbs: [get], nonResourceURLs: [/metrics, /logs/*]";

fn ask(
    snapshot: &Snapshot,
    principal: &Principal,
    review: Review,
    served: &Discovery,
    answer: &Value,
) -> Result<Vec<u8>, ReviewError> {
    let asker = Asker {
        snapshot,
        principal,
        facts: &Facts::at(SystemTime::UNIX_EPOCH),
    };
    asker.answer(review, served, answer.to_string().as_bytes())
}

fn answer(snapshot: &Snapshot, review: Review, answer: &Value) -> Value {
    let served = Discovery::read([SERVED.as_bytes()]).unwrap();
    let answer = ask(snapshot, &principal("a"), review, &served, answer).unwrap();
    serde_json::from_slice(&answer).unwrap()
}

/// Answer and reason to one question, when the cluster itself says yes or no.
fn may(snapshot: &Snapshot, cluster: bool, asked: &Value) -> (bool, String) {
    let key = if asked.get("path").is_some() {
        "nonResourceAttributes"
    } else {
        "resourceAttributes"
    };
    let reply = json!({
        "spec": {key: asked},
        "status": {"allowed": cluster, "reason": "RBAC: allowed by ClusterRoleBinding \"guard\""},
    });
    let reply = answer(snapshot, Review::Access, &reply);
    let reason = reply["status"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(!reason.contains("RBAC"), "{reason}");
    (reply["status"]["allowed"].as_bool().unwrap(), reason)
}

#[test]
fn both_authorities_have_to_say_yes() {
    let snapshot = snapshot(&[READ, ONE, METRICS]);
    let rows = [
        (
            json!({"verb": "get", "resource": "pods", "namespace": "shop"}),
            true,
        ),
        (
            json!({"verb": "get", "resource": "pods", "subresource": "log", "namespace": "shop", "name": "w"}),
            true,
        ),
        (
            json!({"verb": "delete", "resource": "pods", "namespace": "shop"}),
            false,
        ),
        (
            json!({"verb": "get", "resource": "pods", "namespace": "prod"}),
            false,
        ),
        (json!({"verb": "get", "resource": "pods"}), false),
        (
            json!({"verb": "*", "resource": "pods", "namespace": "shop"}),
            false,
        ),
        (
            json!({"verb": "get", "resource": "*", "namespace": "shop"}),
            false,
        ),
        (
            json!({"verb": "get", "group": "*", "resource": "pods", "namespace": "shop"}),
            false,
        ),
        (
            json!({"verb": "create", "resource": "pods", "subresource": "exec", "namespace": "shop"}),
            false,
        ),
        (
            json!({"verb": "get", "resource": "secrets", "namespace": "shop"}),
            false,
        ),
        (
            json!({"verb": "get", "resource": "configmaps", "namespace": "shop"}),
            false,
        ),
        (
            json!({"verb": "get", "resource": "configmaps", "namespace": "shop", "name": "db"}),
            true,
        ),
        (
            json!({"verb": "get", "resource": "configmaps", "namespace": "shop", "name": "other"}),
            false,
        ),
        (json!({"verb": "impersonate", "resource": "users"}), false),
        (json!({"verb": "get", "path": "/metrics"}), true),
        (json!({"verb": "get", "path": "/logs/a"}), true),
        (json!({"verb": "get", "path": "/version"}), true),
        (json!({"verb": "post", "path": "/metrics"}), false),
        (json!({"verb": "get", "path": "/debug"}), false),
    ];
    for (asked, wanted) in rows {
        let (allowed, reason) = may(&snapshot, true, &asked);
        assert_eq!(allowed, wanted, "{asked}: {reason}");
        assert!(!may(&snapshot, false, &asked).0, "{asked}");
    }
}

#[test]
fn a_refusal_says_what_a_request_would_be_told() {
    let snapshot = snapshot(&[READ]);
    let (_, reason) = may(
        &snapshot,
        true,
        &json!({"verb": "delete", "resource": "pods", "namespace": "shop"}),
    );
    assert!(reason.contains("no rule allows it"), "{reason}");
    let (_, reason) = may(
        &snapshot,
        false,
        &json!({"verb": "get", "resource": "pods", "namespace": "shop"}),
    );
    assert!(reason.contains("the cluster's own authorization"), "{reason}");
}

#[test]
fn no_namespace_is_all_of_them_but_for_what_is_in_none() {
    let snapshot = snapshot(&[EVERYWHERE]);
    for asked in [
        json!({"verb": "list", "resource": "nodes"}),
        json!({"verb": "get", "resource": "widgets", "group": "example.com"}),
        json!({"verb": "list", "resource": "pods"}),
        json!({"verb": "get", "resource": "pods"}),
        // Not served: taken for what it could be.
        json!({"verb": "get", "resource": "gadgets", "group": "example.com"}),
    ] {
        assert!(may(&snapshot, true, &asked).0, "{asked}");
    }
    // Writes that reach all namespaces reach the guard's own.
    assert!(!may(&snapshot, true, &json!({"verb": "delete", "resource": "pods"})).0);
}

#[test]
fn rules_are_what_is_left_of_the_clusters() {
    let snapshot = snapshot(&[READ, ONE, METRICS]);
    let reply = json!({
        "spec": {"namespace": "shop"},
        "status": {
            "resourceRules": [
                {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
                {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"]}],
            "nonResourceRules": [
                {"verbs": ["get", "head"], "nonResourceURLs": ["/logs/api/*", "/metrics", "/debug"]},
                {"verbs": ["*"], "nonResourceURLs": ["/m*"]}],
            "incomplete": false,
        },
    });
    let status = &answer(&snapshot, Review::Rules, &reply)["status"];
    assert_eq!(
        status["resourceRules"],
        json!([
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]},
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["db"]},
        ])
    );
    assert_eq!(
        status["nonResourceRules"],
        json!([{"verbs": ["get"], "nonResourceURLs": ["/logs/api/*", "/metrics"]}])
    );
    assert_eq!(status["incomplete"], false);
}

#[test]
fn rules_of_the_cluster_bound_those_of_the_guard() {
    let snapshot = snapshot(&[
        EVERYWHERE,
        "name: shut, effect: deny, verbs: [get], nonResourceURLs: [/healthz/etcd]",
    ]);
    let reply = json!({
        "spec": {"namespace": "shop"},
        "status": {
            "resourceRules": [
                {"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "*/log", "secrets"], "resourceNames": ["web"]},
                {"verbs": ["list"], "apiGroups": ["example.com"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/healthz/*", "/livez*"]}],
            "incomplete": true,
        },
    });
    let status = &answer(&snapshot, Review::Rules, &reply)["status"];
    assert_eq!(
        status["resourceRules"],
        json!([
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log"], "resourceNames": ["web"]},
            {"verbs": ["list"], "apiGroups": ["example.com"], "resources": ["widgets"]},
        ])
    );
    assert_eq!(
        status["nonResourceRules"],
        json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez", "/livez/*"]}])
    );
    assert_eq!(status["incomplete"], true);
}

#[test]
fn an_agent_is_itself_and_not_the_guard() {
    let reply = json!({"kind": "SelfSubjectReview", "status": {"userInfo": {"username": "guard", "groups": ["system:masters"]}}});
    let served = Discovery::default();
    let who = Principal {
        pod: Some(PodIdentity {
            namespace: "shop".into(),
            name: "web-0".into(),
            uid: "u-1".into(),
            service_account: "bot".into(),
            node: "n".into(),
        }),
        ..principal("a")
    };
    let answer = ask(&snapshot(&[READ]), &who, Review::Subject, &served, &reply).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let user = &answer["status"]["userInfo"];
    assert_eq!(
        (&user["username"], &user["uid"]),
        (&json!("eks-guard:a"), &json!("u-1"))
    );
    assert_eq!(user["groups"], json!(["eks-guard:agents"]));
    assert_eq!(
        user["extra"]["eks-guard.dev/service-account"],
        json!(["shop/bot"])
    );
    assert!(!answer.to_string().contains("masters"));
}

#[test]
fn what_is_no_answer_is_not_passed_on() {
    let snapshot = snapshot(&[EVERYWHERE]);
    let rows = [
        (Review::Access, json!([]), "status"),
        (Review::Access, json!({"status": {"allowed": true}}), "question"),
        (
            Review::Access,
            json!({"status": {"allowed": true}, "spec": {"resourceAttributes": {}, "nonResourceAttributes": {}}}),
            "single question",
        ),
        (Review::Rules, json!({"spec": {}}), "status"),
        (Review::Subject, json!("guard"), "kind"),
        (
            Review::Subject,
            json!({"kind": "Table", "rows": [{"object": {"status": {"userInfo": {"username": "guard"}}}}]}),
            "kind",
        ),
    ];
    for (review, reply, missing) in rows {
        let answer = ask(&snapshot, &principal("a"), review, &Discovery::default(), &reply);
        assert_eq!(answer, Err(ReviewError(missing)), "{reply}");
    }
}

#[test]
fn only_the_three_questions_about_oneself_are_answered() {
    let of = |line: &str| Review::of(request(line).info());
    let (authz, authn) = ("/apis/authorization.k8s.io/v1", "/apis/authentication.k8s.io/v1");
    assert_eq!(
        of(&format!("POST {authz}/selfsubjectaccessreviews")),
        Some(Review::Access)
    );
    assert_eq!(
        of(&format!("POST {authz}/selfsubjectrulesreviews")),
        Some(Review::Rules)
    );
    assert_eq!(
        of(&format!("POST {authn}/selfsubjectreviews")),
        Some(Review::Subject)
    );
    assert_eq!(of(&format!("POST {authz}/subjectaccessreviews")), None);
    assert_eq!(of(&format!("POST {authn}/tokenreviews")), None);
    assert_eq!(of("GET /version"), None);
}
