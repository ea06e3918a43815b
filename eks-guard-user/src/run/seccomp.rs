//! The system call filter of the command: sockets of the families that the eBPF programs judge, and no way around them.
//!
//! Sockets of other families (vsock, RDS, TIPC, RxRPC, KCM, SMC, XDP) pass no hook of a cgroup, and io_uring makes sockets
//! that no filter sees. pidfd_getfd(2) takes sockets out of processes outside, one of whose descriptors a UNIX socket gives
//! (`SO_PEERPIDFD`). Container runtimes' default filters refuse them too, so programs know how to do without.

use std::io;

use nix::libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET,
    BPF_W, EAFNOSUPPORT, ENOSYS, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO,
};
use seccompiler::{BpfProgram, apply_filter, sock_filter};

/// Offsets in `struct seccomp_data` of the kernel's `linux/seccomp.h`. The first argument's low half comes first: all of
/// these architectures are little-endian.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// Families of sockets that may be made.
const FAMILIES: [i32; 4] = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];

/// Numbers of system calls from here on are those of x32, which no filter of x86-64 expects; elsewhere there are none.
const X32: u32 = 0x4000_0000;

/// One way to make system calls on this machine.
struct Abi {
    /// `AUDIT_ARCH_*` of the kernel's `linux/audit.h`.
    architecture: u32,
    /// Makes a socket of the family that is its first argument.
    socket: u32,
    /// Calls that would get one unseen.
    refused: &'static [u32],
}

/// The same numbers everywhere.
const IO_URING_SETUP: u32 = 425;
const PIDFD_GETFD: u32 = 438;

/// 64-bit and 32-bit programs. socketcall(2), which keeps the family in memory, is no longer what C libraries use.
#[cfg(target_arch = "x86_64")]
const ABIS: [Abi; 2] = [
    Abi {
        architecture: 0xc000_003e,
        socket: 41,
        refused: &[IO_URING_SETUP, PIDFD_GETFD],
    },
    Abi {
        architecture: 0x4000_0003,
        socket: 359,
        refused: &[IO_URING_SETUP, PIDFD_GETFD, 102],
    },
];
/// 64-bit and 32-bit programs.
#[cfg(target_arch = "aarch64")]
const ABIS: [Abi; 2] = [
    Abi {
        architecture: 0xc000_00b7,
        socket: 198,
        refused: &[IO_URING_SETUP, PIDFD_GETFD],
    },
    Abi {
        architecture: 0x4000_0028,
        socket: 281,
        refused: &[IO_URING_SETUP, PIDFD_GETFD],
    },
];

/// Filters the system calls of the calling thread and of whatever it becomes and starts, for good. It must have no way to
/// gain privileges any more.
///
/// # Errors
/// The kernel refuses.
pub fn enter() -> io::Result<()> {
    apply_filter(&program()).map_err(io::Error::other)
}

/// Each ABI's block ends every path through it; what is of no known ABI is refused behind the last.
fn program() -> BpfProgram {
    let mut program = vec![load(ARCHITECTURE)];
    for abi in &ABIS {
        let block = block(abi);
        let over = u8::try_from(block.len()).unwrap_or(u8::MAX);
        program.push(jump(BPF_JEQ, abi.architecture, 0, over));
        program.extend(block);
    }
    program.push(refuse(ENOSYS));
    program
}

fn block(abi: &Abi) -> BpfProgram {
    let mut block = vec![load(NUMBER), jump(BPF_JGE, X32, 0, 1), refuse(ENOSYS)];
    for number in abi.refused {
        block.extend([jump(BPF_JEQ, *number, 0, 1), refuse(ENOSYS)]);
    }
    block.extend([jump(BPF_JEQ, abi.socket, 1, 0), allow(), load(FIRST_ARGUMENT)]);
    for family in FAMILIES {
        block.extend([jump(BPF_JEQ, family.cast_unsigned(), 0, 1), allow()]);
    }
    block.push(refuse(EAFNOSUPPORT));
    block
}

fn allow() -> sock_filter {
    instruction(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
}

fn refuse(errno: i32) -> sock_filter {
    instruction(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset)
}

/// Jumps count the instructions that are passed over.
fn jump(condition: u32, value: u32, when_so: u8, otherwise: u8) -> sock_filter {
    sock_filter {
        jt: when_so,
        jf: otherwise,
        ..instruction(BPF_JMP | condition | BPF_K, value)
    }
}

/// The codes of the kernel's `linux/bpf_common.h` have sixteen bits; one that had more would be refused as a whole.
fn instruction(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: 0,
        jf: 0,
        k,
    }
}

#[cfg(test)]
mod tests {
    use nix::libc::{
        AF_INET, AF_PACKET, AF_UNIX, AF_VSOCK, BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET,
        BPF_W, EAFNOSUPPORT, ENOSYS, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SYS_socket,
    };

    use super::{ABIS, ARCHITECTURE, FIRST_ARGUMENT, IO_URING_SETUP, NUMBER, X32, program};

    /// What the filter answers, as the kernel would run it.
    fn answer(architecture: u32, number: u32, first: u32) -> Result<(), u32> {
        let program = program();
        let (mut at, mut value) = (0, 0);
        loop {
            let instruction = &program[at];
            let (code, k) = (u32::from(instruction.code), instruction.k);
            at += 1;
            if code == BPF_LD | BPF_W | BPF_ABS {
                value = match k {
                    NUMBER => number,
                    ARCHITECTURE => architecture,
                    FIRST_ARGUMENT => first,
                    _ => panic!("offset {k}"),
                };
            } else if code == BPF_RET | BPF_K {
                return if k == SECCOMP_RET_ALLOW { Ok(()) } else { Err(k) };
            } else {
                let holds = match code {
                    code if code == BPF_JMP | BPF_JEQ | BPF_K => value == k,
                    code if code == BPF_JMP | BPF_JGE | BPF_K => value >= k,
                    _ => panic!("code {code}"),
                };
                at += usize::from(if holds { instruction.jt } else { instruction.jf });
            }
        }
    }

    fn refused(errno: i32) -> Result<(), u32> {
        Err(SECCOMP_RET_ERRNO | errno.cast_unsigned())
    }

    #[test]
    fn each_abi_makes_sockets_of_the_known_families_only() {
        for abi in &ABIS {
            let answer = |number, first: i32| answer(abi.architecture, number, first.cast_unsigned());
            for family in [AF_UNIX, AF_INET, 10, 16] {
                assert_eq!(answer(abi.socket, family), Ok(()));
            }
            for family in [AF_PACKET, AF_VSOCK, 0, -1, 43] {
                assert_eq!(answer(abi.socket, family), refused(EAFNOSUPPORT), "{family}");
            }
            for number in abi.refused {
                assert_eq!(answer(*number, AF_UNIX), refused(ENOSYS), "{number}");
            }
            assert_eq!(answer(X32 + abi.socket, AF_UNIX), refused(ENOSYS));
            assert_eq!(answer(u32::MAX, AF_UNIX), refused(ENOSYS));
            for number in [0, 1, IO_URING_SETUP + 1] {
                assert_eq!(answer(number, AF_VSOCK), Ok(()), "{number}");
            }
        }
        assert_eq!(answer(0x8000_0015, ABIS[0].socket, 2), refused(ENOSYS));
        assert_eq!(i64::from(ABIS[0].socket), SYS_socket);
    }
}
