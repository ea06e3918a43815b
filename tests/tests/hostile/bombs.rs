//! Bodies that are small on the wire and large, deep or dear to whoever reads them: refused, in little memory.

use anyhow::{Context, Result};

use crate::arena::Expect::{self, Refused};
use crate::arena::{Arena, Ask, BOTH};

const MAPS: &str = "POST /api/v1/namespaces/default/configmaps";
const MALFORMED: Expect = Refused(400, "BodyMalformed");
/// Under the limit of a body, and near enough: over HTTP/2 it fits the window that is open from the beginning.
const LONG: usize = 60_000;

struct Bomb {
    what: &'static str,
    header: (&'static str, &'static str),
    body: Vec<u8>,
    expect: Expect,
}

fn bombs() -> Vec<Bomb> {
    let json = ("Content-Type", "application/json");
    let yaml = ("Content-Type", "application/yaml");
    let protobuf = ("Content-Type", "application/vnd.kubernetes.protobuf");
    let bomb = |what, header, body, expect| Bomb {
        what,
        header,
        body,
        expect,
    };
    let unread = Refused(415, "UnsupportedMediaType");
    let keys: String = (0..LONG / 10).map(|n| format!("\"{n:05}\":1,")).collect();
    vec![
        bomb(
            "gzip of many zeros",
            ("Content-Encoding", "gzip"),
            zeros(LONG),
            unread,
        ),
        bomb(
            "gzip in gzip",
            ("Content-Encoding", "gzip, gzip"),
            zeros(LONG),
            unread,
        ),
        bomb("zeros called JSON", json, zeros(LONG), MALFORMED),
        bomb("open brackets", json, "[".repeat(LONG).into_bytes(), MALFORMED),
        bomb(
            "open objects",
            json,
            "{\"a\":".repeat(LONG / 5).into_bytes(),
            MALFORMED,
        ),
        bomb(
            "the same key behind many",
            json,
            format!("{{{keys}\"00000\":1}}").into_bytes(),
            MALFORMED,
        ),
        bomb("aliases of aliases", yaml, laughs().into_bytes(), MALFORMED),
        bomb(
            "open flow sequences",
            yaml,
            "[".repeat(LONG).into_bytes(),
            MALFORMED,
        ),
        bomb("nested keys", yaml, "? ".repeat(LONG / 2).into_bytes(), MALFORMED),
        bomb(
            "documents",
            yaml,
            "a: b\n---\n".repeat(LONG / 9).into_bytes(),
            MALFORMED,
        ),
        bomb("a length beyond the end", protobuf, beyond_the_end(), MALFORMED),
        bomb("messages in messages", protobuf, nested(), MALFORMED),
    ]
}

/// gzip that repeats one zero: 13 bits for each 258 bytes.
fn zeros(length: usize) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let (mut bits, mut count) = (0_u32, 0);
    let mut push = |bytes: &mut Vec<u8>, code: u32, width: u32| {
        bits |= code << count;
        count += width;
        while count >= 8 {
            bytes.extend(bits.to_le_bytes().first());
            bits >>= 8;
            count -= 8;
        }
    };
    // The last block, with the fixed codes; one literal zero.
    push(&mut bytes, 0b011, 3);
    push(&mut bytes, 0b0000_1100, 8);
    while bytes.len() < length {
        // Symbol 285 (258 bytes), most significant bit first, then distance 1.
        push(&mut bytes, 0b1010_0011, 8);
        push(&mut bytes, 0, 5);
    }
    bytes
}

/// Ten lines of which each is ten times the one before.
fn laughs() -> String {
    let mut text = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for n in 1..10 {
        let before = format!("*a{}", n - 1);
        text.push_str(&format!("a{n}: &a{n} [{}]\n", [before.as_str(); 10].join(", ")));
    }
    text
}

/// An object that says it is 2 GiB long.
fn beyond_the_end() -> Vec<u8> {
    [
        &b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12"[..],
        b"\xff\xff\xff\xff\x07",
    ]
    .concat()
}

/// A JSON schema in a JSON schema, and so on.
fn nested() -> Vec<u8> {
    let mut raw = Vec::new();
    while raw.len() < LONG / 2 {
        // JSONSchemaProps.not = 28.
        raw = [&[0xe2, 0x01][..], &varint(raw.len()), &raw].concat();
    }
    // CustomResourceDefinition.spec.versions.schema.openAPIV3Schema
    for tag in [0x0a_u8, 0x22, 0x3a, 0x12] {
        raw = [&[tag][..], &varint(raw.len()), &raw].concat();
    }
    let head = b"k8s\0\x0a\x33\x0a\x17apiextensions.k8s.io/v1\x12\x18CustomResourceDefinition";
    [&head[..], &[0x12], &varint(raw.len()), &raw].concat()
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[test]
fn bodies_that_grow_when_they_are_read_are_refused() -> Result<()> {
    let arena = Arena::open("bombs")?;
    for Bomb {
        what,
        header,
        body,
        expect,
    } in &bombs()
    {
        for protocol in BOTH {
            let ask = Ask {
                line: MAPS,
                headers: &[*header],
                body,
            };
            arena
                .check(protocol, &ask, *expect)
                .with_context(|| (*what).to_owned())?;
        }
    }
    arena.close()
}
