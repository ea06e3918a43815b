//! The node's cgroup programs: attached once, pinned, replaced in place, and asked whether they still run.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::Ebpf;

use crate::ebpf::node::error::NodeError;
use crate::ebpf::node::pins::{self, Pins};
use crate::ebpf::object::{self, NODE_PROGRAMS, PROGRAMS};
use crate::ebpf::sys::links::{self, Tag};
use crate::ebpf::sys::{self, AttachType};

/// A layer that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The program, or the map.
    pub program: &'static str,
    /// Of an interface's program, the interface.
    pub ifindex: Option<u32>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an attached program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Its link has no pin: it ends with whoever holds it.
    NotPinned,
    /// A map has no pin: whoever starts next makes an empty one.
    MapNotPinned,
    /// Its link is attached to nothing, or to something else.
    Detached,
    /// The kernel does not run it where it should.
    NotEffective,
    /// Another program runs in its place.
    OtherProgram,
    /// Others see what comes in before it does.
    NotFirst,
    /// The interface has no entry in the maps, so that everything on it is dropped.
    NoEntry,
    /// The kernel does not answer.
    Unknown,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::MapNotPinned => return write!(f, "map {} is not pinned", self.program),
            Problem::NotPinned => "is not pinned",
            Problem::Detached => "is detached",
            Problem::NotEffective => "does not run",
            Problem::OtherProgram => "has been replaced by another",
            Problem::NotFirst => "is not the first to look",
            Problem::NoEntry => "has no entry for its interface",
            Problem::Unknown => "cannot be asked about",
        };
        match self.ifindex {
            Some(ifindex) => write!(f, "program {} of interface {ifindex} {problem}", self.program),
            None => write!(f, "program {} {problem}", self.program),
        }
    }
}

/// A program of the node's cgroup.
#[derive(Debug)]
pub(super) struct Attached {
    name: &'static str,
    attach: AttachType,
    tag: Tag,
    program: OwnedFd,
    /// Should the bpffs be unmounted, the program stays for as long as this.
    link: OwnedFd,
}

/// Attaches what is not attached, replaces what is, and pins both. Nothing is detached first: at every
/// moment one of the two programs runs.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    pins: &Pins,
    cgroup: BorrowedFd<'_>,
    cgroup_id: u64,
    left_out: &[&str],
) -> Result<Vec<Attached>, NodeError> {
    let mut attached = Vec::with_capacity(PROGRAMS.len() + NODE_PROGRAMS.len());
    let programs = PROGRAMS.into_iter().chain(NODE_PROGRAMS);
    for (name, attach) in programs.filter(|(name, _)| !left_out.contains(name)) {
        let program = object::load(ebpf, name, attach)?;
        let failed = |action| {
            move |source| NodeError::Attach {
                action,
                program: name,
                source,
            }
        };
        let tag = links::tag(program).map_err(failed("identify"))?;
        let pin = pins.links().join(name);
        let link = match live_link(&pin, attach, cgroup_id)? {
            Some(link) => {
                links::update(link.as_fd(), program).map_err(failed("replace"))?;
                link
            }
            None => {
                let link = sys::link_create(program, cgroup, attach).map_err(failed("attach"))?;
                pins::replace(link.as_fd(), &pin)?;
                link
            }
        };
        let program = program.try_clone_to_owned().map_err(failed("keep"))?;
        attached.push(Attached {
            name,
            attach,
            tag,
            program,
            link,
        });
    }
    Ok(attached)
}

/// A pinned link that is still attached to the target.
pub(super) fn live_link(pin: &Path, attach: AttachType, target: u64) -> Result<Option<OwnedFd>, NodeError> {
    let Some(link) = pins::open(pin)? else {
        return Ok(None);
    };
    let info = links::link_info(link.as_fd(), attach).map_err(|source| NodeError::Pin {
        path: pin.to_owned(),
        source,
    })?;
    Ok((info.target == target).then_some(link))
}

impl Attached {
    /// Whether this is its name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// What is wrong with it, seen from the cgroup it is attached to and from others below that.
    pub(super) fn fault(
        &self,
        pins: &Pins,
        cgroup: BorrowedFd<'_>,
        cgroup_id: u64,
        below: &[BorrowedFd<'_>],
    ) -> Option<Fault> {
        let problem = self.problem(pins, cgroup, cgroup_id, below)?;
        Some(Fault {
            program: self.name,
            ifindex: None,
            problem,
        })
    }

    /// Puts right what is wrong, as far as one step goes: afterwards it is to be asked again. What still runs goes on until
    /// another runs in its place.
    pub(super) fn repair(
        &mut self,
        pins: &Pins,
        cgroup: BorrowedFd<'_>,
        problem: Problem,
    ) -> Result<(), NodeError> {
        let pin = pins.links().join(self.name);
        match problem {
            Problem::NotPinned => pins::replace(self.link.as_fd(), &pin),
            Problem::Detached | Problem::NotEffective | Problem::OtherProgram => {
                let attached = sys::link_create(self.program.as_fd(), cgroup, self.attach);
                let link = attached.map_err(|source| NodeError::Attach {
                    action: "attach",
                    program: self.name,
                    source,
                })?;
                // Held before it is pinned: a bpffs that takes no pin must not take the program off again.
                self.link = link;
                pins::replace(self.link.as_fd(), &pin)
            }
            Problem::MapNotPinned | Problem::NotFirst | Problem::NoEntry | Problem::Unknown => Ok(()),
        }
    }

    fn problem(
        &self,
        pins: &Pins,
        cgroup: BorrowedFd<'_>,
        cgroup_id: u64,
        below: &[BorrowedFd<'_>],
    ) -> Option<Problem> {
        let Ok(Some(link)) = links::open_pinned(&pins.links().join(self.name)) else {
            return Some(Problem::NotPinned);
        };
        let Ok(info) = links::link_info(link.as_fd(), self.attach) else {
            return Some(Problem::Unknown);
        };
        if info.target != cgroup_id {
            return Some(Problem::Detached);
        }
        for cgroup in [cgroup].iter().chain(below) {
            match links::effective(*cgroup, self.attach) {
                Ok(programs) if programs.contains(&info.program) => {}
                Ok(_) => return Some(Problem::NotEffective),
                Err(_) => return Some(Problem::Unknown),
            }
        }
        match links::tag_by_id(info.program) {
            Ok(tag) if tag == self.tag => None,
            Ok(_) => Some(Problem::OtherProgram),
            Err(_) => Some(Problem::Unknown),
        }
    }
}
