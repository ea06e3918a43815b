//! The open connections that present one client certificate: short calls on some, streams on others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use eks_guard_core::reason::Reason;
use http_body_util::Full;
use hyper::client::conn::http1;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::proxy::upstream::Class;
use crate::proxy::upstream::dial::{DialError, Dialed, Dialer};
use crate::proxy::upstream::lease::{H1Lease, H2Connection, Lease};

/// HTTP/1.1 connections kept for later.
const IDLE_H1: usize = 64;

/// Dials after which a request gives up: each one makes room for many, so this many mean that connections die at once.
const DIALS_PER_REQUEST: usize = 64;

/// Connections of one client certificate.
pub(super) struct Pool {
    certificate: Option<Arc<CertifiedKey>>,
    dialer: Arc<Dialer>,
    short: Arc<Shelf>,
    streams: Arc<Shelf>,
}

impl Pool {
    pub(super) fn new(dialer: Arc<Dialer>, certificate: Option<Arc<CertifiedKey>>) -> Self {
        Self {
            certificate,
            dialer,
            short: Arc::default(),
            streams: Arc::default(),
        }
    }

    /// Whether its connections present this certificate.
    pub(super) fn presents(&self, certificate: Option<&Arc<CertifiedKey>>) -> bool {
        match (&self.certificate, certificate) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    /// A place on a connection with room, on a new one if there is none. One dial at a time, shared by all who wait.
    pub(super) async fn checkout(&self, class: Class) -> Result<Lease, DialError> {
        let shelf = match class {
            Class::Short => &self.short,
            Class::Stream => &self.streams,
        };
        for _ in 0..DIALS_PER_REQUEST {
            let mut dialed = match shelf.take_or_wait() {
                Taken::Lease(lease) => return Ok(lease),
                Taken::Dialing(dialed) => dialed,
                Taken::Nothing(result_tx, result) => {
                    self.dial(shelf, class, result_tx);
                    result
                }
            };
            let result = dialed
                .wait_for(Option::is_some)
                .await
                .map(|result| result.clone());
            match result {
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) | Err(_) => return Err(gave_up("the guard stopped dialling it")),
            }
        }
        Err(gave_up("its connections end as soon as they are made"))
    }

    /// Dials in a task of its own, so that a caller who goes away does not take the connection from the others.
    fn dial(&self, shelf: &Arc<Shelf>, class: Class, result_tx: watch::Sender<Option<DialResult>>) {
        let (dialer, shelf) = (Arc::clone(&self.dialer), Arc::clone(shelf));
        self.dialer.spawn(async move {
            let result = dialer.dial(class).await;
            let mut stock = shelf.lock();
            stock.dialing = None;
            let result = result.map(|dialed| match dialed {
                Dialed::H2(connection) => stock.h2.push(connection),
                Dialed::H1(sender) => stock.h1.push(Idle {
                    sender,
                    is_reused: false,
                }),
            });
            drop(stock);
            result_tx.send_replace(Some(result));
        });
    }
}

type DialResult = Result<(), DialError>;

/// The connections of one class.
#[derive(Default)]
pub(super) struct Shelf {
    stock: Mutex<Stock>,
}

#[derive(Default)]
struct Stock {
    h2: Vec<Arc<H2Connection>>,
    h1: Vec<Idle>,
    /// Result of the dial under way.
    dialing: Option<watch::Receiver<Option<DialResult>>>,
}

struct Idle {
    sender: http1::SendRequest<Full<Bytes>>,
    is_reused: bool,
}

enum Taken {
    Lease(Lease),
    Dialing(watch::Receiver<Option<DialResult>>),
    Nothing(
        watch::Sender<Option<DialResult>>,
        watch::Receiver<Option<DialResult>>,
    ),
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lease, or the dial to wait for, or the duty to dial.
    fn take_or_wait(self: &Arc<Self>) -> Taken {
        let mut stock = self.lock();
        stock.h2.retain(|connection| !connection.is_closed());
        if let Some(lease) = stock.h2.iter().find_map(H2Connection::try_take) {
            return Taken::Lease(lease);
        }
        while let Some(Idle { sender, is_reused }) = stock.h1.pop() {
            if !sender.is_closed() {
                return Taken::Lease(Lease::H1(H1Lease::new(Arc::clone(self), sender, is_reused)));
            }
        }
        match &stock.dialing {
            // A dial whose task is gone reports nothing; its place is free.
            Some(dialing) if dialing.has_changed().is_ok() => Taken::Dialing(dialing.clone()),
            Some(_) | None => {
                let (result_tx, result) = watch::channel(None);
                stock.dialing = Some(result.clone());
                Taken::Nothing(result_tx, result)
            }
        }
    }

    /// Keeps an HTTP/1.1 connection for the next request.
    pub(super) fn put_back(&self, sender: http1::SendRequest<Full<Bytes>>) {
        let mut stock = self.lock();
        if stock.h1.len() < IDLE_H1 {
            stock.h1.push(Idle {
                sender,
                is_reused: true,
            });
        }
    }
}

fn gave_up(cause: &str) -> DialError {
    DialError {
        reason: Reason::UpstreamUnreachable,
        message: format!("The API server cannot be reached: {cause}; retry in a moment."),
    }
}
