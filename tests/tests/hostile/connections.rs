//! Connections that never become requests, and requests that never end: each costs its own connection only.

use std::fs;

use anyhow::{Context, Result, ensure};
use rig::probe::http1::{self, replies};
use rig::probe::http2::{self, END_STREAM, kind};
use rig::probe::{Dial, H1, H2, Probe};

use crate::arena::{Arena, HARMLESS};

#[test]
fn what_is_not_tls_with_a_known_protocol_is_recorded_and_closed() -> Result<()> {
    let arena = Arena::open("tls")?;
    let mut wire = arena.probe.connect(Dial::Plain)?;
    wire.send(&http1::request(arena.probe.server(), "GET /api", &[], b""))?;
    let answer = String::from_utf8_lossy(wire.receive_to_end()?).into_owned();
    ensure!(
        answer.starts_with("HTTP/1.0 400 ") && answer.contains("HTTP request to an HTTPS server"),
        "{answer}"
    );
    arena.wait_for_event(|event| event["reason"] == "NotTls")?;

    let garbage: [&[u8]; 5] = [
        b"\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        // A handshake record that holds none.
        &[22, 3, 1, 0, 5, 1, 2, 3, 4, 5],
        &[22, 3, 1, 0xff, 0xff, 0, 0, 0],
        // An SSL 2 hello.
        &[0x80, 0x2e, 1, 0, 2, 0, 0x15],
    ];
    for bytes in garbage {
        let mut wire = arena.probe.connect(Dial::Plain)?;
        wire.send(bytes)?;
        wire.half_close()?;
        wire.receive_to_end().with_context(|| format!("{bytes:?}"))?;
        ensure!(
            !wire.received.starts_with(b"HTTP/1.1"),
            "{bytes:?}: {}",
            wire.shown()
        );
    }
    for protocols in [&["spdy/3.1"][..], &["h2c"], &["HTTP/1.1"], &["http/1.0", "h3"]] {
        let dialled = arena.probe.dial(Dial::Tls(protocols))?;
        ensure!(
            dialled.is_err_and(|error| error.contains("NoApplicationProtocol")),
            "{protocols:?}"
        );
    }
    arena.wait_for_event(|event| event["reason"] == "HandshakeFailed")?;
    // Without ALPN it is HTTP/1.1.
    let mut wire = arena.probe.connect(Dial::Tls(&[]))?;
    wire.send(&http1::request(
        arena.probe.server(),
        &format!("GET {HARMLESS}"),
        &[],
        b"",
    ))?;
    wire.receive_until(|received| !replies(received).is_empty())?;
    ensure!(replies(&wire.received)[0].status == 200, "{}", wire.shown());
    arena.expect_upstream(HARMLESS);
    arena.close()
}

#[test]
fn a_protocol_other_than_the_agreed_one_is_not_understood() -> Result<()> {
    let arena = Arena::open("alpn")?;
    let mut wire = arena.probe.connect(H1)?;
    wire.send(&http2::opening())?;
    wire.receive_to_end()?;
    let replies = replies(&wire.received);
    arena.refused(
        replies.first().with_context(|| wire.shown())?,
        400,
        "RequestMalformed",
    )?;
    let mut wire = arena.probe.connect(H2)?;
    wire.send(&http1::request(
        arena.probe.server(),
        &format!("GET {HARMLESS}"),
        &[],
        b"",
    ))?;
    wire.receive_to_end()?;
    ensure!(
        http2::frames(&wire.received)
            .iter()
            .all(|frame| frame.kind != kind::HEADERS),
        "{}",
        wire.shown()
    );
    arena.close()
}

#[test]
fn half_closed_connections_end() -> Result<()> {
    let arena = Arena::open("half")?;
    // As with kube-apiserver itself: whoever closes one side is taken to have gone away, in the middle of a watch too.
    let get = http1::request(arena.probe.server(), &format!("GET {HARMLESS}"), &[], b"");
    let mut wire = arena.probe.connect(H1)?;
    wire.send(&get)?;
    wire.half_close()?;
    wire.receive_to_end()?;
    let maps = "/api/v1/namespaces/default/configmaps";
    let mut wire = arena.probe.connect(H1)?;
    wire.send(&http1::request(
        arena.probe.server(),
        &format!("GET {maps}?watch=true"),
        &[],
        b"",
    ))?;
    wire.receive_until(|received| received.windows(5).any(|five| five == b"ADDED"))?;
    wire.half_close()?;
    wire.receive_to_end()?;
    arena.wait_for_event(|event| event["stage"] == "outcome" && event["verb"] == "watch")?;
    for event in arena.upstream()? {
        arena.wait_for_event(|known| known["id"] == event.audit_id)?;
        arena.expect_upstream(&event.request_uri);
    }
    // In the middle of a head, and in the middle of a body.
    let whole = http1::request(
        arena.probe.server(),
        &format!("POST {maps}"),
        &[],
        b"{\"kind\":1}",
    );
    for length in [10, whole.len() - 20, whole.len() - 3] {
        let mut wire = arena.probe.connect(H1)?;
        wire.send(&whole[..length])?;
        wire.half_close()?;
        wire.receive_to_end()?;
        let codes: Vec<u16> = replies(&wire.received).iter().map(|reply| reply.status).collect();
        ensure!(codes.is_empty() || codes == [400], "{codes:?}: {}", wire.shown());
    }
    arena.close()
}

#[test]
fn slow_peers_hold_up_nobody() -> Result<()> {
    let arena = Arena::open("slow")?;
    let settled = memory(arena.probe.guard_pid(), "VmRSS")?;
    let mut slow = Vec::new();
    for n in 0..120 {
        let mut wire = arena.probe.connect(if n % 2 == 0 { H1 } else { H2 })?;
        let begun = if n % 2 == 0 {
            b"GET /api/v1/conf".to_vec()
        } else {
            half_of_an_h2_head(&arena.probe)
        };
        wire.send(&begun)?;
        slow.push(wire);
    }
    for _ in 0..30 {
        slow.push(arena.probe.connect(Dial::Plain)?);
    }
    arena.others_are_fine()?;
    // Bodies that were announced take their share of memory, and what is beyond it is told to come again.
    for _ in 0..30 {
        let mut wire = arena.probe.connect(H1)?;
        let head = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: kubernetes\r\nContent-Length: 3145728\r\n\r\n{";
        wire.send(head.as_bytes())?;
        slow.push(wire);
    }
    arena.wait_for_event(|event| event["reason"] == "Overloaded" && event["status"] == 429)?;
    arena.others_are_fine()?;
    let grown = memory(arena.probe.guard_pid(), "VmRSS")?.saturating_sub(settled);
    ensure!(grown < 96 << 10, "the guard grew by {grown} KiB");
    drop(slow);
    arena.close()
}

fn half_of_an_h2_head(probe: &Probe) -> Vec<u8> {
    let authority = probe.server().to_string();
    let block = http2::block(&http2::pseudo(&authority, "GET /api"));
    [
        http2::opening(),
        http2::frame(kind::HEADERS, END_STREAM, 1, &block[..block.len() / 2]),
    ]
    .concat()
}

#[test]
fn more_connections_than_one_agent_gets_are_closed_and_room_comes_back() -> Result<()> {
    let arena = Arena::open("crowd")?;
    let mut crowd = Vec::new();
    let refused = loop {
        match arena.probe.dial(H1)? {
            Ok(wire) => crowd.push(wire),
            Err(error) => break error,
        }
        ensure!(crowd.len() <= 1024, "{} connections at once", crowd.len());
    };
    ensure!(crowd.len() > 900, "only {} connections: {refused}", crowd.len());
    arena.wait_for_event(|event| event["reason"] == "TooManyConnections")?;
    drop(crowd);
    arena.close()
}

/// KiB of memory: `VmRSS`, what a process holds, or `VmHWM`, the most that it has held.
pub(crate) fn memory(pid: u32, which: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(which)?.strip_prefix(':'))
        .with_context(|| format!("no {which}"))?;
    let number = value.trim().trim_end_matches(" kB").parse();
    number.with_context(|| format!("reading {which}"))
}
