//! HTTP/2 frames on their way to the agent. The library turns a stream away whose headers are no request or are too long, and
//! tells nobody; it is noticed here, so that it is counted and recorded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A frame's length, type, flags and stream (RFC 9113, 4.1), and as much of its payload as is looked at; the preface of a
/// connection.
const HEAD: usize = 9;
const LOOKED_AT: usize = 12;
const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

/// Codes that say that the peer broke the protocol: PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR. The others are
/// ends of a stream that happen to honest peers too.
const BROKEN_PROTOCOL: [u32; 3] = [1, 3, 6];

/// "431" as HPACK writes it, with its length: an answer that only the library gives.
const TOO_LARGE: [u8; 4] = [0x83, 0x69, 0x90, 0xff];

/// A stream that calls back for every stream of frames that the library turned away.
pub(crate) struct TurnedAway<S, F> {
    inner: S,
    frames: Frames,
    received: Received,
    on_turned_away: F,
}

/// How many bytes have come from the agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received(Arc<AtomicUsize>);

impl Received {
    /// Whether the connection preface is there (RFC 9113, 3.4).
    pub(crate) fn has_preface(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= PREFACE
    }
}

impl<S, F: FnMut()> TurnedAway<S, F> {
    /// Wraps the plaintext side of a connection.
    pub(crate) fn new(inner: S, on_turned_away: F) -> Self {
        Self {
            inner,
            frames: Frames::default(),
            received: Received::default(),
            on_turned_away,
        }
    }

    /// What has come so far, to be asked while the connection is served.
    pub(crate) fn received(&self) -> Received {
        self.received.clone()
    }

    fn written(&mut self, bytes: &[u8]) {
        for _ in 0..self.frames.turned_away_in(bytes) {
            (self.on_turned_away)();
        }
    }
}

/// Where in the frames the next byte stands.
#[derive(Default)]
struct Frames {
    /// Start of the frame.
    start: [u8; HEAD + LOOKED_AT],
    /// Bytes of `start` that are there.
    have: usize,
    /// Bytes of a payload that are of no interest.
    skip: usize,
}

impl Frames {
    /// Reads on; how many frames that turn a stream away began in these bytes.
    fn turned_away_in(&mut self, mut bytes: &[u8]) -> usize {
        let mut count = 0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            (self.skip, bytes) = (self.skip - skipped, &bytes[skipped..]);
            let part = (self.wanted() - self.have).min(bytes.len());
            self.start[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            (self.have, bytes) = (self.have + part, &bytes[part..]);
            if self.have >= HEAD && self.have == self.wanted() {
                count += usize::from(self.turns_away());
                self.skip = self.payload() - (self.have - HEAD);
                self.have = 0;
            }
        }
        count
    }

    fn wanted(&self) -> usize {
        match self.start[3] {
            HEADERS | RST_STREAM if self.have >= HEAD => HEAD + self.payload().min(LOOKED_AT),
            _ => HEAD,
        }
    }

    fn payload(&self) -> usize {
        let [high, middle, low, ..] = self.start;
        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
    }

    fn turns_away(&self) -> bool {
        let payload = &self.start[HEAD..self.have];
        match self.start[3] {
            HEADERS => payload.windows(TOO_LARGE.len()).any(|part| part == TOO_LARGE),
            RST_STREAM => payload
                .first_chunk()
                .is_some_and(|code| BROKEN_PROTOCOL.contains(&u32::from_be_bytes(*code))),
            _ => false,
        }
    }
}

impl<S: AsyncRead + Unpin, F: Unpin> AsyncRead for TurnedAway<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        self.received.0.fetch_add(bytes, Ordering::Relaxed);
        outcome
    }
}

impl<S: AsyncWrite + Unpin, F: FnMut() + Unpin> AsyncWrite for TurnedAway<S, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.written(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, parts))?;
        let mut left = written;
        for part in parts {
            let length = left.min(part.len());
            self.written(&part[..length]);
            left -= length;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::Frames;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("a short payload");
        [&[0, 0, length, kind, 0, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn finds_what_is_turned_away_wherever_the_writes_are_cut() {
        let bytes = [
            frame(4, &[3; 18]),
            frame(3, &[0, 0, 0, 1]),
            frame(0, &[3; 40]),
            frame(3, &[0, 0, 0, 8]),
            frame(1, &[]),
            frame(1, &[0x88]),
            frame(1, &[0x20, 0x48, 0x83, 0x69, 0x90, 0xff]),
            frame(
                1,
                &[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x83, 0x69, 0x90, 0xff],
            ),
            frame(3, &[]),
            frame(3, &[0, 0, 0, 3]),
            frame(3, &[0, 0, 0, 6]),
        ]
        .concat();
        for size in 1..=bytes.len() {
            let mut frames = Frames::default();
            let count: usize = bytes.chunks(size).map(|part| frames.turned_away_in(part)).sum();
            assert_eq!(count, 4, "in writes of {size} bytes");
        }
    }
}
