//! Layers that root takes off and that the daemon cannot put back: other programs, which let everything pass, have taken every
//! place that the kernel has for the hook. Everything comes back when the value is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, SchedClassifier, TcAttachType};
use eks_guard::ebpf::node::detach;
use rig::netns::Netns;

use crate::guard::Guard;

/// More than the kernel lets anybody attach to one hook.
const PLACES: usize = 100;
/// The daemon may be quicker with the place that has just become free.
const TRIES: usize = 20;
/// What the programs of a cgroup answer to let something pass; and what ends the judging on an interface.
const PASS: i32 = 1;
const ACCEPT: i32 = 0;

/// Programs that stand where the guard's would.
pub(crate) struct Displaced(#[expect(dead_code, reason = "held")] Vec<Ebpf>);

/// Takes programs of the guard off their cgroup, and their places.
pub(crate) fn programs(guard: &Guard<'_>, cgroup: &Path, names: &[&str]) -> Result<Displaced> {
    let cgroup = File::open(cgroup).context("opening the root of the pods")?;
    let mut held = Vec::new();
    for name in names {
        let mut crowd =
            Ebpf::load(&object(section(name), PASS)).context("loading a program that does nothing")?;
        let program = crowd.program_mut(NAME).context("it is not there")?;
        load(program)?;
        let places = (0..PLACES)
            .take_while(|_| attach(program, &cgroup).is_ok())
            .count();
        ensure!(places > 0 && places < PLACES, "{name}: {places} places");
        let pin = pins(guard)?.join("links").join(name);
        let mut tries = 0..TRIES;
        while tries.next().is_some() {
            ensure!(detach(&pin)?, "{name} has no pin");
            if attach(program, &cgroup).is_ok() {
                break;
            }
        }
        ensure!(!tries.is_empty(), "the daemon is always quicker with {name}");
        held.push(crowd);
    }
    Ok(Displaced(held))
}

/// Stands before the guard's program on an interface of a network, and ends the judging.
pub(crate) fn wire(network: &Netns, interface: &str) -> Result<Displaced> {
    let first = network.enter(|| {
        let mut first =
            Ebpf::load(&object("classifier", ACCEPT)).context("loading a program that accepts")?;
        let program: &mut SchedClassifier = first.program_mut(NAME).context("it is not there")?.try_into()?;
        program.load()?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        program.attach_with_options(interface, TcAttachType::Ingress, options)?;
        Ok(first)
    })?;
    Ok(Displaced(vec![first]))
}

/// The daemon's pins of this ABI, as seen from here.
fn pins(guard: &Guard<'_>) -> Result<PathBuf> {
    let mut folders = fs::read_dir(guard.pins())?;
    Ok(folders.next().context("no pins")??.path())
}

fn section(name: &str) -> &'static str {
    match name {
        "connect4" => "cgroup/connect4",
        "connect6" => "cgroup/connect6",
        "sendmsg4" => "cgroup/sendmsg4",
        "sendmsg6" => "cgroup/sendmsg6",
        "sock_create" => "cgroup/sock_create",
        _ => "cgroup_skb/egress",
    }
}

fn load(program: &mut Program) -> Result<()> {
    if let Program::CgroupSockAddr(program) = program {
        program.load()?;
    } else if let Program::CgroupSock(program) = program {
        program.load()?;
    } else if let Program::CgroupSkb(program) = program {
        program.load()?;
    }
    Ok(())
}

/// Each attachment is a link of its own, so that one program can have all places.
fn attach(program: &mut Program, cgroup: &File) -> Result<()> {
    let mode = CgroupAttachMode::Single;
    if let Program::CgroupSockAddr(program) = program {
        program.attach(cgroup, mode)?;
    } else if let Program::CgroupSock(program) = program {
        program.attach(cgroup, mode)?;
    } else if let Program::CgroupSkb(program) = program {
        program.attach(cgroup, CgroupSkbAttachType::Egress, mode)?;
    } else {
        bail!("a program of another kind");
    }
    Ok(())
}

const NAME: &str = "nothing";

/// An ELF object with one program of two instructions, which answers `value`. What a compiler would make of it needs one.
fn object(section: &str, value: i32) -> Vec<u8> {
    const HEADER: u64 = 64;
    let program: Vec<u8> = [
        &[0xb7, 0, 0, 0][..],
        &value.to_le_bytes(),
        &[0x95, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let names = format!("\0{section}\0.symtab\0.strtab\0{NAME}\0").into_bytes();
    let offset = |name: &str| {
        let found = names.windows(name.len()).position(|part| part == name.as_bytes());
        u32::try_from(found.unwrap_or_default()).unwrap_or_default()
    };
    // A global function in section 1, at its start and as long as it is, behind the symbol that is none.
    let mut symbols = vec![0_u8; 24];
    symbols.extend(offset(NAME).to_le_bytes());
    symbols.extend([0x12, 0, 1, 0]);
    symbols.extend(0_u64.to_le_bytes());
    symbols.extend((program.len() as u64).to_le_bytes());

    let parts = [&program, &symbols, &names];
    let starts = [
        HEADER,
        HEADER + program.len() as u64,
        HEADER + (program.len() + symbols.len()) as u64,
    ];
    let table = starts[2] + names.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // A relocatable file for the BPF machine.
    elf.extend([1_u16, 247].map(u16::to_le_bytes).concat());
    elf.extend(1_u32.to_le_bytes());
    elf.extend([0, 0, table].map(u64::to_le_bytes).concat());
    elf.extend(0_u32.to_le_bytes());
    elf.extend([64_u16, 0, 0, 64, 4, 3].map(u16::to_le_bytes).concat());
    for part in parts {
        elf.extend(part);
    }
    // Name, kind, flags, and at the end the size of an entry; the symbols name the section of their names.
    let sections: [(u32, u32, u64, [u32; 2], u64); 3] = [
        (offset(section), 1, 6, [0, 0], 0),
        (offset(".symtab"), 2, 0, [3, 1], 24),
        (offset(".strtab"), 3, 0, [0, 0], 0),
    ];
    elf.extend([0; 64]);
    for ((part, start), (name, kind, flags, links, entry)) in parts.into_iter().zip(starts).zip(sections) {
        elf.extend([name, kind].map(u32::to_le_bytes).concat());
        elf.extend(
            [flags, 0, start, part.len() as u64]
                .map(u64::to_le_bytes)
                .concat(),
        );
        elf.extend(links.map(u32::to_le_bytes).concat());
        elf.extend([8, entry].map(u64::to_le_bytes).concat());
    }
    elf
}
