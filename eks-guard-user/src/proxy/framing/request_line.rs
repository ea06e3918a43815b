//! The first line of a request: a method, one space, a target that is a URI, one space, `HTTP/1.0` or `HTTP/1.1`.

use http::Uri;

/// Longest target that does not begin with a slash: `*`, an authority, an absolute URI.
const ODD_TARGET: usize = 1024;
const VERSION: &[u8] = b"HTTP/1.";

/// Follows one line, byte by byte.
#[derive(Debug)]
pub(super) struct RequestLine {
    part: Part,
    /// The target when it does not begin with a slash: rare, and read as a whole.
    odd: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Method,
    TargetStart,
    Target,
    OddTarget,
    Version { at: usize },
    Complete,
}

impl RequestLine {
    pub(super) const fn new() -> Self {
        Self {
            part: Part::Method,
            odd: Vec::new(),
        }
    }

    /// A method has begun with its first letter.
    pub(super) fn begin(&mut self) {
        *self = Self::new();
    }

    /// How many bytes at the start are inside a target.
    pub(super) fn skip(&self, bytes: &[u8]) -> usize {
        match self.part {
            Part::Target => bytes.iter().take_while(|&&byte| is_target(byte)).count(),
            Part::Method | Part::TargetStart | Part::OddTarget | Part::Version { .. } | Part::Complete => 0,
        }
    }

    /// Reads one byte before the line's end; false when no request line has it there.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let next = match (self.part, byte) {
            (Part::Method, b' ') => Some(Part::TargetStart),
            (Part::Method, byte) => super::is_name(byte).then_some(Part::Method),
            (Part::TargetStart, b'/') => Some(Part::Target),
            (Part::TargetStart | Part::OddTarget, byte) if is_target(byte) => {
                self.odd.push(byte);
                (self.odd.len() <= ODD_TARGET).then_some(Part::OddTarget)
            }
            (Part::Target, b' ') => Some(Part::Version { at: 0 }),
            (Part::OddTarget, b' ') => Uri::try_from(self.odd.as_slice())
                .is_ok()
                .then_some(Part::Version { at: 0 }),
            (Part::Target, byte) => is_target(byte).then_some(Part::Target),
            (Part::Version { at }, byte) if VERSION.get(at) == Some(&byte) => {
                Some(Part::Version { at: at + 1 })
            }
            (Part::Version { at }, b'0' | b'1') if at == VERSION.len() => Some(Part::Complete),
            (Part::TargetStart | Part::OddTarget | Part::Version { .. } | Part::Complete, _) => None,
        };
        self.part = next.unwrap_or(self.part);
        next.is_some()
    }

    /// Whether the line may end here.
    pub(super) fn is_complete(&self) -> bool {
        self.part == Part::Complete
    }
}

/// Visible ASCII that may stand in a URI as it is. A fragment would be dropped without a word by the next parser.
fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"#<>`".contains(&byte)
}
