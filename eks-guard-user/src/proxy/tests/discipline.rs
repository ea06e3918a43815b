//! What a proxy must not add to, or take from, the API server's own way of keeping order: too many requests, deadlines, callers
//! that went away, redirects, servers that leave.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::HeaderValue;
use tokio::net::TcpListener;

use super::{BOTH, CONFIG_MAPS, PODS, Rig, config_map, empty_list, get, post, refusal};
use crate::proxy::Limits;
use crate::testing::{Answer, Arrived, FakeApiServer, Protocol, eventually, json, status};

/// kube-apiserver's own limit of a request that does not stream.
const API_SERVER_DEADLINE: Duration = Duration::from_secs(60);

const TOO_MANY: &str = r#"{"kind":"Status","code":429,"reason":"TooManyRequests"}"#;

/// What priority and fairness says to a request for which it has no place.
const FAIRNESS: [(&str, &str); 3] = [
    ("retry-after", "7"),
    ("x-kubernetes-pf-flowschema-uid", "8d1b2a60"),
    ("x-kubernetes-pf-prioritylevel-uid", "1f5c7c1e"),
];

fn with_headers(answer: Answer, headers: &[(&'static str, &'static str)]) -> Answer {
    match answer {
        Answer::Reply(mut response) => {
            for (name, value) in headers {
                response
                    .headers_mut()
                    .insert(*name, HeaderValue::from_static(value));
            }
            Answer::Reply(response)
        }
        other @ (Answer::Never | Answer::Break | Answer::Refuse | Answer::RefuseAfter(_)) => other,
    }
}

#[tokio::test]
async fn too_many_requests_is_passed_on_and_not_tried_again() {
    for downstream in BOTH {
        for upstream in BOTH {
            let rig = Rig::with(upstream, Limits::default(), |_| {
                with_headers(status(429, "application/json", TOO_MANY), &FAIRNESS)
            })
            .await;
            let mut client = rig.client(downstream).await;
            let map = config_map("one");
            for (count, request) in [
                get(PODS),
                get(&format!("{PODS}?watch=true")),
                post(CONFIG_MAPS, &map),
            ]
            .into_iter()
            .enumerate()
            {
                let response = client.call(request).await;
                assert_eq!(
                    (response.status().as_u16(), response.body().as_ref()),
                    (429, TOO_MANY.as_bytes())
                );
                for (name, value) in FAIRNESS {
                    assert_eq!(response.headers()[name], value, "{downstream:?} {upstream:?}");
                }
                assert_eq!(rig.api.arrived().len(), count + 1, "{downstream:?} {upstream:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_question_of_the_guards_own_that_gets_no_place_is_too_many_requests() {
    let api = FakeApiServer::start(Protocol::H2, |_| status(429, "application/json", TOO_MANY)).await;
    let endpoint = api.endpoint.clone();
    let rig = Rig::before(api, endpoint, Limits::default()).await;
    let response = rig.call(Protocol::H2, get(PODS)).await;
    let (code, reason, _, _) = refusal(&response);
    assert_eq!((code, reason.as_str()), (429, "Overloaded"));
    assert!(response.headers().contains_key("retry-after"));
    assert!(rig.api.arrived().iter().all(|arrived| arrived.target != PODS));
}

#[tokio::test]
async fn the_agents_deadline_goes_upstream_and_the_guards_own_is_longer_than_the_api_servers() {
    let rig = Rig::start(empty_list).await;
    let path = format!("{PODS}?timeout=32s");
    assert_eq!(rig.call(Protocol::H2, get(&path)).await.status(), 200);
    assert_eq!(rig.api.arrived()[0].target, path);
    assert!(Limits::default().response_head > API_SERVER_DEADLINE);
}

#[tokio::test]
async fn what_streams_has_no_deadline() {
    let limits = Limits {
        response_head: Duration::from_millis(50),
        ..Limits::default()
    };
    for upstream in BOTH {
        let rig = Rig::with(upstream, limits.clone(), |_| Answer::Never).await;
        let mut streams = Vec::new();
        for path in [format!("{PODS}?watch=true"), format!("{PODS}/a/log?follow=true")] {
            let mut client = rig.client(Protocol::H2).await;
            streams.push(rig.tasks.spawn(async move { client.call(get(&path)).await }));
        }
        rig.api.wait_for(2).await;
        // Asked for later, and given up: by then the deadline of the streams would have been over.
        let (code, reason, _, _) = refusal(&rig.call(Protocol::H2, get(PODS)).await);
        assert_eq!((code, reason.as_str()), (502, "UpstreamUnreachable"));
        for stream in streams {
            let pending = pin!(stream).poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(pending, Poll::Pending), "{upstream:?}: {pending:?}");
        }
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_has_one_deadline() {
    let round = Duration::from_millis(300);
    let limits = Limits {
        response_head: round * 2,
        ..Limits::default()
    };
    let rig = Rig::with(Protocol::H2, limits, move |_| Answer::RefuseAfter(round)).await;
    let (code, _, _, body) = refusal(&rig.call(Protocol::H2, get(PODS)).await);
    let message = body["message"].as_str().unwrap_or_default();
    assert!(
        code == 502 && message.contains("did not begin to answer"),
        "{message}"
    );
}

#[tokio::test]
async fn a_request_does_not_wait_for_a_place_without_end() {
    let api = FakeApiServer::start(Protocol::H2, empty_list).await;
    // Connections to it are made, and nobody answers.
    let silent = TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("loopback is there");
    let mut endpoint = api.endpoint.clone();
    endpoint.addresses = vec![silent.local_addr().expect("it is bound")];
    let limits = Limits {
        connect: Duration::from_secs(3_600),
        response_head: Duration::from_millis(100),
        ..Limits::default()
    };
    let rig = Rig::before(api, endpoint, limits).await.knowing_what_is_served();
    let response = eventually("an answer", rig.call(Protocol::H2, get(PODS))).await;
    let (code, reason, _, body) = refusal(&response);
    assert_eq!((code, reason.as_str()), (502, "UpstreamUnreachable"));
    let message = body["message"].as_str().unwrap_or_default();
    assert!(message.contains("nothing was done"), "{message}");
    assert_eq!(rig.api.arrived().len(), 0);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_request_along() {
    for downstream in BOTH {
        for upstream in BOTH {
            let rig = Rig::with(upstream, Limits::default(), |_| Answer::Never).await;
            let watch = format!("{PODS}?watch=true");
            let map = config_map("one");
            for (count, request) in [get(PODS), post(CONFIG_MAPS, &map), get(&watch)]
                .into_iter()
                .enumerate()
            {
                let mut client = rig.client(downstream).await;
                tokio::select! {
                    _ = client.send(request) => panic!("nothing answers"),
                    _ = rig.api.wait_for(count + 1) => {}
                }
                drop(client);
                rig.api.wait_for_abandoned(count + 1).await;
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Rig::start(empty_list).await;
    let place = format!("{}{PODS}", elsewhere.api.endpoint.url);
    let location = HeaderValue::from_str(&place).expect("an address is ASCII");
    for code in [301, 302, 303, 307, 308] {
        let location = location.clone();
        let rig = Rig::start(move |_| match status(code, "application/json", "{}") {
            Answer::Reply(mut response) => {
                response.headers_mut().insert("location", location.clone());
                Answer::Reply(response)
            }
            other @ (Answer::Never | Answer::Break | Answer::Refuse | Answer::RefuseAfter(_)) => other,
        })
        .await;
        let response = rig.call(Protocol::H2, get(PODS)).await;
        let (status, reason, _, _) = refusal(&response);
        assert_eq!((status, reason.as_str()), (502, "UpstreamReply"), "{code}");
        assert!(!response.headers().contains_key("location"), "{code}");
        assert_eq!(rig.api.arrived().len(), 1, "{code}");
    }
    assert_eq!(elsewhere.api.arrived().len(), 0);
}

#[tokio::test]
async fn a_server_that_leaves_costs_no_request_and_gets_none_twice() {
    for request in [get(PODS), post(CONFIG_MAPS, &config_map("one"))] {
        let rig = Rig::start(empty_list).await;
        rig.api.leave(3);
        assert_eq!(rig.call(Protocol::H2, request.clone()).await.status(), 200);
        let arrived = rig.api.arrived();
        assert_eq!((arrived.len(), arrived[0].connection), (1, 3));

        rig.api.restart();
        rig.api.leave(usize::MAX);
        let (code, reason, _, body) = refusal(&rig.call(Protocol::H2, request).await);
        assert_eq!((code, reason.as_str()), (502, "UpstreamUnreachable"));
        let message = body["message"].as_str().unwrap_or_default();
        assert!(message.contains("turned the request away"), "{message}");
        assert_eq!(rig.api.arrived().len(), 1);
    }
}

#[tokio::test]
async fn a_stream_that_the_server_refuses_is_tried_on_another_connection() {
    for request in [get(PODS), post(CONFIG_MAPS, &config_map("one"))] {
        let tries = AtomicUsize::new(0);
        let rig = Rig::start(
            move |arrived: &Arrived| match tries.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => Answer::Refuse,
                2 => empty_list(arrived),
                _ => json("{}"),
            },
        )
        .await;
        assert_eq!(rig.call(Protocol::H2, request).await.status(), 200);
        let connections: Vec<usize> = rig
            .api
            .arrived()
            .iter()
            .map(|arrived| arrived.connection)
            .collect();
        assert_eq!(connections, [0, 1, 2]);
    }
}
