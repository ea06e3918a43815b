//! Tables read back: whether they are what they were, what their rules have dropped, and what is in a set.

use std::collections::BTreeSet;
use std::io;

use rustix::io::Errno;

use crate::netlink::nftables::{kind, message};
use crate::netlink::{Answer, Attributes, DUMP, Message, Socket};

/// `struct nfgenmsg`, which names the generation of all tables too: it changes with everybody's changes.
const FIXED: usize = 4;

/// A table as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Everything but its counters, in the kernel's own words. Whoever changes or replaces anything changes this.
    pub print: BTreeSet<Vec<u8>>,
    /// Packets that its rules have dropped.
    pub dropped: u64,
}

/// Whether there is a table of this name.
pub(super) fn exists(socket: &mut Socket, name: &str) -> io::Result<bool> {
    get(socket, name).map(|table| table.is_some())
}

fn get(socket: &mut Socket, name: &str) -> io::Result<Option<Vec<Answer>>> {
    match socket.ask(&message(kind::GET_TABLE).with_text(1, name), 0) {
        Ok(answers) => Ok(Some(answers)),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a table; none when there is none.
///
/// # Errors
/// The kernel does not answer.
pub fn read(socket: &mut Socket, name: &str, sets: &[&str]) -> io::Result<Option<Found>> {
    let Some(table) = get(socket, name)? else {
        return Ok(None);
    };
    let mut found = Found::default();
    for (_, body) in table {
        let attributes = Attributes::behind(FIXED, &body);
        // Flags and handle; not the number of users, which says nothing more.
        for kind in [2, 4] {
            found.print.extend(attributes.value(kind).map(<[u8]>::to_vec));
        }
    }
    let own = |body: &[u8]| Attributes::behind(FIXED, body).text(1) == Some(name.as_bytes());
    let of_table = |kind| message(kind).with_text(1, name);
    for question in [message(kind::GET_CHAIN), of_table(kind::GET_SET)] {
        let answers = socket.ask(&question, DUMP)?;
        let answers = answers.into_iter().filter(|(_, body)| own(body));
        found.print.extend(answers.map(|(_, body)| after(body, FIXED)));
    }
    for (_, body) in socket.ask(&of_table(kind::GET_RULE), DUMP)? {
        if own(&body) {
            let (print, dropped) = rule(&body);
            found.print.insert(print);
            found.dropped += dropped;
        }
    }
    for set in sets {
        for element in elements(socket, name, set)? {
            found.print.insert([set.as_bytes(), &element].concat());
        }
    }
    Ok(Some(found))
}

/// The values in a set; nothing when there is no such set.
///
/// # Errors
/// The kernel does not answer.
pub fn values(socket: &mut Socket, table: &str, set: &str) -> io::Result<Vec<Vec<u8>>> {
    let elements = elements(socket, table, set)?;
    let value = |element: &Vec<u8>| {
        let key = Attributes::behind(0, element).within(1);
        key.value(1).map(<[u8]>::to_vec)
    };
    Ok(elements.iter().filter_map(value).collect())
}

/// What is in a set, in the kernel's own words; nothing when there is no such set.
fn elements(socket: &mut Socket, table: &str, set: &str) -> io::Result<Vec<Vec<u8>>> {
    let question: Message = message(kind::GET_ELEMENTS).with_text(1, table).with_text(2, set);
    let answers = match socket.ask(&question, DUMP) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => return Ok(Vec::new()),
        outcome => outcome?,
    };
    let mut found = Vec::new();
    for (_, body) in answers {
        let list = Attributes::behind(FIXED, &body).within(3);
        found.extend(list.map(|(_, element)| element.to_vec()));
    }
    Ok(found)
}

/// A rule without its counters, and what those count.
fn rule(body: &[u8]) -> (Vec<u8>, u64) {
    const EXPRESSIONS: u16 = 4;
    let attributes = Attributes::behind(FIXED, body);
    let (mut print, mut dropped) = (Vec::new(), 0);
    for (kind, value) in attributes.filter(|(kind, _)| *kind != EXPRESSIONS) {
        print.extend(kind.to_ne_bytes());
        print.extend(value);
    }
    for (_, expression) in attributes.within(EXPRESSIONS) {
        let expression = Attributes::behind(0, expression);
        if expression.text(1) == Some(b"counter") {
            let packets = expression
                .within(2)
                .value(2)
                .and_then(|count| count.try_into().ok());
            dropped += packets.map_or(0, u64::from_be_bytes);
        } else {
            expression.for_each(|(_, value)| print.extend(value));
        }
    }
    (print, dropped)
}

fn after(mut body: Vec<u8>, fixed: usize) -> Vec<u8> {
    body.split_off(fixed.min(body.len()))
}
