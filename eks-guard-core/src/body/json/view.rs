//! A look into canonical text, without a tree: members and items by their place. Text that is not canonical has none.

use std::borrow::Cow;

/// One value of a canonical text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// `text` is what [`crate::body::json::canonical`] wrote.
    pub(crate) const fn of(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// The canonical text of the value.
    pub(crate) const fn raw(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn is_object(self) -> bool {
        self.0.first() == Some(&b'{')
    }

    /// The string; none for any other value.
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if inner.contains(&b'\\') {
            return serde_json::from_slice(self.0).ok().map(Cow::Owned);
        }
        std::str::from_utf8(inner).ok().map(Cow::Borrowed)
    }

    /// The members of an object; none of any other value.
    pub(crate) fn members(self) -> impl Iterator<Item = (View<'a>, View<'a>)> {
        let mut parts = Parts::of(self.0, b'{');
        std::iter::from_fn(move || Some((parts.next(b':')?, parts.next(b',')?)))
    }

    /// The items of an array; none of any other value.
    pub(crate) fn items(self) -> impl Iterator<Item = View<'a>> {
        let mut parts = Parts::of(self.0, b'[');
        std::iter::from_fn(move || parts.next(b','))
    }

    /// Every key at any depth, each with the text from its value on: one pass, however deep it nests.
    pub(crate) fn keys(self) -> impl Iterator<Item = (View<'a>, &'a [u8])> {
        let (text, mut at) = (self.0, 0);
        std::iter::from_fn(move || {
            loop {
                at += text.get(at..)?.iter().position(|byte| *byte == b'"')?;
                let end = string_end(text, at);
                let string = View(text.get(at..end)?);
                at = end;
                if let Some([b':', value @ ..]) = text.get(end..) {
                    return Some((string, value));
                }
            }
        })
    }

    /// The member with this key, which holds no character that JSON escapes.
    pub(crate) fn get(self, key: &str) -> Option<View<'a>> {
        self.members()
            .find(|(name, _)| name.is_text(key))
            .map(|(_, value)| value)
    }

    /// Whether this is the string `text`, which holds no character that JSON escapes.
    pub(crate) fn is_text(self, text: &str) -> bool {
        self.0
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_suffix(b"\""))
            == Some(text.as_bytes())
    }
}

/// What is left of a container.
struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(text: &'a [u8], bracket: u8) -> Self {
        let rest = match text {
            [first, rest @ ..] if *first == bracket => rest,
            _ => &[],
        };
        Self { rest }
    }

    /// The value in front, and the separator behind it taken off when it is this one.
    fn next(&mut self, separator: u8) -> Option<View<'a>> {
        let (value, rest) = self.rest.split_at_checked(end(self.rest))?;
        if value.is_empty() {
            return None;
        }
        self.rest = match rest {
            [first, rest @ ..] if *first == separator => rest,
            _ => &[],
        };
        Some(View(value))
    }
}

/// Where the value in front ends; 0 when there is none.
fn end(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = string_end(text, at),
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => (at, depth) = (at + 1, depth - 1),
            b',' | b':' if depth == 0 => return at,
            _ => at += 1,
        }
        let is_delimited = matches!(text.get(at.wrapping_sub(1)), Some(b'"' | b'}' | b']'));
        if depth == 0 && is_delimited {
            return at;
        }
    }
    at
}

/// The place after the string whose quote is at `at`.
fn string_end(text: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    loop {
        match text.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return text.len(),
        }
    }
}
