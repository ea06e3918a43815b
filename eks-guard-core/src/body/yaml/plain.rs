//! What a plain scalar is: the resolver that docs/bodies.md describes. YAML 1.1, YAML 1.2 and their readers differ about
//! many spellings; what is left here is what none of them reads in another way.

/// What a plain scalar is to every reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plain {
    /// Text.
    Text,
    /// `null`, `~`, or nothing.
    Null,
    /// `true`, `false`, or a number that JSON writes the same way.
    Literal,
    /// Readers disagree.
    Ambiguous,
}

/// Words that some reader takes for a boolean, null or a number, in whatever letter case.
const WORDS: [&str; 13] = [
    "y", "n", "yes", "no", "on", "off", "true", "false", "null", ".inf", "+.inf", "-.inf", ".nan",
];

/// Other text that means something to some reader: merge key and default key.
const SIGNS: [&str; 2] = ["<<", "="];

impl Plain {
    pub(super) fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" => Self::Null,
            "true" | "false" => Self::Literal,
            _ if is_decimal(text) => Self::Literal,
            _ if is_ambiguous(text) => Self::Ambiguous,
            _ => Self::Text,
        }
    }
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?`. With an exponent, a plus sign or a leading zero readers disagree.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(whole) && (whole == "0" || !whole.starts_with('0')) && fraction.is_none_or(is_digits)
}

fn is_ambiguous(text: &str) -> bool {
    SIGNS.contains(&text)
        || WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
        || has_base(text)
        || is_date(text)
        || is_like_number(text)
}

/// `0x1f`, `0o17`, `0b11`, signed or not.
fn has_base(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let Some(rest) = digits.strip_prefix('0') else {
        return false;
    };
    rest.strip_prefix(['x', 'X', 'o', 'O', 'b', 'B'])
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'_'))
}

/// `2026-01-31`, and a time after it.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 8
        && bytes.get(4) == Some(&b'-')
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[5..7]
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'-')
}

/// Digits and what may stand between them: octal, sexagesimal, with underscores, with an exponent. Text of digits and
/// more than one full stop (an address, a version) is a number to nobody.
fn is_like_number(text: &str) -> bool {
    let of = |set: &[u8]| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit() || set.contains(&byte))
    };
    let is_dotted = of(b".") && text.matches('.').count() > 1;
    text.bytes().any(|byte| byte.is_ascii_digit()) && of(b"_.:eE+-") && !is_dotted
}
