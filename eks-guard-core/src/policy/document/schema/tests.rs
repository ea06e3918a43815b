//! The schema says what the reader says: every field, word and limit of it is tried on the reader.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Value, json};

use crate::policy::{custom_resource_definition, read_policies};

/// A document in which every field of the schema stands somewhere.
fn everything() -> Value {
    let selector = json!({
        "matchLabels": {"team": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a"]},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    });
    json!({
        "apiVersion": "eks-guard.dev/v1alpha1",
        "kind": "AgentPolicy",
        "metadata": {"name": "everything"},
        "spec": {
            "subjects": {
                "agents": ["a"], "podSelector": selector, "namespaces": ["shop"], "serviceAccounts": ["shop/web"],
                "containers": ["web"], "groups": ["g"], "claims": [{"name": "c", "values": ["v"]}],
            },
            "mode": "Enforce",
            "justInTime": "Never",
            "rules": [
                {
                    "name": "objects", "effect": "allow", "verbs": ["get"], "apiGroups": ["x.example"],
                    "resources": ["widgets"], "subresources": ["status"], "namespaces": ["shop"],
                    "resourceNames": ["one"], "masking": "None",
                    "conditions": [{"name": "holds", "expression": "true"}],
                },
                {
                    "name": "selected", "effect": "deny", "verbs": ["get"], "apiGroups": ["x.example"],
                    "resources": ["widgets/status"], "namespaceSelector": selector,
                },
                {"name": "paths", "effect": "allow", "verbs": ["get"], "nonResourceURLs": ["/metrics"]},
            ],
        },
    })
}

fn read(document: &Value) -> Result<(), String> {
    let read = read_policies("p", &document.to_string());
    read.map(|_| ())
        .map_err(|errors| errors.iter().map(|error| format!("{error}\n")).collect())
}

/// The document with another value at a place.
fn with(at: &str, value: Value) -> Value {
    let mut document = everything();
    *document.pointer_mut(at).unwrap() = value;
    document
}

#[track_caller]
fn taken(at: &str, value: Value) {
    let document = with(at, value);
    assert_eq!(read(&document), Ok(()), "{at}");
}

#[track_caller]
fn refused(at: &str, value: Value) -> String {
    let document = with(at, value);
    read(&document).expect_err(at)
}

fn number(schema: &Value, name: &str) -> Option<usize> {
    let number = schema[name].as_u64()?;
    Some(usize::try_from(number).unwrap())
}

/// The longest text that the reader takes at a place.
fn longest(at: &str) -> String {
    let last = at
        .rsplit('/')
        .find(|part| part.parse::<usize>().is_err())
        .unwrap();
    let letters = |count: usize| "a".repeat(count);
    match last {
        "serviceAccounts" => format!("{}/{}", letters(63), letters(253)),
        "key" => format!("{}/{}", letters(253), letters(63)),
        "nonResourceURLs" => format!("/{}", letters(1_023)),
        "expression" => format!("true{}", " ".repeat(4_092)),
        "name" if at.contains("/claims/") => letters(1_024),
        "values" if at.contains("/claims/") => letters(1_024),
        "groups" => letters(1_024),
        "agents" | "apiGroups" | "subresources" | "resourceNames" => letters(253),
        // Beside `subresources` a resource has no slash.
        "resources" if at.contains("/1/") => format!("{}/{}", letters(253), letters(253)),
        "resources" => letters(253),
        "name" | "namespaces" | "containers" | "values" | "team" => letters(63),
        other => panic!("no text is known for {other}"),
    }
}

fn check_text(at: &str, schema: &Value) {
    if let Some(words) = schema["enum"].as_array() {
        let error = refused(at, json!("Nonsense"));
        let known = error
            .split("(known: ")
            .nth(1)
            .and_then(|rest| rest.split(')').next());
        let known: BTreeSet<&str> = known.unwrap_or_else(|| panic!("{error}")).split(", ").collect();
        let words: BTreeSet<&str> = words.iter().filter_map(Value::as_str).collect();
        if at.contains("/verbs/") {
            // Those of objects or those of paths, by the rule; the API server checks that with a rule of its own.
            assert!(known.is_subset(&words) && words.contains("*"), "{at}: {known:?}");
        } else {
            assert_eq!(known, words, "{at}");
        }
        return;
    }
    let text = longest(at);
    let most = number(schema, "maxLength").unwrap_or_else(|| panic!("{at} has no limit"));
    let shorter = at.ends_with("/0/resources/0");
    assert!(text.len() == most || shorter, "{at}: {} of {most}", text.len());
    taken(at, json!(text));
    let end = text.chars().next_back().unwrap();
    refused(at, json!(format!("{text}{end}")));
    let empty_is_right = schema["minLength"].is_null();
    assert_eq!(read(&with(at, json!(""))).is_ok(), empty_is_right, "{at}");
    if let Some(pattern) = schema["pattern"].as_str() {
        let pattern = Regex::new(pattern).unwrap();
        let value = everything();
        for text in [text.as_str(), value.pointer(at).unwrap().as_str().unwrap()] {
            assert!(pattern.is_match(text), "{at}: {pattern} does not take {text}");
        }
    }
}

fn check_list(at: &str, schema: &Value, list: &[Value]) {
    let least = number(schema, "minItems").unwrap_or_else(|| panic!("{at} may be empty"));
    let most = number(schema, "maxItems").unwrap_or_else(|| panic!("{at} has no limit"));
    assert_eq!(least, 1, "{at}");
    refused(at, json!([]));
    let filled = |count: usize| {
        let more = (0..count - list.len()).map(|number| {
            let mut entry = list[0].clone();
            if schema["x-kubernetes-list-type"] == "map" {
                entry["name"] = json!(format!("n{number}"));
            }
            entry
        });
        list.iter().cloned().chain(more).collect::<Vec<_>>()
    };
    taken(at, json!(filled(most)));
    refused(at, json!(filled(most + 1)));
    if !schema["x-kubernetes-validations"].is_null() {
        taken(at, json!(["*"]));
        refused(at, json!(["*", "*"]));
    }
}

fn check_object(at: &str, schema: &Value, object: &Value) {
    for name in schema["required"].as_array().into_iter().flatten() {
        let mut without = object.clone();
        without.as_object_mut().unwrap().remove(name.as_str().unwrap());
        refused(at, without);
    }
    let mut more = object.clone();
    if let Some(most) = number(schema, "maxProperties") {
        let labels = |count: usize| (0..count).map(|n| (format!("l{n}"), json!("v"))).collect();
        taken(at, Value::Object(labels(most)));
        refused(at, Value::Object(labels(most + 1)));
    } else {
        more["nonsense"] = json!("x");
        refused(at, more);
    }
    if !schema["minProperties"].is_null() {
        refused(at, json!({}));
    }
}

/// Tries everything that the schema says of a value; the places of the schema that were seen.
fn walk(at: &str, place: &str, schema: &Value, value: &Value, seen: &mut BTreeSet<String>) {
    seen.insert(place.to_owned());
    match value {
        Value::String(_) => check_text(at, schema),
        Value::Array(list) => {
            check_list(at, schema, list);
            for (number, entry) in list.iter().enumerate() {
                let (at, place) = (format!("{at}/{number}"), format!("{place}[]"));
                walk(&at, &place, &schema["items"], entry, seen);
            }
        }
        Value::Object(fields) => {
            check_object(at, schema, value);
            for (name, value) in fields {
                let (at, place) = (format!("{at}/{name}"), format!("{place}.{name}"));
                let any = &schema["additionalProperties"];
                let one = if any.is_null() {
                    &schema["properties"][name]
                } else {
                    any
                };
                assert!(one.is_object(), "{at} is not in the schema");
                walk(&at, &place, one, value, seen);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => panic!("{at}: no field is of this type"),
    }
}

fn places(place: &str, schema: &Value, all: &mut BTreeSet<String>) {
    all.insert(place.to_owned());
    for (name, one) in schema["properties"].as_object().into_iter().flatten() {
        places(&format!("{place}.{name}"), one, all);
    }
    if schema["items"].is_object() {
        places(&format!("{place}[]"), &schema["items"], all);
    }
}

#[test]
fn fields_words_and_limits_are_those_of_the_reader() {
    let document = everything();
    assert_eq!(read(&document), Ok(()));
    let definition = custom_resource_definition();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let (mut seen, mut all) = (BTreeSet::new(), BTreeSet::new());
    walk("/spec", "spec", schema, &document["spec"], &mut seen);
    places("spec", schema, &mut all);
    let untried: Vec<&String> = all.difference(&seen).collect();
    assert_eq!(untried, [""; 0], "fields that the document of this test lacks");
}

#[test]
fn every_list_and_every_text_has_a_bound() {
    fn check(at: &str, schema: &Value) {
        let bound = match schema["type"].as_str() {
            Some("array") => "maxItems",
            Some("string") if schema["format"].is_null() => "maxLength",
            _ => "type",
        };
        let is_given = !schema[bound].is_null() || ["/apiVersion", "/kind"].contains(&at);
        assert!(is_given, "{at} has no {bound}");
        for (name, one) in schema["properties"].as_object().into_iter().flatten() {
            check(&format!("{at}/{name}"), one);
        }
        if schema["items"].is_object() {
            check(&format!("{at}[]"), &schema["items"]);
        }
    }
    let definition = custom_resource_definition();
    check(
        "",
        &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
    );
}
