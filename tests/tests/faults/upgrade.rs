//! Other programs in the place of those that run: a newer version with the same maps, and one with maps of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rig::command;
use rig::node::{Families, IMDS, Layout, Profile};
use rig::{programs, wait};

use crate::siege::Siege;

/// `EM_BPF` of the kernel's `linux/elf-em.h`.
const MACHINE: u16 = 247;
/// `r1 = -111`: the error that refused calls see. A newer version says -113 (no route to host).
const REFUSED: [u8; 8] = [0x18, 1, 0, 0, 0x91, 0xff, 0xff, 0xff];
const NO_ROUTE: [u8; 8] = [0x18, 1, 0, 0, 0x8f, 0xff, 0xff, 0xff];

/// The program under test with other kernel programs in it.
fn newer_version(siege: &Siege<'_>) -> Result<PathBuf> {
    let mut program = fs::read(programs::eks_guard()?)?;
    let mut changed = 0;
    for at in objects(&program) {
        // Where the object ends does not matter: these bytes are nothing in code for this machine.
        for place in at..program.len().min(at + (1 << 20)) - REFUSED.len() {
            if program[place..].starts_with(&REFUSED) {
                program[place..place + REFUSED.len()].copy_from_slice(&NO_ROUTE);
                changed += 1;
            }
        }
    }
    ensure!(changed > 0, "the kernel programs are not found in the program");
    let path = siege.guard.file("eks-guard-newer");
    fs::write(&path, program)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Where objects with kernel programs begin.
fn objects(program: &[u8]) -> Vec<usize> {
    let is_object = |at: &usize| {
        let machine = program.get(at + 18..at + 20);
        program[*at..].starts_with(b"\x7fELF") && machine == Some(&MACHINE.to_le_bytes())
    };
    (0..program.len()).filter(is_object).collect()
}

/// Whether the kernel programs that refuse the agent are the newer ones.
fn are_newer(siege: &Siege<'_>) -> Result<bool> {
    let target = IMDS.sockets(Families::V4, 80)[0].to_string();
    let mut dial = siege
        .agent
        .command(Profile::Restricted, &programs::beside("dial")?)?;
    dial.arg(target);
    match command::run(dial)?.code {
        1 => Ok(false),
        2 => Ok(true),
        code => anyhow::bail!("what is closed is open: exit code {code}"),
    }
}

#[test]
fn a_newer_version_takes_over_under_load_and_the_older_one_too() -> Result<()> {
    let mut siege = Siege::lay(Layout::ALL[3], "upgrades")?;
    let (older, newer) = (programs::eks_guard()?, newer_version(&siege)?);
    ensure!(!are_newer(&siege)?, "they were the newer ones before");
    for (version, is_newer) in [(&newer, true), (&older, false), (&newer, true)] {
        siege.guard.kill()?;
        siege.guard.replace_program(version.clone());
        siege.guard.restart()?;
        siege.holds("another version that starts")?;
        siege.guard.serve(&siege.agent)?;
        wait::until("the programs are its own", || Ok(are_newer(&siege)? == is_newer))?;
        siege.works()?;
        siege.holds("another version that has started")?;
    }

    // What is pinned was another ABI's: both sets judge until all are on record in the present one.
    siege.guard.kill()?;
    let present = siege.pins()?;
    let other = present.with_file_name("abi-0");
    fs::rename(&present, &other).context("turning the pins into another version's")?;
    siege.guard.replace_program(older);
    siege.guard.restart()?;
    siege.holds("another ABI beside the one that was")?;
    siege.guard.serve(&siege.agent)?;
    wait::until("the other ABI is taken off", || Ok(!other.exists()))?;
    ensure!(present.join("links/connect4").exists(), "nothing is pinned");
    wait::until("the programs are its own", || Ok(!are_newer(&siege)?))?;
    wait::until("agents are served", || Ok(siege.works().is_ok()))?;
    siege.guard.wait_until("nothing is wrong", |status| {
        status["attached"] == true && status["problems"].as_array().is_some_and(Vec::is_empty)
    })?;
    siege.holds("one ABI in the place of another")
}
