//! The protobuf reader against bytes that Go wrote, and against bytes that no honest client writes.

use serde_json::Value;

use super::{MAGIC, ProtobufError, kinds, to_json};
use crate::body::json::canonical;
use crate::body::testing::Random;

/// `NAME hex json`: objects encoded both ways by k8s.io/api and k8s.io/apimachinery v0.36.3.
const VECTORS: &str = include_str!("vectors.txt");

fn vectors() -> impl Iterator<Item = (&'static str, Vec<u8>, Value)> {
    VECTORS.lines().map(|line| {
        let mut parts = line.splitn(3, ' ');
        let (name, hex, json) = (
            parts.next().unwrap(),
            parts.next().unwrap(),
            parts.next().unwrap(),
        );
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (
            name,
            (0..hex.len()).step_by(2).map(byte).collect(),
            serde_json::from_str(json).unwrap(),
        )
    })
}

fn vector(wanted: &str) -> String {
    let (_, bytes, _) = vectors().find(|(name, _, _)| *name == wanted).unwrap();
    String::from_utf8(to_json(&bytes).unwrap()).unwrap()
}

/// Go's JSON leaves out most members that hold the default of their type; the wire holds all of them.
fn without_defaults(value: Value) -> Value {
    let holds_more = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    };
    match value {
        Value::Object(members) => {
            let members = members
                .into_iter()
                .map(|(key, value)| (key, without_defaults(value)));
            members.filter(|(_, value)| holds_more(value)).collect()
        }
        Value::Array(items) => items.into_iter().map(without_defaults).collect(),
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => scalar,
    }
}

#[test]
fn reads_what_go_wrote() {
    let mut count = 0;
    for (name, bytes, expected) in vectors() {
        let text = to_json(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(without_defaults(found), without_defaults(expected), "{name}");
        assert_eq!(canonical(&text).unwrap().text, text, "{name} is canonical");
        count += 1;
    }
    assert_eq!(count, 16);
}

#[test]
fn keeps_defaults_that_are_not_the_same_as_nothing() {
    for (name, expected) in [
        (
            "DELETE_OPTIONS",
            r#"{"kind":"DeleteOptions","apiVersion":"apps/v1","gracePeriodSeconds":0,"#,
        ),
        ("SERVICE_ACCOUNT", r#""automountServiceAccountToken":false"#),
        ("EVICTION", r#""deleteOptions":{}"#),
        ("CONFIG_MAP", r#""immutable":false"#),
        ("CONFIG_MAP", r#""deletionGracePeriodSeconds":0"#),
        ("CONFIG_MAP", r#""controller":false"#),
        ("ROLE", r#""apiGroups":[""]"#),
    ] {
        let text = vector(name);
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn writes_the_special_types_as_go_does() {
    for (name, expected) in [
        ("CONFIG_MAP", r#""creationTimestamp":"2024-02-29T23:59:58Z""#),
        ("CONFIG_MAP", r#""fieldsV1":{"f:data":{".":{},"f:k":{}}}"#),
        ("CONFIG_MAP", r#""binaryData":{"b":"AP8B"}"#),
        ("NAMESPACE", r#""creationTimestamp":null"#),
        ("LEASE", r#""acquireTime":"2024-02-29T23:59:58.123456Z""#),
        ("BUDGET", r#""minAvailable":"50%""#),
        ("BUDGET", r#""maxUnavailable":1"#),
        ("QUOTA", r#""hard":{"cpu":"1500m"}"#),
        ("SCALE", r#""replicas":-3"#),
        ("SELF_REVIEW", r#""extra":{"k":["a","b"]}"#),
    ] {
        let text = vector(name);
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
    out
}

fn int(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn bytes(number: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [
        varint(number << 3 | 2),
        varint(value.len() as u64),
        value.to_vec(),
    ]
    .concat()
}

fn body(api_version: &str, kind: &str, raw: impl AsRef<[u8]>) -> Vec<u8> {
    let type_meta = [bytes(1, api_version), bytes(2, kind)].concat();
    [MAGIC.to_vec(), bytes(1, type_meta), bytes(2, raw)].concat()
}

fn config_map(raw: impl AsRef<[u8]>) -> Result<String, ProtobufError> {
    to_json(&body("v1", "ConfigMap", raw)).map(|text| String::from_utf8(text).unwrap())
}

fn metadata(raw: impl AsRef<[u8]>) -> Result<String, ProtobufError> {
    config_map(bytes(1, raw))
}

#[test]
fn gathers_repeated_fields_from_anywhere_in_the_message() {
    let raw = [
        bytes(14, "a"),
        bytes(1, "n"),
        bytes(14, "b"),
        bytes(11, [bytes(1, "k"), bytes(2, "v")].concat()),
    ]
    .concat();
    let expected = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"n","labels":{"k":"v"},"finalizers":["a","b"]}}"#;
    assert_eq!(metadata(raw).as_deref(), Ok(expected));
    assert_eq!(
        config_map([]).as_deref(),
        Ok(r#"{"kind":"ConfigMap","apiVersion":"v1"}"#)
    );
    let no_value = config_map(bytes(2, bytes(1, "k")));
    assert_eq!(
        no_value.as_deref(),
        Ok(r#"{"kind":"ConfigMap","apiVersion":"v1","data":{"k":""}}"#)
    );
}

#[test]
fn refuses_what_a_reader_would_skip_merge_or_truncate() {
    let unknown = |message, number| ProtobufError::UnknownField { message, number };
    let repeated = |message, field| ProtobufError::Repeated { message, field };
    let wire_type = |message, field| ProtobufError::WrongWireType { message, field };
    let bad = |message, field, expected| ProtobufError::BadValue {
        message,
        field,
        expected,
    };
    let entry = [bytes(1, "k"), bytes(2, "v"), bytes(3, "x")].concat();
    for (raw, expected) in [
        (bytes(99, "x"), unknown("ConfigMap", 99)),
        (bytes(1, bytes(15, "cluster")), unknown("ObjectMeta", 15)),
        (bytes(2, entry), unknown("data", 3)),
        (
            [bytes(1, ""), bytes(1, "")].concat(),
            repeated("ConfigMap", "metadata"),
        ),
        (
            [int(4, 1), int(4, 0)].concat(),
            repeated("ConfigMap", "immutable"),
        ),
        (
            bytes(2, [bytes(1, "k"), bytes(1, "l")].concat()),
            repeated("ConfigMap", "data"),
        ),
        (bytes(1, int(1, 7)), wire_type("ObjectMeta", "name")),
        (bytes(4, "x"), wire_type("ConfigMap", "immutable")),
        (int(2, 1), wire_type("ConfigMap", "data")),
        (int(4, 2), bad("ConfigMap", "immutable", "boolean")),
        (bytes(1, bytes(1, b"\xff")), bad("ObjectMeta", "name", "string")),
        (bytes(2, bytes(2, "v")), bad("ConfigMap", "data", "map key")),
        (
            bytes(1, bytes(8, int(2, 1))),
            bad("ObjectMeta", "creationTimestamp", "moment"),
        ),
        (
            bytes(1, bytes(8, int(1, u64::MAX >> 1))),
            bad("ObjectMeta", "creationTimestamp", "moment"),
        ),
        (
            bytes(1, bytes(17, bytes(7, bytes(1, "{")))),
            bad("ManagedFieldsEntry", "fieldsV1", "JSON text"),
        ),
        (
            bytes(1, bytes(17, bytes(7, bytes(1, r#"{"a":1,"a":1}"#)))),
            bad("ManagedFieldsEntry", "fieldsV1", "JSON text"),
        ),
        (vec![0x0a, 5, 1], ProtobufError::Truncated),
        (vec![0x20], ProtobufError::Truncated),
        (vec![0x20, 0x80], ProtobufError::Truncated),
        (vec![0x20, 0x81, 0x00], ProtobufError::BadVarint),
        (vec![0xa0, 0x00, 0x01], ProtobufError::BadVarint),
        (
            [&[0x20][..], &[0xff; 9], &[0x02]].concat(),
            ProtobufError::BadVarint,
        ),
        (
            [&[0x20][..], &[0xff; 10], &[0x01]].concat(),
            ProtobufError::BadVarint,
        ),
        (vec![0x02, 0], ProtobufError::BadTag),
        (vec![0x0b], ProtobufError::BadTag),
        (vec![0x0d, 0, 0, 0, 0], ProtobufError::BadTag),
        (vec![0x09, 0, 0, 0, 0, 0, 0, 0, 0], ProtobufError::BadTag),
        ([varint(1 << 35 | 2), vec![0]].concat(), ProtobufError::BadTag),
    ] {
        assert_eq!(config_map(&raw), Err(expected), "{raw:x?}");
    }
}

#[test]
fn numbers_stay_within_their_type() {
    let scale = |replicas: u64| to_json(&body("autoscaling/v1", "Scale", bytes(2, int(1, replicas))));
    for fits in [i64::from(i32::MIN), -1, 0, i64::from(i32::MAX)] {
        let text = String::from_utf8(scale(fits.cast_unsigned()).unwrap()).unwrap();
        assert!(
            text.ends_with(&format!(r#""spec":{{"replicas":{fits}}}}}"#)),
            "{text}"
        );
    }
    for over in [
        i64::from(i32::MIN) - 1,
        i64::from(i32::MAX) + 1,
        i64::from(u32::MAX),
        i64::MIN,
    ] {
        assert!(matches!(
            scale(over.cast_unsigned()),
            Err(ProtobufError::BadValue { .. })
        ));
    }
    let budget = |raw: Vec<u8>| to_json(&body("policy/v1", "PodDisruptionBudget", bytes(2, bytes(1, raw))));
    assert!(
        budget(vec![])
            .unwrap()
            .ends_with(br#""spec":{"minAvailable":0}}"#)
    );
    assert!(
        budget(int(1, 1))
            .unwrap()
            .ends_with(br#""spec":{"minAvailable":""}}"#)
    );
    for refused in [
        int(1, 2),
        int(2, 1 << 31),
        [int(1, 1), int(3, 1)].concat(),
        bytes(9, ""),
    ] {
        assert!(budget(refused).is_err());
    }
}

#[test]
fn refuses_envelopes_that_say_something_else() {
    let type_meta = bytes(1, [bytes(1, "v1"), bytes(2, "ConfigMap")].concat());
    let envelope = |rest: Vec<u8>| to_json(&[MAGIC.to_vec(), type_meta.clone(), rest].concat());
    assert!(envelope(vec![]).is_ok());
    assert!(envelope([bytes(2, ""), bytes(3, ""), bytes(4, "")].concat()).is_ok());
    assert_eq!(
        envelope(bytes(3, "gzip")),
        Err(ProtobufError::Encoded("gzip".to_owned()))
    );
    assert!(matches!(
        envelope(bytes(4, "application/json")),
        Err(ProtobufError::Encoded(_))
    ));
    assert!(matches!(
        envelope(bytes(5, "")),
        Err(ProtobufError::UnknownField { number: 5, .. })
    ));
    assert!(matches!(
        envelope([bytes(2, ""), bytes(2, "")].concat()),
        Err(ProtobufError::Repeated { .. })
    ));
    assert!(matches!(
        envelope(int(2, 1)),
        Err(ProtobufError::WrongWireType { .. })
    ));
    for refused in [&b""[..], b"k8s", b"k8s\x01", b"{}", b"\x00\x00\x00\x01k8s\0"] {
        assert_eq!(to_json(refused), Err(ProtobufError::NoMagic));
    }
    for (api_version, kind) in [
        ("apps/v1", "Deployment"),
        ("v2", "ConfigMap"),
        ("v1", ""),
        ("", "DeleteOptions"),
        ("", ""),
    ] {
        assert!(matches!(
            to_json(&body(api_version, kind, "")),
            Err(ProtobufError::UnknownKind { .. })
        ));
    }
    assert!(matches!(to_json(MAGIC), Err(ProtobufError::UnknownKind { .. })));
}

#[test]
fn the_json_of_a_small_body_cannot_grow_without_bound() {
    let owner = bytes(13, int(7, 0));
    let raw = bytes(1, owner.repeat(crate::body::MAX_BODY / owner.len() - 100));
    assert_eq!(config_map(raw), Err(ProtobufError::TooLarge));
}

#[test]
fn tables_name_each_number_and_each_member_once() {
    for message in kinds::all_messages() {
        for (index, field) in message.fields.iter().enumerate() {
            for other in &message.fields[..index] {
                assert_ne!(field.number, other.number, "{}", message.name);
                assert_ne!(field.json, other.json, "{}", message.name);
            }
        }
    }
}

#[test]
fn damaged_bytes_never_panic_and_never_make_invalid_json() {
    let mut random = Random::new(0x9b);
    for (_, original, _) in vectors() {
        for _ in 0..300 {
            let mut damaged = original.clone();
            for _ in 0..=random.below(3) {
                let at = MAGIC.len() + random.below(damaged.len() - MAGIC.len());
                match random.below(4) {
                    0 => damaged.insert(at, random.byte()),
                    1 => drop(damaged.remove(at)),
                    2 => damaged[at] = random.byte(),
                    _ => damaged.truncate(at.max(MAGIC.len() + 8)),
                }
            }
            if let Ok(text) = to_json(&damaged) {
                assert!(serde_json::from_slice::<Value>(&text).is_ok());
            }
        }
    }
}
