//! Regular expressions of conditions: written as text in the document, compiled once, and read as RE2 reads them.

use cel::common::types::Type;

use crate::policy::condition::library::opaque::Named;

/// The largest compiled pattern, in bytes.
const MAX_COMPILED: usize = 64 * 1024;

static PATTERN: Type = Type::new_unspecified_type("eks_guard.Pattern");

/// A compiled pattern, which expressions get in the place of its text.
#[derive(Clone, Debug)]
pub(super) struct Pattern(pub(super) regex::Regex);

impl Named for Pattern {
    const TYPE: &'static Type = &PATTERN;
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Pattern {
    /// Compiles a pattern.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let compiled = regex::RegexBuilder::new(&ascii_classes(text)?)
            .size_limit(MAX_COMPILED)
            .nest_limit(32)
            .build();
        compiled.map(Self).map_err(|error| error.to_string())
    }
}

/// RE2's `\d`, `\s`, `\w` and `\b` are about ASCII; the crate's are about Unicode.
fn ascii_classes(text: &str) -> Result<String, String> {
    let (mut out, mut inside, mut chars) =
        (String::with_capacity(text.len()), false, text.chars().peekable());
    // Where a class has begun and nothing of it has come: there `]` is a character of it.
    let mut first = false;
    while let Some(char) = chars.next() {
        let is_first = std::mem::take(&mut first);
        match char {
            '\\' => {
                let Some(escaped) = chars.next() else {
                    return Err("it ends in a backslash".to_owned());
                };
                match (escaped, inside) {
                    ('d', true) => out += "0-9",
                    ('d', false) => out += "[0-9]",
                    ('w', true) => out += "0-9A-Za-z_",
                    ('w', false) => out += "[0-9A-Za-z_]",
                    ('s', true) => out += r"\t\n\f\r ",
                    ('s', false) => out += r"[\t\n\f\r ]",
                    ('D', false) => out += "[^0-9]",
                    ('W', false) => out += "[^0-9A-Za-z_]",
                    ('S', false) => out += r"[^\t\n\f\r ]",
                    ('b', false) => out += r"(?-u:\b)",
                    ('B' | 'C' | 'Q' | 'E' | 'A' | 'z' | 'p' | 'P' | '<' | '>', _)
                    | ('D' | 'W' | 'S' | 'b', true) => {
                        return Err(format!(
                            "`\\{escaped}` is not taken here; write what it stands for"
                        ));
                    }
                    (other, _) => out.extend(['\\', other]),
                }
            }
            // The crate nests classes and subtracts them, RE2 takes these for characters.
            '[' if inside && chars.peek() == Some(&':') => {
                return Err("`[:` in a class is not taken; write the characters".to_owned());
            }
            '[' if inside => out += r"\[",
            '&' | '~' | '-' if inside && out.ends_with(char) => {
                return Err(format!("`{char}{char}` in a class is not taken; escape one"));
            }
            '[' => {
                (inside, first) = (true, true);
                out.push('[');
                out.extend(chars.next_if_eq(&'^'));
            }
            ']' if inside => {
                inside = is_first;
                out += if inside { r"\]" } else { "]" };
            }
            other => out.push(other),
        }
    }
    Ok(out)
}
