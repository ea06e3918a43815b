//! The keys of the open objects: none may stand twice in one object, by any spelling.

use std::fmt::Write;

use crate::body::json::MAX_QUOTED_PATH;
use crate::body::json::slot::Slot;
use crate::body::json::text::unquote;

/// Objects with at most this many keys are checked pair by pair, larger ones by sorting: no input makes the
/// check quadratic.
const FEW_KEYS: usize = 8;

/// An open object or array.
#[derive(Clone, Copy, Debug)]
pub(super) enum Container {
    Object { first_key: usize, slot: Option<Slot> },
    Array { index: usize },
}

/// Where a canonical key stands in the output, quotes included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Key {
    fn quoted(self, out: &[u8]) -> &[u8] {
        &out[self.start..self.end]
    }

    /// The canonical bytes between the quotes.
    pub(super) fn name(self, out: &[u8]) -> &[u8] {
        &out[self.start + 1..self.end - 1]
    }
}

/// A key that stands twice among `keys`, which are reordered.
pub(super) fn first_repeated(keys: &mut [Key], out: &[u8]) -> Option<Key> {
    if keys.len() <= FEW_KEYS {
        return (1..keys.len()).find_map(|index| {
            let (before, rest) = keys.split_at(index);
            before
                .iter()
                .find(|key| key.quoted(out) == rest[0].quoted(out))
                .copied()
        });
    }
    // Programs write the keys of maps in order.
    if keys.is_sorted_by(|left, right| left.quoted(out) < right.quoted(out)) {
        return None;
    }
    keys.sort_unstable_by(|left, right| left.quoted(out).cmp(right.quoted(out)));
    keys.windows(2)
        .find(|pair| pair[0].quoted(out) == pair[1].quoted(out))
        .map(|pair| pair[0])
}

/// The path of `last`, a key of the innermost of the open containers, for a message.
pub(super) fn path(open: &[Container], keys: &[Key], last: Key, out: &[u8]) -> String {
    let mut path = String::new();
    for (depth, container) in open.iter().enumerate() {
        match *container {
            // Writing to a string cannot fail.
            Container::Array { index } => write!(path, "[{index}]").unwrap_or_default(),
            Container::Object { .. } => {
                let separator = if path.is_empty() { "" } else { "." };
                let key = under_way(&open[depth + 1..], keys).unwrap_or(last);
                path.push_str(separator);
                path.push_str(&unquote(key.quoted(out)).unwrap_or_default());
            }
        }
        if path.len() > MAX_QUOTED_PATH {
            path.truncate(path.floor_char_boundary(MAX_QUOTED_PATH));
            path.push('…');
            break;
        }
    }
    path
}

/// The key of an object whose value is being read: the last one before the keys of the next object inside it.
fn under_way(inner: &[Container], keys: &[Key]) -> Option<Key> {
    inner.iter().find_map(|container| match *container {
        Container::Object { first_key, .. } => first_key.checked_sub(1).map(|index| keys[index]),
        Container::Array { .. } => None,
    })
}
