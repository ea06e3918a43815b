//! Where the cgroup2 hierarchy is mounted.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::{fs, io};

use rustix::fs::{FsWord, statfs};

/// `CGROUP2_SUPER_MAGIC` of the kernel's `linux/magic.h`.
const CGROUP2_MAGIC: FsWord = 0x6367_7270;

/// There is no place for a cgroup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// `/proc` is not there or not readable.
    #[error("cannot read /proc/self/mountinfo to find the cgroup2 mount")]
    MountInfo(#[source] io::Error),
    /// Only cgroup v1, or none.
    #[error(
        "no cgroup2 is mounted: mount one (mount -t cgroup2 none /sys/fs/cgroup) or boot with \
         systemd.unified_cgroup_hierarchy=1"
    )]
    NoCgroup2,
}

/// The cgroup2 mount, by type and not by place: hybrid layouts have it elsewhere.
pub(crate) fn find() -> Result<PathBuf, FindError> {
    let table = fs::read("/proc/self/mountinfo").map_err(FindError::MountInfo)?;
    let is_cgroup2 = |path: &PathBuf| statfs(path).is_ok_and(|found| found.f_type == CGROUP2_MAGIC);
    mounts(&table)
        .into_iter()
        .find(is_cgroup2)
        .ok_or(FindError::NoCgroup2)
}

/// Mount points of type cgroup2 in a mountinfo table.
fn mounts(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|byte| *byte == b'\n');
    let mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = fields.nth(4)?.to_vec();
        // Optional fields end with a dash; the type follows.
        fields.find(|field| *field == b"-")?;
        (fields.next()? == b"cgroup2").then(|| PathBuf::from(OsString::from_vec(unescape(&point))))
    };
    lines.filter_map(mount).collect()
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some(digits) = octal {
            plain.push(digits.iter().fold(0_u8, |value, digit| {
                value.wrapping_mul(8).wrapping_add(digit - b'0')
            }));
            rest = &tail[3..];
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_cgroup2_by_type_in_every_layout() {
        let table = b"24 1 0:22 / /proc rw,nosuid - proc proc rw\n\
            30 25 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755\n\
            31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 master:2 - cgroup2 cgroup2 rw,nsdelegate\n\
            32 30 0:28 / /sys/fs/cgroup/cgroup2 rw - cgroup cgroup rw,memory\n\
            33 30 0:29 / /mnt/with\\040space\\134 rw - cgroup2 none rw\n\
            cut off\n";
        let expected = [
            PathBuf::from("/sys/fs/cgroup/unified"),
            PathBuf::from("/mnt/with space\\"),
        ];
        assert_eq!(mounts(table), expected);
    }

    #[test]
    fn unescapes_only_what_the_kernel_escapes() {
        assert_eq!(unescape(b"a\\011b\\9c\\04"), b"a\tb\\9c\\04");
    }
}
