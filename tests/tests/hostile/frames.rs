//! HTTP/2 that no library would send. What cannot be answered is reset or ends the connection, counted in the record.

use anyhow::{Context, Result, bail, ensure};
use rig::probe::http2::{
    self, Answer, END_HEADERS, END_STREAM, block, frame, headers, kind, opening, pseudo,
};
use rig::probe::{H2, Wire};

use crate::arena::{Arena, HARMLESS, answer};

const GET: &str = "GET /api/v1/namespaces/default/configmaps/kube-root-ca.crt";

/// What is to become of a header list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Refused(u16, &'static str),
    Reset,
    Passes,
}

const MALFORMED: Fate = Fate::Refused(400, "RequestMalformed");

/// Each of these added to a good request makes it none.
const ADDED: &[(&str, &str)] = &[
    (":path", "/api/v1/secrets"),
    (":method", "DELETE"),
    (":authority", "evil.example"),
    (":unknown", "x"),
    (":status", "200"),
    (":protocol", "websocket"),
    ("Upper-Case", "x"),
    ("connection", "close"),
    ("connection", "impersonate-user"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "websocket"),
    ("keep-alive", "x"),
    ("proxy-connection", "x"),
    ("te", "gzip"),
    ("x", "a\r\nimpersonate-user: admin"),
    ("x", "a\0b"),
    ("x y", "a"),
    ("", "a"),
    ("content-length", "5"),
];

#[test]
fn headers_that_no_request_has() -> Result<()> {
    let arena = Arena::open("pseudo")?;
    let authority = arena.probe.server().to_string();
    let good = pseudo(&authority, GET);
    for header in ADDED {
        meets(&arena, &[good.as_slice(), &[*header]].concat(), Fate::Reset)?;
    }
    meets(&arena, &[&[("x", "y")], good.as_slice()].concat(), Fate::Reset)?;
    for (missing, fate) in [
        (":method", Fate::Reset),
        (":path", Fate::Reset),
        (":scheme", Fate::Reset),
        (":authority", MALFORMED),
    ] {
        let list: Vec<(&str, &str)> = good
            .iter()
            .copied()
            .filter(|(name, _)| *name != missing)
            .collect();
        meets(&arena, &list, fate)?;
    }
    arena.close()
}

#[test]
fn requests_for_something_else() -> Result<()> {
    let arena = Arena::open("elsewhere")?;
    let authority = arena.probe.server().to_string();
    let exec = pseudo(&authority, "CONNECT /api/v1/namespaces/d/pods/a/exec");
    // The library drops a fragment; what it leaves is what is decided on and sent.
    let fragment = format!("{GET}#x");
    let cases = [
        (
            [pseudo(&authority, GET), vec![("host", "evil.example")]].concat(),
            MALFORMED,
        ),
        (
            vec![(":method", "CONNECT"), (":authority", "evil.example:443")],
            MALFORMED,
        ),
        (
            vec![(":method", "CONNECT"), (":authority", &authority)],
            Fate::Refused(405, "MethodNotAllowed"),
        ),
        ([exec, vec![(":protocol", "websocket")]].concat(), Fate::Reset),
        (pseudo("evil.example", GET), MALFORMED),
        (pseudo("admin@127.0.0.1", GET), MALFORMED),
        (
            pseudo(&authority, "GET https://evil.example/api/v1/secrets"),
            Fate::Reset,
        ),
        (pseudo(&authority, "GET api/v1/secrets"), Fate::Reset),
        (pseudo(&authority, &fragment), Fate::Passes),
        (pseudo(&authority, "GET /api/v1/a b"), Fate::Reset),
        (pseudo(&authority, "GET "), Fate::Reset),
        (pseudo(&authority, "G T /api/v1/configmaps"), Fate::Reset),
    ];
    for (list, fate) in cases {
        meets(&arena, &list, fate)?;
    }
    arena.close()
}

#[test]
fn header_lists_that_are_too_long_are_turned_away() -> Result<()> {
    let arena = Arena::open("oversized")?;
    let authority = arena.probe.server().to_string();
    let names: Vec<String> = (0..10_000).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "y")).collect();
    let long = "x".repeat(64 << 10);
    for more in [many, vec![("x-long", long.as_str())]] {
        let before = malformed_events(&arena)?;
        let list = [pseudo(&authority, GET), more].concat();
        let mut wire = arena.probe.connect(H2)?;
        wire.send(&opening())?;
        wire.send(&headers(1, END_STREAM, &block(&list)))?;
        match answer(&mut wire, 1)? {
            // The library's own answer, which has no body.
            Answer::Reply(reply) => ensure!(reply.status == 431, "{reply:?}"),
            Answer::Reset(_) | Answer::GoAway(_) => {}
        }
        recorded_after(&arena, before)?;
    }
    arena.close()
}

/// Sends a header list on a connection of its own.
fn meets(arena: &Arena, list: &[(&str, &str)], fate: Fate) -> Result<()> {
    let before = malformed_events(arena)?;
    let mut wire = arena.probe.connect(H2)?;
    wire.send(&opening())?;
    wire.send(&headers(1, END_STREAM, &block(list)))?;
    match (answer(&mut wire, 1)?, fate) {
        (Answer::Reply(reply), Fate::Refused(code, reason)) => arena
            .refused(&reply, code, reason)
            .with_context(|| format!("{list:?}")),
        (Answer::Reset(_) | Answer::GoAway(_), Fate::Reset) => recorded_after(arena, before),
        (Answer::Reply(reply), Fate::Passes) if reply.status == 200 => {
            arena.expect_upstream(HARMLESS);
            Ok(())
        }
        (other, _) => bail!("{list:?}, expecting {fate:?}: {other:?}"),
    }
}

/// How many events say that somebody's HTTP could not be understood.
fn malformed_events(arena: &Arena) -> Result<usize> {
    let events = crate::arena::events(&arena.guarded)?;
    Ok(events
        .iter()
        .filter(|event| is_malformed_connection(event))
        .count())
}

fn is_malformed_connection(event: &serde_json::Value) -> bool {
    event["stage"] == "connection" && event["reason"] == "RequestMalformed"
}

/// One more event says so.
fn recorded_after(arena: &Arena, before: usize) -> Result<()> {
    arena.wait_for_record(|events| {
        let now = events
            .iter()
            .filter(|event| is_malformed_connection(event))
            .count();
        (now > before).then_some(())
    })
}

/// What is wrong, and bytes in which it is.
fn broken_frames(request: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (
            "no preface",
            b"GET / HTTP/1.1\r\nHost: kubernetes\r\n\r\n".to_vec(),
        ),
        (
            "settings of odd length",
            [http2::PREFACE, &frame(kind::SETTINGS, 0, 0, b"12345")].concat(),
        ),
        (
            "settings on a stream",
            [opening(), frame(kind::SETTINGS, 0, 1, b"")].concat(),
        ),
        (
            "an even stream",
            [opening(), headers(2, END_STREAM, request)].concat(),
        ),
        (
            "stream zero",
            [opening(), headers(0, END_STREAM, request)].concat(),
        ),
        (
            "data before headers",
            [opening(), frame(kind::DATA, 0, 1, b"x")].concat(),
        ),
        (
            "a lone continuation",
            [opening(), frame(kind::CONTINUATION, END_HEADERS, 1, request)].concat(),
        ),
        (
            "a frame between header frames",
            [
                opening(),
                frame(kind::HEADERS, 0, 1, request),
                frame(kind::PING, 0, 0, &[0; 8]),
            ]
            .concat(),
        ),
        (
            "a header block that cannot be decoded",
            [opening(), headers(1, END_STREAM, &[0xff; 32])].concat(),
        ),
        (
            "a frame that is too long",
            [opening(), frame(kind::PING, 0, 0, &vec![0; 20 << 10])].concat(),
        ),
        (
            "a window update of zero",
            [opening(), frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4])].concat(),
        ),
        (
            "a window without bound",
            [
                opening(),
                frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            ]
            .concat(),
        ),
        (
            "a push from a client",
            [
                opening(),
                frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2], request].concat()),
            ]
            .concat(),
        ),
    ]
}

#[test]
fn frames_that_break_the_protocol_end_the_connection() -> Result<()> {
    let arena = Arena::open("frames")?;
    let authority = arena.probe.server().to_string();
    let request = block(&pseudo(&authority, GET));
    for (what, bytes) in broken_frames(&request) {
        let before = malformed_events(&arena)?;
        let mut wire = arena.probe.connect(H2)?;
        wire.send(&bytes)?;
        wire.receive_to_end().with_context(|| what.to_owned())?;
        ensure!(!answered(&wire), "{what}: {}", wire.shown());
        recorded_after(&arena, before).with_context(|| what.to_owned())?;
    }
    arena.close()
}

fn answered(wire: &Wire) -> bool {
    http2::frames(&wire.received)
        .iter()
        .any(|frame| frame.kind == kind::HEADERS)
}

#[test]
fn floods_end_the_connection_and_stay_small() -> Result<()> {
    let arena = Arena::open("floods")?;
    let authority = arena.probe.server().to_string();
    let request = block(&pseudo(&authority, GET));
    let settled = memory(&arena)?;
    let continuations = [
        frame(kind::HEADERS, END_STREAM, 1, &request),
        frame(kind::CONTINUATION, 0, 1, b"").repeat(200_000),
    ]
    .concat();
    let padding = block(&[("x", &"y".repeat(16_000))]);
    let fat: Vec<u8> = frame(kind::CONTINUATION, 0, 1, &padding[..padding.len().min(16 << 10)]).repeat(1000);
    let fat = [frame(kind::HEADERS, END_STREAM, 1, &request), fat].concat();
    let resets: Vec<u8> = (0..20_000_u32)
        .flat_map(|n| {
            [
                headers(2 * n + 1, END_STREAM, &request),
                frame(kind::RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()),
            ]
            .concat()
        })
        .collect();
    let floods = [
        ("continuations", continuations),
        ("fat continuations", fat),
        ("rapid resets", resets),
    ];
    for (what, bytes) in floods {
        let before = malformed_events(&arena)?;
        let mut wire = arena.probe.connect(H2)?;
        wire.send(&opening())?;
        for part in bytes.chunks(1 << 20) {
            if !wire.send(part)? {
                break;
            }
        }
        wire.receive_to_end().with_context(|| what.to_owned())?;
        recorded_after(&arena, before).with_context(|| what.to_owned())?;
    }
    // Nobody reads the answers to these.
    for (kind, payload) in [(kind::SETTINGS, &b""[..]), (kind::PING, &[0; 8])] {
        let mut wire = arena.probe.connect(H2)?;
        wire.send(&opening())?;
        wire.send(&frame(kind, 0, 0, payload).repeat(50_000))?;
        arena.others_are_fine()?;
    }
    let grown = memory(&arena)?.saturating_sub(settled);
    ensure!(grown < 64 << 10, "the guard grew by {grown} KiB");
    // Of the rapid resets some were requests for a while; what was sent of them is no secret.
    for event in arena
        .upstream()?
        .iter()
        .filter(|event| event.request_uri == HARMLESS)
        .skip(4)
    {
        arena.expect_upstream(&event.request_uri);
    }
    arena.close()
}

/// KiB that the guard holds in memory.
fn memory(arena: &Arena) -> Result<u64> {
    crate::connections::memory(arena.probe.guard_pid(), "VmRSS")
}
