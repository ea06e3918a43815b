//! How much one agent may have under way: a slot per request, given back when its reply ended.

use std::sync::Arc;

use eks_guard_core::reason::{Reason, Refusal};
use eks_guard_core::request_info::{ApiRequest, Streaming};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::OwnedSemaphorePermit;

use crate::proxy::Proxy;
use crate::proxy::context::Connection;

/// The right to be under way.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
    open_streams: Option<Gauge>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(open_streams) = &self.open_streams {
            open_streams.dec();
        }
    }
}

/// Takes a slot, or refuses: the guard is stopping, or the agent has too much under way.
pub(crate) fn admit(proxy: &Proxy, connection: &Connection, request: &ApiRequest) -> Result<Slot, Refusal> {
    if connection.drain.is_cancelled() {
        let message =
            "The request was refused: the guard is stopping; retry after it has been started again.";
        return Err(Refusal::new(Reason::Draining, message));
    }
    let workload = &connection.workload;
    let (slots, open_streams) = match request.streaming() {
        Streaming::Short => (&workload.short_slots, None),
        Streaming::Watch | Streaming::Log => {
            (&workload.stream_slots, Some(proxy.metrics.streams_open.clone()))
        }
    };
    let permit = Arc::clone(slots).try_acquire_owned().map_err(|_| {
        let message =
            "The request was refused: too many requests are under way for this agent; retry in a moment.";
        Refusal::new(Reason::Overloaded, message)
    })?;
    if let Some(open_streams) = &open_streams {
        open_streams.inc();
    }
    Ok(Slot {
        _permit: permit,
        open_streams,
    })
}
