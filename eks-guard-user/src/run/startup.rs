//! Start-up files of shells and sessions: what the command writes there, the user's next shell runs outside the boundary.
//! Those that exist are read-only inside. One that comes or changes meanwhile ends the run, and a new one is set aside: a mount
//! cannot stand where there is nothing yet, and no hook of the kernel refuses a name.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, ResolveFlags, openat, openat2, renameat_with};
use serde::{Deserialize, Serialize};

use crate::run::mounts;

/// Below a home folder: what sh, bash, ksh, zsh, csh, fish and others read, and what a session starts.
const NAMES: [&str; 43] = [
    ".profile",
    ".bash_profile",
    ".bash_login",
    ".bashrc",
    ".bash_aliases",
    ".bash_logout",
    ".shrc",
    ".kshrc",
    ".mkshrc",
    ".inputrc",
    ".zshenv",
    ".zprofile",
    ".zshrc",
    ".zlogin",
    ".zlogout",
    ".login",
    ".logout",
    ".cshrc",
    ".tcshrc",
    ".xonshrc",
    ".config/fish/config.fish",
    ".config/fish/conf.d",
    ".config/fish/functions",
    ".config/fish/completions",
    ".config/nushell",
    ".config/elvish",
    ".config/xonsh",
    ".config/powershell",
    ".pam_environment",
    ".config/environment.d",
    ".xsession",
    ".xsessionrc",
    ".xinitrc",
    ".xserverrc",
    ".xprofile",
    ".config/autostart",
    ".config/autostart-scripts",
    ".config/plasma-workspace",
    ".config/systemd/user",
    ".config/systemd/user.conf.d",
    ".config/user-tmpfiles.d",
    ".local/share/systemd/user",
    ".local/share/dbus-1/services",
];
/// What happens in a folder when a name in it comes, goes or is another file's.
const IN_FOLDER: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF);
/// What happens to a file, by whichever of its names.
const TO_FILE: WatchFlags = WatchFlags::MODIFY.union(WatchFlags::ATTRIB);
/// Names that are tried for a file that is set aside.
const ASIDE: std::ops::Range<u32> = 1..100;

/// Why start-up files cannot be kept from the command.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct StartupError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// A start-up file that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The home folder.
    pub home: PathBuf,
    /// Below it.
    pub name: PathBuf,
    /// What became of it.
    pub change: Change,
}

/// What became of a start-up file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It was not there when the run began.
    New,
    /// It is another, or gone.
    Other,
}

/// What tells one state of a file from another: device, inode, and when anything about it changed last.
type Identity = (u64, u64, i64, i64);

/// The start-up files of some homes. Polls as readable when one may have changed.
#[derive(Debug)]
pub struct Startup {
    events: OwnedFd,
    files: Vec<(PathBuf, &'static str, Option<Identity>)>,
}

impl Startup {
    /// Makes those that exist read-only in this mount namespace, and watches all of them.
    ///
    /// # Errors
    /// One cannot be made read-only, or not be watched.
    pub fn guard(homes: &[PathBuf]) -> Result<Self, StartupError> {
        let error = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StartupError { action, path, source }
        };
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let events = events.map_err(|source| error("watch", Path::new("start-up files"))(source.into()))?;
        let mut homes: Vec<PathBuf> = homes
            .iter()
            .filter_map(|home| fs::canonicalize(home).ok())
            .collect();
        homes.sort();
        homes.dedup();
        // The root folder is a home in name only.
        homes.retain(|home| home.parent().is_some());
        let mut files = Vec::new();
        for (home, name) in homes.iter().flat_map(|home| NAMES.map(|name| (home, name))) {
            let path = home.join(name);
            if let Ok(real) = fs::canonicalize(&path) {
                let lay = || {
                    mounts::bind(&real, &real)?;
                    mounts::read_only(&real)
                };
                lay().map_err(|source| error("make read-only", &path)(source.into()))?;
            }
            files.push((
                home.clone(),
                name,
                identity(&path).map_err(error("look at", &path))?,
            ));
        }
        let startup = Self { events, files };
        startup
            .watch_all()
            .map_err(error("watch", Path::new("start-up files")))?;
        Ok(startup)
    }

    /// Those that are not what they were.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub fn changed(&self) -> io::Result<Vec<Changed>> {
        let mut events = [0; 4096];
        // What they say does not matter: every file is looked at.
        while rustix::io::read(&self.events, &mut events).is_ok_and(|length| length > 0) {}
        // Folders that have come since are watched before they are looked into.
        self.watch_all()?;
        let mut changed = Vec::new();
        for (home, name, before) in &self.files {
            if identity(&home.join(name))? != *before {
                let change = if before.is_none() {
                    Change::New
                } else {
                    Change::Other
                };
                let (home, name) = (home.clone(), PathBuf::from(name));
                changed.push(Changed { home, name, change });
            }
        }
        Ok(changed)
    }

    /// Every file that exists, and every folder on the way to one. Watching one again changes nothing.
    fn watch_all(&self) -> io::Result<()> {
        for (home, name, _) in &self.files {
            let path = home.join(name);
            let folders = path
                .ancestors()
                .skip(1)
                .take_while(|folder| folder.starts_with(home));
            for (place, what) in folders
                .map(|folder| (folder, IN_FOLDER))
                .chain([(&*path, TO_FILE)])
            {
                match inotify::add_watch(&self.events, place, what) {
                    Ok(_) => {}
                    Err(error) if is_absent(&error.into()) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

impl AsFd for Startup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Changed {
    /// Gives a new file a name that nothing starts. Nothing of the run may be alive any more: the folders on the way are
    /// looked at only once. What was there before the run is left where it is.
    ///
    /// # Errors
    /// A symbolic link is on the way, or the file cannot be renamed.
    pub fn set_aside(&self) -> io::Result<Option<PathBuf>> {
        let (Change::New, Some(parent), Some(name)) =
            (self.change, self.name.parent(), self.name.file_name())
        else {
            return Ok(None);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let home = openat(CWD, &self.home, flags, Mode::empty())?;
        let parent = match parent.as_os_str().is_empty() {
            true => home,
            // The command owns what lies below: a link there leads wherever it likes.
            false => openat2(
                &home,
                parent,
                flags,
                Mode::empty(),
                ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH,
            )?,
        };
        for number in ASIDE {
            let mut aside = OsString::from(name);
            aside.push(format!(".by-eks-guard-run-{number}"));
            match renameat_with(&parent, name, &parent, &aside, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(Some(self.home.join(self.name.with_file_name(aside)))),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// What the operator is told, `aside` being what came of [`Changed::set_aside`].
    #[must_use]
    pub fn message(&self, aside: &io::Result<Option<PathBuf>>) -> String {
        let path = self.home.join(&self.name);
        let (path, what) = (path.display(), "a start-up file of shells or sessions");
        let now = match aside {
            Ok(Some(aside)) => format!("it is {} now: look at it before you use it", aside.display()),
            Ok(None) => "look at it before you open another shell".to_owned(),
            Err(error) => format!("remove it before you open another shell ({error})"),
        };
        format!(
            "{path}, {what}, was written while the command ran: the run is ended, and {now}. --allow-startup-files lets \
             commands write there"
        )
    }
}

/// `None` when nothing is there.
fn identity(path: &Path) -> io::Result<Option<Identity>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some((
            found.dev(),
            found.ino(),
            found.ctime(),
            found.ctime_nsec(),
        ))),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::inotify::{self, CreateFlags};

    use crate::run::startup::{Change, Changed, NAMES, Startup, identity};

    /// Watched, without the mounts that need root.
    fn watched(home: &Path) -> Startup {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let file = |name: &'static str| (home.to_owned(), name, identity(&home.join(name)).unwrap());
        let startup = Startup {
            events,
            files: NAMES.map(file).into(),
        };
        startup.watch_all().unwrap();
        startup
    }

    fn is_told(startup: &Startup) -> bool {
        let mut fds = [PollFd::new(startup, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    }

    fn names(startup: &Startup) -> Vec<(String, Change)> {
        assert!(is_told(startup));
        let changed = startup.changed().unwrap();
        let one = |changed: Changed| (changed.name.display().to_string(), changed.change);
        changed.into_iter().map(one).collect()
    }

    #[test]
    fn a_file_that_comes_is_noticed_however_deep_and_others_are_not() {
        let home = tempfile::tempdir().unwrap();
        let startup = watched(home.path());
        fs::write(home.path().join("work.txt"), "x").unwrap();
        fs::create_dir_all(home.path().join(".config/helm")).unwrap();
        assert_eq!(names(&startup), []);
        // Made elsewhere, with all that is in it.
        fs::create_dir_all(home.path().join("made/systemd/user")).unwrap();
        fs::remove_dir_all(home.path().join(".config")).unwrap();
        fs::rename(home.path().join("made"), home.path().join(".config")).unwrap();
        assert_eq!(
            names(&startup),
            [(".config/systemd/user".to_owned(), Change::New)]
        );
        fs::write(home.path().join(".zshenv"), "x").unwrap();
        assert_eq!(names(&startup).len(), 2);
    }

    #[test]
    fn a_file_that_changes_is_noticed_by_any_of_its_names() {
        let home = tempfile::tempdir().unwrap();
        let bashrc = home.path().join(".bashrc");
        fs::write(&bashrc, "old").unwrap();
        fs::hard_link(&bashrc, home.path().join("second")).unwrap();
        symlink("second", home.path().join(".profile")).unwrap();
        let startup = watched(home.path());
        assert_eq!(startup.changed().unwrap(), []);
        fs::write(home.path().join("second"), "new").unwrap();
        assert_eq!(names(&startup), [(".bashrc".to_owned(), Change::Other)]);
        fs::remove_file(home.path().join(".profile")).unwrap();
        assert_eq!(names(&startup).len(), 2);
    }

    #[test]
    fn what_is_new_is_set_aside_and_no_link_is_followed() {
        let home = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let changed = |name: &str, change| Changed {
            home: home.path().to_owned(),
            name: name.into(),
            change,
        };
        fs::write(home.path().join(".profile"), "x").unwrap();
        let aside = changed(".profile", Change::New).set_aside().unwrap().unwrap();
        assert_eq!(fs::read(aside).unwrap(), b"x");
        assert!(!home.path().join(".profile").exists());
        assert_eq!(changed(".profile", Change::Other).set_aside().unwrap(), None);
        fs::create_dir(elsewhere.path().join("autostart")).unwrap();
        symlink(elsewhere.path(), home.path().join(".config")).unwrap();
        assert!(changed(".config/autostart", Change::New).set_aside().is_err());
        assert!(elsewhere.path().join("autostart").exists());
    }
}
