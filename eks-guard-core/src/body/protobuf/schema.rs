//! What a table says about a message. Numbers, names and types are those of Kubernetes 1.36's generated.proto files
//! and Go JSON tags; one row is one field. The rows are written by `cargo xtask generate`.

/// A message: its fields in the order in which they are written as JSON.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// One row.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// The member; empty for a field whose members are those of the message around it.
    pub(super) json: &'static str,
    pub(super) count: Count,
    pub(super) kind: Kind,
}

/// How often a field may stand, and what that makes of it in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// At most once.
    One,
    /// An array.
    Many,
    /// An object whose keys are strings; on the wire one entry {1: key, 2: value} each.
    Map,
}

/// The type of one value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// UTF-8 text.
    Str,
    /// true or false.
    Bool,
    /// A 32-bit number, sign-extended on the wire.
    Int32,
    /// A 64-bit number.
    Int64,
    /// A 64-bit floating point number, in eight bytes on the wire.
    Double,
    /// Base64 text in JSON.
    Bytes,
    /// A nested object.
    Object(&'static Message),
    /// meta/v1 Time: whole seconds, RFC 3339 in JSON.
    Time,
    /// meta/v1 MicroTime: microseconds, RFC 3339 in JSON.
    MicroTime,
    /// A message around one string {1: string}, written as that string.
    Quantity,
    /// A message {1: which, 2: number, 3: text}, written as a number or a string.
    IntOrString,
    /// A message around JSON text {1: raw}, written as that JSON.
    RawJson,
    /// A message around a list of strings {1: items}, written as an array.
    Strings,
    /// An object whose members are written where the field stands, after those before it.
    Inline(&'static Message),
    /// A message {1: bool, 2: object}, written as the object when there is one.
    ObjectOrBool(&'static Message),
    /// A message {1: object, 2: objects}, written as the one that is there.
    ObjectOrObjects(&'static Message),
    /// A message {1: object, 2: strings}, written as the one that is there.
    ObjectOrStrings(&'static Message),
}

/// A field that stands at most once.
pub(super) const fn one(number: u32, json: &'static str, kind: Kind) -> Field {
    Field {
        number,
        json,
        count: Count::One,
        kind,
    }
}

/// A field that stands at most once and has no member of its own.
pub(super) const fn inline(number: u32, message: &'static Message) -> Field {
    one(number, "", Kind::Inline(message))
}

/// A repeated field.
pub(super) const fn many(number: u32, json: &'static str, kind: Kind) -> Field {
    Field {
        number,
        json,
        count: Count::Many,
        kind,
    }
}

/// A map from strings.
pub(super) const fn map(number: u32, json: &'static str, kind: Kind) -> Field {
    Field {
        number,
        json,
        count: Count::Map,
        kind,
    }
}
