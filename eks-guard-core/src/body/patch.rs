//! What a patch may hold: the operations of a JSON patch, and the directives of a strategic merge patch. What the API
//! server would ignore, guess or read in two ways is refused.

use std::borrow::Cow;

use crate::body::json::View;
use crate::body::malformed;
use crate::reason::Refusal;

/// Most operations of a JSON patch: kube-apiserver's own limit.
const MAX_OPERATIONS: usize = 10_000;

/// What a JSON patch operation does with the place its path names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Looks,
    Changes,
}

/// Members whose value says which object it is; the URL says it, and a patch does not change it.
const IDENTITY: [&str; 4] = ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"];

/// Refuses a JSON patch that is not a list of whole, known operations, or that says which object it is about.
pub(super) fn check_operations(patch: View<'_>) -> Result<(), Refusal> {
    for (index, operation) in patch.items().enumerate() {
        if index == MAX_OPERATIONS {
            return Err(malformed(format!(
                "the JSON patch has more than {MAX_OPERATIONS} operations; send it in parts"
            )));
        }
        check_operation(operation)
            .map_err(|what| malformed(format!("operation {index} of the JSON patch {what}")))?;
    }
    Ok(())
}

fn check_operation(operation: View<'_>) -> Result<(), String> {
    if !operation.is_object() {
        return Err("is not an object".to_owned());
    }
    for (key, _) in operation.members() {
        if !["op", "path", "from", "value"]
            .iter()
            .any(|known| key.is_text(known))
        {
            let key = key.text().unwrap_or_default();
            return Err(format!("has the unknown field `{}`", shortened(&key)));
        }
    }
    let op = operation.get("op").and_then(View::text).ok_or("has no `op`")?;
    let path = pointer(operation, "path")?;
    let needs = |field: &str| match operation.get(field) {
        Some(_) => Ok(()),
        None => Err(format!("({op}) has no `{field}`")),
    };
    match op.as_ref() {
        "add" | "replace" => needs("value").and_then(|()| keeps_identity(&path, Effect::Changes)),
        "test" => needs("value"),
        "remove" => keeps_identity(&path, Effect::Changes),
        "move" | "copy" => {
            needs("from")?;
            let effect = if op == "move" {
                Effect::Changes
            } else {
                Effect::Looks
            };
            keeps_identity(&pointer(operation, "from")?, effect)?;
            keeps_identity(&path, Effect::Changes)
        }
        other => Err(format!("is `{}`, which is none", shortened(other))),
    }
}

/// A JSON pointer as it stands, its form checked.
fn pointer<'a>(operation: View<'a>, field: &str) -> Result<Cow<'a, str>, String> {
    let pointer = operation.get(field).ok_or(format!("has no `{field}`"))?;
    let pointer = pointer
        .text()
        .ok_or(format!("has a `{field}` that is not text"))?;
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err(format!("has a `{field}` that does not begin with `/`"));
    }
    let escapes = pointer.split('~').skip(1);
    for after in escapes {
        if !after.starts_with(['0', '1']) {
            return Err(format!("has a `{field}` where `~` is not followed by 0 or 1"));
        }
    }
    Ok(pointer)
}

fn keeps_identity(pointer: &str, effect: Effect) -> Result<(), String> {
    // Nothing in these four needs an escape, and below a text there is nothing. What holds one is changed as a whole.
    let is_in = |it: &&&str| {
        it.strip_prefix(pointer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match IDENTITY.iter().find(is_in) {
        Some(identity) if effect == Effect::Changes => Err(format!(
            "changes `{identity}`, which says what the object is; leave it out"
        )),
        Some(_) | None => Ok(()),
    }
}

/// Refuses directives that the API server does not know, and values that they do not take.
pub(super) fn check_directives(patch: View<'_>) -> Result<(), Refusal> {
    patch
        .keys()
        .filter(|(key, _)| key.raw().starts_with(b"\"$"))
        .try_for_each(|(key, value)| check_directive(&key.text().unwrap_or_default(), value))
}

/// `value` is the text from the directive's value on.
fn check_directive(key: &str, value: &[u8]) -> Result<(), Refusal> {
    let is_array = value.starts_with(b"[");
    let is_known = match key {
        "$patch" => [r#""replace""#, r#""merge""#, r#""delete""#]
            .iter()
            .any(|word| value.starts_with(word.as_bytes())),
        "$retainKeys" => is_array,
        // Fields of JSON schemas in CustomResourceDefinitions.
        "$ref" | "$schema" => true,
        _ => {
            let list = key
                .strip_prefix("$setElementOrder/")
                .or_else(|| key.strip_prefix("$deleteFromPrimitiveList/"));
            list.is_some_and(|list| !list.is_empty()) && is_array
        }
    };
    if is_known {
        return Ok(());
    }
    Err(malformed(format!(
        "the strategic merge patch holds the directive `{}`, or a value that it does not take",
        shortened(key)
    )))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
