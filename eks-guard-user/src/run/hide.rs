//! What the command must not see, and how it is taken out of sight: an empty file system over a folder, an empty file
//! over a file, the generated kubeconfig over the operator's. A path that exists and cannot be covered stops the start.

mod plan;
mod sockets;
mod watch;

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::run::mounts::{self, Mount};

pub use plan::{Covers, FALLBACK_KUBECONFIG, LIBRARY, STATE};
pub use sockets::Sockets;
pub use watch::Watch;

use plan::KUBE;

/// The file that stands in for every hidden file: empty, mode 000.
const NOTHING: &str = "/run/eks-guard/nothing";

/// Why the boundary was not built.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct HideError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// How one path is covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Empty and read-only.
    Folder,
    /// Empty, owned by the command's user, writable.
    OwnFolder,
    /// Empty, mode 000.
    File,
    /// The same over a socket of the command's user, which may come and go: its end is not the end of the run.
    Socket,
    /// The generated kubeconfig, laid over the operator's.
    Kubeconfig,
    /// The generated kubeconfig, put back into a folder that was emptied.
    PutBack,
}

/// A path that exists, free of symbolic links, and how it is covered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cover {
    path: PathBuf,
    kind: Kind,
}

/// Covers everything, then looks again and compares. Runs in PID 1, in its own mount namespace. `handed_on` are the
/// descriptors the command starts with.
///
/// # Errors
/// A path exists and could not be covered, or is still what it was, or can be seen in another way.
pub fn apply(covers: &Covers, sockets: &Sockets, handed_on: &[BorrowedFd<'_>]) -> Result<Watch, HideError> {
    let table = Path::new("/proc/self/mountinfo");
    let mounts = mounts::table().map_err(|source| error("read", table, source))?;
    for folder in &covers.made {
        make(covers, folder).map_err(|source| error("make", folder, source))?;
    }
    let wanted = resolve(covers, sockets, &mounts)?;
    for descriptor in handed_on {
        refuse_open(&wanted, *descriptor)?;
    }
    stage(covers)?;
    for cover in &wanted {
        lay(covers, cover).map_err(|source| error("hide", &cover.path, source))?;
    }
    for cover in wanted.iter().filter(|cover| cover.kind == Kind::Folder) {
        mounts::read_only(&cover.path)
            .map_err(|source| error("make read-only", &cover.path, source.into()))?;
    }
    for cover in &wanted {
        verify(covers, cover).map_err(|source| error("hide", &cover.path, source))?;
    }
    let watched = wanted.iter().filter(|cover| cover.is_watched());
    Watch::over(watched.map(|cover| cover.path.as_path())).map_err(|source| error("watch", table, source))
}

fn error(action: &'static str, path: &Path, source: io::Error) -> HideError {
    HideError {
        action,
        path: path.to_path_buf(),
        source,
    }
}

/// As the program that would listen there makes it: the user's own, and nobody else's.
fn make(covers: &Covers, folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => chown(folder, Some(covers.uid), Some(covers.gid)),
        // It is there, or nobody else can make it either.
        Err(cause)
            if matches!(
                cause.kind(),
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Ok(())
        }
        Err(cause) => Err(cause),
    }
}

/// Existing paths and their aliases, outer folders first, nothing twice.
fn resolve(covers: &Covers, sockets: &Sockets, mounts: &[Mount]) -> Result<Vec<Cover>, HideError> {
    let mut found = Vec::new();
    let kubeconfigs = covers.kubeconfigs.iter().map(|path| (path, Kind::Kubeconfig));
    let emptied = covers.emptied.iter().map(|path| (path, Kind::OwnFolder));
    let hidden = covers.hidden.iter().map(|path| (path, Kind::Folder));
    let sockets = sockets.paths().map(|path| (path, Kind::Socket));
    for (path, kind) in kubeconfigs.chain(emptied).chain(hidden).chain(sockets) {
        let Some((path, metadata)) = real_path(path)? else {
            continue;
        };
        let kind = kind
            .of(&metadata)
            .map_err(|source| error("replace", &path, source))?;
        refuse_second_name(covers, &path, &metadata)?;
        let parts = mounts::parts(mounts, &path).into_iter();
        found.extend(parts.map(|path| Cover {
            kind: if path.is_dir() { Kind::Folder } else { Kind::File },
            path,
        }));
        let identity = (metadata.dev(), metadata.ino());
        for alias in mounts::aliases(mounts, &path) {
            let same = fs::symlink_metadata(&alias).is_ok_and(|other| (other.dev(), other.ino()) == identity);
            if same {
                found.push(Cover { path: alias, kind });
            }
        }
        found.push(Cover { path, kind });
    }
    Ok(outermost(found))
}

/// The path without symbolic links; `None` when nothing is there.
fn real_path(path: &Path) -> Result<Option<(PathBuf, fs::Metadata)>, HideError> {
    let real = fs::canonicalize(path).and_then(|real| fs::metadata(&real).map(|metadata| (real, metadata)));
    match real {
        Ok(found) => Ok(Some(found)),
        Err(cause)
            if matches!(
                cause.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(cause) => Err(error("look at", path, cause)),
    }
}

/// Drops what lies inside a folder that is emptied anyway, the staging folder included; kubeconfigs are put back.
fn outermost(mut found: Vec<Cover>) -> Vec<Cover> {
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let mut kept: Vec<Cover> = Vec::new();
    for cover in found {
        if kept.iter().any(|earlier| earlier.path == cover.path) {
            continue;
        }
        let inside = kept
            .iter()
            .any(|outer| outer.is_folder() && cover.path.starts_with(&outer.path));
        match cover.kind {
            Kind::Kubeconfig if inside => kept.push(Cover {
                kind: Kind::PutBack,
                ..cover
            }),
            Kind::Folder | Kind::OwnFolder | Kind::File | Kind::Socket | Kind::Kubeconfig | Kind::PutBack => {
                if !inside && !cover.path.starts_with(STATE) {
                    kept.push(cover);
                }
            }
        }
    }
    kept
}

impl Kind {
    /// What becomes of a wish once it is known what stands at the path.
    fn of(self, found: &fs::Metadata) -> io::Result<Kind> {
        match self {
            Kind::Folder | Kind::OwnFolder if !found.is_dir() => Ok(Kind::File),
            Kind::Kubeconfig if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            // Gone since, and something else in its place.
            Kind::Socket if !found.file_type().is_socket() => Ok(Kind::File),
            Kind::Folder | Kind::OwnFolder | Kind::File | Kind::Socket | Kind::Kubeconfig | Kind::PutBack => {
                Ok(self)
            }
        }
    }
}

impl Cover {
    fn is_folder(&self) -> bool {
        matches!(self.kind, Kind::Folder | Kind::OwnFolder)
    }

    /// Whether it is a mount that must stay.
    fn is_watched(&self) -> bool {
        !matches!(self.kind, Kind::Socket | Kind::PutBack)
    }
}

/// A cover lies over one name of a file. Its other names, wherever they are, would still show it.
fn refuse_second_name(covers: &Covers, path: &Path, found: &fs::Metadata) -> Result<(), HideError> {
    let readable = found.uid() == covers.uid || found.mode() & 0o044 != 0;
    if found.is_file() && found.nlink() > 1 && readable {
        let why =
            "it has a second name (a hard link) that would still show it. Replace it by a copy of itself";
        return Err(error("hide", path, io::Error::other(why)));
    }
    Ok(())
}

/// A descriptor that was opened before shows what a cover hides.
fn refuse_open(wanted: &[Cover], descriptor: BorrowedFd<'_>) -> Result<(), HideError> {
    let link = PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
    let look = |source| error("look at", &link, source);
    let flags = rustix::fs::fcntl_getfl(descriptor).map_err(|cause| look(cause.into()))?;
    if flags & OFlags::RWMODE == OFlags::WRONLY {
        return Ok(());
    }
    let path = fs::read_link(&link).map_err(look)?;
    match wanted.iter().find(|cover| path.starts_with(&cover.path)) {
        None => Ok(()),
        Some(_) => {
            let why = "a standard descriptor of the command is open on it. Start without that redirection";
            Err(error("hide", &path, io::Error::other(why)))
        }
    }
}

/// An empty file system over the guard's state folder, with the files that are laid over others.
fn stage(covers: &Covers) -> Result<(), HideError> {
    let state = Path::new(STATE);
    let staged = || {
        mounts::memory_filesystem(state, "mode=0755")?;
        write(Path::new(NOTHING), "", 0o000)?;
        let fallback = Path::new(FALLBACK_KUBECONFIG);
        write_kubeconfig(covers, fallback)?;
        let folder = fallback.parent().unwrap_or(state);
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        chown(folder, Some(covers.uid), Some(covers.gid))
    };
    staged().map_err(|source| error("prepare", state, source))
}

fn lay(covers: &Covers, cover: &Cover) -> io::Result<()> {
    let Covers { uid, gid, .. } = covers;
    match cover.kind {
        Kind::Folder => mounts::memory_filesystem(&cover.path, "mode=0555")?,
        Kind::OwnFolder => {
            mounts::memory_filesystem(&cover.path, &format!("mode=0700,uid={uid},gid={gid}"))?;
            // `/run/user/UID` below `/run/user`: the command finds its own, and it is empty.
            let within = |folder: &&PathBuf| folder.parent() == Some(&cover.path);
            covers
                .emptied
                .iter()
                .filter(within)
                .try_for_each(|folder| make(covers, folder))?;
            if cover.path.file_name().is_some_and(|name| name == KUBE) {
                write_kubeconfig(covers, &cover.path.join("config"))?;
            }
        }
        Kind::File | Kind::Socket => mounts::bind(Path::new(NOTHING), &cover.path)?,
        // The folder was empty a moment ago: what stands there is the generated file.
        Kind::PutBack if cover.path.exists() => {}
        Kind::PutBack => write_kubeconfig(covers, &cover.path)?,
        // Each from a copy of its own, so that a command that edits one file does not change another.
        Kind::Kubeconfig => {
            let copy = PathBuf::from(format!("{STATE}/over-{}", fs::metadata(&cover.path)?.ino()));
            write_kubeconfig(covers, &copy)?;
            mounts::bind(&copy, &cover.path)?;
        }
    }
    Ok(())
}

fn write_kubeconfig(covers: &Covers, path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    write(path, &covers.kubeconfig_text, 0o600)?;
    chown(path, Some(covers.uid), Some(covers.gid))
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(mode))
}

/// Opens what stands at the path and compares: an error here means that something was mounted or renamed meanwhile.
fn verify(covers: &Covers, cover: &Cover) -> io::Result<()> {
    let unchanged = || io::Error::other("it is still visible after it was covered");
    match cover.kind {
        Kind::Folder | Kind::OwnFolder => {
            let point = fs::metadata(&cover.path)?;
            let outside = cover.path.parent().map(fs::metadata).transpose()?;
            let separate = outside.is_none_or(|outside| outside.dev() != point.dev());
            if separate && holds_only_ours(&cover.path)? {
                Ok(())
            } else {
                Err(unchanged())
            }
        }
        Kind::File | Kind::Socket => {
            let (here, nothing) = (fs::metadata(&cover.path)?, fs::metadata(NOTHING)?);
            let same = (here.dev(), here.ino()) == (nothing.dev(), nothing.ino());
            if same { Ok(()) } else { Err(unchanged()) }
        }
        Kind::Kubeconfig | Kind::PutBack => {
            let generated = fs::read(&cover.path)? == covers.kubeconfig_text.as_bytes();
            let owned = fs::metadata(&cover.path)?.uid() == covers.uid;
            if generated && owned {
                Ok(())
            } else {
                Err(unchanged())
            }
        }
    }
}

/// Every file below is on the folder's own file system: nothing of what was there shows through.
fn holds_only_ours(folder: &Path) -> io::Result<bool> {
    let device = fs::metadata(folder)?.dev();
    for entry in fs::read_dir(folder)? {
        if entry?.metadata()?.dev() != device {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use crate::run::hide::{Cover, Kind, outermost};

    fn cover(path: &str, kind: Kind) -> Cover {
        Cover {
            path: path.into(),
            kind,
        }
    }

    #[test]
    fn what_is_inside_an_emptied_folder_is_not_covered_twice_but_a_kubeconfig_is_put_back() {
        let covers = outermost(vec![
            cover("/h/.kube/key.pem", Kind::File),
            cover("/h/.kube/config", Kind::Kubeconfig),
            cover("/h/.kube", Kind::OwnFolder),
            cover("/h/.kube", Kind::Folder),
            cover("/h/.kubeconfig", Kind::Kubeconfig),
            cover("/run/eks-guard/x", Kind::Folder),
        ]);
        let expected = [
            cover("/h/.kube", Kind::OwnFolder),
            cover("/h/.kube/config", Kind::PutBack),
            cover("/h/.kubeconfig", Kind::Kubeconfig),
        ];
        assert_eq!(covers, expected);
    }
}
