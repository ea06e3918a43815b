//! The host sides of agents' interfaces: the program first in the order of tcx, pinned like the others.

use std::os::fd::{AsFd, OwnedFd};

use aya::Ebpf;
use eks_guard_ebpf::{Link, POD_AGENT, Pod};

use super::attachment::{Fault, Problem, live_link};
use super::error::NodeError;
use super::pins::{self, Pins};
use crate::ebpf::load_error::LoadError;
use crate::ebpf::object::{self, WIRE};
use crate::ebpf::sys::AttachType;
use crate::ebpf::sys::links::{self, Tag};

/// First kernel with tcx.
const TCX_SINCE: (u32, u32) = (6, 6);

/// The program, loaded.
#[derive(Debug)]
pub(super) struct Wire {
    program: OwnedFd,
    tag: Tag,
}

impl Wire {
    /// Loads the program, whether this kernel can attach it or not: that it cannot be loaded is to be known at the start.
    pub(super) fn load(ebpf: &mut Ebpf) -> Result<Self, NodeError> {
        let program = object::load(ebpf, WIRE, AttachType::TcxIngress)?;
        let copied = program.try_clone_to_owned();
        let program = copied.map_err(|source| LoadError::Descriptor {
            what: "a copy of the interface program",
            source,
        })?;
        let tag = links::tag(program.as_fd()).map_err(failed("identify"))?;
        Ok(Self { program, tag })
    }

    /// Attaches to an interface of the calling thread's network namespace, or replaces the program that is there.
    pub(super) fn attach(&self, pins: &Pins, ifindex: u32) -> Result<(), NodeError> {
        if object::running_kernel().is_none_or(|version| version < TCX_SINCE) {
            return Err(NodeError::NoTcx);
        }
        let pin = pins.wire(ifindex);
        match live_link(&pin, AttachType::TcxIngress, u64::from(ifindex))? {
            Some((link, _)) => links::update(link.as_fd(), self.program.as_fd()).map_err(failed("replace")),
            None => {
                let link = links::attach_first(self.program.as_fd(), ifindex).map_err(failed("attach"))?;
                pins::replace(link.as_fd(), &pin)
            }
        }
    }

    /// Replaces the program of every pinned link, and drops the pins of interfaces that are gone. Returns the latter.
    pub(super) fn renew(&self, pins: &Pins) -> Result<Vec<u32>, NodeError> {
        let mut gone = Vec::new();
        for ifindex in pins.wired()? {
            let pin = pins.wire(ifindex);
            match live_link(&pin, AttachType::TcxIngress, u64::from(ifindex))? {
                Some((link, _)) => {
                    links::update(link.as_fd(), self.program.as_fd()).map_err(failed("replace"))?;
                }
                None => {
                    pins::remove(&pin)?;
                    gone.push(ifindex);
                }
            }
        }
        Ok(gone)
    }

    /// What is wrong with the program of an interface of the calling thread's network namespace.
    pub(super) fn fault(&self, pins: &Pins, ifindex: u32) -> Option<Fault> {
        let problem = self.problem(pins, ifindex)?;
        Some(Fault {
            program: WIRE,
            ifindex: Some(ifindex),
            problem,
        })
    }

    fn problem(&self, pins: &Pins, ifindex: u32) -> Option<Problem> {
        let Ok(Some(link)) = links::open_pinned(&pins.wire(ifindex)) else {
            return Some(Problem::NotPinned);
        };
        let Ok(info) = links::link_info(link.as_fd(), AttachType::TcxIngress) else {
            return Some(Problem::Unknown);
        };
        if info.target != u64::from(ifindex) {
            return Some(Problem::Detached);
        }
        match links::on_interface(ifindex) {
            Ok(programs) if programs.first() == Some(&info.program) => {}
            Ok(programs) if programs.contains(&info.program) => return Some(Problem::NotFirst),
            Ok(_) => return Some(Problem::NotEffective),
            Err(_) => return Some(Problem::Unknown),
        }
        match links::tag_by_id(info.program) {
            Ok(tag) if tag == self.tag => None,
            Ok(_) => Some(Problem::OtherProgram),
            Err(_) => Some(Problem::Unknown),
        }
    }
}

/// The entry of an agent's interface.
pub(super) fn entry(pod: &Pod) -> Link {
    Link {
        flags: POD_AGENT,
        index: pod.index,
        generation: pod.generation,
        egress: pod.egress,
        padding: 0,
    }
}

fn failed(action: &'static str) -> impl Fn(std::io::Error) -> NodeError {
    move |source| NodeError::Attach {
        action,
        program: WIRE,
        source,
    }
}
