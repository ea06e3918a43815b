//! bpf(): the boundary's links, own programs, and what is left without privileges. Nothing is detached.

use std::io;
use std::os::fd::RawFd;

use eks_guard_core::catalogue::probe::Plan;

use crate::found::{Attempt, Found, forms};
use crate::sys;

const PROG_LOAD: u32 = 5;
const MAP_CREATE: u32 = 0;
const LINK_GET_FD_BY_ID: u32 = 30;
const LINK_GET_NEXT_ID: u32 = 31;
const SOCKET_FILTER: u32 = 1;
const CGROUP_SOCK_ADDR: u32 = 18;
const CGROUP_INET4_CONNECT: u32 = 10;
const ARRAY: u32 = 2;

/// `r0 = 1; exit`: lets everything pass.
const PASS: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
const LICENSE: &[u8] = b"GPL\0";

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// A descriptor that the kernel has made, closed again at once.
fn close(descriptor: i64) -> io::Result<()> {
    let number = RawFd::try_from(descriptor).map_err(io::Error::other)?;
    Ok(nix::unistd::close(number)?)
}

/// A descriptor of a link is all that is needed to detach it, so getting one is as far as this goes.
pub(crate) fn links(_: &Plan) -> Found {
    let attempt = || -> Attempt {
        let mut attribute = [0; 16];
        sys::bpf(LINK_GET_NEXT_ID, &mut attribute)?;
        let [first, ..] = attribute;
        let next = u32::try_from(first >> 32).map_err(io::Error::other)?;
        let mut attribute = [0; 16];
        attribute[0] = u64::from(next);
        close(sys::bpf(LINK_GET_FD_BY_ID, &mut attribute)?)?;
        Ok(Found::reached("a link can be taken hold of, and so detached"))
    };
    forms([("link by id".to_owned(), attempt())])
}

fn load(kind: u32, expected_attach: u32) -> Attempt {
    let place = |address: usize| u64::try_from(address).map_err(io::Error::other);
    let mut attribute = [0; 16];
    attribute[0] = pair(kind, u32::try_from(PASS.len()).map_err(io::Error::other)?);
    attribute[1] = place(PASS.as_ptr().addr())?;
    attribute[2] = place(LICENSE.as_ptr().addr())?;
    attribute[8] = pair(0, expected_attach);
    close(sys::bpf(PROG_LOAD, &mut attribute)?)?;
    Ok(Found::reached("a program can be loaded"))
}

pub(crate) fn own_program(_: &Plan) -> Found {
    forms([(
        "connect4".to_owned(),
        load(CGROUP_SOCK_ADDR, CGROUP_INET4_CONNECT),
    )])
}

pub(crate) fn unprivileged(_: &Plan) -> Found {
    let map = || -> Attempt {
        let mut attribute = [0; 16];
        attribute[0] = pair(ARRAY, 4);
        attribute[1] = pair(4, 1);
        close(sys::bpf(MAP_CREATE, &mut attribute)?)?;
        Ok(Found::reached("a map can be made"))
    };
    forms([
        ("socket filter".to_owned(), load(SOCKET_FILTER, 0)),
        ("map".to_owned(), map()),
    ])
}
