//! HTTP/2 as frames: enough to send what no client library would, and to read what comes back.

use std::net::SocketAddr;

use crate::http::Reply;

/// What a connection begins with, before the first SETTINGS.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
pub mod kind {
    /// DATA
    pub const DATA: u8 = 0;
    /// HEADERS
    pub const HEADERS: u8 = 1;
    /// RST_STREAM
    pub const RST_STREAM: u8 = 3;
    /// SETTINGS
    pub const SETTINGS: u8 = 4;
    /// PING
    pub const PING: u8 = 6;
    /// GOAWAY
    pub const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION
    pub const CONTINUATION: u8 = 9;
}

/// Flags of HEADERS and DATA: the stream's last frame.
pub const END_STREAM: u8 = 1;
/// Flag of SETTINGS and PING: an acknowledgement.
pub const ACK: u8 = 1;
/// Flag of HEADERS and CONTINUATION: the block's last frame.
pub const END_HEADERS: u8 = 4;

const FRAME_SIZE: usize = 16 << 10;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
const DEFAULT_WINDOW: u32 = (1 << 16) - 1;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream, 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Preface and settings: answers may be as long as they like, and their headers use no table.
#[must_use]
pub fn opening() -> Vec<u8> {
    const HEADER_TABLE_SIZE: u16 = 1;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let mut settings = Vec::new();
    for (id, value) in [(HEADER_TABLE_SIZE, 0), (INITIAL_WINDOW_SIZE, LARGEST_WINDOW)] {
        settings.extend(id.to_be_bytes());
        settings.extend(value.to_be_bytes());
    }
    let window = (LARGEST_WINDOW - DEFAULT_WINDOW).to_be_bytes();
    [
        PREFACE,
        &frame(kind::SETTINGS, 0, 0, &settings),
        &frame(kind::WINDOW_UPDATE, 0, 0, &window),
    ]
    .concat()
}

/// A header block in which every header stands as it is.
#[must_use]
pub fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in headers {
        bytes.push(0);
        push_text(&mut bytes, name);
        push_text(&mut bytes, value);
    }
    bytes
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    const PREFIX: usize = 127;
    let mut left = text.len();
    if left < PREFIX {
        bytes.extend(u8::try_from(left));
    } else {
        bytes.push(127);
        left -= PREFIX;
        while left >= 128 {
            bytes.extend(u8::try_from(left % 128 + 128));
            left /= 128;
        }
        bytes.extend(u8::try_from(left));
    }
    bytes.extend(text.as_bytes());
}

/// The four pseudo-headers of a request.
#[must_use]
pub fn pseudo<'a>(authority: &'a str, line: &'a str) -> Vec<(&'a str, &'a str)> {
    let (method, path) = line.split_once(' ').unwrap_or((line, ""));
    vec![
        (":method", method),
        (":scheme", "https"),
        (":authority", authority),
        (":path", path),
    ]
}

/// A header block in frames; `flags` are those of the HEADERS frame besides END_HEADERS.
#[must_use]
pub fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let parts: Vec<&[u8]> = block.chunks(FRAME_SIZE).collect();
    for (at, part) in parts.iter().enumerate() {
        let last = if at + 1 == parts.len() { END_HEADERS } else { 0 };
        let (kind, flags) = if at == 0 {
            (kind::HEADERS, flags)
        } else {
            (kind::CONTINUATION, 0)
        };
        bytes.extend(frame(kind, flags | last, stream, part));
    }
    bytes
}

/// A request whose body fits into the peer's first window.
#[must_use]
pub fn request(server: SocketAddr, stream: u32, line: &str, more: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let authority = server.to_string();
    let lower: Vec<(String, &str)> = more
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), *value))
        .collect();
    let mut all = pseudo(&authority, line);
    all.extend(lower.iter().map(|(name, value)| (name.as_str(), *value)));
    let end = if body.is_empty() { END_STREAM } else { 0 };
    let mut bytes = headers(stream, end, &block(&all));
    bytes.extend(data(stream, body));
    bytes
}

/// A body in frames, the last of which ends the stream.
#[must_use]
pub fn data(stream: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let parts: Vec<&[u8]> = body.chunks(FRAME_SIZE).collect();
    for (at, part) in parts.iter().enumerate() {
        let last = if at + 1 == parts.len() { END_STREAM } else { 0 };
        bytes.extend(frame(kind::DATA, last, stream, part));
    }
    bytes
}

/// Every whole frame in `received`.
#[must_use]
pub fn frames(received: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut rest = received;
    while let Some((head, after)) = rest.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, after)) = after.split_at_checked(length) else {
            break;
        };
        frames.push(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: payload.to_vec(),
        });
        rest = after;
    }
    frames
}

/// What became of a stream.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A whole answer. Of its headers only the status is read.
    Reply(Reply),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code.
    GoAway(u32),
}

/// What became of a stream, once that is certain.
#[must_use]
pub fn answer(received: &[u8], stream: u32) -> Option<Answer> {
    let mut reply = Reply {
        status: 0,
        headers: Vec::new(),
        body: Vec::new(),
    };
    for frame in frames(received) {
        let code = || {
            frame
                .payload
                .last_chunk::<4>()
                .map_or(0, |code| u32::from_be_bytes(*code))
        };
        match frame.kind {
            kind::GOAWAY => {
                let code = frame
                    .payload
                    .get(4..8)
                    .and_then(|code| code.try_into().ok())
                    .map_or(0, u32::from_be_bytes);
                // Without an error it only says that no new streams are taken.
                if code != 0 {
                    return Some(Answer::GoAway(code));
                }
            }
            kind::RST_STREAM if frame.stream == stream => return Some(Answer::Reset(code())),
            kind::HEADERS if frame.stream == stream && reply.status == 0 => {
                reply.status = status(&frame.payload)
            }
            kind::DATA if frame.stream == stream => reply.body.extend(&frame.payload),
            _ => {}
        }
        let may_end = matches!(frame.kind, kind::HEADERS | kind::DATA) && frame.stream == stream;
        if may_end && frame.flags & END_STREAM != 0 {
            return Some(Answer::Reply(reply));
        }
    }
    None
}

/// `:status`, which stands first in a block; 0 when it cannot be read.
fn status(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // The peer says first that it uses no table.
    let block = block.strip_prefix(&[0x20]).unwrap_or(block);
    match block {
        [first, ..] if (0x88..0x8f).contains(first) => INDEXED[usize::from(first - 0x88)],
        [0x08 | 0x18 | 0x48, length, text @ ..] => {
            let Some(text) = text.get(..usize::from(length & 0x7f)) else {
                return 0;
            };
            let digits = if length & 0x80 == 0 {
                String::from_utf8_lossy(text).into_owned()
            } else {
                huffman_digits(text)
            };
            digits.parse().unwrap_or(0)
        }
        _ => 0,
    }
}

/// Digits in HPACK's Huffman code: 0 to 2 have five bits, 3 to 9 have six.
fn huffman_digits(text: &[u8]) -> String {
    let bits: Vec<u8> = text
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
        .collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |number, bit| number << 1 | bit);
    let (mut digits, mut rest) = (String::new(), bits.as_slice());
    while digits.len() < 3 && rest.len() >= 5 {
        let five = number(&rest[..5]);
        let (digit, used) = if five <= 2 {
            (five, 5)
        } else {
            (number(&rest[..rest.len().min(6)]).wrapping_sub(22), 6)
        };
        digits.push(char::from(b'0'.wrapping_add(digit)));
        rest = rest.get(used..).unwrap_or_default();
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_status_in_each_form() {
        assert_eq!(status(&[0x88]), 200);
        assert_eq!(status(&[0x20, 0x8c]), 400);
        assert_eq!(status(&[0x48, 3, b'4', b'0', b'3']), 403);
        // From RFC 7541, C.6.1 and C.6.2: 302 and 307.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), 307);
    }

    #[test]
    fn writes_long_texts() {
        let long = "x".repeat(127 + 300);
        let block = block(&[("a", &long)]);
        assert_eq!(block[..6], [0, 1, b'a', 127, 0xac, 0x02]);
    }
}
