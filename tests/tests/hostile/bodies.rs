//! Bodies that say one thing to the guard and another to the API server, and bodies that are too much.

use anyhow::{Context, Result, ensure};
use rig::probe::http1::replies;
use rig::probe::http2::{self, Answer, kind};
use rig::probe::{H1, H2, Wire};

use crate::arena::Expect::{self, Reaches, Refused};
use crate::arena::{Arena, Ask, BOTH, Protocol, answer};

const PODS: &str = "POST /api/v1/namespaces/default/pods";
const MAPS: &str = "POST /api/v1/namespaces/default/configmaps";
const MALFORMED: Expect = Refused(400, "BodyMalformed");
const UNSUPPORTED: Expect = Refused(415, "UnsupportedMediaType");
const MAX_BODY: usize = 3 << 20;

/// Typed decoding merges the two, and the first container becomes privileged.
const PRIVILEGED: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},
  "spec":{"hostPID":true,"containers":[{"name":"c","image":"i","securityContext":{"privileged":true}}]},
  "spec":{"containers":[{"name":"c","image":"ok"}]}}"#;

#[test]
fn what_a_second_parser_would_read_differently() -> Result<()> {
    let arena = Arena::open("bodies")?;
    let map =
        |rest: &str| format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"a"}}{rest}}}"#);
    let bodies = [
        (PODS, PRIVILEGED.to_owned()),
        (MAPS, map(r#","data":{"a":"1"},"data":{"b":"2"}"#)),
        (MAPS, map(r#","data":{"a":"1","a":"2"}"#)),
        (MAPS, map(r#","data":{"a":"1","\u0061":"2"}"#)),
        (MAPS, map(r#","kind":"Secret""#)),
        (
            MAPS,
            r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a"}}"#.to_owned(),
        ),
        (MAPS, format!("{} {{}}", map(""))),
        (MAPS, format!("\u{feff}{}", map(""))),
        (MAPS, map("").trim_end_matches('}').to_owned()),
        (MAPS, map(r#","data":{"a":NaN}"#)),
        (MAPS, map(r#","data":{"a":"b",}"#)),
        (MAPS, map("/* a comment */")),
        (MAPS, map(r#","data":{"a":"\ud800"}"#)),
        (MAPS, format!("{}{}", "[".repeat(20_000), "]".repeat(20_000))),
        (MAPS, "kind: ConfigMap".to_owned()),
        (
            MAPS,
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"kube-system"}}"#
                .to_owned(),
        ),
    ];
    for (line, body) in &bodies {
        for protocol in BOTH {
            let ask = Ask {
                line,
                headers: &[],
                body: body.as_bytes(),
            };
            arena
                .check(protocol, &ask, MALFORMED)
                .with_context(|| format!("{body:.200}"))?;
        }
    }
    let invalid = [map("").into_bytes(), vec![0xff]].concat();
    let get = format!("GET {}", crate::arena::HARMLESS);
    for protocol in BOTH {
        arena.check(
            protocol,
            &Ask {
                line: MAPS,
                headers: &[],
                body: &invalid,
            },
            MALFORMED,
        )?;
        arena.check(
            protocol,
            &Ask {
                line: &get,
                headers: &[],
                body: b"{}",
            },
            MALFORMED,
        )?;
    }
    arena.close()
}

#[test]
fn types_and_encodings_that_cannot_be_read_exactly() -> Result<()> {
    let arena = Arena::open("types")?;
    let map = br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}"#;
    let headers = [
        ("Content-Encoding", "gzip"),
        ("Content-Encoding", "deflate"),
        ("Content-Encoding", "identity"),
        ("Content-Type", "application/cbor"),
        ("Content-Type", "text/yaml"),
        ("Content-Type", "text/plain"),
        ("Content-Type", "application/json; charset=utf-16"),
        ("Content-Type", "application/json, application/yaml"),
        ("Content-Type", "application/json;stream=watch"),
        ("Content-Type", "application/merge-patch+json"),
        ("Content-Type", "multipart/form-data; boundary=a"),
    ];
    for header in headers {
        for protocol in BOTH {
            let ask = Ask {
                line: MAPS,
                headers: &[header],
                body: map,
            };
            arena
                .check(protocol, &ask, UNSUPPORTED)
                .with_context(|| format!("{header:?}"))?;
        }
    }
    let protobuf: &[(&[u8], Expect)] = &[(b"k8s\0\xff\xff\xff", MALFORMED), (map, MALFORMED)];
    for (body, expect) in protobuf {
        for protocol in BOTH {
            let headers = [("Content-Type", "application/vnd.kubernetes.protobuf")];
            arena.check(
                protocol,
                &Ask {
                    line: MAPS,
                    headers: &headers,
                    body,
                },
                *expect,
            )?;
        }
    }
    arena.close()
}

/// Resolvers, merge keys and further documents: where one reader of YAML sees another object than the next.
#[test]
fn yaml_that_two_readers_understand_differently() -> Result<()> {
    let arena = Arena::open("yaml")?;
    let map = |rest: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\n{rest}");
    let bodies = [
        "data: {a: yes}",
        "data: {a: 012}",
        "data: {a: 1_000}",
        "data: {a: 2026-01-31}",
        "data: {on: a}",
        "data: {a: b, 'a': c}",
        "data: &x {a: b}",
        "base: &x {a: b}\ndata: {<<: *x}",
        "data: {a: !!str b}",
        "data: {a: !!binary aGVsbG8=}",
        "kind: Secret",
        "---\nkind: Secret",
        "...\n---\napiVersion: v1",
    ];
    let apply = "PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=t";
    let types = [
        (MAPS, "application/yaml"),
        (apply, "application/apply-patch+yaml"),
    ];
    for body in bodies.map(map) {
        for (line, content_type) in types {
            for protocol in BOTH {
                let ask = Ask {
                    line,
                    headers: &[("Content-Type", content_type)],
                    body: body.as_bytes(),
                };
                arena
                    .check(protocol, &ask, MALFORMED)
                    .with_context(|| format!("{content_type}: {body}"))?;
            }
        }
    }
    // What every reader understands alike is carried out; names nobody else uses, once for each protocol.
    let applies = [
        (
            "yaml-one",
            "/api/v1/namespaces/default/configmaps/yaml-one?dryRun=All&fieldManager=t",
        ),
        (
            "yaml-two",
            "/api/v1/namespaces/default/configmaps/yaml-two?dryRun=All&fieldManager=t",
        ),
    ];
    let create = "/api/v1/namespaces/default/configmaps?dryRun=All";
    for (protocol, (name, apply)) in BOTH.into_iter().zip(applies) {
        let body = format!(
            "# made by hand\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata: {{a: 'yes', b: c}}\n"
        );
        for (method, uri, content_type) in [
            ("POST", create, "application/yaml"),
            ("PATCH", apply, "application/apply-patch+yaml"),
        ] {
            let ask = Ask {
                line: &format!("{method} {uri}"),
                headers: &[("Content-Type", content_type)],
                body: body.as_bytes(),
            };
            arena.check(protocol, &ask, Reaches(201, uri))?;
        }
    }
    arena.close()
}

/// A JSON patch whose paths one library reads in another way than the next, and directives nobody knows.
#[test]
fn patches_that_are_not_whole() -> Result<()> {
    let arena = Arena::open("patches")?;
    let line = "PATCH /api/v1/namespaces/default/configmaps/a";
    let json = [
        r#"[{"op":"add","path":"x/data","value":{}}]"#,
        r#"[{"op":"ADD","path":"/data","value":{}}]"#,
        r#"[{"op":"add","path":"/data"}]"#,
        r#"[{"op":"replace","path":"/kind","value":"Secret"}]"#,
        r#"[{"op":"copy","path":"/data/a"}]"#,
        r#"[{"op":"test","path":"/data/~2","value":1}]"#,
    ];
    let strategic = [r#"{"$patch":"Replace"}"#, r#"{"data":{"$unknown":1}}"#];
    let json = json.map(|body| ("application/json-patch+json", body));
    let strategic = strategic.map(|body| ("application/strategic-merge-patch+json", body));
    for (content_type, body) in json.into_iter().chain(strategic) {
        for protocol in BOTH {
            let ask = Ask {
                line,
                headers: &[("Content-Type", content_type)],
                body: body.as_bytes(),
            };
            arena
                .check(protocol, &ask, MALFORMED)
                .with_context(|| body.to_owned())?;
        }
    }
    arena.close()
}

/// A ConfigMap of exactly so many bytes.
fn map_of(length: usize) -> Vec<u8> {
    let (start, end) = (
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"a":""#,
        r#""}}"#,
    );
    [
        start.as_bytes(),
        &vec![b'x'; length - start.len() - end.len()],
        end.as_bytes(),
    ]
    .concat()
}

#[test]
fn three_mebibytes_pass_and_one_byte_more_does_not() -> Result<()> {
    let arena = Arena::open("large")?;
    let (whole, more) = (map_of(MAX_BODY), map_of(MAX_BODY + 1));
    // The API server reads it, and finds the ConfigMap too large.
    let uri = "/api/v1/namespaces/default/configmaps";
    arena.check(
        Protocol::H1,
        &Ask {
            line: MAPS,
            headers: &[],
            body: &whole,
        },
        Reaches(422, uri),
    )?;
    arena.check(
        Protocol::H1,
        &Ask {
            line: MAPS,
            headers: &[],
            body: &more,
        },
        Refused(413, "BodyTooLarge"),
    )?;

    let mut wire = arena.probe.connect(H2)?;
    let reply = send_large(&arena, &mut wire, &whole)?;
    ensure!(reply.status == 422, "{reply:?}");
    arena.expect_upstream(uri);
    let mut wire = arena.probe.connect(H2)?;
    let reply = send_large(&arena, &mut wire, &more)?;
    arena.refused(&reply, 413, "BodyTooLarge")?;

    // Without a length, in chunks.
    let mut wire = arena.probe.connect(H1)?;
    wire.send(
        format!("{MAPS} HTTP/1.1\r\nHost: kubernetes\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(),
    )?;
    for chunk in more.chunks(1 << 18) {
        let taken = wire.send(&[format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())?;
        if !taken {
            break;
        }
    }
    wire.receive_to_end()?;
    let replies = replies(&wire.received);
    arena.refused(
        replies.first().with_context(|| wire.shown())?,
        413,
        "BodyTooLarge",
    )?;
    arena.close()
}

/// A body over HTTP/2, no faster than the guard takes it. An answer ends the sending.
fn send_large(arena: &Arena, wire: &mut Wire, body: &[u8]) -> Result<rig::http::Reply> {
    wire.send(&http2::opening())?;
    let authority = arena.probe.server().to_string();
    wire.send(&http2::headers(
        1,
        0,
        &http2::block(&http2::pseudo(&authority, MAPS)),
    ))?;
    // Until they are acknowledged, the peer's settings do not hold for itself.
    wire.receive_until(|received| !http2::frames(received).is_empty())?;
    wire.send(&http2::frame(kind::SETTINGS, http2::ACK, 0, b""))?;
    let mut sent = 0;
    while sent < body.len() {
        wire.receive_until(|received| windows(received) > sent || http2::answer(received, 1).is_some())?;
        if http2::answer(&wire.received, 1).is_some() {
            break;
        }
        ensure!(wire.end.is_none(), "{}", wire.shown());
        let end = windows(&wire.received).min(body.len()).min(sent + (16 << 10));
        let last = if end == body.len() { http2::END_STREAM } else { 0 };
        wire.send(&http2::frame(kind::DATA, last, 1, &body[sent..end]))?;
        sent = end;
    }
    match answer(wire, 1)? {
        Answer::Reply(reply) => Ok(reply),
        other @ (Answer::Reset(_) | Answer::GoAway(_)) => anyhow::bail!("{other:?}"),
    }
}

/// How many bytes of body the peer has room for so far, on the stream and on the connection.
fn windows(received: &[u8]) -> usize {
    const INITIAL_WINDOW_SIZE: u8 = 4;
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_be_bytes) as usize;
    let (mut connection, mut stream) = (65_535, None);
    let mut more = 0;
    for frame in http2::frames(received) {
        match (frame.kind, frame.stream) {
            (kind::SETTINGS, _) => {
                for setting in frame.payload.as_chunks::<6>().0 {
                    if setting[1] == INITIAL_WINDOW_SIZE {
                        stream = Some(number(&setting[2..]));
                    }
                }
            }
            (kind::WINDOW_UPDATE, 0) => connection += number(&frame.payload),
            (kind::WINDOW_UPDATE, _) => more += number(&frame.payload),
            _ => {}
        }
    }
    stream.map_or(0, |stream| connection.min(stream + more))
}

#[test]
fn trailers_are_dropped_and_expectations_met() -> Result<()> {
    let arena = Arena::open("trailers")?;
    arena.cluster.create_namespace("trailers")?;
    let uri = "/api/v1/namespaces/trailers/configmaps";
    let body = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}"#;
    let mut wire = arena.probe.connect(H1)?;
    let text = format!(
        "POST {uri} HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nImpersonate-User: admin\r\nContent-Length: 0\r\nHost: evil.example\r\n\r\n",
        body.len()
    );
    wire.send(text.as_bytes())?;
    wire.receive_to_end()?;
    let codes: Vec<u16> = replies(&wire.received).iter().map(|reply| reply.status).collect();
    ensure!(codes == [201], "{codes:?}: {}", wire.shown());
    arena.expect_upstream(uri);

    let mut wire = arena.probe.connect(H1)?;
    let head = format!(
        "POST {uri} HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    wire.send(head.as_bytes())?;
    wire.receive_until(|received| !replies(received).is_empty())?;
    wire.send(body.as_bytes())?;
    wire.receive_to_end()?;
    let codes: Vec<u16> = replies(&wire.received).iter().map(|reply| reply.status).collect();
    ensure!(codes == [100, 409], "{codes:?}: {}", wire.shown());
    arena.expect_upstream(uri);
    arena.close()
}
