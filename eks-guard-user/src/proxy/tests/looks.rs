//! Looks at objects: what is asked, what goes upstream after it, and what an API server that misbehaves brings about.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eks_guard_core::policy::{Snapshot, read_policies};
use eks_guard_core::record::{Outcome, Stage};
use http::Response;
use serde_json::Value;

use crate::proxy::Limits;
use crate::proxy::tests::{BOTH, Rig, config_map, only, refusal, request};
use crate::testing::{Answer, Arrived, FakeBody, Protocol, json, status};

const OBJECT: &str = "/api/v1/namespaces/default/configmaps/a";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const PATCH: &str = r#"{"data":{"a":"b"}}"#;

/// ConfigMaps whose size stays small, unless they are sealed.
const RULES: &str = r#"
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: test}
spec:
  subjects: {agents: ["*"]}
  rules:
    - name: small
      effect: allow
      verbs: [create, update, patch, delete]
      apiGroups: ["", example.com]
      resources: [configmaps, widgets]
      namespaces: ["*"]
      conditions: [{name: small, expression: "object == null || object.data.size == 'small'"}]
    - name: sealed
      effect: deny
      verbs: ["*"]
      apiGroups: ["", example.com]
      resources: [configmaps, widgets]
      conditions: [{name: sealed, expression: "oldObject != null && has(oldObject.data.sealed)"}]
"#;

fn stored(version: &str, data: &str) -> String {
    format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"a","namespace":"default","uid":"u-1","resourceVersion":"{version}"}},"data":{data}}}"#
    )
}

const SMALL: &str = r#"{"size":"small"}"#;
const LARGE: &str = r#"{"size":"large"}"#;
const SEALED: &str = r#"{"size":"small","sealed":"yes"}"#;

fn is_dry(arrived: &Arrived) -> bool {
    arrived.target.contains("dryRun=All")
}

fn is_own(arrived: &Arrived) -> bool {
    arrived.header("user-agent").ends_with("(on its own behalf)")
}

/// A guard under these rules, and an API server that answers looks and rehearsals as told, and everything else.
async fn rig(handler: impl Fn(&Arrived) -> Answer + Send + Sync + 'static) -> Rig {
    limited(Limits::default(), handler).await
}

async fn limited(limits: Limits, handler: impl Fn(&Arrived) -> Answer + Send + Sync + 'static) -> Rig {
    let rig = Rig::with(Protocol::H2, limits, handler).await;
    let policies = read_policies("p.yaml", RULES).unwrap();
    rig.proxy
        .snapshot
        .store(Arc::new(Snapshot::compile(&policies, 2).unwrap()));
    rig
}

fn patch(content_type: &str, body: &str) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let path = if content_type == APPLY {
        format!("{OBJECT}?fieldManager=m")
    } else {
        OBJECT.to_owned()
    };
    request("PATCH", &path, &[("content-type", content_type)], body)
}

/// What agents made happen: requests that are not the guard's own.
fn carried_out(rig: &Rig) -> Vec<Arrived> {
    let arrived = rig.api.arrived();
    let (own, rest): (Vec<_>, Vec<_>) = arrived.into_iter().partition(is_own);
    assert!(
        own.iter().all(|it| it.method == "GET" || is_dry(it)),
        "the guard changes nothing by itself: {own:#?}"
    );
    rest
}

#[tokio::test]
async fn what_is_allowed_goes_out_held_to_what_was_seen() {
    for protocol in BOTH {
        let rig = rig(|arrived| match (arrived.method.as_str(), is_dry(arrived)) {
            ("GET", _) => json(&stored("7", LARGE)),
            (_, true) => json(&stored("7", SMALL)),
            _ => json("{}"),
        })
        .await;
        let response = rig.call(protocol, patch(MERGE, PATCH)).await;
        assert_eq!(response.status(), 200);
        let arrived = rig.api.arrived();
        let pinned = r#"{"data":{"a":"b"},"metadata":{"resourceVersion":"7","uid":"u-1"}}"#;
        let seen: Vec<_> = arrived
            .iter()
            .map(|it| {
                (
                    it.method.as_str(),
                    it.target.as_str(),
                    it.body.as_ref(),
                    is_own(it),
                )
            })
            .collect();
        let dry = format!("{OBJECT}?dryRun=All");
        assert_eq!(
            seen,
            [
                ("GET", OBJECT, &b""[..], true),
                ("PATCH", &dry, pinned.as_bytes(), true),
                ("PATCH", OBJECT, pinned.as_bytes(), false),
            ]
        );
        assert!(arrived[..2].iter().all(|it| it.header("audit-id").is_empty()));
        let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
        let event = only(&events);
        assert_eq!(
            (event.decision, event.rule.as_deref()),
            (Outcome::Allow, Some("test/small"))
        );
        let seen = event.decided_on.as_ref().unwrap();
        assert_eq!((seen.uid.as_str(), seen.resource_version.as_str()), ("u-1", "7"));
    }
}

#[tokio::test]
async fn a_delete_is_held_to_what_was_seen_and_rehearses_nothing() {
    let rig = rig(|arrived| match arrived.method.as_str() {
        "GET" => json(&stored("7", SMALL)),
        _ => json("{}"),
    })
    .await;
    let response = rig.call(Protocol::H2, request("DELETE", OBJECT, &[], "")).await;
    assert_eq!(response.status(), 200);
    let arrived = rig.api.arrived();
    assert_eq!(arrived.len(), 2, "{arrived:#?}");
    let body: Value = serde_json::from_slice(&arrived[1].body).unwrap();
    assert_eq!(
        body["preconditions"],
        serde_json::json!({"uid": "u-1", "resourceVersion": "7"})
    );
}

#[tokio::test]
async fn what_the_objects_speak_against_is_refused_and_not_tried() {
    // What is stored, what it would become, the rule, and how many questions it takes.
    for (old, new, rule, asked) in [(SMALL, LARGE, None, 2), (SEALED, SMALL, Some("test/sealed"), 1)] {
        let rig = rig(move |arrived| json(&stored("7", if is_dry(arrived) { new } else { old }))).await;
        for call in [
            patch(MERGE, PATCH),
            patch(APPLY, PATCH),
            request("PUT", OBJECT, &[], &config_map("a")),
        ] {
            let before = rig.api.arrived().len();
            let refused = rig.call(Protocol::H2, call).await;
            let (code, reason, facts, _) = refusal(&refused);
            let wanted = rule.map_or("NoRuleAllows", |_| "DeniedByRule");
            assert_eq!((code, reason.as_str()), (403, wanted), "{old} {new}");
            assert_eq!(facts.get("rule").map(String::as_str), rule);
            assert_eq!(rig.api.arrived().len() - before, asked);
        }
        assert!(carried_out(&rig).is_empty());
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found_or_held_to_its_absence() {
    let rig = rig(|arrived| match (arrived.method.as_str(), is_dry(arrived)) {
        ("GET", _) => status(404, "application/json", r#"{"kind":"Status","code":404}"#),
        (_, true) => status(201, "application/json", &stored("", SMALL)),
        _ => json("{}"),
    })
    .await;
    for call in [patch(MERGE, PATCH), request("DELETE", OBJECT, &[], "")] {
        let refused = rig.call(Protocol::H2, call).await;
        let (code, reason, _, status) = refusal(&refused);
        assert_eq!((code, reason.as_str()), (404, "ObjectNotFound"));
        assert_eq!(status["reason"], "NotFound");
    }
    assert!(carried_out(&rig).is_empty());
    assert_eq!(rig.call(Protocol::H2, patch(APPLY, PATCH)).await.status(), 200);
    let body: Value = serde_json::from_slice(&carried_out(&rig)[0].body).unwrap();
    assert_eq!(body["metadata"], serde_json::json!({"resourceVersion": "1"}));
}

#[tokio::test]
async fn an_object_that_changed_is_looked_at_again_and_not_for_ever() {
    // The object changes `changes` times, each time before the agent's request arrives.
    for (changes, code, attempts) in [(0, 200, 1), (2, 200, 3), (3, 200, 4), (9, 409, 4)] {
        let version = AtomicUsize::new(0);
        let rig = rig(move |arrived| {
            let now = version.load(Ordering::SeqCst);
            match (arrived.method.as_str(), is_dry(arrived)) {
                ("GET", _) => json(&stored(&format!("{}", 100 + now), SMALL)),
                (_, true) => json(&stored("", SMALL)),
                _ if now < changes => {
                    version.fetch_add(1, Ordering::SeqCst);
                    status(409, "application/json", r#"{"kind":"Status","code":409}"#)
                }
                _ => json("{}"),
            }
        })
        .await;
        let response = rig.call(Protocol::H2, patch(MERGE, PATCH)).await;
        assert_eq!(response.status(), code, "{changes} changes");
        let carried_out = carried_out(&rig);
        assert_eq!(carried_out.len(), attempts);
        let last: Value = serde_json::from_slice(&carried_out[attempts - 1].body).unwrap();
        assert_eq!(
            last["metadata"]["resourceVersion"],
            format!("{}", 100 + changes.min(3))
        );
        let intents = rig.recorder.wait_for(Stage::Intent, attempts).await;
        assert_eq!(intents.len(), attempts);
        assert!(intents.iter().all(|it| it.id == intents[0].id));
    }
}

#[tokio::test]
async fn a_change_that_a_rule_speaks_against_ends_the_tries() {
    let looks = AtomicUsize::new(0);
    let rig = rig(move |arrived| match (arrived.method.as_str(), is_dry(arrived)) {
        ("GET", _) => match looks.fetch_add(1, Ordering::SeqCst) {
            0 => json(&stored("7", SMALL)),
            _ => json(&stored("8", SEALED)),
        },
        (_, true) => json(&stored("", SMALL)),
        _ => status(409, "application/json", r#"{"kind":"Status","code":409}"#),
    })
    .await;
    let refused = rig.call(Protocol::H2, patch(MERGE, PATCH)).await;
    let (code, reason, ..) = refusal(&refused);
    assert_eq!((code, reason.as_str()), (403, "DeniedByRule"));
    assert_eq!(carried_out(&rig).len(), 1);
    let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
    let event = only(&events);
    assert_eq!(
        (event.decision, event.rule.as_deref()),
        (Outcome::Refuse, Some("test/sealed"))
    );
}

#[tokio::test]
async fn a_conflict_of_another_kind_passes_as_it_is() {
    let rig = rig(|arrived| match (arrived.method.as_str(), is_dry(arrived)) {
        ("GET", _) => json(&stored("7", SMALL)),
        (_, true) => json(&stored("", SMALL)),
        _ => status(
            409,
            "application/json",
            r#"{"kind":"Status","code":409,"message":"other"}"#,
        ),
    })
    .await;
    let response = rig.call(Protocol::H2, patch(MERGE, PATCH)).await;
    assert_eq!(response.status(), 409);
    assert!(response.body().ends_with(br#""message":"other"}"#));
    assert_eq!(carried_out(&rig).len(), 1);
}

#[tokio::test]
async fn another_version_than_the_stored_one_is_a_conflict_at_once() {
    let rig = rig(|_| json(&stored("7", SMALL))).await;
    for version in ["6", "8"] {
        let body = format!(r#"{{"metadata":{{"resourceVersion":"{version}"}},"data":{{"a":"b"}}}}"#);
        let refused = rig.call(Protocol::H2, patch(MERGE, &body)).await;
        let (code, reason, _, status) = refusal(&refused);
        assert_eq!((code, reason.as_str()), (409, "ObjectChanged"));
        assert_eq!(status["reason"], "Conflict");
    }
    assert!(carried_out(&rig).is_empty());
}

/// An answer to a look, or to a rehearsal, and what the agent is told then.
type Misbehaviour = (fn() -> Answer, u16, &'static str);

#[tokio::test]
async fn an_answer_that_is_none_is_a_refusal() {
    let to_looks: [Misbehaviour; 9] = [
        (|| status(403, "application/json", "{}"), 403, "ObjectUnknown"),
        (|| status(400, "application/json", "{}"), 403, "ObjectUnknown"),
        (
            || status(503, "application/json", "{}"),
            502,
            "UpstreamUnreachable",
        ),
        (|| status(429, "application/json", "{}"), 429, "Overloaded"),
        (|| status(302, "application/json", "{}"), 502, "UpstreamReply"),
        (|| status(200, "text/plain", "hello"), 502, "UpstreamReply"),
        (|| json("[]"), 502, "UpstreamReply"),
        (|| json(r#"{"metadata":{}}"#), 403, "ObjectUnknown"),
        (|| json(&"x".repeat(4 << 20)), 502, "UpstreamReply"),
    ];
    for (answer, code, wanted) in to_looks {
        let rig = rig(move |_| answer()).await;
        for call in [patch(MERGE, PATCH), request("DELETE", OBJECT, &[], "")] {
            let refused = rig.call(Protocol::H2, call).await;
            let (status, reason, ..) = refusal(&refused);
            assert_eq!((status, reason.as_str()), (code, wanted));
        }
        assert!(carried_out(&rig).is_empty());
    }
    let to_rehearsals: [Misbehaviour; 8] = [
        (|| status(403, "application/json", "{}"), 403, "ObjectUnknown"),
        (|| status(400, "application/json", "{}"), 422, "ChangeRejected"),
        (|| status(422, "text/plain", "no"), 422, "ChangeRejected"),
        (
            || status(500, "application/json", "{}"),
            502,
            "UpstreamUnreachable",
        ),
        (|| status(307, "application/json", "{}"), 502, "UpstreamReply"),
        (|| json("nothing"), 502, "UpstreamReply"),
        (|| status(409, "application/json", "{}"), 409, "ObjectChanged"),
        (|| json(&"x".repeat(4 << 20)), 502, "UpstreamReply"),
    ];
    for (answer, code, wanted) in to_rehearsals {
        let rig = rig(move |arrived| match arrived.method.as_str() {
            "GET" => json(&stored("7", SMALL)),
            _ => answer(),
        })
        .await;
        let refused = rig.call(Protocol::H2, patch(MERGE, PATCH)).await;
        let (status, reason, ..) = refusal(&refused);
        assert_eq!((status, reason.as_str()), (code, wanted));
        assert!(carried_out(&rig).is_empty());
    }
}

#[tokio::test]
async fn what_the_api_server_says_of_values_stays_with_the_guard() {
    let rig = rig(|arrived| match arrived.method.as_str() {
        "GET" => json(&stored("7", SMALL)),
        _ => status(
            422,
            "application/json",
            r#"{"kind":"Status","reason":"Invalid","message":"Invalid value: hunter2","details":{"causes":[
                {"reason":"FieldValueInvalid","message":"Invalid value: hunter2","field":"data.a"}]}}"#,
        ),
    })
    .await;
    let refused = rig.call(Protocol::H2, patch(MERGE, PATCH)).await;
    let text = String::from_utf8(refused.body().to_vec()).unwrap();
    assert!(
        text.contains("data.a FieldValueInvalid") && !text.contains("hunter2"),
        "{text}"
    );
}

#[tokio::test]
async fn a_look_without_end_is_not_waited_for() {
    let (pieces, body) = FakeBody::pieces();
    let body = std::sync::Mutex::new(Some(body));
    let limits = Limits {
        look: Duration::from_millis(300),
        looks: 1,
        ..Limits::default()
    };
    let rig = limited(limits, move |_| {
        let Some(body) = body.lock().expect("no test panics with it").take() else {
            return Answer::Never;
        };
        let mut response = Response::new(body);
        let json = "application/json".parse().expect("a header's value");
        response.headers_mut().insert("content-type", json);
        Answer::Reply(response)
    })
    .await;
    // The first answer has no end, the second no beginning.
    for _ in 0..2 {
        let refused = rig.call(Protocol::H2, patch(MERGE, PATCH)).await;
        let (code, reason, ..) = refusal(&refused);
        assert_eq!((code, reason.as_str()), (502, "UpstreamUnreachable"));
    }
    // Who has to wait for its turn as long is told to come again.
    let (first, second) = (rig.client(Protocol::H2).await, rig.client(Protocol::H2).await);
    let calls = [first, second].map(|mut client| async move {
        let refused = client.call(patch(MERGE, PATCH)).await;
        refusal(&refused).0
    });
    let [first, second] = calls;
    let (first, second) = tokio::join!(first, second);
    assert!(
        [first, second].iter().all(|code| [429, 502].contains(code)),
        "{first} {second}"
    );
    assert!(carried_out(&rig).is_empty());
    drop(pieces);
}

#[tokio::test]
async fn a_server_behind_the_api_server_is_sent_no_rehearsal() {
    const WIDGET: &str = "/apis/example.com/v1/namespaces/default/widgets/a";
    let served = r#"{"kind":"APIGroupDiscoveryList","items":[{"metadata":{"name":"example.com"},"versions":[
        {"version":"v1","resources":[{"resource":"widgets","scope":"Namespaced","verbs":["patch"]}]}]}]}"#;
    for (service, code) in [("null", 200), (r#"{"name":"s","namespace":"n"}"#, 403)] {
        let rig = rig(move |arrived| match (arrived.method.as_str(), is_dry(arrived)) {
            ("GET", _) if arrived.target == "/apis/apiregistration.k8s.io/v1/apiservices/v1.example.com" => {
                json(&format!(
                    r#"{{"kind":"APIService","metadata":{{"name":"v1.example.com"}},"spec":{{"service":{service}}}}}"#
                ))
            }
            ("GET", _) => json(&stored("7", SMALL)),
            (_, true) => json(&stored("", SMALL)),
            _ => json("{}"),
        })
        .await;
        let served = eks_guard_core::discovery::Discovery::read([served.as_bytes()]).unwrap();
        rig.proxy.served.learn(served);
        let call = request("PATCH", WIDGET, &[("content-type", MERGE)], PATCH);
        assert_eq!(rig.call(Protocol::H2, call).await.status(), code);
        assert_eq!(rig.api.arrived().iter().any(is_dry), code == 200);
    }
}

#[tokio::test]
async fn observing_policies_are_asked_again_about_what_was_seen() {
    let observing = r#"apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: try}
spec:
  subjects: {agents: ["*"]}
  mode: Observe
  rules:
    - name: no-x
      effect: deny
      verbs: [patch]
      apiGroups: [""]
      resources: [configmaps]
      conditions: [{name: x, expression: "has(oldObject.data.x)"}]
"#;
    for (data, observed) in [
        (SMALL, None),
        (r#"{"size":"small","x":"y"}"#, Some("DeniedByRule")),
    ] {
        let rig = rig(move |_| json(&stored("7", data))).await;
        let mut policies = read_policies("p.yaml", RULES).unwrap();
        policies.extend(read_policies("try.yaml", observing).unwrap());
        rig.proxy
            .snapshot
            .store(Arc::new(Snapshot::compile(&policies, 2).unwrap()));
        assert_eq!(rig.call(Protocol::H2, patch(MERGE, PATCH)).await.status(), 200);
        let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
        let reason = only(&events).observed.as_ref().map(|it| it.reason.clone());
        assert_eq!(reason, observed.map(|it| Some(it.to_owned())));
    }
}
