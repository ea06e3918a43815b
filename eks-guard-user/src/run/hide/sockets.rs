//! Sockets in the file system that programs of the command's own user listen on, outside the boundary: key agents,
//! terminal multiplexers, editors, container engines without root. Each would act for the command.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Columns before the path in `/proc/net/unix`; none of them holds a slash.
const SEPARATOR: &[u8] = b" /";

/// Those that exist now. Nothing of the run has been started, so all are somebody else's.
pub(super) fn of(uid: u32) -> io::Result<Vec<PathBuf>> {
    // Root owns the sockets of the whole system, and is not held by them anyway.
    if uid == 0 {
        return Ok(Vec::new());
    }
    let table = fs::read("/proc/net/unix")?;
    let paths = table.split(|byte| *byte == b'\n').filter_map(path);
    let own = |path: &&Path| {
        // A socket of another mount namespace, or one whose file was removed, is not here.
        let found = fs::symlink_metadata(path);
        found.is_ok_and(|found| found.file_type().is_socket() && found.uid() == uid)
    };
    Ok(paths.filter(own).map(Path::to_owned).collect())
}

fn path(line: &[u8]) -> Option<&Path> {
    let at = line.windows(SEPARATOR.len()).position(|two| two == SEPARATOR)?;
    line.get(at + 1..).map(|path| Path::new(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use crate::run::hide::sockets::{of, path};

    #[test]
    fn paths_are_read_and_abstract_names_are_not() {
        let line = b"0000000096220309: 00000002 00000000 00010000 0001 01 247462 /tmp/a b/agent.1";
        assert_eq!(path(line), Some(Path::new("/tmp/a b/agent.1")));
        let line = b"0000000096220309: 00000002 00000000 00010000 0001 01 247462 @/tmp/.X11-unix/X0";
        assert_eq!(path(line), None);
        assert_eq!(
            path(b"Num       RefCount Protocol Flags    Type St Inode Path"),
            None
        );
    }

    #[test]
    fn a_listening_socket_of_the_user_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("listener");
        let _listener = UnixListener::bind(&place).unwrap();
        let uid = std::fs::metadata(&place).unwrap().uid();
        let found = of(uid).unwrap();
        assert_eq!(found.contains(&place), uid != 0);
        assert!(!of(uid + 1).unwrap().contains(&place));
    }
}
