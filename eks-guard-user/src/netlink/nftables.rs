//! Packet filter tables of the kernel's nf_tables: declared as a whole, put in the place of the one with their name in one
//! transaction, read back, and removed. Numbers are those of `linux/netfilter/nf_tables.h`.

mod read;
mod rule;

use std::io;

use rustix::io::Errno;

use crate::netlink::{Message, Socket};

pub use self::read::{Found, read, values};
pub use self::rule::{Rule, Version};

/// The family of tables that see both versions of IP.
const INET: u8 = 1;
/// The part of netfilter that message types name.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// What a message does; the kind of object is added to it.
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// Elements of one message: the list has one length of 16 bits.
const ELEMENTS: usize = 1000;

/// What a set that is called by an address or a number holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Indices of interfaces, in the machine's order.
    Interface,
    /// IPv4 addresses.
    V4,
    /// IPv6 addresses.
    V6,
    /// IP protocols.
    Protocol,
}

/// One element, or those from one to another that is not among them; without a last one up to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// One.
    One(Vec<u8>),
    /// Many.
    From(Vec<u8>, Option<Vec<u8>>),
}

/// A set that rules look things up in.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub key: Key,
    /// All of one kind.
    pub elements: Vec<Element>,
}

/// Where the kernel calls a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// As soon as a packet is there, before its destination is rewritten.
    Raw,
    /// Packets that go on to others.
    Forward,
    /// Packets for this machine itself.
    Input,
}

/// Rules, asked in their order.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where it is called; nowhere, if other chains call it.
    pub hook: Option<Hook>,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// A table. Chains stand after those that they call.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Sets.
    pub sets: Vec<Set>,
    /// Chains.
    pub chains: Vec<Chain>,
}

/// Who may change a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The socket that made it, while it is open; after that the table stays, for whoever takes it (Linux 6.9).
    Kept,
    /// Everybody with the capability.
    Shared,
}

impl Ownership {
    fn flags(self) -> u32 {
        const OWNER: u32 = 2;
        const PERSIST: u32 = 4;
        match self {
            Self::Kept => OWNER | PERSIST,
            Self::Shared => 0,
        }
    }
}

/// Puts a table in the place of the one that has its name. Packets see the one or the other, and nothing in between.
///
/// # Errors
/// What the kernel refuses; `Unsupported` if that is the ownership. The table that was there still is.
pub fn replace(socket: &mut Socket, table: &Table, ownership: Ownership) -> io::Result<()> {
    let mut messages = Vec::new();
    if read::exists(socket, &table.name)? {
        messages.push((message(kind::DELETE_TABLE).with_text(1, &table.name), 0));
    }
    let made = message(kind::NEW_TABLE).with_text(1, &table.name);
    messages.push((made.with_number(2, ownership.flags()), CREATE));
    for (number, set) in (1..).zip(&table.sets) {
        messages.push((set.message(&table.name, number), CREATE));
    }
    for chain in &table.chains {
        messages.push((chain.message(&table.name), CREATE));
    }
    for chain in &table.chains {
        let of_chain = |rule: &Rule| {
            let made = message(kind::NEW_RULE).with_text(1, &table.name);
            let made = made.with_text(2, chain.name);
            (made.with_nested(4, rule.expressions()), CREATE | APPEND)
        };
        messages.extend(chain.rules.iter().map(of_chain));
    }
    for set in &table.sets {
        let filled = set.elements.chunks(ELEMENTS);
        messages.extend(filled.map(|some| (set.filled(&table.name, some), CREATE)));
    }
    transact(socket, messages)
}

/// Removes a table; `false` when there is none.
///
/// # Errors
/// It is another's, or the kernel does not answer.
pub fn remove(socket: &mut Socket, name: &str) -> io::Result<bool> {
    if !read::exists(socket, name)? {
        return Ok(false);
    }
    transact(socket, vec![(message(kind::DELETE_TABLE).with_text(1, name), 0)])?;
    Ok(true)
}

fn transact(socket: &mut Socket, messages: Vec<(Message, u16)>) -> io::Result<()> {
    let edge = |kind| {
        // No family, and the part of netfilter in network order.
        let [high, low] = SUBSYSTEM.to_be_bytes();
        (Message::new(kind, &[0, 0, high, low]), 0)
    };
    let mut batch = vec![edge(BATCH_BEGIN)];
    batch.extend(messages);
    batch.push(edge(BATCH_END));
    let outcome = socket.transact(&batch);
    outcome.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::OPNOTSUPP) => io::ErrorKind::Unsupported.into(),
        _ => error,
    })
}

fn message(kind: u16) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, &[INET, 0, 0, 0])
}

/// Numbers of messages.
mod kind {
    pub(super) const NEW_TABLE: u16 = 0;
    pub(super) const GET_TABLE: u16 = 1;
    pub(super) const DELETE_TABLE: u16 = 2;
    pub(super) const NEW_CHAIN: u16 = 3;
    pub(super) const GET_CHAIN: u16 = 4;
    pub(super) const NEW_RULE: u16 = 6;
    pub(super) const GET_RULE: u16 = 7;
    pub(super) const NEW_SET: u16 = 9;
    pub(super) const GET_SET: u16 = 10;
    pub(super) const NEW_ELEMENTS: u16 = 12;
    pub(super) const GET_ELEMENTS: u16 = 13;
}

impl Key {
    /// How nft(8) names and prints it, and how many bytes it has.
    fn data(self) -> (u32, u32) {
        match self {
            Self::Interface => (20, 4),
            Self::V4 => (7, 4),
            Self::V6 => (8, 16),
            Self::Protocol => (12, 1),
        }
    }
}

impl Set {
    fn message(&self, table: &str, number: u32) -> Message {
        const INTERVAL: u32 = 4;
        let (data_type, length) = self.key.data();
        let is_interval = matches!(self.key, Key::V4 | Key::V6);
        message(kind::NEW_SET)
            .with_text(1, table)
            .with_text(2, self.name)
            .with_number(3, if is_interval { INTERVAL } else { 0 })
            .with_number(4, data_type)
            .with_number(5, length)
            .with_number(10, number)
    }

    fn filled(&self, table: &str, elements: &[Element]) -> Message {
        const LIST_ELEMENT: u16 = 1;
        let mut list = Message::attributes();
        for element in elements {
            let (first, end) = match element {
                Element::One(value) => (value, None),
                Element::From(first, end) => (first, end.as_ref()),
            };
            list = list.with_nested(LIST_ELEMENT, &element_of(first));
            if let Some(end) = end {
                // Where an interval is over, one element says so.
                list = list.with_nested(LIST_ELEMENT, &element_of(end).with_number(3, 1));
            }
        }
        message(kind::NEW_ELEMENTS)
            .with_text(1, table)
            .with_text(2, self.name)
            .with_nested(3, &list)
    }
}

fn element_of(value: &[u8]) -> Message {
    Message::attributes().with_nested(1, &Message::attributes().with(1, value))
}

impl Chain {
    fn message(&self, table: &str) -> Message {
        let made = message(kind::NEW_CHAIN)
            .with_text(1, table)
            .with_text(3, self.name);
        let Some(hook) = self.hook else { return made };
        // Places of `linux/netfilter.h`; the order among chains of one place is that of `linux/netfilter_ipv4.h`.
        let (place, priority) = match hook {
            Hook::Raw => (0, -300_i32),
            Hook::Forward => (2, 0),
            Hook::Input => (1, 0),
        };
        let hook = Message::attributes()
            .with_number(1, place)
            .with_number(2, priority.cast_unsigned());
        made.with_nested(4, &hook).with_text(7, "filter")
    }
}
