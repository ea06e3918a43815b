//! What a YAML or shape error means for somebody who writes a document, and what to write instead.

use serde_saphyr::Error;

/// One sentence without the place, which the caller adds.
pub(super) fn diagnose(error: &Error) -> String {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the reader's error type is open; its own text is the fallback"
    )]
    match error.without_snippet() {
        Error::SerdeUnknownField { field, expected, .. } => unknown_field(field, expected),
        Error::SerdeMissingField { field, .. } => format!("`{field}` is missing"),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("`{key}` stands twice in one mapping; remove one of them")
        }
        Error::DuplicateMappingKey { key: None, .. } => {
            "a key stands twice in one mapping; remove one of them".into()
        }
        Error::QuotingRequired { value, .. } => {
            format!("`{value}` would be read as a number, boolean or null; write \"{value}\"")
        }
        Error::NullIntoString { .. } => "there is no value; write one, or remove the key".into(),
        Error::Unexpected { expected, .. } => unexpected(expected),
        Error::SerdeInvalidType {
            unexpected, expected, ..
        } => format!("found {unexpected}, expected {expected}"),
        Error::MergeKeyNotAllowed { .. } => "merge keys (`<<`) are not read; write the fields out".into(),
        Error::UnsupportedTag { tag, .. } => format!("tag {tag} is not read; remove it"),
        Error::UnknownAnchor { .. } => "aliases (`*name`) are not read; write the value out".into(),
        Error::Budget { breach, .. } => budget(breach),
        other => plain(other),
    }
}

fn unexpected(expected: &str) -> String {
    let expected = expected.strip_prefix("expected ").unwrap_or(expected);
    if expected.contains("sequence") {
        "expected a list; write `[a, b]`, or one `- item` per line".into()
    } else if expected.contains("mapping") {
        "expected fields (`key: value`)".into()
    } else if expected.contains("scalar") {
        "expected text, found fields or a list".into()
    } else {
        format!("expected {expected}")
    }
}

fn budget(breach: &serde_saphyr::budget::BudgetBreach) -> String {
    use serde_saphyr::budget::BudgetBreach;
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the reader's limits are open; its own text is the fallback"
    )]
    match breach {
        BudgetBreach::Anchors { .. } => "anchors (`&name`) are not read; write the value out".into(),
        BudgetBreach::Aliases { .. } => "aliases (`*name`) are not read; write the value out".into(),
        BudgetBreach::Documents { .. } => "more documents than one file may have; split the file".into(),
        BudgetBreach::Depth { .. } => "nested deeper than any document is".into(),
        other => format!("the file exceeds a limit of the reader ({other:?})"),
    }
}

/// The reader's own text, without the place at its end.
fn plain(error: &Error) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let end = [" at line ", " at "]
        .iter()
        .find_map(|mark| text.rfind(mark))
        .unwrap_or(text.len());
    text.get(..end).unwrap_or(text).to_owned()
}

fn unknown_field(field: &str, expected: &[&str]) -> String {
    let hint = match (field, expected.contains(&"effect")) {
        ("names", true) => "; write `resourceNames`".into(),
        ("namespace", false) if expected.contains(&"labels") => "; an AgentPolicy is in no namespace".into(),
        _ => match nearest(field, expected) {
            Some(close) => format!("; did you mean `{close}`?"),
            None => String::new(),
        },
    };
    let known: Vec<String> = expected.iter().map(|name| format!("`{name}`")).collect();
    format!("unknown field `{field}`{hint} (known here: {})", known.join(", "))
}

/// The candidate that differs in at most two letters.
#[must_use]
pub fn nearest<'a>(text: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let close = candidates
        .iter()
        .map(|candidate| (distance(text, candidate), *candidate));
    close
        .filter(|(distance, candidate)| *distance <= 2 && *distance < candidate.len())
        .min()
        .map(|(_, it)| it)
}

/// Letters to insert, remove or replace, case ignored. Bounded: long text is far from everything.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 40 || b.len() > 40 {
        return usize::MAX;
    }
    let (a, b) = (
        a.to_ascii_lowercase().into_bytes(),
        b.to_ascii_lowercase().into_bytes(),
    );
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = row.get(j).map_or(usize::MAX, |cost| cost + usize::from(x != y));
            let removed = row.get(j + 1).map_or(usize::MAX, |cost| cost + 1);
            let inserted = next.last().map_or(usize::MAX, |cost| cost + 1);
            next.push(replaced.min(removed).min(inserted));
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}
