//! Bodies: the object or patch of a request, and the ways in which one value can be written.

use eks_guard_core::body::Body;
use eks_guard_core::request_info::ApiRequest;
use serde_json::{Value, json};

use crate::differential::coverage::{Encoding, Task};
use crate::differential::objects;
use crate::differential::protobuf;
use crate::differential::random::Random;
use crate::differential::sample::Sample;

/// What is written to the resource, or to a part of it, but for its name.
#[must_use]
pub fn object(task: &Task<'_>, random: &mut Random) -> Value {
    let whole = || objects::pattern(task.resource, &mut random.clone());
    let mut object = match task.part {
        Some(part) => match part.kind.as_str() {
            "Scale" => Some(json!({"spec": {"replicas": random.below(3)}})),
            "Binding" => Some(json!({"target": {"kind": "Node", "name": "absent"}})),
            kind if kind == task.resource.kind => whole(),
            _ => None,
        },
        None => whole(),
    }
    .unwrap_or_else(|| json!({"metadata": {}}));
    let (api_version, kind) = match task.part {
        Some(part) => (part.api_version.clone(), part.kind.clone()),
        None => (task.resource.api_version(), task.resource.kind.clone()),
    };
    let required = task.encoding == Encoding::ApplyPatch || !random.percent(15);
    if required {
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
    }
    object
}

/// The bytes of a body in the encoding of the task.
#[must_use]
pub fn write(task: &Task<'_>, object: &Value, random: &mut Random) -> Vec<u8> {
    match task.encoding {
        Encoding::None => Vec::new(),
        Encoding::Protobuf => protobuf::write(object),
        Encoding::Yaml => yaml(object, 0).into_bytes(),
        Encoding::ApplyPatch if random.percent(30) => yaml(object, 0).into_bytes(),
        // The API server reads it as YAML, which does not have every spelling of JSON.
        Encoding::ApplyPatch => object.to_string().into_bytes(),
        Encoding::Json | Encoding::MergePatch | Encoding::StrategicMergePatch | Encoding::JsonPatch => {
            json_text(object, random).into_bytes()
        }
    }
}

/// What the body makes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A dry run.
    Dry,
    /// What the query says.
    AsAsked,
    /// Nothing: the guard will refuse it.
    Refused,
}

/// Whether the body alone makes the request a dry run, or a refused one.
#[must_use]
pub fn effect(request: &ApiRequest, sample: &Sample) -> Effect {
    let Ok(body) = Body::read(request, sample.header("Content-Type"), &sample.body) else {
        return Effect::Refused;
    };
    let options: Value = serde_json::from_slice(body.json()).unwrap_or_default();
    if options["kind"] == "DeleteOptions" && options["dryRun"] == json!(["All"]) {
        Effect::Dry
    } else {
        Effect::AsAsked
    }
}

/// JSON in one of many spellings of the same value.
fn json_text(value: &Value, random: &mut Random) -> String {
    if random.percent(50) {
        return value.to_string();
    }
    let mut out = String::new();
    spell(value, random, &mut out);
    out
}

fn spell(value: &Value, random: &mut Random, out: &mut String) {
    space(random, out);
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&spell_number(&number.to_string(), random)),
        Value::String(text) => spell_text(text, random, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                spell(item, random, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            if random.percent(50) {
                members.reverse();
            }
            out.push('{');
            for (index, (key, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                space(random, out);
                spell_text(key, random, out);
                space(random, out);
                out.push(':');
                spell(member, random, out);
            }
            out.push('}');
        }
    }
    space(random, out);
}

fn space(random: &mut Random, out: &mut String) {
    if random.percent(20) {
        out.push_str(random.pick(&[" ", "\n", "\t", "\r\n  "]));
    }
}

/// Most are whole numbers: Go takes some of these forms for one, and some not.
fn spell_number(number: &str, random: &mut Random) -> String {
    if number.contains('.') || random.percent(95) {
        return number.to_owned();
    }
    let form = random.pick(&["N.0", "Ne0", "NE+0", "N.000e-0", "N0e-1"]);
    form.replace('N', number)
}

fn spell_text(text: &str, random: &mut Random, out: &mut String) {
    if random.percent(80) {
        out.push_str(&Value::String(text.to_owned()).to_string());
        return;
    }
    out.push('"');
    for c in text.chars() {
        let must = c.is_control() || matches!(c, '"' | '\\');
        if must || random.percent(30) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let hex = if random.percent(50) {
                    format!("\\u{unit:04x}")
                } else {
                    format!("\\u{unit:04X}")
                };
                out.push_str(&hex);
            }
        } else {
            out.push(c);
        }
    }
    out.push('"');
}

/// YAML in block style, its texts quoted as in JSON.
#[must_use]
pub fn yaml(value: &Value, depth: usize) -> String {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(members) if !members.is_empty() => members
            .iter()
            .map(|(key, member)| {
                let key = if key.chars().all(|c| c.is_ascii_alphabetic()) {
                    key.clone()
                } else {
                    json!(key).to_string()
                };
                format!("{pad}{key}:{}", nested(member, depth))
            })
            .collect(),
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| format!("{pad}-{}", nested(item, depth)))
            .collect(),
        scalar @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_)) => format!("{pad}{scalar}\n"),
    }
}

fn nested(value: &Value, depth: usize) -> String {
    let is_block = value.as_object().is_some_and(|members| !members.is_empty())
        || value.as_array().is_some_and(|items| !items.is_empty());
    if is_block {
        format!("\n{}", yaml(value, depth + 1))
    } else {
        format!(" {value}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_the_same_value() {
        let value = json!({"a": [1, null, true, "grün 𝄞 \"\\"], "b": {"c": ""}});
        for number in 0..200 {
            let text = json_text(&value, &mut Random::of(7, number));
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["b"], value["b"], "{text}");
            assert_eq!(read["a"][0].as_f64(), Some(1.0), "{text}");
            assert_eq!(read["a"][3], value["a"][3], "{text}");
        }
    }

    #[test]
    fn writes_blocks() {
        let value = json!({"a": {"b": [1, {"c": "d"}]}, "e": {}});
        assert_eq!(
            yaml(&value, 0),
            "a:\n  b:\n    - 1\n    -\n      c: \"d\"\ne: {}\n"
        );
    }
}
