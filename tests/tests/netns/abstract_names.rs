//! Abstract UNIX sockets where the kernel has no Landlock scope for them: the programs that stand in for it, in the guests too.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::process::Command;

use eks_guard::ebpf::{RunCgroup, abstract_names};
use eks_guard::run::scope::Scopes;
use rustix::io::Errno;

use crate::run::show_types;
use crate::world::run_id;

/// Names of the listeners, for the child.
const NAME: &str = "ABSTRACT_NAME";
const FILE: &str = "SOCKET_FILE";
const CGROUP: &str = "CGROUP_PROCS";

fn named(name: &str) -> SocketAddr {
    SocketAddr::from_abstract_name(name).unwrap()
}

fn told(name: &str) -> String {
    std::env::var_os(name).unwrap().into_string().unwrap()
}

/// Every way to an abstract name, and one to a file.
fn attempts() -> [(&'static str, io::Result<()>); 4] {
    let (stream, datagram) = (named(&told(NAME)), named(&format!("{}-datagram", told(NAME))));
    let unconnected = || UnixDatagram::unbound().unwrap();
    [
        ("connect", UnixStream::connect_addr(&stream).map(drop)),
        ("connect datagram", unconnected().connect_addr(&datagram)),
        ("send", unconnected().send_to_addr(b"x", &datagram).map(drop)),
        ("file", UnixStream::connect(told(FILE)).map(drop)),
    ]
}

/// Not a test of its own: in the cgroup that it is told, and nothing leads to an abstract name.
#[test]
#[ignore = "started by the other test"]
fn inside() {
    std::fs::write(told(CGROUP), "0").unwrap();
    for (way, attempt) in attempts() {
        let errno = attempt.err().and_then(|error| error.raw_os_error());
        let expected = (way != "file").then(|| Errno::PERM.raw_os_error());
        assert_eq!(errno, expected, "{way}");
    }
}

/// Not a test of its own: elsewhere, and everything leads there.
#[test]
#[ignore = "started by the other test"]
fn outside() {
    for (way, attempt) in attempts() {
        attempt.unwrap_or_else(|error| panic!("{way}: {error}"));
    }
}

#[test]
fn abstract_names_are_refused_to_the_tree_and_to_nobody_else() {
    show_types();
    if Scopes::of_kernel() == Scopes::Required && !abstract_names::can_be_refused() {
        // A kernel that has the scope needs no stand-in, and may be built without what that takes.
        return;
    }
    let cgroup = RunCgroup::create(&run_id()).unwrap();
    let nested = cgroup.path().join("nested");
    std::fs::create_dir(&nested).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("socket");
    let name = run_id();
    let _stream = UnixListener::bind_addr(&named(&name)).unwrap();
    let _datagram = UnixDatagram::bind_addr(&named(&format!("{name}-datagram"))).unwrap();
    let _file = UnixListener::bind(&file).unwrap();
    let succeeds = |test: &str, cgroup: &std::path::Path| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", test])
            .envs([(NAME, name.as_str()), (FILE, file.to_str().unwrap())])
            .env(CGROUP, cgroup.join("cgroup.procs"))
            .output()
            .unwrap();
        output.status.success()
    };
    let (inside, outside) = ("abstract_names::inside", "abstract_names::outside");
    assert!(
        !succeeds(inside, cgroup.path()),
        "nothing is refused without the programs"
    );
    let links = abstract_names::refuse(cgroup.id()).unwrap();
    assert!(succeeds(inside, cgroup.path()), "the tree");
    assert!(succeeds(inside, &nested), "a cgroup below");
    assert!(succeeds(outside, cgroup.path()), "everybody else");
    drop(links);
    assert!(
        !succeeds(inside, cgroup.path()),
        "nothing is refused after the last link"
    );
}
