//! Giving power up: capabilities, identity, and every way to get them back.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What PID 1 keeps until the command's process has been started: becoming the user, and signalling the user.
pub const TO_START: CapabilitySet = TO_SUPERVISE
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP);
/// What PID 1 keeps for good: signalling the command, and looking at start-up files in homes that only their owner may enter.
pub const TO_SUPERVISE: CapabilitySet = CapabilitySet::KILL.union(CapabilitySet::DAC_READ_SEARCH);

/// Keeps these capabilities and loses the others; none is passed on by exec to a program of another user.
///
/// # Errors
/// The kernel refuses.
pub fn keep_only(kept: CapabilitySet) -> io::Result<()> {
    // Containers take some away; whoever needs a missing one fails where it is needed.
    let kept = kept & capabilities(None)?.permitted;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, sets)?)
}

/// Becomes the user for good: groups, ids, no capability in any set, no way to gain one by exec.
///
/// # Errors
/// The kernel refuses any step; the caller must not go on.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&groups)?;
    setresgid(gid, gid, gid)?;
    clear_ambient_capability_set()?;
    empty_bounding_set()?;
    setresuid(uid, uid, uid)?;
    keep_only(CapabilitySet::empty())?;
    set_no_new_privs(true)?;
    Ok(())
}

/// Closes everything but the three standard descriptors and those of `kept`: a descriptor inherited from whoever started
/// this process may be an open connection, or a file that is hidden from here on.
///
/// # Errors
/// `/proc` is not there, or the kernel refuses.
pub fn close_inherited(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let kept: Vec<i32> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        open.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for number in open
        .into_iter()
        .filter(|number| *number > 2 && !kept.contains(number))
    {
        match nix::unistd::close(number) {
            // The descriptor that the listing itself used is among them, and closed already.
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes every capability this kernel knows; the first unknown one ends the list.
fn empty_bounding_set() -> io::Result<()> {
    for number in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            Err(Errno::INVAL) if number > 0 => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
