//! Changes of canonical text, member by member: everything else stays as it is, the text of numbers too.

use crate::body::json::{View, write_str};

/// The object with this member, in place of the one it has.
pub(in crate::body) fn set_member(object: View<'_>, key: &str, value: &[u8]) -> Vec<u8> {
    let mut out = vec![b'{'];
    let mut is_set = false;
    for (name, old) in object.members() {
        let is_it = name.is_text(key);
        is_set |= is_it;
        push(&mut out, name.raw(), if is_it { value } else { old.raw() });
    }
    if !is_set {
        let mut name = Vec::new();
        write_str(key, &mut name);
        push(&mut out, &name, value);
    }
    out.push(b'}');
    out
}

/// The array with one item more, behind the others.
pub(in crate::body) fn push_item(array: View<'_>, item: &[u8]) -> Vec<u8> {
    let mut out = array.raw().strip_suffix(b"]").unwrap_or(b"[").to_vec();
    if out.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(item);
    out.push(b']');
    out
}

/// A JSON string.
pub(in crate::body) fn string(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_str(text, &mut out);
    out
}

fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if out.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(name);
    out.push(b':');
    out.extend_from_slice(value);
}
