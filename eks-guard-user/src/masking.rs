//! The place every reply body streams through. Nothing is buffered and nothing is changed yet: values will be masked here.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

/// How a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every byte went to the agent's side.
    Complete,
    /// The API server's side broke off.
    Broken,
    /// The agent went away first.
    Abandoned,
}

/// What is known when a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Bytes of the body that were handed on.
    pub bytes: u64,
    /// How it ended.
    pub ending: Ending,
}

/// Told once when a reply ended.
pub trait OnEnd {
    /// The reply ended.
    fn ended(self, end: End);
}

/// A reply body on its way to the agent. Trailers stay behind.
#[derive(Debug)]
pub struct MaskBody<B: Body, E: OnEnd> {
    inner: B,
    bytes: u64,
    on_end: Option<E>,
}

impl<B: Body, E: OnEnd> MaskBody<B, E> {
    /// Streams `inner` and tells `on_end` exactly once how it ended, whatever happens.
    pub fn new(inner: B, on_end: E) -> Self {
        Self {
            inner,
            bytes: 0,
            on_end: Some(on_end),
        }
    }

    fn end(&mut self, ending: Ending) {
        if let Some(on_end) = self.on_end.take() {
            on_end.ended(End {
                bytes: self.bytes,
                ending,
            });
        }
    }
}

impl<B, E> Body for MaskBody<B, E>
where
    B: Body<Data = Bytes> + Unpin,
    E: OnEnd + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        loop {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Some(data) = frame.data_ref() else { continue };
                    self.bytes += u64::try_from(data.remaining()).unwrap_or(u64::MAX);
                    if self.inner.is_end_stream() {
                        self.end(Ending::Complete);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) => {
                    self.end(Ending::Broken);
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.end(Ending::Complete);
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Body, E: OnEnd> Drop for MaskBody<B, E> {
    /// A body that is known to be empty or complete is never polled again, so its end is seen here.
    fn drop(&mut self) {
        let ending = if self.inner.is_end_stream() {
            Ending::Complete
        } else {
            Ending::Abandoned
        };
        self.end(ending);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::pin::Pin;
    use std::sync::mpsc::{Sender, channel};
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http::HeaderMap;
    use http_body::{Body, Frame};
    use http_body_util::BodyExt;

    use super::{End, Ending, MaskBody, OnEnd};

    struct Told(Sender<End>);

    impl OnEnd for Told {
        fn ended(self, end: End) {
            self.0.send(end).expect("the test listens");
        }
    }

    struct Script(VecDeque<Result<Frame<Bytes>, io::Error>>);

    impl Body for Script {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(self.0.pop_front())
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, io::Error> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    async fn check(script: Vec<Result<Frame<Bytes>, io::Error>>, reads: usize, bytes: u64, ending: Ending) {
        let (told_tx, told) = channel();
        let mut body = MaskBody::new(Script(script.into()), Told(told_tx));
        for _ in 0..reads {
            if let Some(Ok(frame)) = body.frame().await {
                assert!(frame.is_data(), "trailers stay behind");
            }
        }
        drop(body);
        let ends: Vec<End> = told.into_iter().collect();
        assert_eq!(ends, [End { bytes, ending }]);
    }

    #[tokio::test]
    async fn the_end_is_told_once_however_it_comes() {
        let trailers = || Ok(Frame::trailers(HeaderMap::new()));
        let broken = || Err(io::Error::other("broken"));
        check(vec![data("abc"), data("de")], 9, 5, Ending::Complete).await;
        check(vec![data("abc"), data("de")], 2, 5, Ending::Complete).await;
        check(vec![data("abc"), data("de")], 1, 3, Ending::Abandoned).await;
        check(vec![data("abc"), trailers()], 9, 3, Ending::Complete).await;
        check(vec![data("abc"), broken()], 9, 3, Ending::Broken).await;
        check(vec![data("")], 0, 0, Ending::Abandoned).await;
        check(vec![], 0, 0, Ending::Complete).await;
    }
}
