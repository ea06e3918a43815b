//! Every way to frame a request, and every way not to, in one piece and byte by byte.

use super::{Framing, State, Violation};

const LIMIT: usize = 64 << 10;
const GET: &str = "GET /api HTTP/1.1\r\nHost: a\r\n\r\n";

fn read(pieces: &[&[u8]]) -> (usize, Option<Violation>, State) {
    let mut framing = Framing::new(LIMIT);
    let mut read = 0;
    for piece in pieces {
        let (fine, violation) = framing.advance(piece);
        read += fine;
        if violation.is_some() {
            return (read, violation, framing.state);
        }
    }
    (read, None, framing.state)
}

fn check(text: &str, expected: Option<Violation>) -> usize {
    let bytes = text.as_bytes();
    let (whole, violation, state) = read(&[bytes]);
    assert_eq!(violation, expected, "{text:?} after {whole} bytes");
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single), (whole, violation, state), "{text:?} byte by byte");
    whole
}

#[test]
fn follows_requests_of_every_framing_and_lands_at_the_next_start() {
    let bodies = [
        GET.to_owned(),
        format!("{GET}{GET}"),
        format!("POST /a HTTP/1.1\r\ncontent-LENGTH:  3 \r\n\r\n\r\n {GET}"),
        format!("POST /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n{GET}"),
        format!(
            "POST /a HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\n\n\n\n\r\nA\r\n0123456789\r\n0\r\n\r\n{GET}"
        ),
        format!("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\nY: 2\r\n\r\n{GET}"),
        "GET /a HTTP/1.1\r\nX:\r\nContent-Length-Of-Nothing: 7\r\n\r\n".to_owned(),
    ];
    for text in bodies {
        check(&text, None);
        assert_eq!(read(&[text.as_bytes()]).2, State::Start, "{text:?}");
    }
}

#[test]
fn refuses_heads_that_can_be_read_in_two_ways() {
    let heads = [
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a HTTP/1.1\nHost: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\n\n",
        "GET /a HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n",
        "GET /a HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost\r\n\r\n",
        "GET /a HTTP/1.1\r\n: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nX: a\0b\r\n\r\n",
        "GET /a HTTP/1.1\r\nX: a\x01b\r\n\r\n",
        "GET /a HTTP/1.1\r\nX: a\x7fb\r\n\r\n",
        "\r\nGET /a HTTP/1.1\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length:\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 000000000000000000001\r\n\r\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked chunked chunked\r\n\r\n",
    ];
    for head in heads {
        let read = check(head, Some(Violation::Head));
        assert!(
            read < head.len(),
            "{head:?}: the end of the head must not get through"
        );
    }
}

#[test]
fn a_request_line_is_a_method_a_target_and_a_version() {
    for target in ["/", "/a?b=c%20d", "*", "https://a:1/b", "a:443"] {
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            check(&format!("GET {target} {version}\r\n\r\n"), None);
        }
    }
    for line in [
        "GET",
        "GET /a",
        "GET HTTP/1.1",
        "GET  /a HTTP/1.1",
        "GET /a  HTTP/1.1",
        "GET /a HTTP/1.1 ",
        "GET\t/a HTTP/1.1",
        "G(T /a HTTP/1.1",
        "!GET /a HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /a\" HTTP/1.1",
        "GET /<a> HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET :// HTTP/1.1",
        "GET /a HTTP/2.0",
        "GET /a HTTP/1.2",
        "GET /a HTTP/1.11",
        "GET /a HTTP/1.",
        "GET /a http/1.1",
    ] {
        check(&format!("{line}\r\nHost: a\r\n\r\n"), Some(Violation::Head));
    }
}

#[test]
fn heads_have_bounds() {
    let head = |headers: &str| format!("GET /a HTTP/1.1\r\n{headers}\r\n");
    check(&head(&"X: y\r\n".repeat(100)), None);
    check(&head(&"X: y\r\n".repeat(101)), Some(Violation::HeadTooLarge));
    let room = LIMIT - head("X: \r\n").len();
    check(&head(&format!("X: {}\r\n", "y".repeat(room))), None);
    let (_, violation, _) = read(&[head(&format!("X: {}\r\n", "y".repeat(room + 1))).as_bytes()]);
    assert_eq!(violation, Some(Violation::HeadTooLarge));
}

#[test]
fn an_unfinished_head_is_counted_and_a_finished_one_is_not() {
    let mut framing = Framing::new(LIMIT);
    for (piece, open) in [
        ("GET /a HTTP", 11),
        ("/1.1\r\nHost: a", 24),
        ("\r\n\r\nPOST", 4),
        (" ", 5),
    ] {
        framing.advance(piece.as_bytes());
        assert_eq!(framing.open_head(), open, "{piece:?}");
    }
}

#[test]
fn refuses_chunked_bodies_that_can_be_read_in_two_ways() {
    let bodies = [
        "\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n",
        "3;x=y\r\nabc\r\n",
        "0x3\r\nabc\r\n",
        "-1\r\n",
        "123456789\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "0\r\n\n",
        "0\r\nX: 1\n\r\n",
        "0\r\n X: 1\r\n\r\n",
    ];
    for body in bodies {
        check(
            &format!("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
            Some(Violation::Body),
        );
    }
}
