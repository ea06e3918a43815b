//! The state machine over one JSON text. It holds a stack of open containers and the keys of the open objects;
//! an object is checked for equal keys when it closes.

use crate::body::json::keys::{self, Container, Key};
use crate::body::json::slot::{METADATA, Slot, TOP};
use crate::body::json::text::{number_end, plain_end, string_end, unquote};
use crate::body::json::{Canonical, JsonError, MAX_DEPTH, Member, Outline, Shape};

/// One pass over one text. What is canonical as it stands is copied in long runs.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Between here and `at` everything is canonical, and not in `out` yet.
    copied: usize,
    out: Vec<u8>,
    open: Vec<Container>,
    keys: Vec<Key>,
    slot: Option<Slot>,
    outline: Outline,
}

/// What follows a step.
enum Next {
    Value,
    Complete,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            copied: 0,
            out: Vec::with_capacity(text.len()),
            open: Vec::new(),
            keys: Vec::new(),
            slot: None,
            outline: Outline::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<Canonical, JsonError> {
        loop {
            let mut next = self.value()?;
            while let Next::Complete = next {
                if self.open.is_empty() {
                    return self.finish();
                }
                next = self.after_value()?;
            }
        }
    }

    fn finish(mut self) -> Result<Canonical, JsonError> {
        let end = self.at;
        if self.peek().is_some() {
            return Err(JsonError::Trailing { at: end });
        }
        self.copy();
        self.outline.shape = match self.out.first() {
            Some(b'{') => Shape::Object,
            Some(b'[') => Shape::Array,
            _ => Shape::Scalar,
        };
        Ok(Canonical {
            text: self.out,
            outline: self.outline,
        })
    }

    /// One scalar, or the start of a container.
    fn value(&mut self) -> Result<Next, JsonError> {
        let slot = self.slot.take();
        let first = self.peek();
        if let Some(slot) = slot {
            slot.check(first)?;
        }
        match first {
            Some(b'{') => self.open_object(slot),
            Some(b'[') => self.open_array(),
            Some(b'"') => self.string(slot),
            Some(b'-' | b'0'..=b'9') => {
                self.at = number_end(self.text.as_bytes(), self.at)?;
                Ok(Next::Complete)
            }
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => {
                self.note(slot, Member::Null);
                self.literal("null")
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    /// A separator, or the end of the innermost container.
    fn after_value(&mut self) -> Result<Next, JsonError> {
        let byte = self.peek();
        match (self.open.last_mut(), byte) {
            (Some(Container::Object { .. }), Some(b',')) => {
                self.at += 1;
                self.key()
            }
            (Some(Container::Array { index }), Some(b',')) => {
                *index += 1;
                self.at += 1;
                Ok(Next::Value)
            }
            (Some(Container::Object { .. }), Some(b'}')) => self.close_object(),
            (Some(Container::Array { .. }), Some(b']')) => Ok(self.close()),
            (Some(Container::Object { .. }), _) => Err(self.unexpected("`,` or `}`")),
            (Some(Container::Array { .. }) | None, _) => Err(self.unexpected("`,` or `]`")),
        }
    }

    fn open_object(&mut self, slot: Option<Slot>) -> Result<Next, JsonError> {
        self.open(Container::Object {
            first_key: self.keys.len(),
            slot,
        })?;
        self.at += 1;
        match self.peek() {
            Some(b'}') => Ok(self.close()),
            _ => self.key(),
        }
    }

    fn open_array(&mut self) -> Result<Next, JsonError> {
        self.open(Container::Array { index: 0 })?;
        self.at += 1;
        match self.peek() {
            Some(b']') => Ok(self.close()),
            _ => Ok(Next::Value),
        }
    }

    fn open(&mut self, container: Container) -> Result<(), JsonError> {
        if self.open.len() == MAX_DEPTH {
            return Err(JsonError::TooDeep { at: self.at });
        }
        self.open.push(container);
        Ok(())
    }

    fn close(&mut self) -> Next {
        self.at += 1;
        self.open.pop();
        Next::Complete
    }

    fn close_object(&mut self) -> Result<Next, JsonError> {
        let Some(Container::Object { first_key, .. }) = self.open.last().copied() else {
            return Err(self.unexpected("`]`"));
        };
        self.copy();
        if let Some(key) = keys::first_repeated(&mut self.keys[first_key..], &self.out) {
            let path = keys::path(&self.open, &self.keys, key, &self.out);
            return Err(JsonError::DuplicateKey { path });
        }
        self.keys.truncate(first_key);
        Ok(self.close())
    }

    fn key(&mut self) -> Result<Next, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in quotes"));
        }
        let start = self.place();
        self.pass_string()?;
        let key = Key {
            start,
            end: self.place(),
        };
        self.keys.push(key);
        self.slot = self.slot_of(key)?;
        if self.peek() != Some(b':') {
            return Err(self.unexpected("`:`"));
        }
        self.at += 1;
        Ok(Next::Value)
    }

    /// Which well-known member a key starts, by its place.
    fn slot_of(&mut self, key: Key) -> Result<Option<Slot>, JsonError> {
        if self.open.len() > 2 {
            return Ok(None);
        }
        self.copy();
        match self.open.as_slice() {
            [Container::Object { .. }] => Slot::find(TOP, key.name(&self.out)),
            [
                _,
                Container::Object {
                    slot: Some(Slot::Metadata),
                    ..
                },
            ] => Slot::find(METADATA, key.name(&self.out)),
            _ => Ok(None),
        }
    }

    fn string(&mut self, slot: Option<Slot>) -> Result<Next, JsonError> {
        let start = self.place();
        self.pass_string()?;
        if slot.is_some() {
            self.copy();
            let text = unquote(&self.out[start..]).ok_or(self.unexpected("a string"))?;
            self.note(slot, Member::Text(text));
        }
        Ok(Next::Complete)
    }

    fn literal(&mut self, word: &'static str) -> Result<Next, JsonError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(Next::Complete)
    }

    fn note(&mut self, slot: Option<Slot>, member: Member) {
        match slot {
            Some(Slot::ApiVersion) => self.outline.api_version = member,
            Some(Slot::Kind) => self.outline.kind = member,
            Some(Slot::Name) => self.outline.name = member,
            Some(Slot::GenerateName) => self.outline.generate_name = member,
            Some(Slot::Namespace) => self.outline.namespace = member,
            // Null is all that is noted of it, and so of what it would hold.
            Some(Slot::Metadata) => {
                (self.outline.name, self.outline.namespace) = (member.clone(), member.clone());
                self.outline.generate_name = member;
            }
            None => {}
        }
    }

    /// A string that is canonical as it stands, as nearly all are, or one that is mended.
    #[inline]
    fn pass_string(&mut self) -> Result<(), JsonError> {
        let end = plain_end(self.text.as_bytes(), self.at + 1);
        if self.text.as_bytes().get(end) != Some(&b'"') {
            return self.mend_string(end);
        }
        self.at = end + 1;
        Ok(())
    }

    #[cold]
    fn mend_string(&mut self, from: usize) -> Result<(), JsonError> {
        self.at = string_end(self.text, from, &mut self.copied, &mut self.out)?;
        Ok(())
    }

    /// The next byte that is not white space, which is left out.
    fn peek(&mut self) -> Option<u8> {
        let next = self.text.as_bytes().get(self.at).copied();
        match next {
            Some(..=b' ') => self.pass_space(),
            _ => next,
        }
    }

    #[inline(never)]
    fn pass_space(&mut self) -> Option<u8> {
        self.copy();
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        self.copied = self.at;
        bytes.get(self.at).copied()
    }

    /// Where in the canonical text the scanner is.
    fn place(&self) -> usize {
        self.out.len() + (self.at - self.copied)
    }

    /// Brings the canonical text up to where the scanner is.
    fn copy(&mut self) {
        self.out
            .extend_from_slice(&self.text.as_bytes()[self.copied..self.at]);
        self.copied = self.at;
    }

    fn unexpected(&self, expected: &'static str) -> JsonError {
        JsonError::Syntax {
            at: self.at,
            expected,
        }
    }
}
