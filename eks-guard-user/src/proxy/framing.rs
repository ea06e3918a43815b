//! Where requests begin and end in a stream of HTTP/1.1 bytes, in the strict reading: CRLF only, one length, no folding.
//! Two parsers that disagree here see two different requests; what this reading refuses never reaches the second parser.

mod request_line;

use crate::proxy::framing::State::{
    Body, ChunkCr, ChunkData, ChunkLf, ChunkSize, ChunkSizeLf, FirstLine, HeadEndLf, HeaderLf, HeaderName,
    HeaderStart, HeaderValue, RequestLf, Start, Trailer, TrailerEndLf, TrailerLf, TrailerStart,
};
use crate::proxy::framing::request_line::RequestLine;

/// Longest header name that decides on framing (`transfer-encoding`).
const NAME_KEPT: usize = 17;
/// Longest value of a framing header: 20 digits.
const VALUE_KEPT: usize = 20;
/// Hexadecimal digits of a chunk size; more than enough for any body that is taken.
const CHUNK_DIGITS: u8 = 8;
/// Header lines of one head; hyper takes as many.
const MAX_HEADERS: usize = 100;

/// Where in the stream the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    FirstLine,
    RequestLf,
    HeaderStart,
    HeaderName,
    HeaderValue,
    HeaderLf,
    HeadEndLf,
    Body { left: u64 },
    ChunkSize { size: u64, digits: u8 },
    ChunkSizeLf { size: u64 },
    ChunkData { left: u64 },
    ChunkCr,
    ChunkLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    TrailerEndLf,
}

impl State {
    fn is_in_head(self) -> bool {
        matches!(
            self,
            FirstLine | RequestLf | HeaderStart | HeaderName | HeaderValue | HeaderLf | HeadEndLf
        )
    }
}

/// A byte that no strict request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// In a request line or header.
    Head,
    /// The head is longer, or has more headers, than is taken.
    HeadTooLarge,
    /// Between the chunks of a body, or in its trailers.
    Body,
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    head_limit: usize,
    /// Bytes of the head that has begun and not ended.
    open_head: usize,
    line: RequestLine,
    headers: usize,
    name: Kept<NAME_KEPT>,
    value: Kept<VALUE_KEPT>,
    content_length: Option<u64>,
    is_chunked: bool,
}

impl Framing {
    /// Takes heads of up to `head_limit` bytes.
    pub(crate) fn new(head_limit: usize) -> Self {
        Self {
            state: Start,
            head_limit,
            open_head: 0,
            line: RequestLine::new(),
            headers: 0,
            name: Kept::new(),
            value: Kept::new(),
            content_length: None,
            is_chunked: false,
        }
    }

    /// Whether the next byte begins a request.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.state == Start
    }

    /// How many of the bytes read last belong to a head whose end has not come.
    pub(crate) fn open_head(&self) -> usize {
        self.open_head
    }

    /// Reads on. Returns how many bytes are fine, and what is wrong with the next one if any remain.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> (usize, Option<Violation>) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let used = match self.skip(rest) {
                0 => match self.step(rest[0]) {
                    Ok(next) => {
                        self.state = next;
                        1
                    }
                    Err(violation) => return (at, Some(violation)),
                },
                skipped => skipped,
            };
            at += used;
            if let Err(violation) = self.count_head(used) {
                return (at, Some(violation));
            }
        }
        (at, None)
    }

    /// Counts bytes just read if they belong to a head.
    fn count_head(&mut self, used: usize) -> Result<(), Violation> {
        let is_in_head = self.state.is_in_head();
        if self.open_head == 0 && !is_in_head {
            return Ok(());
        }
        self.open_head += used;
        if self.open_head > self.head_limit {
            return Err(Violation::HeadTooLarge);
        }
        if !is_in_head {
            self.open_head = 0;
        }
        Ok(())
    }

    /// Bytes at the start that are of no interest: body data, and text up to the end of its line.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        match &mut self.state {
            Body { left } | ChunkData { left } => {
                let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= skipped as u64;
                if *left == 0 {
                    self.state = if matches!(self.state, Body { .. }) {
                        Start
                    } else {
                        ChunkCr
                    };
                }
                skipped
            }
            FirstLine => self.line.skip(bytes),
            Trailer => plain_text(bytes),
            HeaderValue => {
                let text = plain_text(bytes);
                if self.name.decides() {
                    bytes[..text].iter().for_each(|&byte| self.value.push(byte));
                }
                text
            }
            Start
            | RequestLf
            | HeaderStart
            | HeaderName
            | HeaderLf
            | HeadEndLf
            | ChunkSize { .. }
            | ChunkSizeLf { .. }
            | ChunkCr
            | ChunkLf
            | TrailerStart
            | TrailerLf
            | TrailerEndLf => 0,
        }
    }

    fn step(&mut self, byte: u8) -> Result<State, Violation> {
        match (self.state, byte) {
            (Start, b'A'..=b'Z' | b'a'..=b'z') => {
                (self.content_length, self.is_chunked, self.headers) = (None, false, 0);
                self.line.begin();
                Ok(FirstLine)
            }
            (FirstLine, b'\r') if self.line.is_complete() => Ok(RequestLf),
            (FirstLine, byte) if self.line.take(byte) => Ok(FirstLine),
            (RequestLf, b'\n') => Ok(HeaderStart),
            (HeaderStart, b'\r') => Ok(HeadEndLf),
            (HeaderStart, byte) if is_name(byte) => {
                (self.name, self.value) = (Kept::new(), Kept::new());
                self.name.push(byte);
                Ok(HeaderName)
            }
            (HeaderName, b':') => Ok(HeaderValue),
            (HeaderName, byte) if is_name(byte) => {
                self.name.push(byte);
                Ok(HeaderName)
            }
            (HeaderValue, b'\r') => Ok(HeaderLf),
            (HeaderLf, b'\n') => self.header_ended().map(|()| HeaderStart),
            (HeadEndLf, b'\n') => self.head_ended(),
            (
                Start | FirstLine | RequestLf | HeaderStart | HeaderName | HeaderValue | HeaderLf | HeadEndLf,
                _,
            ) => Err(Violation::Head),
            (ChunkSize { digits: 1.., size }, b'\r') => Ok(ChunkSizeLf { size }),
            (
                ChunkSize {
                    size,
                    digits: digits @ ..CHUNK_DIGITS,
                },
                byte,
            ) => match char::from(byte).to_digit(16) {
                Some(digit) => Ok(ChunkSize {
                    size: size * 16 + u64::from(digit),
                    digits: digits + 1,
                }),
                None => Err(Violation::Body),
            },
            (ChunkSizeLf { size: 0 }, b'\n') => Ok(TrailerStart),
            (ChunkSizeLf { size }, b'\n') => Ok(ChunkData { left: size }),
            (ChunkCr, b'\r') => Ok(ChunkLf),
            (ChunkLf, b'\n') => Ok(ChunkSize { size: 0, digits: 0 }),
            (TrailerStart, b'\r') => Ok(TrailerEndLf),
            (TrailerStart, byte) if is_name(byte) => Ok(Trailer),
            (Trailer, b'\r') => Ok(TrailerLf),
            (TrailerLf, b'\n') => Ok(TrailerStart),
            (TrailerEndLf, b'\n') => Ok(Start),
            (
                Body { .. }
                | ChunkSize { .. }
                | ChunkSizeLf { .. }
                | ChunkData { .. }
                | ChunkCr
                | ChunkLf
                | TrailerStart
                | Trailer
                | TrailerLf
                | TrailerEndLf,
                _,
            ) => Err(Violation::Body),
        }
    }

    fn header_ended(&mut self) -> Result<(), Violation> {
        self.headers += 1;
        if self.headers > MAX_HEADERS {
            return Err(Violation::HeadTooLarge);
        }
        let is_length = self.name.is(b"content-length");
        if !is_length && !self.name.is(b"transfer-encoding") {
            return Ok(());
        }
        if self.content_length.is_some() || self.is_chunked {
            return Err(Violation::Head);
        }
        if is_length {
            self.content_length = Some(self.value.number().ok_or(Violation::Head)?);
        } else if self.value.is(b"chunked") {
            self.is_chunked = true;
        } else {
            return Err(Violation::Head);
        }
        Ok(())
    }

    fn head_ended(&self) -> Result<State, Violation> {
        Ok(match (self.is_chunked, self.content_length) {
            (true, _) => ChunkSize { size: 0, digits: 0 },
            (false, None | Some(0)) => Start,
            (false, Some(left)) => Body { left },
        })
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Length of the text before the next control character other than a tab.
fn plain_text(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|&byte| byte.is_ascii_control() && byte != b'\t')
        .unwrap_or(bytes.len())
}

/// The start of a text, lower case, without the spaces around it; knows when it was longer.
#[derive(Clone, Copy, Debug)]
struct Kept<const N: usize> {
    bytes: [u8; N],
    length: usize,
    overflow: bool,
}

impl<const N: usize> Kept<N> {
    fn new() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
            overflow: false,
        }
    }

    fn push(&mut self, byte: u8) {
        if self.length == 0 && matches!(byte, b' ' | b'\t') {
            return;
        }
        match self.bytes.get_mut(self.length) {
            Some(slot) => {
                *slot = byte.to_ascii_lowercase();
                self.length += 1;
            }
            None => self.overflow |= !matches!(byte, b' ' | b'\t'),
        }
    }

    fn is(&self, text: &[u8]) -> bool {
        !self.overflow && self.bytes[..self.length].trim_ascii_end() == text
    }

    fn number(&self) -> Option<u64> {
        let text = self.bytes[..self.length].trim_ascii_end();
        let digits = !self.overflow && !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        digits.then(|| str::from_utf8(text).ok()?.parse().ok()).flatten()
    }
}

impl Kept<NAME_KEPT> {
    /// Whether this header's value decides on framing.
    fn decides(&self) -> bool {
        self.is(b"content-length") || self.is(b"transfer-encoding")
    }
}

#[cfg(test)]
mod tests;
