//! Log lines of the kernel programs, carried to `tracing`.

use std::io;

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

/// Lines that the kernel programs have written. The programs bound their rate.
pub struct KernelLog {
    logger: EbpfLogger<ToTracing>,
}

impl KernelLog {
    pub(crate) fn of(ebpf: &mut Ebpf) -> Result<Self, aya_log::Error> {
        Ok(Self {
            logger: EbpfLogger::init_with_logger(ebpf, ToTracing)?,
        })
    }

    /// Carries lines until `stop` is cancelled, then what is left. The caller owns the task.
    ///
    /// # Errors
    /// The ring buffer cannot be watched.
    #[expect(
        unsafe_code,
        reason = "tokio asks for a word that the descriptor stays the same"
    )]
    pub async fn forward(self, stop: CancellationToken) -> io::Result<()> {
        // SAFETY: the logger owns the ring buffer and its descriptor, never replaces it, and is owned by the `AsyncFd`.
        let mut logger = unsafe { AsyncFd::register_with_interest(self.logger, Interest::READABLE) }?;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                ready = logger.readable_mut() => {
                    let mut ready = ready?;
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
            }
        }
        logger.get_mut().flush();
        Ok(())
    }
}

/// The library speaks to a `log` logger; this one is `tracing`, whichever subscriber is in force.
#[derive(Clone, Copy, Debug)]
struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args();
        match record.level() {
            log::Level::Error => tracing::error!(target: "eks_guard::kernel", "{line}"),
            log::Level::Warn => tracing::warn!(target: "eks_guard::kernel", "{line}"),
            log::Level::Info => tracing::info!(target: "eks_guard::kernel", "{line}"),
            log::Level::Debug | log::Level::Trace => tracing::debug!(target: "eks_guard::kernel", "{line}"),
        }
    }

    fn flush(&self) {}
}
