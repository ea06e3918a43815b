//! Which kinds are read from protobuf, and by which table.

use crate::body::protobuf::schema::Message;
use crate::body::protobuf::tables::{DELETE_OPTIONS, KINDS};

/// The table of a kind; none when no table describes it.
pub(super) fn find(api_version: &str, kind: &str) -> Option<&'static Message> {
    if kind == "DeleteOptions" && !api_version.is_empty() {
        return Some(DELETE_OPTIONS);
    }
    let row = KINDS.binary_search_by(|row| (row.0, row.1).cmp(&(api_version, kind)));
    row.ok().map(|row| KINDS[row].2)
}

/// Every message that a kind reaches, for the tests of the tables.
#[cfg(test)]
pub(super) fn all_messages() -> Vec<&'static Message> {
    use crate::body::protobuf::schema::Kind;

    let mut found: Vec<&Message> = vec![DELETE_OPTIONS];
    found.extend(KINDS.iter().map(|row| row.2));
    let mut next = 0;
    while let Some(message) = found.get(next).copied() {
        for field in message.fields {
            if let Kind::Object(inner) | Kind::Inline(inner) = field.kind
                && !found.iter().any(|known| std::ptr::eq(*known, inner))
            {
                found.push(inner);
            }
        }
        next += 1;
    }
    found
}
