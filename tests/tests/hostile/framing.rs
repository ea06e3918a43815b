//! HTTP/1.1 that two parsers could read as two requests: one refusal, the connection ends, and what was smuggled goes nowhere.

use anyhow::{Context, Result, ensure};
use rig::probe::H1;
use rig::probe::http1::replies;

use crate::arena::{Arena, HARMLESS};

const TARGET: &str = "/api/v1/namespaces/default/configmaps";
const SMUGGLED: &str = "GET /api/v1/namespaces/smuggled/configmaps HTTP/1.1\r\nHost: kubernetes\r\n\r\n";

/// Sends the bytes and a smuggled request behind them; there is one answer, a refusal, and then the end.
fn refused(arena: &Arena, bytes: &str) -> Result<()> {
    refused_with(arena, bytes, 400, "RequestMalformed")
}

fn refused_with(arena: &Arena, bytes: &str, code: u16, reason: &str) -> Result<()> {
    let mut wire = arena.probe.connect(H1)?;
    wire.send(bytes.as_bytes())?;
    wire.send(SMUGGLED.as_bytes())?;
    wire.receive_to_end()?;
    let replies = replies(&wire.received);
    let [reply] = replies.as_slice() else {
        anyhow::bail!("{bytes:.300?}: {} answers: {}", replies.len(), wire.shown())
    };
    arena
        .refused(reply, code, reason)
        .with_context(|| format!("after {bytes:.300?}"))?;
    ensure!(
        reply.header("connection") == Some("close"),
        "{bytes:.300?}: {reply:?}"
    );
    Ok(())
}

#[test]
fn lengths_that_disagree() -> Result<()> {
    let arena = Arena::open("lengths")?;
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length : 5",
        "Content-Length\t: 5",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer_Encoding: chunked\r\nTransfer-Encoding: xchunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
    ] {
        let bytes = format!("POST {TARGET} HTTP/1.1\r\nHost: kubernetes\r\n{lengths}\r\n\r\n0\r\n\r\n");
        refused(&arena, &bytes)?;
    }
    arena.close()
}

#[test]
fn heads_that_can_be_read_in_two_ways() -> Result<()> {
    let arena = Arena::open("heads")?;
    for head in [
        format!("GET {TARGET} HTTP/1.1\nHost: kubernetes\n\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost: kubernetes\r\n\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost: kubernetes\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost: kubernetes\r\nX: a\r\n b\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost: kubernetes\r\nX: a\r\n\tb\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\n Host: kubernetes\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost : kubernetes\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost kubernetes\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\n: x\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost: kubernetes\r\nX: a\0b\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost: kubernetes\r\nX: a\x01b\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost: kubernetes\r\nX: a\x7fb\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost: kubernetes\r\nX\x01: a\r\n\r\n"),
        format!("GET  {TARGET} HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET}  HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        format!("GET\t{TARGET} HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1 \r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET}#fragment HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET}?a=b c HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET}/\x01 HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET}/<> HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET} HTTP/2.0\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.2\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET} HTTP/0.9\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET} http/1.1\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET}\r\nHost: kubernetes\r\n\r\n"),
        format!("G(T {TARGET} HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        "GET api/v1/configmaps HTTP/1.1\r\nHost: kubernetes\r\n\r\n".to_owned(),
        "GET HTTP/1.1\r\nHost: kubernetes\r\n\r\n".to_owned(),
        format!("\r\nGET {TARGET} HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        format!("!MALFORMED {TARGET} HTTP/1.1\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.0\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost: kubernetes\r\nHost: kubernetes\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost: kubernetes, evil.example\r\n\r\n"),
        format!("GET {TARGET} HTTP/1.1\r\nHost: \r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}".to_owned(),
    ] {
        refused(&arena, &head)?;
    }
    arena.close()
}

#[test]
fn chunks_that_can_be_read_in_two_ways() -> Result<()> {
    let arena = Arena::open("chunks")?;
    for chunks in [
        "2\n{}\r\n0\r\n\r\n",
        "2\r\n{}\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "2;a=b\r\n{}\r\n0\r\n\r\n",
        "2;\r\n{}\r\n0\r\n\r\n",
        "2 \r\n{}\r\n0\r\n\r\n",
        " 2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "+2\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "\r\n{}\r\n0\r\n\r\n",
        "100000002\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}\r\n0\r\nX : y\r\n\r\n",
        "2\r\n{}\r\n0\r\nX: y\n\r\n",
        "2\r\n{}\r\n0\r\n x\r\n\r\n",
    ] {
        let bytes = format!(
            "POST {TARGET} HTTP/1.1\r\nHost: kubernetes\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        );
        refused(&arena, &bytes)?;
    }
    arena.close()
}

#[test]
fn heads_without_end() -> Result<()> {
    let arena = Arena::open("long")?;
    let many: String = (0..10_000).map(|n| format!("X-{n}: y\r\n")).collect();
    let some: String = (0..101).map(|n| format!("X-{n}: y\r\n")).collect();
    for headers in [many, some, format!("X-Long: {}\r\n", "x".repeat(64 << 10))] {
        let bytes = format!("GET {TARGET} HTTP/1.1\r\nHost: kubernetes\r\n{headers}\r\n");
        refused_with(&arena, &bytes, 431, "HeadTooLarge")?;
    }
    let target = "x".repeat(64 << 10);
    let bytes = format!("GET /api/v1/{target} HTTP/1.1\r\nHost: kubernetes\r\n\r\n");
    refused_with(&arena, &bytes, 431, "HeadTooLarge")?;
    arena.close()
}

#[test]
fn requests_before_a_bad_one_are_answered_and_those_behind_it_are_not() -> Result<()> {
    let arena = Arena::open("pipeline")?;
    let good = format!("GET {HARMLESS} HTTP/1.1\r\nHost: kubernetes\r\n\r\n");
    let bad = format!("GET {HARMLESS} HTTP/1.1\r\nHost: kubernetes\n\r\n");
    let mut wire = arena.probe.connect(H1)?;
    wire.send(format!("{good}{good}{bad}{good}").as_bytes())?;
    wire.receive_to_end()?;
    let replies = replies(&wire.received);
    let codes: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    ensure!(codes == [200, 200, 400], "{codes:?}: {}", wire.shown());
    arena.refused(&replies[2], 400, "RequestMalformed")?;
    arena.expect_upstream(HARMLESS);
    arena.expect_upstream(HARMLESS);
    // In pieces, so that each part of the head arrives alone.
    let mut wire = arena.probe.connect(H1)?;
    for piece in good.as_bytes().chunks(7) {
        wire.send(piece)?;
    }
    for piece in bad.as_bytes().chunks(7) {
        wire.send(piece)?;
    }
    wire.receive_to_end()?;
    let codes: Vec<u16> = rig::probe::http1::replies(&wire.received)
        .iter()
        .map(|reply| reply.status)
        .collect();
    ensure!(codes == [200, 400], "{codes:?}: {}", wire.shown());
    arena.expect_upstream(HARMLESS);
    arena.close()
}
