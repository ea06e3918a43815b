//! Label selectors: taken only when apimachinery's `labels.Parse` takes them. kube-apiserver authorizes a list
//! with another one as if it had no field selector, before it refuses it.

/// Longest name in a key, and longest value.
const MAX_NAME: usize = 63;

/// Longest DNS subdomain before the `/` of a key.
const MAX_PREFIX: usize = 253;

/// Why a label selector was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LabelError {
    #[error("is no label selector; write it like `app=web,tier in (a,b),!old`")]
    Syntax,
    #[error("has a key that is no label key")]
    Key,
    #[error("has a value that is no label value")]
    Value,
}

/// Checks a label selector.
pub(super) fn check(selector: &str) -> Result<(), LabelError> {
    let mut parser = Parser { rest: selector };
    if parser.peek().is_empty() {
        return Ok(());
    }
    loop {
        parser.requirement()?;
        match parser.take() {
            "" => return Ok(()),
            "," => {}
            _ => return Err(LabelError::Syntax),
        }
    }
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

/// Longer ones before those they begin with.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", ",", "(", ")", "<", ">"];

/// What is left of a selector. A token is a symbol, a word, or empty at the end; `in` and `notin` are words,
/// which are operators only after a key.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &'a str {
        Self { rest: self.rest }.take()
    }

    fn take(&mut self) -> &'a str {
        let rest = self.rest.trim_start_matches(SPACES);
        let symbol = SYMBOLS
            .iter()
            .find(|symbol| rest.starts_with(**symbol))
            .map(|symbol| symbol.len());
        let is_end = |c: char| SPACES.contains(&c) || matches!(c, '=' | '!' | ',' | '(' | ')' | '<' | '>');
        let end = symbol.or_else(|| rest.find(is_end)).unwrap_or(rest.len());
        let (token, rest) = rest.split_at(end);
        self.rest = rest;
        token
    }

    fn word(&mut self) -> Result<&'a str, LabelError> {
        let token = self.take();
        if token.is_empty() || SYMBOLS.contains(&token) {
            Err(LabelError::Syntax)
        } else {
            Ok(token)
        }
    }

    fn requirement(&mut self) -> Result<(), LabelError> {
        let negated = self.peek() == "!";
        if negated {
            self.take();
        }
        if !is_key(self.word()?) {
            return Err(LabelError::Key);
        }
        if negated || self.is_at_end_of_requirement() {
            return Ok(());
        }
        match self.take() {
            "=" | "==" | "!=" => self.value().and_then(check_value),
            "<" | ">" => match self.value()? {
                number if number.parse::<i64>().is_ok() => check_value(number),
                _ => Err(LabelError::Value),
            },
            "in" | "notin" => self.values(),
            _ => Err(LabelError::Syntax),
        }
    }

    fn is_at_end_of_requirement(&self) -> bool {
        matches!(self.peek(), "" | ",")
    }

    /// One value, which may be left out.
    fn value(&mut self) -> Result<&'a str, LabelError> {
        if self.is_at_end_of_requirement() {
            Ok("")
        } else {
            self.word()
        }
    }

    /// `(a,b)`; values between commas may be left out.
    fn values(&mut self) -> Result<(), LabelError> {
        if self.take() != "(" {
            return Err(LabelError::Syntax);
        }
        loop {
            if !matches!(self.peek(), "," | ")") {
                check_value(self.word()?)?;
            }
            match self.take() {
                "," => {}
                ")" => return Ok(()),
                _ => return Err(LabelError::Syntax),
            }
        }
    }
}

fn check_value(value: &str) -> Result<(), LabelError> {
    if value.is_empty() || is_name(value) {
        Ok(())
    } else {
        Err(LabelError::Value)
    }
}

/// `[prefix/]name`
fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(key),
    }
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= MAX_NAME
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_subdomain(text: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(inner)
            && bytes.last().is_some_and(inner)
            && bytes.iter().all(|byte| inner(byte) || *byte == b'-')
    };
    text.len() <= MAX_PREFIX && text.split('.').all(is_label)
}
