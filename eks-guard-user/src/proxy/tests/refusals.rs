//! Every refusal: the right Status, a record, and nothing upstream.

use std::sync::Arc;
use std::time::Duration;

use eks_guard_core::policy::{Snapshot, read_policies};
use eks_guard_core::reason::Reason;
use eks_guard_core::record::{Outcome, Stage};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{BOTH, CONFIG_MAPS, PODS, Rig, config_map, empty_list, get, only, post, refusal, request};
use crate::proxy::Limits;
use crate::testing::{Answer, Client, Protocol, eventually, json};

struct Case {
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    code: u16,
    reason: &'static str,
}

const fn case(method: &'static str, path: &'static str, code: u16, reason: &'static str) -> Case {
    Case {
        method,
        path,
        headers: &[],
        body: "",
        code,
        reason,
    }
}

const fn with(
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    code: u16,
    reason: &'static str,
) -> Case {
    Case {
        method: "GET",
        path,
        headers,
        body: "",
        code,
        reason,
    }
}

const fn body(
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    code: u16,
    reason: &'static str,
) -> Case {
    Case {
        method,
        path,
        headers,
        body,
        code,
        reason,
    }
}

const UPGRADE: &[(&str, &str)] = &[(
    "sec-websocket-protocol",
    "base64url.bearer.authorization.k8s.io.dG9rZW4",
)];

const CASES: &[Case] = &[
    case("GET", "/api/v1/nodes", 403, "NoRuleAllows"),
    case("DELETE", "/api/v1/namespaces/default", 403, "DeniedByRule"),
    case(
        "GET",
        "/api/v1/namespaces/default/secrets/db",
        403,
        "MaskingRequired",
    ),
    case(
        "POST",
        "/api/v1/namespaces/default/pods/a/exec?command=sh",
        403,
        "ConnectRefused",
    ),
    with(
        "/api/v1/namespaces/default/pods/a/exec?command=sh",
        UPGRADE,
        403,
        "ConnectRefused",
    ),
    case(
        "GET",
        "/api/v1/namespaces/default%2Fsecrets",
        400,
        "RequestMalformed",
    ),
    case("GET", "/api/v1/namespaces//pods", 400, "RequestMalformed"),
    case(
        "GET",
        "/api/v1/namespaces/default/pods?watch=false&watch=true",
        400,
        "RequestMalformed",
    ),
    case(
        "OPTIONS",
        "/api/v1/namespaces/default/pods",
        405,
        "MethodNotAllowed",
    ),
    case("HEAD", "/api/v1/namespaces/default/pods", 405, "MethodNotAllowed"),
    with(
        "/api/v1/namespaces/default/pods?watch=true",
        UPGRADE,
        400,
        "RequestMalformed",
    ),
    with(
        PODS,
        &[("accept", "application/json"), ("accept", "*/*")],
        400,
        "RequestMalformed",
    ),
    with(
        PODS,
        &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
        400,
        "RequestMalformed",
    ),
    with(
        PODS,
        &[("content-type", "a/b"), ("content-type", "c/d")],
        400,
        "RequestMalformed",
    ),
    with(PODS, &[("content-encoding", "gzip")], 415, "UnsupportedMediaType"),
    with(PODS, &[("accept", "application/xml")], 406, "NotAcceptable"),
    with(PODS, &[("host", "evil.example")], 400, "RequestMalformed"),
    with(
        "https://evil.example/api/v1/namespaces/default/pods",
        &[],
        400,
        "RequestMalformed",
    ),
    body("GET", PODS, &[], "{}", 400, "BodyMalformed"),
    body(
        "POST",
        CONFIG_MAPS,
        &[],
        r#"{"metadata":{},"metadata":{}}"#,
        400,
        "BodyMalformed",
    ),
    body(
        "POST",
        CONFIG_MAPS,
        &[("content-type", "application/cbor")],
        "{}",
        415,
        "UnsupportedMediaType",
    ),
];

#[tokio::test]
async fn a_refusal_is_a_status_with_a_record_and_nothing_upstream() {
    let rig = Rig::start(empty_list).await;
    let mut recorded = 0;
    for protocol in BOTH {
        for case in CASES {
            let what = format!("{protocol:?} {} {} {:?}", case.method, case.path, case.headers);
            let response = rig
                .call(protocol, request(case.method, case.path, case.headers, case.body))
                .await;
            recorded += 1;
            let events = rig.recorder.wait_for(Stage::Outcome, recorded).await;
            let event = &events[recorded - 1];
            assert_eq!(
                (event.decision, event.status),
                (Outcome::Refuse, Some(case.code)),
                "{what}"
            );
            assert_eq!(event.reason.as_deref(), Some(case.reason), "{what}");
            assert_eq!(response.status().as_u16(), case.code, "{what}: {response:?}");
            assert_eq!(response.headers()["audit-id"], event.id.as_str(), "{what}");
            assert_eq!(
                response.headers().contains_key("allow"),
                case.code == 405,
                "{what}"
            );
            if case.method == "HEAD" {
                continue;
            }
            let (_, reason, facts, status) = refusal(&response);
            assert_eq!(reason, case.reason, "{what}");
            assert_eq!(facts["record"], event.id, "{what}");
            assert!(
                status["message"]
                    .as_str()
                    .is_some_and(|message| message.len() > 20),
                "{what}"
            );
        }
    }
    assert_eq!(rig.api.connections(), 0, "{:?}", rig.api.arrived());
}

#[tokio::test]
async fn a_decision_says_what_it_is_about_and_which_rule_made_it() {
    let rig = Rig::start(empty_list).await;
    let response = rig
        .call(
            Protocol::H2,
            request("DELETE", "/api/v1/namespaces/prod", &[], ""),
        )
        .await;
    let (_, _, facts, status) = refusal(&response);
    assert_eq!(
        (&status["details"]["kind"], &status["details"]["name"]),
        (&"namespaces".into(), &"prod".into())
    );
    assert_eq!(status["reason"], "Forbidden");
    assert!(facts["rule"].contains("no-namespaces"), "{facts:?}");
    let events = rig.recorder.events();
    assert_eq!(only(&events).rule.as_deref(), Some(facts["rule"].as_str()));
    assert_eq!(rig.metrics.refusals(Reason::DeniedByRule), 1);
}

#[tokio::test]
async fn without_a_record_reads_pass_and_writes_do_not() {
    for protocol in BOTH {
        let rig = Rig::start(empty_list).await;
        rig.recorder.break_down();
        let mut client = rig.client(protocol).await;
        assert_eq!(client.call(get(PODS)).await.status(), 200);
        let response = client.call(post(CONFIG_MAPS, &config_map("one"))).await;
        let (code, reason, _, _) = refusal(&response);
        assert_eq!((code, reason.as_str()), (503, "RecordUnavailable"));
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(rig.api.arrived().len(), 1);
        assert!(rig.metrics.events_lost.get() >= 1);
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_it_is_read() {
    for protocol in BOTH {
        let rig = Rig::start(empty_list).await;
        let body = format!(
            r#"{{"kind":"ConfigMap","data":{{"a":"{}"}}}}"#,
            "x".repeat(3 << 20)
        );
        let response = rig.call(protocol, post(CONFIG_MAPS, &body)).await;
        assert_eq!(refusal(&response).1, "BodyTooLarge", "{protocol:?}");
        assert_eq!(rig.api.connections(), 0);
    }
}

#[tokio::test]
async fn a_chunked_body_without_end_is_refused_at_the_limit() {
    let rig = Rig::start(empty_list).await;
    let stream = Client::tls(rig.port, &rig.ca_pem, Protocol::H1.alpn())
        .await
        .expect("the handshake is fine");
    let (mut reader, mut writer) = tokio::io::split(stream);
    let head =
        format!("POST {CONFIG_MAPS} HTTP/1.1\r\nHost: kubernetes\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    let writing = async move {
        writer
            .write_all(head.as_bytes())
            .await
            .expect("the head is taken");
        while writer.write_all(chunk.as_bytes()).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let mut answer = vec![0; 12];
    tokio::select! {
        () = writing => {}
        read = eventually("an answer", reader.read_exact(&mut answer)) => { read.expect("an answer"); }
    }
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
    assert_eq!(rig.api.connections(), 0);
}

#[tokio::test]
async fn a_body_that_trickles_is_refused_in_time() {
    let limits = Limits {
        body: Duration::from_millis(50),
        ..Limits::default()
    };
    let rig = Rig::with(Protocol::H2, limits, empty_list).await;
    let mut stream = Client::tls(rig.port, &rig.ca_pem, Protocol::H1.alpn())
        .await
        .expect("the handshake is fine");
    let head = format!("POST {CONFIG_MAPS} HTTP/1.1\r\nHost: kubernetes\r\nContent-Length: 100\r\n\r\n{{");
    stream
        .write_all(head.as_bytes())
        .await
        .expect("the head is taken");
    let mut answer = String::new();
    eventually("the connection ends", stream.read_to_string(&mut answer))
        .await
        .expect("it ends cleanly");
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("RequestTimeout"),
        "{answer}"
    );
    assert!(
        answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
    assert_eq!(rig.api.connections(), 0);
}

#[tokio::test]
async fn more_requests_than_the_limit_are_told_to_wait() {
    let limits = Limits {
        short_requests: 1,
        ..Limits::default()
    };
    let rig = Rig::with(Protocol::H2, limits, |arrived| {
        if arrived.target.contains("configmaps") {
            Answer::Never
        } else {
            json("{}")
        }
    })
    .await;
    let (mut first, mut second) = (rig.client(Protocol::H2).await, rig.client(Protocol::H2).await);
    let held = first.send(get(CONFIG_MAPS));
    tokio::select! {
        _ = held => panic!("nothing answers"),
        () = async {
            rig.api.wait_for(1).await;
            let response = second.call(get(PODS)).await;
            let (code, reason, _, status) = refusal(&response);
            assert_eq!((code, reason.as_str()), (429, "Overloaded"));
            assert_eq!(response.headers()["retry-after"], "1");
            assert_eq!(status["details"]["retryAfterSeconds"], 1);
        } => {}
    }
    // The held request was dropped; its place is free again once the record says so.
    rig.recorder.wait_for(Stage::Outcome, 2).await;
    assert_eq!(second.call(get(PODS)).await.status(), 200);
}

#[tokio::test]
async fn bodies_have_a_share_of_memory_each_agent_its_own() {
    let of_one = Limits {
        body_memory: 150,
        ..Limits::default()
    };
    let of_all = Limits {
        all_body_memory: 150,
        ..Limits::default()
    };
    for (limits, whose) in [(of_one, "this agent"), (of_all, "all agents")] {
        let rig = Rig::with(Protocol::H2, limits, |_| Answer::Never).await;
        let (mut first, mut second) = (rig.client(Protocol::H2).await, rig.client(Protocol::H2).await);
        let held = first.send(post(CONFIG_MAPS, &config_map("one")));
        tokio::select! {
            _ = held => panic!("nothing answers"),
            () = async {
                rig.api.wait_for(1).await;
                let response = second.call(post(CONFIG_MAPS, &config_map("two"))).await;
                let (code, reason, _, status) = refusal(&response);
                assert_eq!((code, reason.as_str()), (429, "Overloaded"));
                let message = status["message"].as_str().unwrap_or_default();
                assert!(message.contains(whose), "{message}");
            } => {}
        }
        assert_eq!(rig.api.arrived().len(), 1);
    }
}

#[tokio::test]
async fn request_trailers_go_nowhere() {
    let rig = Rig::start(empty_list).await;
    let mut stream = Client::tls(rig.port, &rig.ca_pem, Protocol::H1.alpn())
        .await
        .expect("the handshake is fine");
    let body = config_map("one");
    let text = format!(
        "POST {CONFIG_MAPS} HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nImpersonate-User: admin\r\n\r\n",
        body.len()
    );
    stream
        .write_all(text.as_bytes())
        .await
        .expect("the request is taken");
    let mut answer = String::new();
    eventually("the connection ends", stream.read_to_string(&mut answer))
        .await
        .expect("it ends cleanly");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let arrived = rig.api.arrived();
    assert!(!arrived[0].has_trailers && arrived[0].header("impersonate-user").is_empty());
}

#[tokio::test]
async fn a_refused_get_leaves_the_connection_usable() {
    let rig = Rig::start(empty_list).await;
    for protocol in BOTH {
        let mut client = rig.client(protocol).await;
        let refused = client.send(get("/api/v1/nodes")).await.expect("an answer");
        assert_eq!(refused.status(), 403);
        refused.into_body().collect().await.expect("a whole Status");
        assert_eq!(client.call(get(PODS)).await.status(), 200);
    }
}

#[tokio::test]
async fn what_observing_policies_would_have_changed_is_recorded_and_nothing_else() {
    let rig = Rig::start(empty_list).await;
    let observing = r#"apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: try}
spec:
  subjects: {agents: ["*"]}
  mode: Observe
  rules: [{name: no-pods, effect: deny, verbs: [list], apiGroups: [""], resources: [pods]}]
"#;
    let mut policies = read_policies("p.yaml", super::POLICY).unwrap();
    policies.extend(read_policies("try.yaml", observing).unwrap());
    rig.proxy
        .snapshot
        .store(Arc::new(Snapshot::compile(&policies, 2).unwrap()));
    let response = rig.call(Protocol::H2, get(PODS)).await;
    assert_eq!(response.status(), 200);
    let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
    let event = only(&events);
    assert_eq!(event.decision, Outcome::Allow);
    let observed = event.observed.as_ref().unwrap();
    assert_eq!(
        (observed.decision, observed.rule.as_deref()),
        (Outcome::Refuse, Some("try/no-pods"))
    );
    assert_eq!(observed.reason.as_deref(), Some("DeniedByRule"));
}
