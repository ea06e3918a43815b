//! Headers that ask for another identity, another protocol or another reading. None of them goes upstream.

use anyhow::{Context, Result, ensure};
use rig::probe::H1;
use rig::probe::http1::{self, replies};

use crate::arena::Expect::{self, Reaches, Refused};
use crate::arena::{Arena, Ask, BOTH, HARMLESS, Protocol};

const MALFORMED: Expect = Refused(400, "RequestMalformed");
const WATCH: &str = "GET /api/v1/namespaces/default/configmaps?watch=true";
const BEARER: &str = "base64url.bearer.authorization.k8s.io.c3RvbGVu, base64.binary.k8s.io";

#[test]
fn headers_that_would_make_the_guard_somebody_else_stay_behind() -> Result<()> {
    let arena = Arena::open("identity")?;
    let line = format!("GET {HARMLESS}");
    let sets: [&[(&str, &str)]; 8] = [
        &[
            ("Impersonate-User", "system:admin"),
            ("Impersonate-Group", "system:masters"),
        ],
        &[("impersonate-uid", "1"), ("Impersonate-Extra-Reason", "x")],
        &[
            ("X-Remote-User", "admin"),
            ("X-Remote-Group", "system:masters"),
            ("X-Remote-Extra-A", "b"),
        ],
        &[
            ("X-Forwarded-For", "10.0.0.1"),
            ("X-Forwarded-User", "admin"),
            ("Via", "1.1 a"),
            ("Forwarded", "for=a"),
        ],
        &[
            ("Authorization", "Bearer stolen"),
            ("Proxy-Authorization", "Basic YTpi"),
            ("Cookie", "a=b"),
        ],
        &[
            ("X-HTTP-Method-Override", "DELETE"),
            ("X-Method-Override", "DELETE"),
            ("X-Original-URL", "/api/v1/secrets"),
        ],
        &[
            ("Audit-ID", "chosen-by-the-agent"),
            (
                "Traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
        ],
        &[
            ("Range", "bytes=0-1"),
            ("TE", "trailers"),
            ("Accept-Encoding", "gzip"),
            ("Origin", "https://evil.example"),
        ],
    ];
    for headers in sets {
        for protocol in BOTH {
            let ask = Ask {
                line: &line,
                headers,
                body: b"",
            };
            arena.check(protocol, &ask, Reaches(200, HARMLESS))?;
        }
    }
    let events = arena.upstream()?;
    let chosen = events.iter().find(|event| event.audit_id.contains("chosen"));
    ensure!(chosen.is_none(), "the agent's Audit-ID went upstream: {chosen:?}");
    arena.close()
}

#[test]
fn the_caller_does_not_choose_what_is_dropped_on_the_way() -> Result<()> {
    let arena = Arena::open("hops")?;
    let line = format!("GET {HARMLESS}");
    // A proxy that lets the caller name its hop-by-hop headers removes its own identity headers.
    for named in [
        "Impersonate-User",
        "Authorization",
        "Audit-ID, Host",
        "close, Impersonate-User",
    ] {
        let headers = [("Connection", named), ("Impersonate-User", "admin")];
        let ask = Ask {
            line: &line,
            headers: &headers,
            body: b"",
        };
        arena.check(Protocol::H1, &ask, Reaches(200, HARMLESS))?;
    }
    arena.close()
}

#[test]
fn a_header_that_may_stand_once_stands_once() -> Result<()> {
    let arena = Arena::open("twice")?;
    let line = format!("GET {HARMLESS}");
    let sets: [&[(&str, &str)]; 6] = [
        &[("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
        &[("Authorization", "Bearer a"), ("authorization", "Bearer a")],
        &[("Accept", "application/json"), ("Accept", "*/*")],
        &[
            ("Content-Type", "application/json"),
            ("Content-Type", "text/plain"),
        ],
        &[("Host", "kubernetes"), ("Host", "kubernetes")],
        &[("Host", "evil.example")],
    ];
    for headers in sets {
        for protocol in BOTH {
            arena.check(
                protocol,
                &Ask {
                    line: &line,
                    headers,
                    body: b"",
                },
                MALFORMED,
            )?;
        }
    }
    let long = "application/json,".repeat(400);
    let sets: [(&[(&str, &str)], Expect); 3] = [
        (&[("Accept", "application/xml")], Refused(406, "NotAcceptable")),
        (&[("Accept", &long)], Refused(406, "NotAcceptable")),
        // Those who ask for protobuf take JSON as well: the answer says what it is.
        (
            &[("Accept", "application/vnd.kubernetes.protobuf")],
            Reaches(200, HARMLESS),
        ),
    ];
    for (headers, expect) in sets {
        for protocol in BOTH {
            arena.check(
                protocol,
                &Ask {
                    line: &line,
                    headers,
                    body: b"",
                },
                expect,
            )?;
        }
    }
    arena.close()
}

#[test]
fn upgrades_are_refused_and_credentials_in_them_go_nowhere() -> Result<()> {
    let arena = Arena::open("upgrades")?;
    let websocket: &[(&str, &str)] = &[
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("Sec-WebSocket-Protocol", BEARER),
    ];
    let h2c: &[(&str, &str)] = &[
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
    ];
    // kube-apiserver looks for the word anywhere in Connection.
    let hidden: &[(&str, &str)] = &[("Connection", "keep-alive, xUPGRADEx")];
    let bearer_only: &[(&str, &str)] = &[("Sec-WebSocket-Protocol", BEARER)];
    let list = format!("GET {HARMLESS}");
    let log = "GET /api/v1/namespaces/default/pods/a/log?follow=true";
    for line in [WATCH, &list, log] {
        for headers in [websocket, h2c, hidden, bearer_only] {
            upgrade_refused(&arena, line, headers, 400, "RequestMalformed")?;
        }
    }
    let exec = "GET /api/v1/namespaces/default/pods/a/exec?command=id";
    let spdy: &[(&str, &str)] = &[("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")];
    for headers in [websocket, spdy] {
        upgrade_refused(&arena, exec, headers, 403, "ConnectRefused")?;
    }
    arena.check(
        Protocol::H2,
        &Ask {
            line: WATCH,
            headers: bearer_only,
            body: b"",
        },
        MALFORMED,
    )?;
    arena.close()
}

/// There is one answer, a refusal; the request behind it may be answered, but nothing is tunnelled.
fn upgrade_refused(
    arena: &Arena,
    line: &str,
    headers: &[(&str, &str)],
    code: u16,
    reason: &str,
) -> Result<()> {
    let mut wire = arena.probe.connect(H1)?;
    wire.send(&http1::request(arena.probe.server(), line, headers, b""))?;
    wire.send(b"\x81\x05hello")?;
    wire.receive_to_end()?;
    let replies = replies(&wire.received);
    let first = replies
        .first()
        .with_context(|| format!("{line} {headers:?}: {}", wire.shown()))?;
    arena
        .refused(first, code, reason)
        .with_context(|| format!("{line} {headers:?}"))
}
