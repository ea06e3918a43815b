//! The system calls that the proxy may make: those of memory, threads, time and sockets that it already has or makes towards
//! the API server. Everything else answers `EPERM`: a library that tries something new is told so and the proxy lives on, and
//! whoever has taken the proxy over is told nothing but no.

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// Calls that are harmless with any argument: they act on this process, or on descriptors that it was handed.
const PLAIN: [libc::c_long; 50] = [
    // Reading and writing what is open.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_dup,
    // Sockets. Which addresses they may reach is the kernel's business (routes, Landlock), not that of a filter.
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory without execution (the two calls that could ask for it are below).
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads and signals of this process, which is alone in its PID namespace.
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Facts about itself.
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_getrandom,
];

/// The older forms of calls above, which only some architectures have.
#[cfg(target_arch = "x86_64")]
const OLDER: [libc::c_long; 2] = [libc::SYS_epoll_wait, libc::SYS_poll];
/// The older forms of calls above, which only some architectures have.
#[cfg(target_arch = "aarch64")]
const OLDER: [libc::c_long; 0] = [];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

/// Filters the system calls of the calling thread, and of those it starts, for good. It must have no way to gain privileges
/// any more.
///
/// # Errors
/// The kernel refuses.
pub(super) fn enter() -> io::Result<()> {
    // A filter cannot look into the structure that clone3(2) is called with, and libraries fall back to clone(2) when the
    // kernel does not have it. The stricter of two filters counts.
    for program in [no_clone3(), allow_list()] {
        let program = program.map_err(io::Error::other)?;
        apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn no_clone3() -> Result<BpfProgram, seccompiler::BackendError> {
    let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    SeccompFilter::new(rules, SeccompAction::Allow, missing, ARCHITECTURE)?.try_into()
}

fn allow_list() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<libc::c_long, Vec<SeccompRule>> = PLAIN
        .into_iter()
        .chain(OLDER)
        .map(|call| (call, Vec::new()))
        .collect();
    rules.extend(conditional()?);
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    SeccompFilter::new(rules, refused, SeccompAction::Allow, ARCHITECTURE)?.try_into()
}

/// Bits of clone(2)'s flags that make a thread, and those that make a namespace.
const THREAD: libc::c_int = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// `FIONBIO` of the kernel's `asm-generic/ioctls.h`.
const FIONBIO: libc::c_int = 0x5421;

/// Options of a socket itself that the proxy sets; none that needs a privilege, or that loads a program.
const SOCKET_OPTIONS: [libc::c_int; 5] = [
    libc::SO_REUSEADDR,
    libc::SO_KEEPALIVE,
    libc::SO_LINGER,
    libc::SO_RCVTIMEO,
    libc::SO_SNDTIMEO,
];

/// Calls that are allowed with certain arguments.
fn conditional() -> Result<BTreeMap<libc::c_long, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut socket_options = vec![
        all(&[is(1, libc::IPPROTO_TCP)?])?,
        all(&[is(1, libc::IPPROTO_IPV6)?])?,
    ];
    for option in SOCKET_OPTIONS {
        socket_options.push(all(&[is(1, libc::SOL_SOCKET)?, is(2, option)?])?);
    }
    let without_execution = vec![all(&[masked(2, libc::PROT_EXEC, 0)?])?];
    let nothing_set = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    Ok(BTreeMap::from([
        // Towards the API server; a pair of UNIX sockets wakes the runtime.
        (libc::SYS_socket, any(0, &[libc::AF_INET, libc::AF_INET6])?),
        (libc::SYS_socketpair, any(0, &[libc::AF_UNIX])?),
        (libc::SYS_setsockopt, socket_options),
        (libc::SYS_ioctl, any(1, &[FIONBIO])?),
        (
            libc::SYS_fcntl,
            any(
                1,
                &[
                    libc::F_GETFD,
                    libc::F_SETFD,
                    libc::F_GETFL,
                    libc::F_SETFL,
                    libc::F_DUPFD_CLOEXEC,
                ],
            )?,
        ),
        (libc::SYS_mmap, without_execution.clone()),
        (libc::SYS_mprotect, without_execution),
        (
            libc::SYS_clone,
            vec![all(&[masked(0, THREAD | NAMESPACES, THREAD)?])?],
        ),
        (libc::SYS_prctl, any(0, &[libc::PR_SET_NAME])?),
        // A limit is read, and never set.
        (libc::SYS_prlimit64, vec![all(&[nothing_set])?]),
    ]))
}

/// Any of these values as the argument with this number.
fn any(argument: u8, values: &[libc::c_int]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    values.iter().map(|value| all(&[is(argument, *value)?])).collect()
}

fn all(conditions: &[SeccompCondition]) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions.to_vec())
}

fn is(argument: u8, value: libc::c_int) -> Result<SeccompCondition, seccompiler::BackendError> {
    let value = u64::from(value.cast_unsigned());
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn masked(
    argument: u8,
    bits: libc::c_int,
    value: libc::c_int,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    let (bits, value) = (u64::from(bits.cast_unsigned()), u64::from(value.cast_unsigned()));
    SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(bits),
        value,
    )
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;
    use std::thread;

    use rustix::net::{AddressFamily, SocketType, socket};
    use rustix::process::Uid;
    use rustix::thread::{set_no_new_privs, set_thread_uid};

    use super::enter;
    use crate::ebpf::bpf_is_refused;

    const EPERM: Option<i32> = Some(nix::libc::EPERM);

    #[test]
    fn what_the_proxy_does_goes_on_and_the_rest_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // The filter is for a thread and what it starts: the test's own go on without.
        let filtered = thread::spawn(move || {
            set_no_new_privs(true).unwrap();
            enter().unwrap();
            let client = TcpStream::connect(address).unwrap();
            client.set_nodelay(true).unwrap();
            let accepted = listener.accept().unwrap();
            thread::spawn(|| vec![0_u8; 1 << 20].len()).join().unwrap();
            drop((client, accepted));
            let made = |family| {
                socket(family, SocketType::DGRAM, None)
                    .map(drop)
                    .map_err(|e| e.raw_os_error())
            };
            [
                File::open("/etc/hostname")
                    .map(drop)
                    .map_err(|error| error.raw_os_error().unwrap()),
                std::fs::create_dir("/eks-guard-test").map_err(|error| error.raw_os_error().unwrap()),
                Command::new("/bin/true")
                    .status()
                    .map(drop)
                    .map_err(|error| error.raw_os_error().unwrap()),
                made(AddressFamily::UNIX),
                made(AddressFamily::PACKET),
                made(AddressFamily::NETLINK),
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(|error| error as i32),
                set_thread_uid(Uid::ROOT).map_err(|error| error.raw_os_error()),
                if bpf_is_refused() {
                    Err(nix::libc::EPERM)
                } else {
                    Ok(())
                },
            ]
        });
        for (number, outcome) in filtered.join().unwrap().into_iter().enumerate() {
            assert_eq!(outcome.err(), EPERM, "number {number}");
        }
    }
}
