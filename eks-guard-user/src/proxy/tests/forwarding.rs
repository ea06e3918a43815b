//! What is allowed: what the API server receives, what the agent gets back, what is recorded.

use eks_guard_core::record::{Outcome, Stage};
use http::Version;

use super::{BOTH, CONFIG_MAPS, PODS, Rig, config_map, empty_list, get, only, post, request};
use crate::proxy::Limits;
use crate::testing::{Answer, FakeBody, Protocol, json};

/// Everything an agent could send to become somebody else, to be read twice, or to be upgraded.
const HOSTILE: [(&str, &str); 17] = [
    ("authorization", "Bearer stolen"),
    ("impersonate-user", "system:admin"),
    ("impersonate-group", "system:masters"),
    ("impersonate-uid", "1"),
    ("impersonate-extra-scopes", "all"),
    ("x-remote-user", "admin"),
    ("x-remote-group", "system:masters"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-http-method-override", "DELETE"),
    ("audit-id", "chosen-by-the-agent"),
    ("cookie", "a=b"),
    ("origin", "https://evil"),
    ("via", "1.1 evil"),
    ("range", "bytes=0-1"),
    ("accept-encoding", "gzip"),
    ("if-none-match", "\"1\""),
    ("kubectl-session", "1"),
];

#[tokio::test]
async fn only_listed_headers_arrive_with_the_guards_credential() {
    for downstream in BOTH {
        for upstream in BOTH {
            let rig = Rig::with(upstream, Limits::default(), empty_list).await;
            let mut headers = HOSTILE.to_vec();
            headers.push(("user-agent", "kubectl/v1.36"));
            headers.push((
                "accept",
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            ));
            let path = format!("{PODS}?limit=500&unknown=1");
            let response = rig.call(downstream, request("GET", &path, &headers, "")).await;
            assert_eq!(response.status(), 200, "{response:?}");

            let arrived = rig.api.arrived();
            assert_eq!(arrived.len(), 1);
            let arrived = &arrived[0];
            let mut names: Vec<&str> = arrived.headers.keys().map(http::HeaderName::as_str).collect();
            names.sort_unstable();
            let host: &[&str] = if upstream == Protocol::H1 { &["host"] } else { &[] };
            assert_eq!(
                names,
                [&["accept", "audit-id", "authorization"], host, &["user-agent"]].concat()
            );
            assert_eq!(arrived.target, format!("{PODS}?limit=500"));
            assert_eq!(arrived.header("authorization"), "Bearer guard-token-0");
            assert_eq!(
                arrived.header("user-agent"),
                concat!("kubectl/v1.36 eks-guard/", env!("CARGO_PKG_VERSION"))
            );
            assert!(
                arrived.header("accept").contains("as=Table"),
                "{}",
                arrived.header("accept")
            );
            assert!(arrived.body.is_empty());

            let warning = response.headers()["warning"]
                .to_str()
                .expect("warnings are ASCII");
            assert!(
                warning.starts_with("299 - \"") && warning.contains("unknown"),
                "{warning}"
            );

            let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
            let event = only(&events);
            assert_eq!(event.id, arrived.header("audit-id"));
            assert_eq!(
                (event.decision, event.verb.as_str(), event.status),
                (Outcome::Allow, "list", Some(200))
            );
            assert_eq!(
                (event.namespace.as_str(), event.resource.as_str()),
                ("default", "pods")
            );
            assert_eq!(event.bytes, Some(response.body().len() as u64));
            assert_eq!(event.user_agent_claimed.as_deref(), Some("kubectl/v1.36"));
            assert_eq!(event.original_destination.as_deref(), Some("10.0.0.1:443"));
            assert_eq!(
                event.caller.as_ref().map(|caller| caller.pid),
                Some(std::process::id())
            );
            assert_eq!(event.policy_generation, Some(1));
            assert!(
                event.rule.as_deref().is_some_and(|rule| rule.contains("work")),
                "{:?}",
                event.rule
            );
        }
    }
}

#[tokio::test]
async fn a_write_is_rebuilt_and_its_intent_is_recorded_before_it_arrives() {
    for downstream in BOTH {
        let rig = Rig::start(|_| json(&config_map("one"))).await;
        let body =
            r#"{ "metadata" : {"name":"one"}, "data":{"a":"b"} , "kind":"ConfigMap","apiVersion":"v1"}"#;
        let headers = [
            ("content-type", "application/json; charset=utf-8"),
            ("expect", "nothing"),
            ("te", "trailers"),
        ];
        let response = rig
            .call(downstream, request("POST", CONFIG_MAPS, &headers, body))
            .await;
        assert_eq!(response.status(), 200, "{response:?}");
        assert_eq!(response.body(), config_map("one").as_bytes());

        let arrived = rig.api.arrived();
        assert_eq!(arrived[0].header("content-type"), "application/json");
        assert!(arrived[0].headers.get("expect").is_none());
        assert_ne!(arrived[0].body, body.as_bytes());
        let sent: serde_json::Value = serde_json::from_slice(&arrived[0].body).expect("JSON goes upstream");
        assert_eq!(sent["metadata"]["name"], "one");

        let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
        let all = rig.recorder.events();
        assert_eq!(all.len(), 2, "{all:#?}");
        let (intent, outcome) = (&all[0], &events[0]);
        assert_eq!((intent.stage, intent.decision), (Stage::Intent, Outcome::Allow));
        assert_eq!((intent.status, intent.name.as_str()), (None, "one"));
        assert_eq!(
            (&intent.id, &intent.verb, &intent.rule),
            (&outcome.id, &outcome.verb, &outcome.rule)
        );
        assert_eq!(intent.id, arrived[0].header("audit-id"));
    }
}

#[tokio::test]
async fn the_intent_stands_when_the_request_arrives() {
    let rig = Rig::start(|_| Answer::Never).await;
    let mut client = rig.client(Protocol::H2).await;
    let call = client.send(post(CONFIG_MAPS, &config_map("one")));
    tokio::select! {
        _ = call => panic!("nothing answers"),
        _ = rig.api.wait_for(1) => {}
    }
    assert_eq!(only(&rig.recorder.events()).stage, Stage::Intent);
    // The call was dropped above: the agent went away, and that is the outcome.
    let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
    assert_eq!(
        (only(&events).status, only(&events).decision),
        (None, Outcome::Allow)
    );
}

#[tokio::test]
async fn reply_headers_pass_by_name_and_trailers_stay_behind() {
    for downstream in BOTH {
        let rig = Rig::start(|_| {
            let mut response = http::Response::new(FakeBody::Whole(Some(bytes::Bytes::from_static(b"{}"))));
            for (name, value) in [
                ("content-type", "application/json"),
                ("warning", "299 - \"deprecated\""),
                ("cache-control", "no-cache, private"),
                ("audit-id", "from-upstream"),
                ("x-kubernetes-pf-flowschema-uid", "1"),
                ("set-cookie", "a=b"),
                ("location", "https://elsewhere"),
                ("www-authenticate", "Basic"),
                ("server", "x"),
            ] {
                response
                    .headers_mut()
                    .append(name, http::HeaderValue::from_static(value));
            }
            Answer::Reply(response)
        })
        .await;
        let response = rig.call(downstream, get(PODS)).await;
        let mut names: Vec<&str> = response.headers().keys().map(http::HeaderName::as_str).collect();
        names.retain(|name| *name != "content-length" && *name != "transfer-encoding");
        names.sort_unstable();
        let passed = [
            "audit-id",
            "cache-control",
            "content-type",
            "date",
            "warning",
            "x-kubernetes-pf-flowschema-uid",
        ];
        assert_eq!(names, passed);
    }
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    for downstream in BOTH {
        for upstream in BOTH {
            let rig = Rig::with(upstream, Limits::default(), empty_list).await;
            let mut client = rig.client(downstream).await;
            for _ in 0..20 {
                assert_eq!(client.call(get(PODS)).await.status(), 200);
                assert_eq!(
                    client.call(post(CONFIG_MAPS, &config_map("one"))).await.status(),
                    200
                );
            }
            assert_eq!(rig.api.connections(), 1, "{downstream:?} {upstream:?}");
            let expected = if upstream == Protocol::H2 {
                Version::HTTP_2
            } else {
                Version::HTTP_11
            };
            assert!(
                rig.api
                    .arrived()
                    .iter()
                    .all(|arrived| arrived.version == expected)
            );
        }
    }
}
