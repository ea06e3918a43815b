//! Waiting for a condition: one look after the other, for as long as a busy machine may take, and never for ever.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a condition may take to come true on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between the first two looks; twice as long each time, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(5);
/// Some looks start a program.
const LONGEST: Duration = Duration::from_millis(100);

/// Waits until it is so. `what` ends the sentence "did not happen in time: …".
pub fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    found(what, || Ok(is_so()?.then_some(())))
}

/// Waits until something is found.
pub fn found<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = SHORTEST;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("did not happen in {PATIENCE:?}: {what}");
        }
        thread::sleep(pause);
        pause = LONGEST.min(pause * 2);
    }
}
