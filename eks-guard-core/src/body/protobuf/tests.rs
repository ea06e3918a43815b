//! The protobuf reader against bytes that Go wrote, and against bytes that no honest client writes.

use std::collections::HashSet;

use serde_json::Value;

use super::schema::{Kind, Message};
use super::tables::KINDS;
use super::{MAGIC, ProtobufError, kinds, to_json};
use crate::body::json::canonical;
use crate::body::testing::Random;

/// `NAME hex json`: objects encoded both ways by k8s.io/api v0.36.3 and its companions.
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
    assert_eq!(count, 40);
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
        ("DEPLOYMENT", r#""replicas":0,"#),
        ("DEPLOYMENT", r#""runAsUser":0,"runAsNonRoot":false"#),
        ("SERVICE", r#""allocateLoadBalancerNodePorts":false"#),
        ("NETWORK_POLICY", r#""podSelector":{},"ingress":[{}]"#),
        ("DEFINITION", r#""closed":{"#),
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
        ("REVISION", r#""data":{"spec":{"a":[1,null]}}"#),
        ("CLAIM", r#""parameters":{"a":1.5}"#),
        ("NODE", r#""sizeBytes":9007199254740993"#),
        ("DEFINITION", r#""maximum":1000000000000000000000,"#),
        ("DEFINITION", r#""minimum":-0.5,"#),
        ("DEFINITION", r#""additionalProperties":true"#),
        ("DEFINITION", r#""additionalProperties":false"#),
        ("DEFINITION", r#""c":{"#),
        ("DEFINITION", r#""a":["b"]"#),
    ] {
        let text = vector(name);
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn members_of_inline_fields_stand_where_json_has_them() {
    for (name, expected) in [
        (
            "DEPLOYMENT",
            r#"{"name":"v","hostPath":{"path":"/","type":"Directory"}}"#,
        ),
        ("DEPLOYMENT", r#""readinessProbe":{"tcpSocket":{"port":80"#),
        ("DEPLOYMENT", r#""configMapRef":{"name":"m","optional":false}"#),
        ("INGRESS", r#"{"host":"empty.test"}"#),
        ("POD", r#""ephemeralContainers":[{"name":"debug","image":"d","#),
        ("WEBHOOKS", r#"{"operations":["CREATE","*"],"apiGroups":[""],"#),
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
    ] {
        assert_eq!(config_map(&raw), Err(expected), "{raw:x?}");
    }
}

#[test]
fn refuses_bytes_that_are_no_fields_of_the_wire() {
    let wire_type = ProtobufError::WrongWireType {
        message: "ConfigMap",
        field: "metadata",
    };
    for (raw, expected) in [
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
        (vec![0x09, 0, 0, 0, 0, 0, 0, 0, 0], wire_type),
        (vec![0x09, 0, 0, 0, 0, 0, 0, 0], ProtobufError::Truncated),
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

/// A CustomResourceDefinition with one schema property that is encoded as `raw`.
fn schema(raw: impl AsRef<[u8]>) -> Result<String, ProtobufError> {
    let version = bytes(4, bytes(1, raw));
    let raw = bytes(2, bytes(7, version));
    to_json(&body("apiextensions.k8s.io/v1", "CustomResourceDefinition", raw))
        .map(|text| String::from_utf8(text).unwrap())
}

#[test]
fn a_choice_is_one_of_its_forms() {
    let (additional, items, maximum) = (30, 24, 9_u64);
    let double = |bits: u64| [varint(maximum << 3 | 1), bits.to_le_bytes().to_vec()].concat();
    for (raw, expected) in [
        (bytes(additional, ""), r#"{"additionalProperties":false}"#),
        (bytes(additional, int(1, 1)), r#"{"additionalProperties":true}"#),
        (
            bytes(additional, [int(1, 0), bytes(2, "")].concat()),
            r#"{"additionalProperties":{}}"#,
        ),
        (bytes(items, bytes(1, "")), r#"{"items":{}}"#),
        (
            bytes(items, [bytes(2, ""), bytes(2, bytes(5, "t"))].concat()),
            r#"{"items":[{},{"type":"t"}]}"#,
        ),
        (double(0.1_f64.to_bits()), r#"{"maximum":0.1}"#),
        (double((-2.0_f64).to_bits()), r#"{"maximum":-2}"#),
    ] {
        let text = schema(raw).unwrap();
        assert!(text.contains(expected), "{expected} in {text}");
    }
    for refused in [
        bytes(additional, int(1, 2)),
        bytes(additional, bytes(1, "")),
        bytes(additional, bytes(3, "")),
        bytes(items, ""),
        bytes(items, [bytes(1, ""), bytes(2, "")].concat()),
        bytes(items, [bytes(1, ""), bytes(1, "")].concat()),
        bytes(items, int(1, 1)),
        bytes(items, bytes(3, "")),
        double(f64::NAN.to_bits()),
        double(f64::INFINITY.to_bits()),
        int(maximum, 1),
    ] {
        assert!(schema(&refused).is_err(), "{refused:x?}");
    }
}

#[test]
fn schemas_nest_as_deep_as_json_and_no_deeper() {
    let nested = |levels: usize| (0..levels).fold(Vec::new(), |inner, _| bytes(28, inner));
    assert!(schema(nested(40)).is_ok());
    assert!(schema(nested(400)).is_err());
}

#[test]
fn an_inline_field_is_a_message_that_stands_once() {
    let twice = [
        bytes(2, bytes(1, bytes(1, "/"))),
        bytes(2, bytes(1, bytes(1, "/"))),
    ]
    .concat();
    let pod = |volume: Vec<u8>| to_json(&body("v1", "Pod", bytes(2, bytes(1, volume))));
    assert!(pod(bytes(2, bytes(1, bytes(1, "/")))).is_ok());
    let repeated = ProtobufError::Repeated {
        message: "Volume",
        field: "VolumeSource",
    };
    assert_eq!(pod(twice), Err(repeated));
    assert!(matches!(pod(int(2, 0)), Err(ProtobufError::WrongWireType { .. })));
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
        ("apps/v1", "ConfigMap"),
        ("apps/v1beta2", "Deployment"),
        ("apps/v1", "DeploymentList"),
        ("v1", "PodExecOptions"),
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
        let numbers: HashSet<u32> = message.fields.iter().map(|field| field.number).collect();
        assert_eq!(numbers.len(), message.fields.len(), "{}", message.name);
        let members = members_of(message);
        let unique: HashSet<&str> = members.iter().copied().collect();
        assert_eq!(unique.len(), members.len(), "{}", message.name);
        assert!(!unique.contains(""), "{}", message.name);
    }
    assert!(KINDS.is_sorted_by_key(|row| (row.0, row.1)));
    assert!(KINDS.len() > 100);
}

/// The members of the JSON object, those of inline fields included.
fn members_of(message: &Message) -> Vec<&'static str> {
    let members = message.fields.iter().flat_map(|field| {
        if let Kind::Inline(inner) = field.kind {
            members_of(inner)
        } else {
            vec![field.json]
        }
    });
    members.collect()
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
