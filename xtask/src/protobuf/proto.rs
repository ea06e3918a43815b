//! Reads generated.proto: messages of `optional`, `repeated` and `map` fields, one field a line, as go-to-protobuf writes them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// One generated.proto.
pub(super) struct ProtoFile {
    /// `k8s.io.api.apps.v1`
    pub(super) package: String,
    /// Name → fields.
    pub(super) messages: BTreeMap<String, Vec<WireField>>,
}

/// A field as it stands on the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WireField {
    pub(super) number: u32,
    pub(super) count: Count,
    /// `string`, or the full name of a message.
    pub(super) kind: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    One,
    Many,
    Map,
}

/// The scalar types of proto2; every other name is a message.
const SCALARS: [&str; 15] = [
    "double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64",
    "sfixed32", "sfixed64", "bool", "string", "bytes",
];

pub(super) fn read(text: &str) -> Result<ProtoFile> {
    let mut file = ProtoFile {
        package: String::new(),
        messages: BTreeMap::new(),
    };
    let mut open: Option<(String, Vec<WireField>)> = None;
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.starts_with("/*") {
            lines.by_ref().find(|line| line.ends_with("*/"));
        } else if let Some(name) = line.strip_prefix("package ") {
            name.trim_end_matches(';').clone_into(&mut file.package);
        } else if let Some(name) = line.strip_prefix("message ") {
            open = Some((name.trim_end_matches(['{', ' ']).to_owned(), Vec::new()));
        } else if line == "}" {
            file.messages.extend(open.take());
        } else if let Some((_, fields)) = &mut open
            && !line.is_empty()
            && !line.starts_with("//")
            && !line.starts_with("reserved ")
        {
            fields.push(field(line, &file.package).with_context(|| format!("the line `{line}`"))?);
        }
    }
    Ok(file)
}

/// `optional TYPE NAME = NUMBER;`, `repeated …`, `map<string, TYPE> NAME = NUMBER;`
fn field(line: &str, package: &str) -> Result<WireField> {
    let (left, number) = line
        .trim_end_matches(';')
        .split_once(" = ")
        .context("no field number")?;
    let (declared, _) = left.rsplit_once(' ').context("no type")?;
    let (count, kind) = if let Some(kind) = declared.strip_prefix("optional ") {
        (Count::One, kind)
    } else if let Some(kind) = declared.strip_prefix("repeated ") {
        (Count::Many, kind)
    } else if let Some(kind) = declared.strip_prefix("map<string, ") {
        (Count::Map, kind.trim_end_matches('>'))
    } else {
        bail!("neither optional, repeated nor a map from strings");
    };
    Ok(WireField {
        number: number.parse().context("the field number")?,
        count,
        kind: match kind.strip_prefix('.') {
            Some(full) => full.to_owned(),
            None if SCALARS.contains(&kind) => kind.to_owned(),
            None => format!("{package}.{kind}"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form_of_field_and_refuses_others() {
        let text = "/*\n message No {\n*/\npackage k.v1;\n// message No {\nmessage A {\n  // words\n  optional string a = 1;\n\n  \
                    repeated .k.v2.B b = 12;\n  map<string, C> c = 3;\n}\n\nmessage Empty {\n}\n";
        let file = read(text).unwrap();
        let field = |number, count, kind: &str| WireField {
            number,
            count,
            kind: kind.to_owned(),
        };
        assert_eq!(file.messages["Empty"], []);
        assert_eq!(
            file.messages["A"],
            [
                field(1, Count::One, "string"),
                field(12, Count::Many, "k.v2.B"),
                field(3, Count::Map, "k.v1.C")
            ]
        );
        for refused in [
            "required string a = 1;",
            "map<int32, string> a = 1;",
            "oneof a {",
            "optional string a = x;",
        ] {
            assert!(
                read(&format!("message A {{\n{refused}\n}}")).is_err(),
                "{refused}"
            );
        }
    }
}
