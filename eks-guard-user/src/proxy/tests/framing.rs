//! HTTP/1.1 that can be read in two ways: 400, and nothing upstream, also behind a good request on the same connection.

use std::io::ErrorKind;

use eks_guard_core::record::Stage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{CONFIG_MAPS, PODS, Rig, empty_list};
use crate::testing::{Client, Protocol, eventually};

async fn exchange(rig: &Rig, text: &str) -> String {
    let mut stream = Client::tls(rig.port, &rig.ca_pem, Protocol::H1.alpn())
        .await
        .expect("the handshake is fine");
    stream
        .write_all(text.as_bytes())
        .await
        .expect("the bytes are taken");
    let mut answer = Vec::new();
    match eventually("the connection ends", stream.read_to_end(&mut answer)).await {
        Ok(_) => {}
        // hyper leaves a connection on which an upgrade was asked for without TLS's goodbye.
        Err(error) => assert!(
            error.kind() == ErrorKind::UnexpectedEof && text.contains("Upgrade"),
            "{error}"
        ),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn ambiguous_requests_get_400_and_go_nowhere() {
    let rig = Rig::start(empty_list).await;
    let smuggled = format!("GET {PODS} HTTP/1.1\r\nHost: kubernetes\r\n\r\n");
    let lengths = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 0\r\nContent-Length: 0",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunked\nX: y",
        "Content-Length : 4",
        "Content-Length: +4",
    ];
    for length in lengths {
        let text =
            format!("POST {CONFIG_MAPS} HTTP/1.1\r\nHost: kubernetes\r\n{length}\r\n\r\n0\r\n\r\n{smuggled}");
        let answer = exchange(&rig, &text).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("RequestMalformed"),
            "{length:?}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{length:?}: {answer}");
    }
    let lines = [
        format!("GET {PODS} HTTP/1.1\nHost: kubernetes\n\n"),
        format!("GET {PODS} HTTP/1.1\r\nHost: kubernetes\r\nX: a\r\n b\r\n\r\n"),
        format!("GET {PODS}#x HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        format!("GET  {PODS} HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {PODS} HTTP/1.1\r\n\r\n"),
        format!("GET {PODS} HTTP/1.1\r\nHost: kubernetes\r\nHost: kubernetes\r\n\r\n"),
        format!("GET https://evil.example{PODS} HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
    ];
    for text in lines {
        let answer = exchange(&rig, &text).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{text:?}: {answer}");
    }
    assert_eq!(rig.api.connections(), 0, "{:?}", rig.api.arrived());
    let events = rig.recorder.wait_for(Stage::Outcome, 16).await;
    assert!(
        events.iter().all(|event| event.status == Some(400)),
        "{events:#?}"
    );
}

#[tokio::test]
async fn a_chunked_body_is_refused_when_its_chunks_are_ambiguous() {
    let rig = Rig::start(empty_list).await;
    for chunks in [
        "2\n{}\r\n0\r\n\r\n",
        "2;a=b\r\n{}\r\n0\r\n\r\n",
        "2 \r\n{}\r\n0\r\n\r\n",
        "2\r\n{}\n0\r\n\r\n",
    ] {
        let text = format!(
            "POST {CONFIG_MAPS} HTTP/1.1\r\nHost: kubernetes\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        );
        let answer = exchange(&rig, &text).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{chunks:?}: {answer}");
    }
    assert_eq!(rig.api.connections(), 0);
}

#[tokio::test]
async fn good_requests_before_a_bad_one_are_answered() {
    let rig = Rig::start(empty_list).await;
    let good = format!("GET {PODS} HTTP/1.1\r\nHost: kubernetes:6443\r\n\r\n");
    let bad = format!("GET {PODS} HTTP/1.1\r\nHost: kubernetes\n\r\n");
    let answer = exchange(&rig, &format!("{good}{good}{bad}{good}")).await;
    let codes: Vec<&str> = answer
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &answer[at + 9..at + 12])
        .collect();
    assert_eq!(codes, ["200", "200", "400"], "{answer}");
    assert_eq!(rig.api.arrived().len(), 2);
}

#[tokio::test]
async fn upgrades_are_decided_on_or_refused_and_never_made() {
    let rig = Rig::start(empty_list).await;
    let upgrade =
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let cases = [
        (format!("{PODS}/a/exec?command=sh"), "403", "ConnectRefused"),
        (format!("{PODS}/a/portforward"), "403", "ConnectRefused"),
        (format!("{PODS}?watch=true"), "400", "RequestMalformed"),
        (format!("{PODS}/a/log?follow=true"), "400", "RequestMalformed"),
    ];
    for (path, code, reason) in cases {
        let next = format!("GET {PODS} HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\n\r\n");
        let answer = exchange(
            &rig,
            &format!("GET {path} HTTP/1.1\r\nHost: kubernetes\r\n{upgrade}\r\n{next}"),
        )
        .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {code}")) && answer.contains(reason),
            "{path}: {answer}"
        );
    }
    let arrived = rig.api.arrived();
    assert!(
        arrived
            .iter()
            .all(|arrived| arrived.target == PODS && !arrived.headers.contains_key("upgrade"))
    );
}
