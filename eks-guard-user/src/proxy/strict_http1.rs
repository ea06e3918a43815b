//! HTTP/1.1 bytes on their way to hyper, checked against the strict framing: hyper takes bare line feeds, and silently
//! prefers one of two lengths. hyper gets whole heads only; in place of one that is refused it gets a stand-in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use eks_guard_core::reason::{Reason, Refusal};
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::proxy::framing::{Framing, Violation};

/// What hyper gets in place of a head that is refused, so that the refusal is answered and recorded like any other. No
/// method of a strict request begins like this.
const MALFORMED: &str = "!MALFORMED";
const TOO_LARGE: &str = "!TOO-LARGE";
const STAND_IN: &[u8] = b" / HTTP/1.1\r\n\r\n";

/// The refusal that a stand-in stands for.
pub(crate) fn check(method: &Method) -> Result<(), Refusal> {
    match method.as_str() {
        MALFORMED => Err(Refusal::new(
            Reason::RequestMalformed,
            "The request was refused: it is no HTTP/1.1, or can be read in two ways (line ends, folding, lengths); send it as RFC 9112 has it.",
        )),
        TOO_LARGE => Err(Refusal::new(
            Reason::HeadTooLarge,
            "The request was refused: its head is longer than 64 KiB or has more than 100 headers; send less.",
        )),
        _ => Ok(()),
    }
}

/// After the last response the peer may still be sending; closing at once would destroy the response on its way.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_READS: usize = 64;

/// A stream that ends at the first byte no strict request has.
pub(crate) struct StrictHttp1<S> {
    inner: S,
    framing: Framing,
    state: State,
    /// The beginning of a head whose end has not come.
    held: Vec<u8>,
    /// What hyper gets next.
    ready: BytesMut,
    seen: Arc<Seen>,
    linger: Option<Linger>,
}

/// What the one who serves the connection can know of it when it ended.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    unfinished: AtomicBool,
}

impl Seen {
    /// Whether a request had begun and was not complete: otherwise the connection was only idle.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished.load(Ordering::Relaxed)
    }
}

/// What comes behind `ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    BrokenBody,
    /// Nothing: an end would make hyper give up before it has answered the stand-in, which closes the connection.
    StandIn,
    Ended,
}

struct Linger {
    until: Pin<Box<Sleep>>,
    reads: usize,
}

impl<S> StrictHttp1<S> {
    /// Wraps the plaintext side of a connection, on which heads have up to `head_limit` bytes.
    pub(crate) fn new(inner: S, head_limit: usize) -> Self {
        Self {
            inner,
            framing: Framing::new(head_limit),
            state: State::Reading,
            held: Vec::new(),
            ready: BytesMut::new(),
            seen: Arc::default(),
            linger: None,
        }
    }

    /// What is seen of the connection, readable after hyper took it.
    pub(crate) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    /// Leaves in `buffer`, or puts into `ready`, what of the bytes behind `before` hyper may have.
    fn check(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let read = &buffer.filled()[before..];
        let (fine, violation) = self.framing.advance(read);
        let read = &read[..fine];
        let passed = self.held.len() + fine - self.framing.open_head();
        let mut left_in_buffer = 0;
        if passed == 0 {
            self.held.extend_from_slice(read);
        } else if self.held.is_empty() {
            self.held.extend_from_slice(&read[passed..]);
            left_in_buffer = passed;
        } else {
            let (end, next) = read.split_at(passed - self.held.len());
            self.ready.extend_from_slice(&self.held);
            self.ready.extend_from_slice(end);
            self.held.clear();
            self.held.extend_from_slice(next);
        }
        buffer.set_filled(before + left_in_buffer);
        if let Some(violation) = violation {
            self.violated(violation);
        }
        self.seen
            .unfinished
            .store(!self.framing.is_between_requests(), Ordering::Relaxed);
    }

    fn violated(&mut self, violation: Violation) {
        self.held = Vec::new();
        let stand_in = match violation {
            Violation::Head => MALFORMED,
            Violation::HeadTooLarge => TOO_LARGE,
            Violation::Body => {
                self.state = State::BrokenBody;
                return;
            }
        };
        self.ready.extend_from_slice(stand_in.as_bytes());
        self.ready.extend_from_slice(STAND_IN);
        self.state = State::StandIn;
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
        loop {
            if this.ready.has_remaining() {
                let part = this.ready.len().min(buffer.remaining());
                buffer.put_slice(&this.ready.split_to(part));
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Reading => {}
                State::BrokenBody => {
                    this.state = State::Ended;
                    let message = "chunked body is framed wrongly";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
                }
                State::StandIn => return Poll::Pending,
                State::Ended => return Poll::Ready(Ok(())),
            }
            ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
            if buffer.filled().len() == before {
                this.state = State::Ended;
                return Poll::Ready(Ok(()));
            }
            this.check(buffer, before);
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
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
