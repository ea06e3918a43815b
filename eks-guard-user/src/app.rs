//! The composition root of `eks-guard run`: builds every part in order, starts the command, and takes all down again.

mod failure;
mod notes;
mod signal_thread;
mod start;

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use crate::app::failure::Failure;
use crate::app::start::Running;
use crate::config::RunConfig;
use crate::recording::writer::SessionEnd;
use crate::run::sandbox::Fate;
use crate::run::signals::{self, Arrived, Sender};
use crate::telemetry::chain;

/// How long what still runs inside the runtime may take to notice that it is over.
const SHUTDOWN: Duration = Duration::from_secs(1);
/// Signals that end a start that is still under way.
const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// Runs the command and returns the exit code. Whatever was set up is gone afterwards, whichever way it ends.
#[must_use]
pub fn run(config: RunConfig) -> u8 {
    match prepare() {
        Ok((runtime, blocked, mut signals)) => {
            let ended = runtime.block_on(whole_run(config, blocked, &mut signals));
            runtime.shutdown_timeout(SHUTDOWN);
            ended.unwrap_or_else(|failure| failure.report())
        }
        Err(failure) => failure.report(),
    }
}

/// Signals are blocked before the first thread exists, so that every thread has them blocked.
fn prepare() -> Result<(Runtime, Vec<i32>, mpsc::Receiver<Arrived>), Failure> {
    let blocked =
        signals::block_for_guard().map_err(|error| Failure::machine("cannot block signals", &error))?;
    let signals =
        signal_thread::start().map_err(|error| Failure::machine("cannot receive signals", &error))?;
    let workers = available_parallelism().map_or(2, NonZero::get).min(4);
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("guard")
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::machine("cannot start threads", &error))?;
    Ok((runtime, blocked, signals))
}

async fn whole_run(
    config: RunConfig,
    blocked: Vec<i32>,
    signals: &mut mpsc::Receiver<Arrived>,
) -> Result<u8, Failure> {
    let mut running = start::start(config, blocked, called_off(signals)).await?;
    let code = supervise(&mut running, signals).await;
    running
        .stop(SessionEnd {
            exit_code: Some(i32::from(code)),
            message: None,
        })
        .await;
    Ok(code)
}

async fn called_off(signals: &mut mpsc::Receiver<Arrived>) -> Signal {
    loop {
        match signals.recv().await {
            Some(arrived) if ENDING.contains(&arrived.signal) => return arrived.signal,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// Until the command ends: signals go in, job control comes out.
async fn supervise(running: &mut Running, signals: &mut mpsc::Receiver<Arrived>) -> u8 {
    loop {
        tokio::select! {
            fate = running.sandbox.next() => match fate {
                Fate::Ended(code) => return code,
                Fate::Stopped(stop) => {
                    stop_with_the_command();
                    running.sandbox.go_on(stop);
                }
            },
            Some(Arrived { signal, sender }) = signals.recv() => {
                // What the terminal sends goes to the whole foreground group: the command has it already.
                if sender != Sender::Kernel {
                    running.sandbox.signal(signal);
                }
            }
        }
    }
}

/// A shell that waits for the guard is told that the job has stopped, by stopping; it goes on with the job.
/// Without a terminal there is no shell to tell, and nobody who would make the guard go on.
fn stop_with_the_command() {
    if std::fs::File::open("/dev/tty").is_ok()
        && let Err(error) = raise(Signal::SIGSTOP)
    {
        tracing::warn!(error = %chain(&error), "the guard could not stop with its command");
    }
}
