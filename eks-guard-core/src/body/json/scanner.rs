//! The state machine over one JSON text. It holds a stack of open containers and the keys of the open objects;
//! an object is checked for equal keys when it closes.

use crate::body::json::keys::{self, Container, Key};
use crate::body::json::slot::{METADATA, Slot, TOP};
use crate::body::json::text::{copy_string, number_end, unquote};
use crate::body::json::{Canonical, JsonError, MAX_DEPTH, Member, Outline, Shape};

/// One pass over one text.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
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
                let end = number_end(self.text.as_bytes(), self.at)?;
                self.out.extend_from_slice(&self.text.as_bytes()[self.at..end]);
                self.at = end;
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
                self.take(b',');
                self.key()
            }
            (Some(Container::Array { index }), Some(b',')) => {
                *index += 1;
                self.take(b',');
                Ok(Next::Value)
            }
            (Some(Container::Object { .. }), Some(b'}')) => self.close_object(),
            (Some(Container::Array { .. }), Some(b']')) => Ok(self.close(b']')),
            (Some(Container::Object { .. }), _) => Err(self.unexpected("`,` or `}`")),
            (Some(Container::Array { .. }) | None, _) => Err(self.unexpected("`,` or `]`")),
        }
    }

    fn open_object(&mut self, slot: Option<Slot>) -> Result<Next, JsonError> {
        self.open(Container::Object {
            first_key: self.keys.len(),
            slot,
        })?;
        self.take(b'{');
        match self.peek() {
            Some(b'}') => Ok(self.close(b'}')),
            _ => self.key(),
        }
    }

    fn open_array(&mut self) -> Result<Next, JsonError> {
        self.open(Container::Array { index: 0 })?;
        self.take(b'[');
        match self.peek() {
            Some(b']') => Ok(self.close(b']')),
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

    fn close(&mut self, bracket: u8) -> Next {
        self.take(bracket);
        self.open.pop();
        Next::Complete
    }

    fn close_object(&mut self) -> Result<Next, JsonError> {
        let Some(Container::Object { first_key, .. }) = self.open.last().copied() else {
            return Err(self.unexpected("`]`"));
        };
        if let Some(key) = keys::first_repeated(&mut self.keys[first_key..], &self.out) {
            let path = keys::path(&self.open, &self.keys, key, &self.out);
            return Err(JsonError::DuplicateKey { path });
        }
        self.keys.truncate(first_key);
        Ok(self.close(b'}'))
    }

    fn key(&mut self) -> Result<Next, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in quotes"));
        }
        let start = self.out.len();
        self.at = copy_string(self.text, self.at, &mut self.out)?;
        let key = Key {
            start,
            end: self.out.len(),
        };
        self.keys.push(key);
        self.slot = self.slot_of(key)?;
        if self.peek() != Some(b':') {
            return Err(self.unexpected("`:`"));
        }
        self.take(b':');
        Ok(Next::Value)
    }

    /// Which well-known member a key starts, by its place.
    fn slot_of(&self, key: Key) -> Result<Option<Slot>, JsonError> {
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
        let start = self.out.len();
        self.at = copy_string(self.text, self.at, &mut self.out)?;
        if slot.is_some() {
            let text = unquote(&self.out[start..]).ok_or(self.unexpected("a string"))?;
            self.note(slot, Member::Text(text));
        }
        Ok(Next::Complete)
    }

    fn literal(&mut self, word: &'static str) -> Result<Next, JsonError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.out.extend_from_slice(word.as_bytes());
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

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) {
        self.out.push(byte);
        self.at += 1;
    }

    fn unexpected(&self, expected: &'static str) -> JsonError {
        JsonError::Syntax {
            at: self.at,
            expected,
        }
    }
}
