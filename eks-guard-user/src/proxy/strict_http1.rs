//! HTTP/1.1 bytes on their way to hyper, checked against the strict framing: hyper takes bare line feeds, and silently
//! prefers one of two lengths. Where the strict reading ends, hyper is given a byte it answers with 400.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::proxy::framing::{Framing, Violation};

/// A NUL stands in no request line, name or value; the blank line makes the parser look at it.
const POISON: &[u8] = b"\0\r\n\r\n";

/// After the last response the peer may still be sending; closing at once would destroy the response on its way.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_READS: usize = 64;

/// A stream that ends at the first byte no strict request has.
pub(crate) struct StrictHttp1<S> {
    inner: S,
    framing: Framing,
    state: State,
    seen: Arc<Seen>,
    linger: Option<Linger>,
}

/// What the one who serves the connection can know of it when it ended.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    violation: AtomicBool,
    unfinished: AtomicBool,
}

impl Seen {
    /// Whether the bytes left the strict reading.
    pub(crate) fn is_violated(&self) -> bool {
        self.violation.load(Ordering::Relaxed)
    }

    /// Whether a request had begun and was not complete: otherwise the connection was only idle.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished.load(Ordering::Relaxed)
    }
}

enum State {
    Fine,
    Violated(Violation),
    Poisoned(&'static [u8]),
    Ended,
}

struct Linger {
    until: Pin<Box<Sleep>>,
    reads: usize,
}

impl<S> StrictHttp1<S> {
    /// Wraps the plaintext side of a connection.
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            framing: Framing::new(),
            state: State::Fine,
            seen: Arc::default(),
            linger: None,
        }
    }

    /// What is seen of the connection, readable after hyper took it.
    pub(crate) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    fn check(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let read = &buffer.filled()[before..];
        if read.is_empty() {
            self.state = State::Ended;
            return;
        }
        if let (fine, Some(violation)) = self.framing.advance(read) {
            buffer.set_filled(before + fine);
            self.state = State::Violated(violation);
            self.seen.violation.store(true, Ordering::Relaxed);
        }
        self.seen
            .unfinished
            .store(!self.framing.is_between_requests(), Ordering::Relaxed);
    }

    /// What is read after a violation: the poison, or an error in the middle of a body.
    fn read_poison(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        if let State::Violated(violation) = self.state {
            self.state = match violation {
                Violation::Head => State::Poisoned(POISON),
                Violation::Body => State::Ended,
            };
            if violation == Violation::Body {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "chunked body is framed wrongly",
                ));
            }
        }
        if let State::Poisoned(left) = self.state {
            let part = left.len().min(buffer.remaining());
            buffer.put_slice(&left[..part]);
            self.state = if part == left.len() {
                State::Ended
            } else {
                State::Poisoned(&left[part..])
            };
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictHttp1<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if matches!(this.state, State::Fine) {
            ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
            this.check(buffer, before);
        }
        if buffer.filled().len() == before {
            this.read_poison(buffer)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> StrictHttp1<S> {
    /// Reads on until the peer has closed, for a bounded time and amount.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| Linger {
            until: Box::pin(sleep(LINGER)),
            reads: LINGER_READS,
        });
        let mut scratch = [0; 4096];
        while linger.reads > 0 && linger.until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => linger.reads -= 1,
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for StrictHttp1<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        }
        self.poll_linger(cx).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
