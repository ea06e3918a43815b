//! Keeps a run from abstract UNIX sockets where the kernel has no Landlock scope for them (before Linux 6.12): two programs in
//! front of the kernel's own checks of connect() and of sent messages refuse abstract names to processes of the run's cgroup.
//!
//! They modify a return value (`fmod_ret`), which takes the kernel's own types (BTF) and not the BPF security module. Hooks of
//! cgroups are not asked about UNIX sockets before Linux 6.7. Both functions are handed the kernel's copy of the address.

use std::io;
use std::os::fd::OwnedFd;

use aya::Btf;
use aya_obj::btf::BtfKind;
use aya_obj::generated::bpf_insn;
use eks_guard_ebpf::MAX_ANCESTOR_LEVELS;
use nix::libc;

use crate::ebpf::sys;

/// What stays open where the programs cannot stand, in a sentence.
pub const GAP: &str = "this kernel cannot keep the command from abstract sockets (X11, session buses) of programs outside: it is \
                       older than 6.12, or Landlock is off, and it takes no program in front of connect()";

/// The cgroup of no process: programs for it show whether the kernel takes them.
const NOBODYS: u64 = u64::MAX;

/// Helpers of the kernel, by their numbers in `linux/bpf.h`.
const PROBE_READ_KERNEL: i32 = 113;
const GET_CURRENT_ANCESTOR_CGROUP_ID: i32 = 123;

/// The shortest address with a name, and as much of one as tells: its family, and whether the name begins with a zero.
const NAMED: i32 = 3;
/// Where the programs keep these bytes, below the frame pointer.
const COPY: i16 = -8;

/// Registers: result, first three arguments, one that calls leave alone, the frame pointer.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R6: u8 = 6;
const FRAME: u8 = 10;

/// Refuses abstract names to processes of a cgroup and of those below it, other names of the same tree included, as long as
/// somebody holds the links.
///
/// # Errors
/// The kernel cannot: it tells no types, or takes no such programs.
pub fn refuse(cgroup: u64) -> io::Result<Vec<OwnedFd>> {
    let btf = Btf::from_sys_fs().map_err(io::Error::other)?;
    let programs = [
        ("security_socket_connect", connect(cgroup)),
        ("security_socket_sendmsg", send(cgroup)),
    ];
    let attached = programs.map(|(function, program)| {
        let id = btf.id_by_type_name_kind(function, BtfKind::Func);
        sys::modify_return(&program, id.map_err(io::Error::other)?)
    });
    attached.into_iter().collect()
}

/// Whether [`refuse`] would succeed.
#[must_use]
pub fn can_be_refused() -> bool {
    refuse(NOBODYS).is_ok()
}

/// `security_socket_connect(socket, address, length)`
fn connect(cgroup: u64) -> Vec<bpf_insn> {
    judge(&[load_64(R3, R1, 8), load_32(R2, R1, 16)], cgroup)
}

/// `security_socket_sendmsg(socket, message, size)`; a message begins with the address and its length.
fn send(cgroup: u64) -> Vec<bpf_insn> {
    let address = [load_64(R6, R1, 8), load_64(R3, R6, 0), load_32(R2, R6, 8)];
    judge(&address, cgroup)
}

/// What follows once the address is in the third and its length in the second register.
fn judge(address: &[bpf_insn], cgroup: u64) -> Vec<bpf_insn> {
    let mut program = address.to_vec();
    let allow_unless = |program: &mut Vec<bpf_insn>, holds: bpf_insn| {
        program.extend([holds, set(R0, 0), exit()]);
    };
    allow_unless(&mut program, jump(libc::BPF_JGE, R2, NAMED));
    program.extend([
        copy(R1, FRAME),
        add(R1, COPY.into()),
        set(R2, NAMED),
        call(PROBE_READ_KERNEL),
    ]);
    program.push(load_16(R6, FRAME, COPY));
    allow_unless(&mut program, jump(libc::BPF_JEQ, R6, libc::AF_UNIX));
    program.push(load_8(R6, FRAME, COPY + 2));
    allow_unless(&mut program, jump(libc::BPF_JEQ, R6, 0));
    // How deep in the hierarchy the cgroup stands is not ours to know.
    for level in (1..).take(MAX_ANCESTOR_LEVELS) {
        program.extend([set(R1, level), call(GET_CURRENT_ANCESTOR_CGROUP_ID)]);
        program.extend(set_64(R1, cgroup));
        // Past the refusal.
        program.extend([jump_unless_equal(R0, R1, 2), set(R0, -libc::EPERM), exit()]);
    }
    program.extend([set(R0, 0), exit()]);
    program
}

/// Jumps over what `allow_unless` puts behind it; compares 32 bits, which is what a length and a family are.
fn jump(condition: u32, register: u8, value: i32) -> bpf_insn {
    const JMP32: u32 = 0x06;
    instruction(JMP32 | condition, (register, 0), 2, value)
}

fn jump_unless_equal(one: u8, other: u8, over: i16) -> bpf_insn {
    const JNE: u32 = 0x50;
    instruction(libc::BPF_JMP | JNE | libc::BPF_X, (one, other), over, 0)
}

fn load_64(to: u8, from: u8, offset: i16) -> bpf_insn {
    const DOUBLE: u32 = 0x18;
    load(DOUBLE, to, from, offset)
}

fn load_32(to: u8, from: u8, offset: i16) -> bpf_insn {
    load(libc::BPF_W, to, from, offset)
}

fn load_16(to: u8, from: u8, offset: i16) -> bpf_insn {
    load(libc::BPF_H, to, from, offset)
}

fn load_8(to: u8, from: u8, offset: i16) -> bpf_insn {
    load(libc::BPF_B, to, from, offset)
}

fn load(size: u32, to: u8, from: u8, offset: i16) -> bpf_insn {
    instruction(libc::BPF_LDX | libc::BPF_MEM | size, (to, from), offset, 0)
}

fn set(register: u8, value: i32) -> bpf_insn {
    instruction(ALU64 | MOV | libc::BPF_K, (register, 0), 0, value)
}

/// The only instruction with two places: the value's halves.
fn set_64(register: u8, value: u64) -> [bpf_insn; 2] {
    const DOUBLE: u32 = 0x18;
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    let (low, high) = (i32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]));
    [
        instruction(libc::BPF_LD | libc::BPF_IMM | DOUBLE, (register, 0), 0, low),
        instruction(0, (0, 0), 0, high),
    ]
}

fn copy(to: u8, from: u8) -> bpf_insn {
    instruction(ALU64 | MOV | libc::BPF_X, (to, from), 0, 0)
}

fn add(register: u8, value: i32) -> bpf_insn {
    instruction(ALU64 | libc::BPF_ADD | libc::BPF_K, (register, 0), 0, value)
}

fn call(helper: i32) -> bpf_insn {
    const CALL: u32 = 0x80;
    instruction(libc::BPF_JMP | CALL, (0, 0), 0, helper)
}

fn exit() -> bpf_insn {
    const EXIT: u32 = 0x90;
    instruction(libc::BPF_JMP | EXIT, (0, 0), 0, 0)
}

const ALU64: u32 = 0x07;
const MOV: u32 = 0xb0;

/// Codes of `linux/bpf.h` have eight bits; one that had more would be refused.
fn instruction(code: u32, (to, from): (u8, u8), off: i16, imm: i32) -> bpf_insn {
    bpf_insn {
        code: u8::try_from(code).unwrap_or(u8::MAX),
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(to, from),
        off,
        imm,
    }
}
