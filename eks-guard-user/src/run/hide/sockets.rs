//! Sockets in the file system that programs of the command's own user listen on, outside the boundary: key agents,
//! terminal multiplexers, editors, container engines without root. Each would act for the command.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Columns before the name in `/proc/net/unix`.
const COLUMNS: usize = 7;

/// Where they are bound. Nothing of the run has been started when this is made, so all are somebody else's.
#[derive(Debug, Default)]
pub struct Sockets {
    paths: Vec<PathBuf>,
}

impl Sockets {
    /// Those that exist now, of all processes that `/proc` shows: it must be the machine's. A socket's table is that of
    /// its network namespace, while its file is for everybody who sees it; and its name may be relative to a working
    /// folder, which is looked for among those of today.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of(uid: u32) -> io::Result<Sockets> {
        // Root owns the sockets of the whole system, and is not held by them anyway.
        if uid == 0 {
            return Ok(Sockets::default());
        }
        let mut networks = BTreeSet::from([fs::read_link("/proc/self/ns/net")?]);
        let mut tables = vec![fs::read("/proc/self/net/unix")?];
        let mut folders = BTreeSet::new();
        for process in fs::read_dir("/proc")? {
            let process = process?.path();
            // One that has ended meanwhile listens no more.
            folders.extend(fs::read_link(process.join("cwd")));
            if let Ok(network) = fs::read_link(process.join("ns/net"))
                && networks.insert(network)
            {
                tables.extend(fs::read(process.join("net/unix")));
            }
        }
        let names: BTreeSet<&Path> = tables.iter().flat_map(|table| names(table)).collect();
        let own = |path: &PathBuf| {
            // A socket of another mount namespace, or one whose file was removed, is not here.
            let found = fs::symlink_metadata(path);
            found.is_ok_and(|found| found.file_type().is_socket() && found.uid() == uid)
        };
        let paths = names.into_iter().flat_map(|name| places(name, &folders));
        Ok(Sockets {
            paths: paths.filter(own).collect(),
        })
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.paths.iter()
    }
}

/// Where a socket of this name may stand.
fn places(name: &Path, folders: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    if name.is_absolute() {
        vec![name.to_owned()]
    } else {
        folders.iter().map(|folder| folder.join(name)).collect()
    }
}

/// The names in a table, of which the first line is the heading. Abstract ones begin with `@`, as a file's may.
fn names(table: &[u8]) -> impl Iterator<Item = &Path> {
    table.split(|byte| *byte == b'\n').skip(1).filter_map(name)
}

fn name(line: &[u8]) -> Option<&Path> {
    let mut rest = line;
    for _ in 0..COLUMNS {
        rest = rest.trim_ascii_start();
        rest = rest.get(rest.iter().position(|byte| *byte == b' ')?..)?;
    }
    rest.get(1..).map(|name| Path::new(OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};

    use crate::run::hide::sockets::{Sockets, names, places};

    #[test]
    fn names_are_read_with_spaces_and_without_a_folder() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000096220309: 00000002 00000000 00010000 0001 01 247462 /tmp/a b/agent.1\n\
            0000000096220309: 00000002 00000000 00000000 0001 01    17\n\
            0000000096220309: 00000002 00000000 00010000 0001 01    17 run/agent\n";
        let found: Vec<_> = names(table).collect();
        assert_eq!(found, [Path::new("/tmp/a b/agent.1"), Path::new("run/agent")]);
    }

    #[test]
    fn a_relative_name_is_looked_for_in_every_working_folder() {
        let folders = BTreeSet::from(["/a".into(), "/b".into()]);
        let both = ["/a/run/agent", "/b/run/agent"].map(PathBuf::from);
        assert_eq!(places(Path::new("run/agent"), &folders), both);
        assert_eq!(places(Path::new("/agent"), &folders), [PathBuf::from("/agent")]);
    }

    #[test]
    fn a_listening_socket_of_the_user_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("listener");
        let _listener = UnixListener::bind(&place).unwrap();
        let uid = std::fs::metadata(&place).unwrap().uid();
        let has = |uid| Sockets::of(uid).unwrap().paths().any(|path| *path == place);
        assert_eq!(has(uid), uid != 0);
        assert!(!has(uid + 1));
    }
}
