//! Delete options of query and body in one place: the API server ignores those of the query as soon as there is a body.

use crate::body::json::{View, write_str};
use crate::body::malformed;
use crate::reason::Refusal;

/// Canonical DeleteOptions that also hold what the query says; refused where the two say different things.
pub(super) fn merge<'a>(
    body: &[u8],
    query: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<u8>, Refusal> {
    let mut merged = body.to_vec();
    for (key, value) in query {
        let mut json = Vec::new();
        match key {
            "uid" | "resourceVersion" => {
                write_str(value, &mut json);
                let preconditions = View::of(&merged).get("preconditions");
                let inner = preconditions.map_or(&b"{}"[..], View::raw);
                let inner = with_member(inner, key, &json)?;
                merged = without(&merged, "preconditions");
                merged = with_member(&merged, "preconditions", &inner)?;
                continue;
            }
            "dryRun" => json.extend_from_slice(br#"["All"]"#),
            "propagationPolicy" => write_str(value, &mut json),
            // Whole numbers and booleans, normalised when the query was read.
            _ => json.extend_from_slice(value.as_bytes()),
        }
        merged = with_member(&merged, key, &json)?;
    }
    Ok(merged)
}

/// The object with one member more, unless it has the very same.
fn with_member(object: &[u8], key: &str, value: &[u8]) -> Result<Vec<u8>, Refusal> {
    match View::of(object).get(key) {
        Some(stated) if stated.raw() == value => return Ok(object.to_vec()),
        Some(_) => {
            return Err(malformed(format!(
                "the delete option {key} says one thing in the query and another in the body; say it once"
            )));
        }
        None => {}
    }
    let Some(open) = object.strip_suffix(b"}") else {
        return Err(malformed("the delete options in the body are not an object"));
    };
    let mut out = open.to_vec();
    if open != b"{" {
        out.push(b',');
    }
    write_str(key, &mut out);
    out.push(b':');
    out.extend_from_slice(value);
    out.push(b'}');
    Ok(out)
}

/// The object without one of its members.
fn without(object: &[u8], key: &str) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (name, value) in View::of(object).members().filter(|(name, _)| !name.is_text(key)) {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(name.raw());
        out.push(b':');
        out.extend_from_slice(value.raw());
    }
    out.push(b'}');
    out
}
