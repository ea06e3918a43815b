//! What somebody took off while the daemon lives, put back: links, pins, the bpffs itself, the configuration of the
//! programs. The daemon holds everything open, so nothing is lost but its place.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::ebpf::node::attachment::{Fault, Problem};
use crate::ebpf::node::error::{NodeError, map_error};
use crate::ebpf::node::pins::{self, Pins};
use crate::ebpf::node::{NodeDatapath, PINNED};

/// Steps that one thing may take: pinned again, it may turn out to be detached.
const STEPS: usize = 3;

/// What was found, and what became of it.
#[derive(Debug, Default)]
pub struct Repairs {
    /// What was wrong and is not any more.
    pub repaired: Vec<Fault>,
    /// What still is.
    pub left: Vec<Fault>,
    /// Why, as far as the kernel said.
    pub errors: Vec<NodeError>,
}

impl NodeDatapath {
    /// Looks whether all layers hold, as [`NodeDatapath::verify_attached`] does, and puts back those of the cgroup that do
    /// not. Interfaces are left to [`NodeDatapath::guard_interface`]. Call it from a thread in the network namespace of the
    /// host.
    ///
    /// # Errors
    /// The maps cannot be read: nothing is known.
    pub fn repair(&mut self, below: &[BorrowedFd<'_>]) -> Result<Repairs, NodeError> {
        let mut repairs = Repairs::default();
        let mut found: Vec<Fault> = Vec::new();
        for _ in 0..STEPS {
            repairs.left = self.verify_attached(below)?;
            let new = repairs
                .left
                .iter()
                .filter(|fault| !found.contains(fault))
                .cloned();
            let new: Vec<Fault> = new.collect();
            if new.is_empty() {
                break;
            }
            repairs.errors = self.put_back(&new);
            found.extend(new);
        }
        let is_left = |fault: &Fault| repairs.left.contains(fault);
        repairs.repaired = found.into_iter().filter(|fault| !is_left(fault)).collect();
        Ok(repairs)
    }

    fn put_back(&mut self, faults: &[Fault]) -> Vec<NodeError> {
        let mut errors = Vec::new();
        let mut note = |outcome: Result<(), NodeError>| errors.extend(outcome.err());
        if faults.iter().any(|fault| is_about_pins(fault.problem)) {
            note(self.pins.restore());
        }
        for fault in faults.iter().filter(|fault| fault.ifindex.is_none()) {
            let program = self.attached.iter_mut().find(|program| program.is(fault.program));
            let map = self.maps.iter().find(|(name, _)| *name == fault.program);
            if let Some(program) = program {
                note(program.repair(&self.pins, self.cgroup.as_fd(), fault.problem));
            } else if fault.problem == Problem::MapNotPinned
                && let Some((name, map)) = map
            {
                note(pins::replace(map.as_fd(), &self.pins.maps().join(name)));
            } else if fault.program == "cfg" {
                let set = self.tables().config.set(0, self.config, 0);
                note(set.map_err(map_error("cfg")));
            }
        }
        errors
    }
}

fn is_about_pins(problem: Problem) -> bool {
    match problem {
        Problem::NotPinned | Problem::MapNotPinned => true,
        Problem::Detached
        | Problem::NotEffective
        | Problem::OtherProgram
        | Problem::NotFirst
        | Problem::NoEntry
        | Problem::Unknown => false,
    }
}

/// Holds every map that is pinned.
pub(super) fn open_maps(pins: &Pins) -> Result<Vec<(&'static str, OwnedFd)>, NodeError> {
    let mut maps = Vec::with_capacity(PINNED.len());
    for name in PINNED {
        maps.extend(pins::open(&pins.maps().join(name))?.map(|map| (name, map)));
    }
    Ok(maps)
}

/// Maps that have no pin.
pub(super) fn unpinned(pins: &Pins, maps: &[(&'static str, OwnedFd)]) -> Vec<Fault> {
    let gone = maps.iter().filter(|(name, _)| !pins.maps().join(name).exists());
    let fault = |(program, _): &(&'static str, OwnedFd)| Fault {
        program,
        ifindex: None,
        problem: Problem::MapNotPinned,
    };
    gone.map(fault).collect()
}
