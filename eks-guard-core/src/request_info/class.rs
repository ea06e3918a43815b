//! What kinds of text a text may be, by its bytes: found in the one walk that looks for its end.

/// The kinds of text that may hold all bytes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class(u8);

impl Class {
    /// RFC 3986 unreserved characters: nothing to decode and nothing to encode, as in nearly all text of a request.
    pub(super) const UNRESERVED: Self = Self(1);
    /// Names of groups, versions and resources: lower-case letters, digits, `.` and `-`.
    pub(super) const TOKEN: Self = Self(2);
    /// DNS-1123 labels: lower-case letters, digits and `-`.
    pub(super) const LABEL: Self = Self(4);

    /// Of no bytes at all.
    pub(super) const EMPTY: Self = Self(Self::UNRESERVED.0 | Self::TOKEN.0 | Self::LABEL.0);

    /// Looks at every byte.
    pub(super) fn of(text: &str) -> Self {
        text.bytes().fold(Self::EMPTY, Self::and)
    }

    /// Of the text with one more byte.
    pub(super) fn and(self, byte: u8) -> Self {
        Self(self.0 & BYTES[usize::from(byte)])
    }

    /// Whether a text of this kind may hold them.
    pub(super) const fn is(self, kind: Self) -> bool {
        self.0 & kind.0 == kind.0
    }
}

/// The kinds of text that may hold a byte.
const BYTES: [u8; 256] = bytes();

const fn bytes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => Class::EMPTY.0,
            b'.' => Class::UNRESERVED.0 | Class::TOKEN.0,
            b'A'..=b'Z' | b'_' | b'~' => Class::UNRESERVED.0,
            _ => 0,
        };
        byte += 1;
    }
    table
}
