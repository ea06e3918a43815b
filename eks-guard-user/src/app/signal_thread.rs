//! The thread that reads signals, so that none depends on the runtime being free.

use std::io;
use std::thread;

use tokio::sync::mpsc;

use crate::run::signals::{Arrived, Signals};

/// Signals waiting to be passed on; a storm of them is thinned out, as the kernel does.
const WAITING: usize = 64;

/// Starts the thread; it ends with the process.
///
/// # Errors
/// No descriptor or no thread is to be had.
pub(crate) fn start() -> io::Result<mpsc::Receiver<Arrived>> {
    let signals = Signals::for_guard()?;
    let (arrived_tx, arrived_rx) = mpsc::channel(WAITING);
    let read = move || {
        while let Ok(Some(arrived)) = signals.next() {
            // Full: the same signals are waiting already. Closed: the run is over.
            if let Err(mpsc::error::TrySendError::Closed(_)) = arrived_tx.try_send(arrived) {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(read)?;
    Ok(arrived_rx)
}
