//! A place on an upstream connection: held from checkout until the reply ended, given back by dropping it.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};

use crate::proxy::upstream::pool::Shelf;

/// An HTTP/2 connection and how many of its streams are in use.
pub(super) struct H2Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    in_use: AtomicUsize,
    was_used: AtomicBool,
    /// No longer for new requests.
    is_retired: AtomicBool,
    bound: usize,
    /// What the server allows, as last seen.
    allowed: Arc<AtomicUsize>,
}

impl H2Connection {
    pub(super) fn new(
        sender: http2::SendRequest<Full<Bytes>>,
        bound: usize,
        allowed: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            sender,
            in_use: AtomicUsize::new(0),
            was_used: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
            bound,
            allowed,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.is_retired.load(Ordering::Relaxed)
    }

    /// Takes one stream if there is room. Only called with the shelf's lock held, so the count cannot race upwards.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Lease> {
        let bound = self.bound.min(self.allowed.load(Ordering::Relaxed));
        if self.in_use.load(Ordering::Relaxed) >= bound {
            return None;
        }
        self.in_use.fetch_add(1, Ordering::Relaxed);
        let is_reused = self.was_used.swap(true, Ordering::Relaxed);
        Some(Lease::H2(H2Lease {
            connection: Arc::clone(self),
            sender: self.sender.clone(),
            is_reused,
        }))
    }
}

/// A request could not be sent, or was not answered.
pub(super) type SendError = TrySendError<Request<Full<Bytes>>>;

/// Whether an HTTP/2 server said that it has done nothing with the request: it goes away and the request came too late, or it
/// refused the stream. Such a request may be sent again, whatever it is (RFC 9113, section 8.7).
pub(super) fn is_untouched(error: &hyper::Error) -> bool {
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| {
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (error.is_go_away() || is_refused)
    })
}

/// A place on a connection.
pub(crate) enum Lease {
    /// One stream of an HTTP/2 connection.
    H2(H2Lease),
    /// A whole HTTP/1.1 connection.
    H1(H1Lease),
}

/// One stream of an HTTP/2 connection.
pub(crate) struct H2Lease {
    connection: Arc<H2Connection>,
    sender: http2::SendRequest<Full<Bytes>>,
    is_reused: bool,
}

/// A whole HTTP/1.1 connection; goes back to its shelf when the reply was read to its end.
pub(crate) struct H1Lease {
    shelf: Arc<Shelf>,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
    is_complete: bool,
    is_reused: bool,
}

impl H1Lease {
    pub(super) fn new(shelf: Arc<Shelf>, sender: http1::SendRequest<Full<Bytes>>, is_reused: bool) -> Self {
        Self {
            shelf,
            sender: Some(sender),
            is_complete: false,
            is_reused,
        }
    }
}

impl Lease {
    /// The protocol of the connection.
    pub(crate) fn version(&self) -> Version {
        match self {
            Self::H2(_) => Version::HTTP_2,
            Self::H1(_) => Version::HTTP_11,
        }
    }

    /// Whether the connection may have died unnoticed since it was last used.
    pub(crate) fn is_reused(&self) -> bool {
        match self {
            Self::H2(lease) => lease.is_reused,
            Self::H1(lease) => lease.is_reused,
        }
    }

    /// Sends a request. An error that still holds the request means that it was never sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendError> {
        match self {
            Self::H2(lease) => lease.sender.try_send_request(request).await,
            Self::H1(lease) => {
                let sender = lease
                    .sender
                    .as_mut()
                    .expect("the sender leaves the lease in drop only");
                // A connection that closed meanwhile hands the request back from the next call.
                _ = sender.ready().await;
                sender.try_send_request(request).await
            }
        }
    }

    /// Nothing more is to be sent on this connection; what is under way on it goes on.
    pub(crate) fn retire(&self) {
        match self {
            Self::H2(lease) => lease.connection.is_retired.store(true, Ordering::Relaxed),
            // It is kept only after a whole reply.
            Self::H1(_) => {}
        }
    }

    /// The reply was read to its end: the connection can be used again.
    pub(crate) fn complete(&mut self) {
        match self {
            Self::H2(_) => {}
            Self::H1(lease) => lease.is_complete = true,
        }
    }
}

impl Drop for H2Lease {
    fn drop(&mut self) {
        self.connection.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for H1Lease {
    fn drop(&mut self) {
        if let Some(sender) = self
            .sender
            .take()
            .filter(|sender| self.is_complete && !sender.is_closed())
        {
            self.shelf.put_back(sender);
        }
    }
}
