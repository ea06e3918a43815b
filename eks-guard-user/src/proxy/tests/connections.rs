//! Connections that never become requests: closed, counted, recorded, and without effect on others.

use std::time::Duration;

use eks_guard_core::record::Stage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{BOTH, PODS, Rig, empty_list, get, only, request};
use crate::metrics::ConnectionOutcome;
use crate::proxy::Limits;
use crate::testing::{Client, Protocol, eventually};

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    match eventually("the connection ends", stream.read_to_end(&mut answer)).await {
        Ok(_) | Err(_) => String::from_utf8_lossy(&answer).into_owned(),
    }
}

async fn connect(rig: &Rig) -> TcpStream {
    TcpStream::connect(("127.0.0.1", rig.port))
        .await
        .expect("the listener accepts")
}

#[tokio::test]
async fn a_connection_the_kernel_does_not_know_is_closed_counted_and_recorded() {
    let rig = Rig::start(empty_list).await;
    let mut known = rig.client(Protocol::H2).await;
    rig.flows.forget();
    for alpn in BOTH.map(Protocol::alpn) {
        assert!(Client::tls(rig.port, &rig.ca_pem, alpn).await.is_err());
    }
    let events = rig.recorder.wait_for(Stage::Connection, 2).await;
    assert_eq!(events[0].reason.as_deref(), Some("NoFlow"));
    assert_eq!(rig.metrics.connections(ConnectionOutcome::NoFlow), 2);
    assert_eq!(known.call(get(PODS)).await.status(), 200);
}

#[tokio::test]
async fn ipv6_loopback_has_the_same_port() {
    let rig = Rig::start(empty_list).await;
    match TcpStream::connect(("::1", rig.port)).await {
        Ok(mut stream) => {
            stream
                .write_all(b"GET / HTTP/1.1\r\n\r\n")
                .await
                .expect("the bytes are taken");
            assert!(read_all(&mut stream).await.contains("HTTPS"));
        }
        Err(error) => assert!(std::net::TcpListener::bind("[::1]:0").is_err(), "{error}"),
    }
}

#[tokio::test]
async fn plain_http_is_told_so_and_other_bytes_are_not_answered() {
    let rig = Rig::start(empty_list).await;
    let mut stream = connect(&rig).await;
    stream
        .write_all(b"GET /api HTTP/1.1\r\nHost: kubernetes\r\n\r\n")
        .await
        .expect("the bytes are taken");
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{answer}");
    assert!(
        answer.ends_with("Client sent an HTTP request to an HTTPS server.\n"),
        "{answer}"
    );

    let mut stream = connect(&rig).await;
    stream
        .write_all(b"\x00\x01\x02")
        .await
        .expect("the bytes are taken");
    assert_eq!(read_all(&mut stream).await, "");
    rig.recorder.wait_for(Stage::Connection, 2).await;
    assert_eq!(rig.metrics.connections(ConnectionOutcome::PlainHttp), 2);
}

#[tokio::test]
async fn an_unknown_protocol_or_another_ca_ends_in_the_handshake() {
    let rig = Rig::start(empty_list).await;
    assert!(Client::tls(rig.port, &rig.ca_pem, b"spdy/3.1").await.is_err());
    assert!(Client::tls(rig.port, &rig.api_ca(), b"h2").await.is_err());
    rig.recorder.wait_for(Stage::Connection, 2).await;
    assert_eq!(rig.metrics.connections(ConnectionOutcome::Handshake), 2);
    assert_eq!(rig.call(Protocol::H2, get(PODS)).await.status(), 200);
}

impl Rig {
    /// A CA that is not the run's.
    fn api_ca(&self) -> String {
        crate::tls::ca::RunCa::generate()
            .expect("the provider makes keys")
            .ca_pem()
    }
}

#[tokio::test]
async fn silence_ends_the_handshake_and_the_head() {
    let short = Duration::from_millis(50);
    let rig = Rig::with(
        Protocol::H2,
        Limits {
            handshake: short,
            head: short,
            ..Limits::default()
        },
        empty_list,
    )
    .await;
    let mut stream = connect(&rig).await;
    assert_eq!(read_all(&mut stream).await, "");
    let events = rig.recorder.wait_for(Stage::Connection, 1).await;
    assert_eq!(only(&events).reason.as_deref(), Some("HandshakeTimeout"));

    let mut stream = Client::tls(rig.port, &rig.ca_pem, Protocol::H1.alpn())
        .await
        .expect("the handshake is fine");
    stream
        .write_all(b"GET /api HTTP/1.1\r\nHost: kuber")
        .await
        .expect("the bytes are taken");
    let mut answer = Vec::new();
    match eventually("the connection ends", stream.read_to_end(&mut answer)).await {
        Ok(_) | Err(_) => {}
    }
    let events = rig.recorder.wait_for(Stage::Connection, 2).await;
    assert_eq!(events[1].reason.as_deref(), Some("RequestTimeout"));

    for preface in ["", "PRI * HTTP/2.0\r\n"] {
        let mut stream = Client::tls(rig.port, &rig.ca_pem, Protocol::H2.alpn())
            .await
            .expect("the handshake is fine");
        stream
            .write_all(preface.as_bytes())
            .await
            .expect("the bytes are taken");
        match eventually("the connection ends", stream.read_to_end(&mut answer)).await {
            Ok(_) | Err(_) => {}
        }
    }
    let events = rig.recorder.wait_for(Stage::Connection, 4).await;
    assert_eq!(events[3].reason.as_deref(), Some("RequestTimeout"));

    // A connection that is only idle ends too, without a word in the record.
    let mut idle = Client::tls(rig.port, &rig.ca_pem, Protocol::H1.alpn())
        .await
        .expect("the handshake is fine");
    match eventually("the connection ends", idle.read_to_end(&mut answer)).await {
        Ok(_) | Err(_) => {}
    }
    assert_eq!(rig.recorder.events().len(), 4);
    assert_eq!(rig.api.connections(), 0);
}

#[tokio::test]
async fn heads_that_are_too_long_are_refused() {
    let rig = Rig::start(empty_list).await;
    let long = "x".repeat(80 << 10);
    for protocol in BOTH {
        let mut client = rig.client(protocol).await;
        match client.send(request("GET", PODS, &[("x-long", &long)], "")).await {
            Ok(response) => assert_eq!(response.status(), 431, "{protocol:?}"),
            Err(error) => assert_eq!(protocol, Protocol::H2, "{error}"),
        }
        assert_eq!(rig.call(protocol, get(PODS)).await.status(), 200);
    }
    assert_eq!(rig.api.arrived().len(), 2);
}

#[tokio::test]
async fn a_head_just_short_of_too_long_is_taken() {
    let rig = Rig::start(empty_list).await;
    let long = "x".repeat((64 << 10) - 1000);
    for protocol in BOTH {
        let response = rig
            .call(protocol, request("GET", PODS, &[("x-long", &long)], ""))
            .await;
        assert_eq!(response.status(), 200, "{protocol:?}");
    }
}

#[tokio::test]
async fn http2_that_breaks_the_protocol_is_recorded_however_often() {
    let rig = Rig::start(empty_list).await;
    let long = "x".repeat(80 << 10);
    for count in 1..=30 {
        // A stream that is turned away, and a connection.
        if count % 2 == 0 {
            let mut client = rig.client(Protocol::H2).await;
            match client.send(request("GET", PODS, &[("x-long", &long)], "")).await {
                Ok(response) => assert_eq!(response.status(), 431),
                Err(error) => assert!(!error.is_timeout(), "{error}"),
            }
        } else {
            let mut stream = Client::tls(rig.port, &rig.ca_pem, Protocol::H2.alpn())
                .await
                .expect("the handshake is fine");
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: kubernetes\r\n\r\n")
                .await
                .expect("the bytes are taken");
            match eventually("the connection ends", stream.read_to_end(&mut Vec::new())).await {
                Ok(_) | Err(_) => {}
            }
        }
        let events = rig.recorder.wait_for(Stage::Connection, count).await;
        assert_eq!(events[count - 1].reason.as_deref(), Some("RequestMalformed"));
    }
    assert_eq!(rig.metrics.connections(ConnectionOutcome::Protocol), 30);
}

#[tokio::test]
async fn more_connections_than_the_limit_are_closed() {
    let of_one = Limits {
        connections: 1,
        ..Limits::default()
    };
    let of_all = Limits {
        all_connections: 1,
        ..Limits::default()
    };
    for (limits, said) in [
        (of_one, "1 connections at once"),
        (of_all, "1 connections of all agents"),
    ] {
        let rig = Rig::with(Protocol::H2, limits, empty_list).await;
        let mut first = rig.client(Protocol::H2).await;
        assert_eq!(first.call(get(PODS)).await.status(), 200);
        assert!(Client::tls(rig.port, &rig.ca_pem, b"h2").await.is_err());
        let events = rig.recorder.wait_for(Stage::Connection, 1).await;
        assert_eq!(only(&events).reason.as_deref(), Some("TooManyConnections"));
        let message = only(&events).message.clone().unwrap_or_default();
        assert!(message.contains(said), "{message}");
        assert_eq!(first.call(get(PODS)).await.status(), 200);
    }
}

#[tokio::test]
async fn strangers_cannot_flood_the_record() {
    let rig = Rig::start(empty_list).await;
    rig.flows.forget();
    for _ in 0..200 {
        let mut stream = connect(&rig).await;
        assert_eq!(read_all(&mut stream).await, "");
    }
    let suppressed = rig.metrics.connection_events_suppressed.get();
    let recorded = rig.recorder.events().len();
    assert_eq!(rig.metrics.connections(ConnectionOutcome::NoFlow), 200);
    assert!(
        suppressed > 0 && recorded < 200,
        "{suppressed} suppressed, {recorded} recorded"
    );
}
