//! The mount table as the kernel tells it, and the few mount calls that the boundary needs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, never used again while the machine is up.
    pub id: u64,
    /// Device, `major:minor`.
    pub device: String,
    /// Path inside the file system that is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// File system type.
    pub kind: String,
}

/// Puts an empty, read-only folder in the place of the whole file system of this mount namespace, which must be separate from
/// the machine's and private.
///
/// # Errors
/// The kernel refuses, or the root is that of the boot, which cannot be left.
pub fn empty_root() -> io::Result<()> {
    // Every machine has this folder; what it shows is hidden from now on in any case.
    const PLACE: &str = "/proc";
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some("none"),
        PLACE,
        Some("tmpfs"),
        flags,
        Some("size=4k,nr_inodes=1,mode=555"),
    )?;
    std::env::set_current_dir(PLACE)?;
    // The old root ends up on top of the new one, and is taken away from there.
    rustix::process::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}

/// The mounts of this mount namespace, in mount order.
///
/// # Errors
/// `/proc` is not there.
pub fn table() -> io::Result<Vec<Mount>> {
    read(&mut open()?)
}

/// The mount table of this process, to be read again and again. It polls as urgent when a mount has come or gone.
///
/// # Errors
/// `/proc` is not there.
pub fn open() -> io::Result<File> {
    File::open("/proc/self/mountinfo")
}

/// The mounts that an open table holds now.
///
/// # Errors
/// It cannot be read.
pub fn read(table: &mut File) -> io::Result<Vec<Mount>> {
    let mut text = Vec::new();
    table.rewind()?;
    table.read_to_end(&mut text)?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// `36 35 98:0 /root /point options [optional…] - type source options`
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8(fields.nth(1)?.to_vec()).ok()?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount {
        id,
        device,
        root,
        point,
        kind: String::from_utf8_lossy(kind).into_owned(),
    })
}

/// Space, tab, newline and backslash stand as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// Other paths that lead to the same file through another mount of the same file system.
/// `path` is absolute and free of symbolic links.
#[must_use]
pub fn aliases(mounts: &[Mount], path: &Path) -> Vec<PathBuf> {
    let Some((device, inside)) = place(mounts, path) else {
        return Vec::new();
    };
    let same_device = mounts.iter().filter(|mount| mount.device == device);
    let mut found: Vec<PathBuf> = same_device
        .filter_map(|mount| Some(mount.point.join(inside.strip_prefix(&mount.root).ok()?)))
        .map(|alias| alias.components().collect())
        .filter(|alias: &PathBuf| alias != path)
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Where something that lies below `path` is mounted on its own. `path` as in [`aliases`].
#[must_use]
pub fn parts(mounts: &[Mount], path: &Path) -> Vec<PathBuf> {
    let Some((device, inside)) = place(mounts, path) else {
        return Vec::new();
    };
    let below =
        |mount: &&Mount| mount.device == device && mount.root != inside && mount.root.starts_with(&inside);
    mounts
        .iter()
        .filter(below)
        .map(|mount| mount.point.clone())
        .collect()
}

/// The device a path lies on, and its path there.
fn place<'a>(mounts: &'a [Mount], path: &Path) -> Option<(&'a str, PathBuf)> {
    let home = mounts.iter().rev().filter(|mount| path.starts_with(&mount.point));
    let home = home.max_by_key(|mount| mount.point.as_os_str().len())?;
    let below = path.strip_prefix(&home.point).ok()?;
    Some((home.device.as_str(), home.root.join(below)))
}

/// Stops mounts from travelling into and out of this mount namespace.
///
/// # Errors
/// The kernel refuses.
pub fn make_private() -> nix::Result<()> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
}

/// Flags of everything the boundary mounts.
const QUIET: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// Mounts a fresh view of this PID namespace over `/proc`.
///
/// # Errors
/// The kernel refuses.
pub fn proc_filesystem() -> nix::Result<()> {
    mount(Some("proc"), "/proc", Some("proc"), QUIET, None::<&str>)
}

/// Mounts an empty file system of at most 16 MiB; options as in tmpfs(5).
///
/// # Errors
/// The kernel refuses.
pub fn memory_filesystem(point: &Path, options: &str) -> nix::Result<()> {
    let options = format!("size=16m,nr_inodes=16k,{options}");
    mount(
        Some("eks-guard"),
        point,
        Some("tmpfs"),
        QUIET,
        Some(options.as_str()),
    )
}

/// Lays one file over another.
///
/// # Errors
/// The kernel refuses.
pub fn bind(source: &Path, point: &Path) -> nix::Result<()> {
    mount(Some(source), point, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

/// Makes one mount read-only.
///
/// # Errors
/// The kernel refuses.
pub fn read_only(point: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | QUIET;
    mount(None::<&str>, point, None::<&str>, flags, None::<&str>)
}

/// Takes a mount away, with all below it.
///
/// # Errors
/// The kernel refuses.
pub fn detach(point: &Path) -> nix::Result<()> {
    umount2(point, MntFlags::MNT_DETACH)
}

/// Whether a path can be mount text at all: the kernel takes no inner zero byte.
#[must_use]
pub fn is_path(path: &Path) -> bool {
    path.is_absolute() && !path.as_os_str().as_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use crate::run::mounts::{Mount, aliases, parse, parts};

    fn mount(device: &str, root: &str, point: &str) -> Mount {
        Mount {
            id: 1,
            device: device.into(),
            root: root.into(),
            point: point.into(),
            kind: "ext4".into(),
        }
    }

    #[test]
    fn a_line_is_read_with_optional_fields_and_escapes() {
        let line = br"36 35 98:0 /mnt1 /with\040space rw,noatime shared:1 master:2 - ext3 /dev/root rw";
        let expected = Mount {
            id: 36,
            device: "98:0".into(),
            root: "/mnt1".into(),
            point: "/with space".into(),
            kind: "ext3".into(),
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"36 35 98:0"), None);
    }

    #[test]
    fn another_mount_of_the_same_files_is_an_alias() {
        let mounts = [
            mount("8:1", "/", "/"),
            mount("8:1", "/home", "/data/home"),
            mount("0:5", "/", "/proc"),
        ];
        assert_eq!(
            aliases(&mounts, Path::new("/home/u/.aws")),
            [PathBuf::from("/data/home/u/.aws")]
        );
        assert_eq!(
            aliases(&mounts, Path::new("/data/home/u/.aws")),
            [PathBuf::from("/home/u/.aws")]
        );
        assert!(aliases(&mounts, Path::new("/etc/key")).is_empty());
        assert!(aliases(&mounts, Path::new("/proc/1")).is_empty());
    }
    #[test]
    fn a_mount_of_what_lies_below_is_a_part() {
        let mounts = [
            mount("8:1", "/", "/"),
            mount("8:1", "/home/u/.aws/sso", "/mnt/sso"),
            mount("8:2", "/home/u/.aws/sso", "/mnt/other"),
            mount("8:1", "/home/u/.awsome", "/mnt/awsome"),
        ];
        assert_eq!(
            parts(&mounts, Path::new("/home/u/.aws")),
            [PathBuf::from("/mnt/sso")]
        );
        assert!(parts(&mounts, Path::new("/home/u/.aws/sso")).is_empty());
    }
}
