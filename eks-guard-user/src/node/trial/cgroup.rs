//! The cgroup of one probe, below a container's own: whatever counts for the container counts for it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What such folders are called, before the process id of who made it and a number.
const PREFIX: &str = "eks-guard-verify-";
/// How long the kernel may take to end what runs inside.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Gone when dropped, with everything that runs inside.
#[derive(Debug)]
pub(super) struct TrialCgroup(PathBuf);

impl TrialCgroup {
    /// A new one. Those of trials whose process was killed are removed first.
    pub(super) fn create(container: &Path) -> io::Result<TrialCgroup> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers(container)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = container.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(TrialCgroup(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TrialCgroup {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the cgroup of a trial is left behind");
        }
    }
}

fn remove_leftovers(container: &Path) -> io::Result<()> {
    for entry in fs::read_dir(container)? {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| {
            let (owner, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
            owner.parse::<u32>().ok()
        });
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Ends what runs inside, what the probe made below included.
fn remove(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::write(path.join("cgroup.kill"), "1").and_then(|()| remove_folders(path)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

fn remove_folders(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_folders(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
