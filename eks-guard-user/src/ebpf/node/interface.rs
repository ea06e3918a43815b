//! The host sides of agents' interfaces: the program first in the order of tcx, pinned like the others.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use aya::Ebpf;
use eks_guard_ebpf::{Link, POD_AGENT, Pod};

use crate::ebpf::load_error::LoadError;
use crate::ebpf::node::attachment::{Fault, Problem, live_link};
use crate::ebpf::node::error::NodeError;
use crate::ebpf::node::pins::{self, Pins};
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
    /// By interface: should the bpffs be unmounted, the programs stay for as long as these.
    links: BTreeMap<u32, OwnedFd>,
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
        Ok(Self {
            program,
            tag,
            links: BTreeMap::new(),
        })
    }

    /// Attaches to an interface of the calling thread's network namespace, or replaces the program that is there.
    pub(super) fn attach(&mut self, pins: &Pins, ifindex: u32) -> Result<(), NodeError> {
        if !has_tcx() {
            return Err(NodeError::NoTcx);
        }
        if self.renew_one(pins, ifindex)? {
            return Ok(());
        }
        let link = links::attach_first(self.program.as_fd(), ifindex).map_err(failed("attach"))?;
        pins::replace(link.as_fd(), &pins.wire(ifindex))?;
        self.links.insert(ifindex, link);
        Ok(())
    }

    /// Takes the program off an interface that may be gone.
    pub(super) fn detach(&mut self, pins: &Pins, ifindex: u32) -> Result<(), NodeError> {
        pins::remove(&pins.wire(ifindex))?;
        self.links.remove(&ifindex);
        Ok(())
    }

    /// Replaces the program of every pinned link, and drops the pins of interfaces that are gone. Returns the latter.
    pub(super) fn renew(&mut self, pins: &Pins) -> Result<Vec<u32>, NodeError> {
        let mut gone = Vec::new();
        for ifindex in pins.wired()? {
            if !self.renew_one(pins, ifindex)? {
                self.detach(pins, ifindex)?;
                gone.push(ifindex);
            }
        }
        Ok(gone)
    }

    /// Replaces the program of an interface's link, and pins it again should its pin be gone; `false` when it has no link
    /// that is attached.
    fn renew_one(&mut self, pins: &Pins, ifindex: u32) -> Result<bool, NodeError> {
        let pin = pins.wire(ifindex);
        let pinned = live_link(&pin, AttachType::TcxIngress, u64::from(ifindex))?;
        let Some(link) = pinned.or_else(|| self.links.remove(&ifindex)) else {
            return Ok(false);
        };
        let info = links::link_info(link.as_fd(), AttachType::TcxIngress).map_err(failed("identify"))?;
        if info.target != u64::from(ifindex) {
            return Ok(false);
        }
        pins::replace(link.as_fd(), &pin)?;
        links::update(link.as_fd(), self.program.as_fd()).map_err(failed("replace"))?;
        self.links.insert(ifindex, link);
        Ok(true)
    }

    /// Whether the pinned link of an interface is attached to it.
    pub(super) fn is_on(&self, pins: &Pins, ifindex: u32) -> bool {
        let link = links::open_pinned(&pins.wire(ifindex)).ok().flatten();
        let info = link.map(|link| links::link_info(link.as_fd(), AttachType::TcxIngress));
        // In doubt it is.
        info.is_some_and(|info| info.map_or(true, |info| info.target == u64::from(ifindex)))
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

/// Whether this kernel has a place for programs on an interface that nobody else's takes away.
#[must_use]
pub fn has_tcx() -> bool {
    object::running_kernel().is_some_and(|version| version >= TCX_SINCE)
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
