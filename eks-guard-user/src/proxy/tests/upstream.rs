//! The API server's side: credentials that are renewed, replies that may not pass, servers that are away or not the one.

use std::sync::atomic::{AtomicUsize, Ordering};

use eks_guard_core::reason::Reason;
use eks_guard_core::record::{Outcome, Stage};

use super::{BOTH, CONFIG_MAPS, PODS, Rig, config_map, empty_list, get, only, post, refusal, request};
use crate::proxy::Limits;
use crate::testing::{Answer, Protocol, json, status};

#[tokio::test]
async fn a_refused_credential_is_renewed_once() {
    for upstream in BOTH {
        let rig = Rig::with(upstream, Limits::default(), |arrived| {
            match arrived.header("authorization") {
                "Bearer guard-token-1" => json("{}"),
                _ => status(401, "application/json", "{}"),
            }
        })
        .await;
        let mut client = rig.client(Protocol::H2).await;
        assert_eq!(
            client.call(post(CONFIG_MAPS, &config_map("one"))).await.status(),
            200
        );
        let arrived = rig.api.arrived();
        assert_eq!(arrived.len(), 2);
        assert_eq!(arrived[0].body, arrived[1].body);
        assert_eq!(arrived[0].header("audit-id"), arrived[1].header("audit-id"));
        assert_eq!(client.call(get(PODS)).await.status(), 200);
        assert_eq!((rig.api.arrived().len(), rig.credentials.renewals()), (3, 1));
    }
}

#[tokio::test]
async fn an_agent_never_sees_401() {
    let rig = Rig::start(|_| status(401, "application/json", "{}")).await;
    let response = rig.call(Protocol::H1, get(PODS)).await;
    let (code, reason, _, _) = refusal(&response);
    assert_eq!((code, reason.as_str()), (502, "UpstreamCredential"));
    assert_eq!(rig.api.arrived().len(), 2);
    let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
    assert_eq!(only(&events).reason.as_deref(), Some("UpstreamCredential"));
    assert_eq!(
        rig.proxy.check_upstream().await.map_err(|refusal| refusal.reason),
        Err(Reason::UpstreamCredential)
    );
}

#[tokio::test]
async fn replies_that_cannot_be_masked_do_not_pass() {
    const LOG: &str = "/api/v1/namespaces/default/pods/a/log";
    let cases: [(u16, &str, &str, u16); 12] = [
        (302, "application/json", PODS, 502),
        (304, "application/json", PODS, 502),
        (200, "application/vnd.kubernetes.protobuf", PODS, 502),
        (200, "text/plain", PODS, 502),
        (200, "", PODS, 502),
        (200, "application/json;stream=watch", PODS, 200),
        (404, "text/plain; charset=utf-8", PODS, 404),
        (200, "text/plain", LOG, 200),
        (204, "", LOG, 204),
        (200, "", LOG, 502),
        (204, "", PODS, 502),
        (
            200,
            "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
            "/openapi/v2",
            200,
        ),
    ];
    for (code, content_type, path, expected) in cases {
        let rig = Rig::start(move |_| status(code, content_type, "{}")).await;
        let response = rig.call(Protocol::H2, get(path)).await;
        assert_eq!(
            response.status().as_u16(),
            expected,
            "{code} {content_type} {path}"
        );
        if expected == 502 {
            assert_eq!(refusal(&response).1, "UpstreamReply");
        }
    }
    let rig = Rig::start(|_| match json("{}") {
        Answer::Reply(mut response) => {
            response
                .headers_mut()
                .insert("content-encoding", http::HeaderValue::from_static("gzip"));
            Answer::Reply(response)
        }
        other @ (Answer::Never | Answer::Break | Answer::Refuse | Answer::RefuseAfter(_)) => other,
    })
    .await;
    assert_eq!(
        refusal(&rig.call(Protocol::H2, get(PODS)).await).1,
        "UpstreamReply"
    );
}

#[tokio::test]
async fn errors_of_the_api_server_pass_as_they_are() {
    for code in [403, 404, 409, 422, 429, 500] {
        let rig = Rig::start(move |_| status(code, "application/json", r#"{"kind":"Status"}"#)).await;
        let response = rig
            .call(Protocol::H1, request("DELETE", &format!("{PODS}/a"), &[], ""))
            .await;
        assert_eq!(
            (response.status().as_u16(), response.body().as_ref()),
            (code, br#"{"kind":"Status"}"#.as_slice())
        );
        let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
        assert_eq!(
            (only(&events).decision, only(&events).status),
            (Outcome::Allow, Some(code))
        );
    }
}

#[tokio::test]
async fn a_write_that_broke_is_not_sent_again_and_a_read_is_once() {
    for upstream in BOTH {
        let reads = AtomicUsize::new(0);
        let rig = Rig::with(upstream, Limits::default(), move |arrived| {
            // The second read finds a connection that was used before, and breaks it.
            let breaks = arrived.target == CONFIG_MAPS || reads.fetch_add(1, Ordering::SeqCst) == 1;
            if breaks { Answer::Break } else { json("{}") }
        })
        .await;
        let mut client = rig.client(Protocol::H2).await;
        let response = client.call(post(CONFIG_MAPS, &config_map("one"))).await;
        let (code, reason, _, body) = refusal(&response);
        assert_eq!((code, reason.as_str()), (502, "UpstreamUnreachable"));
        assert!(
            body["message"]
                .as_str()
                .is_some_and(|message| message.contains("not known")),
            "{body}"
        );
        assert_eq!(rig.api.arrived().len(), 1, "{upstream:?}: a write is sent once");
        for _ in 0..3 {
            assert_eq!(client.call(get(PODS)).await.status(), 200);
        }
        assert_eq!(rig.api.arrived().len(), 5, "{upstream:?}: a read is sent again");
    }
}

#[tokio::test]
async fn a_restart_between_requests_is_not_noticed() {
    for upstream in BOTH {
        let rig = Rig::with(upstream, Limits::default(), empty_list).await;
        let mut client = rig.client(Protocol::H2).await;
        for round in 0..5 {
            assert_eq!(
                client.call(get(PODS)).await.status(),
                200,
                "{upstream:?} round {round}"
            );
            rig.api.restart();
        }
    }
}

#[tokio::test]
async fn a_server_that_is_away_or_another_is_said_to_be() {
    let mut rig = Rig::start(empty_list).await;
    assert_eq!(rig.proxy.check_upstream().await, Ok(()));

    let other = Rig::start(empty_list).await;
    let mut endpoint = rig.api.endpoint.clone();
    endpoint.roots = other.api.endpoint.roots.clone();
    rig = rig.pointed_at(endpoint.clone()).await;
    let (code, reason, _, _) = refusal(&rig.call(Protocol::H2, get(PODS)).await);
    assert_eq!((code, reason.as_str()), (502, "UpstreamUntrusted"));

    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    endpoint.addresses = vec![closed.expect("loopback is there")];
    rig = rig.pointed_at(endpoint).await;
    let (code, reason, _, _) = refusal(&rig.call(Protocol::H2, get(PODS)).await);
    assert_eq!((code, reason.as_str()), (502, "UpstreamUnreachable"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let limits = Limits {
        response_head: std::time::Duration::from_millis(100),
        ..Limits::default()
    };
    let rig = Rig::with(Protocol::H2, limits, |_| Answer::Never).await;
    let (code, reason, _, _) = refusal(&rig.call(Protocol::H2, get(PODS)).await);
    assert_eq!((code, reason.as_str()), (502, "UpstreamUnreachable"));
}
