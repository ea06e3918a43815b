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

/// Whether kube-apiserver itself serves this group and version, so that its kinds are in the tables.
pub(in crate::body) fn is_built_in(api_version: &str) -> bool {
    let row = KINDS.partition_point(|row| row.0 < api_version);
    KINDS.get(row).is_some_and(|row| row.0 == api_version)
}

/// The kind with this lower-case name in an API version.
pub(super) fn named(group: &str, version: &str, singular: &str) -> Option<&'static str> {
    let in_version = |api_version: &str| match api_version.rsplit_once('/') {
        None => (group, version) == ("", api_version),
        Some(parts) => (group, version) == parts,
    };
    let row = KINDS
        .iter()
        .find(|(api_version, kind, _)| kind.eq_ignore_ascii_case(singular) && in_version(api_version));
    row.map(|(_, kind, _)| *kind)
}

/// The tables of the kind with this lower-case name, in each version of a group.
pub(super) fn in_group(group: &str, singular: &str) -> impl Iterator<Item = &'static Message> {
    let rows = KINDS.iter().filter(move |(api_version, kind, _)| {
        let of = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        of == group && kind.eq_ignore_ascii_case(singular)
    });
    rows.map(|row| row.2)
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
