//! What an expression reads, and these values as CEL knows them: only the paths that stand in the expression are
//! converted, so that the size of an object hardly matters for what a condition costs.

use std::collections::{BTreeMap, HashMap};

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString};
use cel::common::value::Val;
use serde_json::{Map, Value};

/// The parts of one value that an expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Paths {
    /// All of it.
    All,
    /// These members, and nothing else of it.
    Members(BTreeMap<Box<str>, Paths>),
}

/// How much there is to walk over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Of strings, and a fixed size for every other value.
    pub(super) bytes: u64,
    /// The number of entries of the longest list or map.
    pub(super) longest: u64,
    /// The bytes of the longest text.
    pub(super) text: u64,
    /// How many values there are.
    pub(super) values: u64,
}

/// What a value counts for beside its text.
const VALUE_BYTES: u64 = 32;

impl Paths {
    /// Nothing yet.
    pub(super) fn none() -> Self {
        Self::Members(BTreeMap::new())
    }

    /// Adds a path, outermost member first.
    pub(super) fn add(&mut self, path: &[&str]) {
        let Self::Members(members) = self else { return };
        match path {
            [] => *self = Self::All,
            [first, rest @ ..] => members
                .entry((*first).into())
                .or_insert_with(Self::none)
                .add(rest),
        }
    }

    /// Whether a member is read.
    pub(super) fn reads(&self, member: &str) -> bool {
        match self {
            Self::All => true,
            Self::Members(members) => members.contains_key(member),
        }
    }
}

impl Tally {
    /// Counts one value.
    pub(super) fn count(&mut self, text: usize, entries: usize) {
        let [text, entries] = [text, entries].map(|size| u64::try_from(size).unwrap_or(u64::MAX));
        self.bytes = self.bytes.saturating_add(text).saturating_add(VALUE_BYTES);
        self.longest = self.longest.max(entries);
        self.text = self.text.max(text);
        self.values = self.values.saturating_add(1);
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            longest: self.longest.max(other.longest),
            text: self.text.max(other.text),
            values: self.values.saturating_add(other.values),
        }
    }
}

/// The parts of a JSON value that are read. A member that is null counts as absent, as it does to the API server.
pub(super) fn convert<'v>(value: &'v Value, paths: &Paths, tally: &mut Tally) -> Box<dyn Val + 'v> {
    match value {
        Value::Null => {
            tally.count(0, 0);
            Box::new(CelNull)
        }
        Value::Bool(value) => {
            tally.count(0, 0);
            Box::new(CelBool::from(*value))
        }
        Value::Number(number) => {
            tally.count(0, 0);
            match number.as_i64() {
                Some(integer) => Box::new(CelInt::from(integer)),
                None => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
            }
        }
        Value::String(text) => {
            tally.count(text.len(), 0);
            Box::new(CelString::from(text.as_str()))
        }
        Value::Array(items) => {
            tally.count(0, items.len());
            let items: Vec<_> = items
                .iter()
                .map(|item| convert(item, &Paths::All, tally))
                .collect();
            Box::new(CelList::from(items))
        }
        Value::Object(members) => Box::new(convert_members(members, paths, tally)),
    }
}

fn convert_members<'v>(members: &'v Map<String, Value>, paths: &Paths, tally: &mut Tally) -> CelMap<'v> {
    tally.count(0, members.len());
    let mut converted: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = HashMap::new();
    let mut insert = |key: &'v str, value: &'v Value, paths: &Paths| {
        if !value.is_null() {
            tally.count(key.len(), 0);
            converted.insert(
                CelMapKey::String(CelString::from(key)),
                convert(value, paths, tally),
            );
        }
    };
    match paths {
        Paths::All => members
            .iter()
            .for_each(|(key, value)| insert(key, value, &Paths::All)),
        Paths::Members(read) => {
            for (key, paths) in read {
                if let Some((key, value)) = members.get_key_value(&**key) {
                    insert(key, value, paths);
                }
            }
        }
    }
    CelMap::from(converted)
}
