//! The packet filter of the node as the daemon keeps it: made as soon as the kernel has one, given what is to be closed as it
//! becomes known, looked at, and put back.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::path::Path;

use crate::ebpf::node::{Closed, has_tcx};
use crate::node::filter::{Filter, Raw, Wanted};
use crate::node::kernel::{Health, KernelError, Others};
use crate::telemetry::chain;

/// The filter and what it is to close.
pub(super) struct Forwarding {
    name: String,
    wanted: Wanted,
    filter: Option<Filter>,
    /// Whether what is wanted is in force, as far as is known.
    is_closed: bool,
}

impl Forwarding {
    /// Takes over what an earlier daemon left. A kernel without packet filter is tried again whenever there is something to
    /// do.
    pub(super) fn open(name: String, closed: Vec<Closed>, nat64: Vec<Ipv6Addr>) -> Self {
        let mut forwarding = Self {
            name,
            wanted: Wanted {
                closed,
                nat64,
                ..Wanted::default()
            },
            filter: None,
            is_closed: false,
        };
        match forwarding.reach().and_then(Filter::interfaces) {
            // Until agents are known, those of an earlier daemon stay closed.
            Ok(interfaces) => forwarding.wanted.interfaces = interfaces,
            Err(error) => {
                tracing::error!(%error, "no packet filter");
                return forwarding;
            }
        }
        forwarding.is_closed = forwarding.apply().is_ok();
        forwarding
    }

    /// Closes what agents' interfaces must not be forwarded to, from now on.
    pub(super) fn close(&mut self, closed: Vec<Closed>) -> Result<(), KernelError> {
        self.wanted.closed = closed;
        self.apply()
    }

    /// Closes it to these interfaces, from now on.
    pub(super) fn guard(&mut self, interfaces: &BTreeSet<u32>, others: Others) -> Result<(), KernelError> {
        match others {
            Others::Stay => self.wanted.interfaces.extend(interfaces),
            Others::Open => self.wanted.interfaces.clone_from(interfaces),
        }
        self.apply()
    }

    /// What is closed.
    pub(super) fn closed(&self) -> &[Closed] {
        &self.wanted.closed
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Packets dropped, as far as was looked.
    pub(super) fn dropped(&self) -> u64 {
        self.filter.as_ref().map_or(0, Filter::dropped)
    }

    /// Looks whether the table is as it was written, and writes it again.
    pub(super) fn repair(&mut self, health: &mut Health) {
        let name = format!("nftables table {}", self.name);
        let was_closed = self.is_closed;
        let problem = match self.reach().and_then(Filter::fault) {
            Ok(None) if was_closed => return,
            Ok(None) => "was not in force",
            Ok(Some(problem)) => problem,
            Err(_) => "could not be read",
        };
        if let Some(filter) = &mut self.filter {
            filter.forget();
        }
        match self.apply() {
            Ok(()) => health.repaired.push(format!("{name} {problem}")),
            Err(error) => health.faults.push(chain(&error)),
        }
    }

    fn apply(&mut self) -> Result<(), KernelError> {
        let wanted = self.wanted.clone();
        let applied = self.reach().and_then(|filter| filter.close(&wanted));
        self.is_closed = applied.is_ok();
        applied.map_err(|source| KernelError {
            doing: format!(
                "writing the nftables table {}: what the node forwards for agents is not looked at, so every agent is held to \
                 its allow list",
                self.name
            ),
            source: source.into(),
        })
    }

    fn reach(&mut self) -> io::Result<&mut Filter> {
        let raw = if has_tcx() {
            Raw::LeftToPrograms
        } else {
            Raw::Judged
        };
        match &mut self.filter {
            Some(filter) => Ok(filter),
            none => Ok(none.insert(Filter::open(&self.name, raw)?)),
        }
    }
}

/// The table is called like the folder of the pins: they come and go together.
pub(super) fn table_of(pins: &Path) -> String {
    let name = pins.file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "eks-guard".to_owned())
}
