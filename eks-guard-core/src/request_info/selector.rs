//! Field selectors, as apimachinery's `fields.ParseSelector` reads them: which single name one asks for.

/// Why a field selector was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SelectorError {
    #[error("has a term without `=`, `==` or `!=`")]
    Operator,
    #[error("has a value with an unescaped `,` or `=`, or an escape other than `\\\\`, `\\,` and `\\=`")]
    Escape,
    #[error("asks for two different names; the API server would authorize one of them only")]
    TwoNames,
}

/// The value that `metadata.name` must have for anything to be selected.
pub(super) fn exact_name(selector: &str) -> Result<Option<String>, SelectorError> {
    let mut name: Option<String> = None;
    for term in terms(selector).filter(|term| !term.is_empty()) {
        let (field, operator, raw) = split_term(term).ok_or(SelectorError::Operator)?;
        let value = unescape(raw)?;
        if field != "metadata.name" || operator == Operator::NotEqual {
            continue;
        }
        match &name {
            Some(other) if *other != value => return Err(SelectorError::TwoNames),
            Some(_) | None => name = Some(value),
        }
    }
    Ok(name)
}

/// A selector for exactly this name.
pub(super) fn of_name(name: &str) -> String {
    let mut selector = String::from("metadata.name=");
    for c in name.chars() {
        if matches!(c, '\\' | ',' | '=') {
            selector.push('\\');
        }
        selector.push(c);
    }
    selector
}

/// Whether kube-apiserver takes the value for a name: a legal path segment. It is a list of everything otherwise.
pub(super) fn is_path_segment_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '%'])
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
}

/// Splits at commas that no backslash escapes.
fn terms(selector: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    selector.split(move |c: char| {
        let divides = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        divides
    })
}

fn split_term(term: &str) -> Option<(&str, Operator, &str)> {
    for (at, _) in term.char_indices() {
        let (field, rest) = term.split_at(at);
        for (text, operator) in [
            ("!=", Operator::NotEqual),
            ("==", Operator::Equal),
            ("=", Operator::Equal),
        ] {
            if let Some(value) = rest.strip_prefix(text) {
                return Some((field, operator, value));
            }
        }
    }
    None
}

fn unescape(raw: &str) -> Result<String, SelectorError> {
    let mut value = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(literal @ ('\\' | ',' | '=')) => value.push(literal),
                Some(_) | None => return Err(SelectorError::Escape),
            },
            ',' | '=' => return Err(SelectorError::Escape),
            plain => value.push(plain),
        }
    }
    Ok(value)
}
