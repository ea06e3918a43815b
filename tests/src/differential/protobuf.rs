//! Bodies in protobuf: objects that Go wrote, under the name that the request gives them.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

/// `NAME hex json`, as the unit tests of the reader have them.
const VECTORS: &str = include_str!("../../../eks-guard-core/src/body/protobuf/vectors.txt");

/// `apiVersion kind` to the fields of the object behind its metadata.
static OBJECTS: LazyLock<HashMap<String, Vec<u8>>> = LazyLock::new(|| {
    let rows = VECTORS.lines().filter_map(|line| {
        let mut words = line.splitn(3, ' ').skip(1);
        let (hex, json) = (words.next()?, words.next()?);
        let json: Value = serde_json::from_str(json).ok()?;
        let bytes: Option<Vec<u8>> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
            .collect();
        let raw = fields(bytes?.strip_prefix(MAGIC)?)
            .into_iter()
            .find(|(number, _, _)| *number == 2)?
            .2;
        let rest = fields(&raw).into_iter().filter(|(number, ..)| *number != 1);
        Some((key(&json), rest.flat_map(|(_, whole, _)| whole).collect()))
    });
    rows.collect()
});

const MAGIC: &[u8] = b"k8s\0";

fn key(object: &Value) -> String {
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    format!("{} {}", text("apiVersion"), text("kind"))
}

/// An object of the kind and name of `object`; the rest of it is what Go once wrote, or nothing. Delete options are written as
/// they are.
#[must_use]
pub(super) fn write(object: &Value) -> Vec<u8> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let raw = if object["kind"] == "DeleteOptions" {
        let dry = object["dryRun"].as_array().into_iter().flatten();
        let dry: Vec<u8> = dry.flat_map(|value| field(5, text(value).as_bytes())).collect();
        [field(4, text(&object["propagationPolicy"]).as_bytes()), dry].concat()
    } else {
        let metadata = &object["metadata"];
        let mut meta = field(1, text(&metadata["name"]).as_bytes());
        meta.extend(field(2, text(&metadata["generateName"]).as_bytes()));
        meta.extend(field(3, text(&metadata["namespace"]).as_bytes()));
        let rest = OBJECTS.get(&key(object)).cloned().unwrap_or_default();
        [field(1, &meta), rest].concat()
    };
    let type_meta = [
        field(1, text(&object["apiVersion"]).as_bytes()),
        field(2, text(&object["kind"]).as_bytes()),
    ];
    [
        MAGIC,
        &field(1, &type_meta.concat()),
        &field(2, &raw),
        &field(3, b""),
        &field(4, b""),
    ]
    .concat()
}

/// A length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(low(length) | 0x80);
        length >>= 7;
    }
    out.push(low(length));
    out.extend(bytes);
    out
}

fn low(length: usize) -> u8 {
    length.to_le_bytes()[0] & 0x7f
}

/// The fields of a message that Go wrote: number, the whole field, and its content when it is length-delimited.
fn fields(mut rest: &[u8]) -> Vec<(u64, Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let begin = rest;
        let tag = varint(&mut rest);
        let mut content = &[][..];
        match tag & 7 {
            0 => {
                varint(&mut rest);
            }
            1 => rest = rest.get(8..).unwrap_or_default(),
            _ => {
                let length = usize::try_from(varint(&mut rest)).unwrap_or(0).min(rest.len());
                (content, rest) = rest.split_at(length);
            }
        }
        let whole = &begin[..begin.len() - rest.len()];
        found.push((tag >> 3, whole.to_vec(), content.to_vec()));
    }
    found
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let Some((&byte, after)) = rest.split_first() else {
            break;
        };
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use eks_guard_core::body::protobuf::to_json;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_guard_reads_what_is_written_here() {
        for object in [
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "n", "namespace": "s"}}),
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"], "propagationPolicy": "Orphan"}),
        ] {
            let read: Value = serde_json::from_slice(&to_json(&write(&object)).unwrap()).unwrap();
            assert_eq!(read["kind"], object["kind"]);
            assert_eq!(read["dryRun"], object["dryRun"]);
            assert_eq!(read["metadata"]["name"], object["metadata"]["name"], "{read}");
        }
        assert!(OBJECTS.len() > 30, "{}", OBJECTS.len());
    }
}
