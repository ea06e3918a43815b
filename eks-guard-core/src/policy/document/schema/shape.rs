//! The shapes that the schema is made of: every list and every text has a bound, by which the API server estimates what the
//! checks cost.

use serde_json::{Map, Value, json};

use crate::policy::document::check::MAX_ENTRIES;

pub(super) fn object(description: &str, required: &[&str], properties: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> = properties
        .iter()
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    let schema = described(description, json!({"type": "object", "properties": properties}));
    if required.is_empty() {
        schema
    } else {
        set(schema, "required", json!(required))
    }
}

/// A list with at least one entry.
pub(super) fn list(description: &str, items: &Value) -> Value {
    let schema = json!({
        "type": "array", "items": items, "minItems": 1, "maxItems": MAX_ENTRIES, "x-kubernetes-list-type": "atomic",
    });
    described(description, schema)
}

/// A list of objects that one of their fields tells apart.
pub(super) fn map_list(description: &str, key: &str, items: Value) -> Value {
    let schema = json!({
        "type": "array", "items": items, "maxItems": MAX_ENTRIES,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key],
    });
    described(description, schema)
}

/// The list with another limit.
pub(super) fn at_most(most: usize, list: Value) -> Value {
    set(list, "maxItems", json!(most))
}

/// A list in which `*` stands alone.
pub(super) fn star_alone(list: Value) -> Value {
    let rule = "self.size() == 1 || !('*' in self)";
    check(
        list,
        &[(rule, "* already is all of them; remove it or the other entries")],
    )
}

pub(super) fn word(description: &str, words: &[&str]) -> Value {
    let mut words: Vec<&str> = words.to_vec();
    words.sort_unstable();
    words.dedup();
    let longest = words.iter().map(|word| word.len()).max();
    described(
        description,
        json!({"type": "string", "enum": words, "maxLength": longest}),
    )
}

/// One of the words, or `other`.
pub(super) fn word_or(other: &str, description: &str, words: &[&str]) -> Value {
    word(description, &[words, &[other]].concat())
}

/// Text that is not empty.
pub(super) fn text(description: &str, longest: usize, pattern: &str) -> Value {
    set(any_text(description, longest, pattern), "minLength", json!(1))
}

pub(super) fn any_text(description: &str, longest: usize, pattern: &str) -> Value {
    let schema = described(description, json!({"type": "string", "maxLength": longest}));
    if pattern.is_empty() {
        schema
    } else {
        set(schema, "pattern", json!(pattern))
    }
}

pub(super) fn described(description: &str, schema: Value) -> Value {
    if description.is_empty() {
        schema
    } else {
        set(schema, "description", json!(description))
    }
}

/// Rules in CEL that the API server checks at admission, each with what it says when they do not hold.
pub(super) fn check(schema: Value, rules: &[(impl AsRef<str>, impl AsRef<str>)]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(rule, message)| json!({"rule": rule.as_ref(), "message": message.as_ref()}))
        .collect();
    set(schema, "x-kubernetes-validations", json!(rules))
}

pub(super) fn set(mut schema: Value, key: &str, value: Value) -> Value {
    if let Value::Object(fields) = &mut schema {
        fields.insert(key.to_owned(), value);
    }
    schema
}
