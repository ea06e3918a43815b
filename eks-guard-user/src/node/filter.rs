//! What the node forwards for its agents, looked at once more behind every rewriting of destinations: one table of the
//! kernel's packet filter. It outlives the daemon, and on Linux 6.9 or newer nobody else can change it while the daemon lives.

mod intervals;

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

use rustix::io::Errno;

use crate::ebpf::node::Closed;
use crate::netlink::nftables::{
    self, Chain, Element, Found, Hook, Key, Ownership, Rule, Set, Table, Version, read, replace, values,
};
use crate::netlink::{Family, Socket};

/// Names of the sets.
const AGENTS: &str = "agents";
const WHOLE4: &str = "whole4";
const WHOLE6: &str = "whole6";
const PARTLY4: &str = "partly4";
const PARTLY6: &str = "partly6";
const PORTED: &str = "ported";
const SETS: [&str; 6] = [AGENTS, WHOLE4, WHOLE6, PARTLY4, PARTLY6, PORTED];
/// The chain that all others call.
const JUDGE: &str = "judge";

/// TCP, UDP, DCCP, SCTP and UDP-Lite: what has ports.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// Whether packets are looked at before their destination is rewritten, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raw {
    /// For kernels that have no other place on an interface: frames are stopped before anything else is done with them.
    Judged,
    /// A program on the interface does it.
    LeftToPrograms,
}

/// What is to be closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The node's ends of agents' cables.
    pub interfaces: BTreeSet<u32>,
    /// Destinations.
    pub closed: Vec<Closed>,
    /// NAT64 prefixes of 96 bits beside `64:ff9b::/96`.
    pub nat64: Vec<Ipv6Addr>,
}

/// The table, held.
#[derive(Debug)]
pub struct Filter {
    socket: Socket,
    name: String,
    raw: Raw,
    ownership: Ownership,
    wanted: Option<Wanted>,
    /// What the kernel said of the table when it had just been written.
    print: BTreeSet<Vec<u8>>,
    /// What tables before this one have dropped, and all of them together.
    dropped_before: u64,
    dropped: u64,
}

impl Filter {
    /// Takes over the table of this name, or makes an empty one. Call it from a thread in the network namespace of the
    /// host. What an earlier daemon left stays in force until [`Filter::close`] replaces it.
    ///
    /// # Errors
    /// The kernel has no packet filter, or the table is another's.
    pub fn open(name: &str, raw: Raw) -> io::Result<Self> {
        let mut filter = Self {
            socket: Socket::open(Family::Netfilter)?,
            name: name.to_owned(),
            raw,
            ownership: Ownership::Kept,
            wanted: None,
            print: BTreeSet::new(),
            dropped_before: 0,
            dropped: 0,
        };
        if filter.found()?.is_none() {
            filter.write(&Wanted::default())?;
        }
        Ok(filter)
    }

    /// Closes destinations to what comes in through interfaces, in the place of what was closed before.
    ///
    /// # Errors
    /// The kernel refuses: what was closed still is.
    pub fn close(&mut self, wanted: &Wanted) -> io::Result<()> {
        if self.wanted.as_ref() == Some(wanted) && !self.print.is_empty() {
            return Ok(());
        }
        self.wanted = Some(wanted.clone());
        self.write(wanted)
    }

    /// Counts the table as lost, so that [`Filter::close`] writes it whatever was written before.
    pub fn forget(&mut self) {
        self.print = BTreeSet::new();
    }

    /// Interfaces that the table is about, an earlier daemon's included.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn interfaces(&mut self) -> io::Result<BTreeSet<u32>> {
        let values = values(&mut self.socket, &self.name, AGENTS)?;
        let number = |value: Vec<u8>| value.try_into().ok().map(u32::from_ne_bytes);
        Ok(values.into_iter().filter_map(number).collect())
    }

    /// What is wrong with the table; nothing when it is as it was written.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn fault(&mut self) -> io::Result<Option<&'static str>> {
        if self.wanted.is_none() {
            return Ok(None);
        }
        Ok(match self.found()? {
            None => Some("is gone"),
            Some(found) if found.print != self.print => Some("was changed by somebody else"),
            Some(_) => None,
        })
    }

    /// Packets dropped, as far as was looked.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Who may change the table beside this.
    #[must_use]
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    fn write(&mut self, wanted: &Wanted) -> io::Result<()> {
        // Its counters go with it.
        self.found()?;
        self.dropped_before = self.dropped;
        self.print = BTreeSet::new();
        let table = table(&self.name, wanted, self.raw);
        match replace(&mut self.socket, &table, self.ownership) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported && self.ownership == Ownership::Kept => {
                // A table that goes with its owner would be worse than one that has none.
                self.ownership = Ownership::Shared;
                replace(&mut self.socket, &table, self.ownership)?;
            }
            outcome => outcome?,
        }
        let found = self.found()?;
        self.print = found.map(|found| found.print).unwrap_or_default();
        Ok(())
    }

    fn found(&mut self) -> io::Result<Option<Found>> {
        let found = read(&mut self.socket, &self.name, &SETS)?;
        if let Some(found) = &found {
            self.dropped = self.dropped.max(self.dropped_before + found.dropped);
        }
        Ok(found)
    }
}

/// Removes the table that an earlier daemon left; `false` when there is none.
///
/// # Errors
/// A daemon owns it, or the kernel does not answer.
pub fn remove(name: &str) -> io::Result<bool> {
    let removed = Socket::open(Family::Netfilter).and_then(|mut socket| nftables::remove(&mut socket, name));
    match removed.as_ref().map_err(Errno::from_io_error) {
        // A kernel without packet filter, or without the part that tables are of.
        Err(Some(Errno::PROTONOSUPPORT | Errno::INVAL)) => Ok(false),
        Ok(_) | Err(_) => removed,
    }
}

fn table(name: &str, wanted: &Wanted, raw: Raw) -> Table {
    let one = |bytes: &[u8]| Element::One(bytes.to_vec());
    let interfaces = wanted.interfaces.iter();
    let interfaces = interfaces.map(|interface| one(&interface.to_ne_bytes()));
    let set = |name, key, elements| Set { name, key, elements };
    let addresses = intervals::of(&wanted.closed, &wanted.nat64);
    let sets = vec![
        set(AGENTS, Key::Interface, interfaces.collect()),
        set(WHOLE4, Key::V4, addresses.whole4),
        set(WHOLE6, Key::V6, addresses.whole6),
        set(PARTLY4, Key::V4, addresses.partly4),
        set(PARTLY6, Key::V6, addresses.partly6),
        set(
            PORTED,
            Key::Protocol,
            WITH_PORTS.map(|protocol| one(&[protocol])).into(),
        ),
    ];
    let called = |name, hook| Chain {
        name,
        hook: Some(hook),
        rules: vec![Rule::from_interface_in(AGENTS).jump(JUDGE)],
    };
    let judge = Chain {
        name: JUDGE,
        hook: None,
        rules: rules(addresses.ports),
    };
    let mut chains = vec![
        judge,
        called("forward", Hook::Forward),
        called("input", Hook::Input),
    ];
    if raw == Raw::Judged {
        chains.push(called("raw", Hook::Raw));
    }
    Table {
        name: name.to_owned(),
        sets,
        chains,
    }
}

/// What is dropped of what agents send. An address of which some ports are closed gets no parts of packets, whose ports
/// cannot be read; whoever follows connections puts them together before.
fn rules(ports: Option<RangeInclusive<u16>>) -> Vec<Rule> {
    let to = Rule::to_address_in;
    let mut rules = vec![
        to(Version::V4, WHOLE4).drop(),
        to(Version::V6, WHOLE6).drop(),
        Rule::of(Version::V4).with_options4().drop(),
        Rule::of(Version::V6).routed6().drop(),
    ];
    if let Some(ports) = ports {
        rules.extend([
            to(Version::V4, PARTLY4).to_port(PORTED, &ports).drop(),
            to(Version::V6, PARTLY6).to_port(PORTED, &ports).drop(),
            to(Version::V4, PARTLY4).later_part4().drop(),
            to(Version::V6, PARTLY6).part6().drop(),
        ]);
    }
    rules
}
