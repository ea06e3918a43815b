//! Notices pods' cgroups as they are made and removed: inotify for speed, a clock for certainty.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;

use crate::node::cgroup::parents;
use crate::telemetry::chain;

/// A change that inotify did not tell is seen after this long.
const RESCAN: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// Begins to watch the folders that pods' cgroups are made in. Something arrives whenever there may be a change: after one,
/// and every few seconds in any case. The thread ends with the receiver.
///
/// # Errors
/// The kernel has no inotify instance left, or the root is not there.
pub fn watch(root: &Path) -> io::Result<mpsc::Receiver<()>> {
    let watch = Watch {
        root: root.to_owned(),
        queue: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
    };
    watch.add_folder(root)?;
    // One that nobody has taken yet stands for all that follow.
    let (told_tx, told_rx) = mpsc::channel(1);
    thread::Builder::new()
        .name("cgroup-watch".to_owned())
        .spawn(move || watch.run(&told_tx))?;
    Ok(told_rx)
}

struct Watch {
    root: PathBuf,
    queue: OwnedFd,
}

impl Watch {
    fn run(&self, told: &mpsc::Sender<()>) {
        while !told.is_closed() {
            // A QoS class may be what was made; its pods are scanned after it is watched, so that none is missed.
            self.add_classes();
            match told.try_send(()) {
                Ok(()) | Err(mpsc::error::TrySendError::Full(())) => {}
                Err(mpsc::error::TrySendError::Closed(())) => return,
            }
            if let Err(error) = self.wait() {
                tracing::error!(error = %chain(&error), "changes of cgroups are not told; they are looked for every few seconds");
                thread::sleep(std::time::Duration::from_secs(5));
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        match rustix::event::poll(&mut [PollFd::new(&self.queue, PollFlags::IN)], Some(&RESCAN)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        loop {
            match reader.next() {
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn add_folder(&self, folder: &Path) -> rustix::io::Result<i32> {
        let changes = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        inotify::add_watch(&self.queue, folder, changes)
    }

    /// Watching a folder twice is watching it once. One that cannot be watched is seen by the clock.
    fn add_classes(&self) {
        for folder in parents(&self.root).iter().skip(1) {
            if let Err(error) = self.add_folder(folder) {
                tracing::debug!(%error, folder = %folder.display(), "not watched");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::testing::eventually;

    #[tokio::test]
    async fn tells_new_pods_in_classes_made_later() {
        let root = tempfile::tempdir().unwrap();
        let mut told = watch(root.path()).unwrap();
        eventually("the start", told.recv()).await.unwrap();
        let class = root.path().join("burstable");
        let pod = class.join("pod");
        fs::create_dir(&class).unwrap();
        eventually("the class is told", told.recv()).await.unwrap();
        // Sooner than the clock would see them, over and over.
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            fs::create_dir(&pod).unwrap();
            eventually("the pod is told", told.recv()).await.unwrap();
            fs::remove_dir(&pod).unwrap();
            eventually("its end is told", told.recv()).await.unwrap();
            fastest = fastest.min(start.elapsed());
        }
        assert!(
            fastest < Duration::from_secs(5),
            "only the clock told: {fastest:?}"
        );
    }

    #[tokio::test]
    async fn a_root_that_is_not_there_cannot_be_watched() {
        assert!(watch(Path::new("/no/such/root")).is_err());
    }
}
