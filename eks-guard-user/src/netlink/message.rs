//! Messages and attributes of netlink: lengths, padding, nesting. What is not whole is not there.

use std::io;

/// `struct nlmsghdr`, and the head of an attribute.
const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;
/// An attribute that holds attributes says so; another bit says that it is in network order.
const NESTED: u16 = 0x8000;
const TYPE: u16 = 0x3fff;

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct Message {
    kind: u16,
    body: Vec<u8>,
    /// An attribute is longer than its length can say.
    is_too_long: bool,
}

impl Message {
    /// One that begins with the fixed part of its type.
    #[must_use]
    pub fn new(kind: u16, fixed: &[u8]) -> Self {
        Self {
            kind,
            body: padded(fixed),
            is_too_long: false,
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    /// Adds an attribute that holds a text.
    #[must_use]
    pub fn with_text(self, kind: u16, text: &str) -> Self {
        self.with(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Adds an attribute that holds a number in network order.
    #[must_use]
    pub fn with_number(self, kind: u16, number: u32) -> Self {
        self.with(kind, &number.to_be_bytes())
    }

    /// Adds an attribute that holds those of another message, whose type and fixed part do not matter.
    #[must_use]
    pub fn with_nested(mut self, kind: u16, inner: &Self) -> Self {
        self.is_too_long |= inner.is_too_long;
        self.put(kind | NESTED, &inner.body);
        self
    }

    /// Attributes only, to be nested.
    #[must_use]
    pub fn attributes() -> Self {
        Self::new(0, &[])
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let Ok(length) = u16::try_from(ATTRIBUTE + value.len()) else {
            self.is_too_long = true;
            return;
        };
        self.body.extend(length.to_ne_bytes());
        self.body.extend(kind.to_ne_bytes());
        self.body.extend(padded(value));
    }

    /// The whole message.
    pub(super) fn encode(&self, flags: u16, sequence: u32) -> io::Result<Vec<u8>> {
        if self.is_too_long {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let length = u32::try_from(HEADER + self.body.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend(length.to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        // The kernel fills in the port.
        bytes.extend([0; 4]);
        bytes.extend(&self.body);
        Ok(bytes)
    }
}

/// A message that has been read.
pub(super) struct Read<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// The messages of a piece.
pub(super) fn messages(mut rest: &[u8]) -> Vec<Read<'_>> {
    let mut found = Vec::new();
    while let Some(read) = message(rest) {
        let length = HEADER + read.body.len();
        found.push(read);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn message(bytes: &[u8]) -> Option<Read<'_>> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    Some(Read {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        sequence: u32_at(bytes, 8)?,
        body: bytes.get(HEADER..length)?,
    })
}

/// What an acknowledgement or the end of a list says: zero, or the number of an error with its sign turned.
pub(super) fn outcome(body: &[u8]) -> io::Result<()> {
    match u32_at(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The attributes of a message or of another attribute, in their order; a broken one ends them.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those behind a fixed part of so many bytes.
    #[must_use]
    pub fn behind(fixed: usize, body: &'a [u8]) -> Self {
        Self(body.get(fixed..).unwrap_or_default())
    }

    /// The value of the first attribute of a type.
    #[must_use]
    pub fn value(mut self, wanted: u16) -> Option<&'a [u8]> {
        self.find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }

    /// The attributes within the first of a type.
    #[must_use]
    pub fn within(self, wanted: u16) -> Self {
        Self(self.value(wanted).unwrap_or_default())
    }

    /// A 32-bit number in the machine's order.
    #[must_use]
    pub fn native(self, wanted: u16) -> Option<u32> {
        u32_at(self.value(wanted)?, 0)
    }

    /// The text of an attribute, without the zero at its end.
    #[must_use]
    pub fn text(self, wanted: u16) -> Option<&'a [u8]> {
        let value = self.value(wanted)?;
        Some(value.strip_suffix(&[0]).unwrap_or(value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE;
        let value = self.0.get(ATTRIBUTE..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn padded(value: &[u8]) -> Vec<u8> {
    let mut bytes = value.to_vec();
    bytes.resize(value.len().next_multiple_of(4), 0);
    bytes
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Message {
        let inner = Message::attributes().with_text(1, "abc").with_number(2, 7);
        Message::new(16, &[9; 6])
            .with(5, &2_u32.to_ne_bytes())
            .with_nested(4, &inner)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = [link().encode(1, 8).unwrap(), link().encode(2, 9).unwrap()].concat();
        let read = messages(&bytes);
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].kind, read[1].flags, read[1].sequence), (16, 2, 9));
        // The fixed part is padded.
        let attributes = Attributes::behind(8, read[0].body);
        assert_eq!(attributes.native(5), Some(2));
        assert_eq!(attributes.within(4).text(1), Some(&b"abc"[..]));
        assert_eq!(attributes.within(4).value(2), Some(&[0, 0, 0, 7][..]));
        assert_eq!(attributes.value(3), None);
    }

    #[test]
    fn messages_are_read_as_far_as_they_are_whole() {
        let whole = link().encode(0, 1).unwrap();
        let both = [whole.clone(), whole.clone()].concat();
        for end in 0..both.len() {
            let read = messages(&both[..end]);
            assert_eq!(read.len(), usize::from(end >= whole.len()));
            for end in 0..end {
                Attributes::behind(0, &both[..end]).for_each(drop);
            }
        }
        // A length of nothing does not go round for ever.
        assert!(messages(&[0; 64]).is_empty());
        assert_eq!(Attributes(&[0; 64]).next(), None);
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        let long = Message::attributes().with(1, &[0; 70_000]);
        assert!(Message::new(1, &[]).with_nested(2, &long).encode(0, 1).is_err());
    }
}
