//! YAML bodies as JSON text: one document of the part of YAML that every reader understands alike.
//! Anchors, aliases, merge keys, tags, directives, further documents, and plain text that some reader takes for a
//! number, a boolean, null or a date are refused; quoted text is always text.

use std::borrow::Cow;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use crate::body::json::{MAX_DEPTH, write_str};
use crate::body::yaml::plain::Plain;

mod plain;

#[cfg(test)]
mod tests;

/// The most parts (values, keys, collections, comments) of a document: reading one costs a hundred times what it does in
/// JSON, and is paid for whoever sends it.
const MAX_PARTS: usize = 100_000;

/// The longest text that an error message quotes, in characters.
const MAX_QUOTED: usize = 40;

/// Why a text is not YAML that has one meaning only. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum YamlError {
    #[error("byte {at} is not UTF-8")]
    NotUtf8 { at: usize },
    #[error("line {line}: {message}")]
    Syntax { line: usize, message: String },
    #[error("line {line}: {what}")]
    Refused { line: usize, what: &'static str },
    #[error("line {line}: readers disagree about `{text}`; quote it, or write it as JSON does")]
    Ambiguous { line: usize, text: String },
    #[error("line {line}: the key `{text}` is not text to every reader; quote it")]
    Key { line: usize, text: String },
    #[error("line {line} is nested deeper than {MAX_DEPTH} levels")]
    TooDeep { line: usize },
    #[error("it has more than {MAX_PARTS} parts; send it as JSON")]
    TooMany,
    #[error("there is no document")]
    Empty,
}

/// The JSON text of the one document; not yet checked for keys that stand twice.
pub(super) fn to_json(bytes: &[u8]) -> Result<Vec<u8>, YamlError> {
    let text = std::str::from_utf8(bytes).map_err(|error| YamlError::NotUtf8 {
        at: error.valid_up_to(),
    })?;
    let mut writer = Writer {
        out: Vec::with_capacity(text.len()),
        open: Vec::new(),
        documents: 0,
        parts: 0,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| YamlError::Syntax {
            line: error.marker().line(),
            message: error.info(),
        })?;
        writer.event(event, span.start.line())?;
    }
    if writer.out.is_empty() {
        return Err(YamlError::Empty);
    }
    Ok(writer.out)
}

/// An open collection and what comes next in it.
#[derive(Clone, Copy)]
enum Open {
    FirstItem,
    Item,
    FirstKey,
    Key,
    Value,
}

struct Writer {
    out: Vec<u8>,
    open: Vec<Open>,
    documents: usize,
    parts: usize,
}

impl Writer {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's events are open; those it is not asked for are refused"
    )]
    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), YamlError> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(YamlError::TooMany);
        }
        let refused = |what| Err(YamlError::Refused { line, what });
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Comment(..) => Ok(()),
            Event::DocumentStart(_, Some(_)) => refused("directives (`%YAML`) are not read; remove them"),
            Event::DocumentStart(_, None) => {
                self.documents += 1;
                match self.documents {
                    1 => Ok(()),
                    _ => refused("a second document begins; send each in a request of its own"),
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                check_node(anchor, tag.as_ref(), line)?;
                self.scalar(&text, style, line)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_node(anchor, tag.as_ref(), line)?;
                self.start(b'[', Open::FirstItem, line)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_node(anchor, tag.as_ref(), line)?;
                self.start(b'{', Open::FirstKey, line)
            }
            Event::SequenceEnd => {
                self.end(b']');
                Ok(())
            }
            Event::MappingEnd => {
                self.end(b'}');
                Ok(())
            }
            Event::Alias(_) => refused("aliases (`*name`) are not read; write the value out"),
            _ => refused("this part of YAML is not read; write it as JSON does"),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, line: usize) -> Result<(), YamlError> {
        let plain = match style {
            ScalarStyle::Plain => Plain::of(text),
            ScalarStyle::SingleQuoted
            | ScalarStyle::DoubleQuoted
            | ScalarStyle::Literal
            | ScalarStyle::Folded => Plain::Text,
        };
        if self.separate() == Place::Key {
            if plain != Plain::Text {
                return Err(YamlError::Key {
                    line,
                    text: shortened(text),
                });
            }
            write_str(text, &mut self.out);
            self.out.push(b':');
            return Ok(());
        }
        match plain {
            Plain::Text => write_str(text, &mut self.out),
            Plain::Null => self.out.extend_from_slice(b"null"),
            Plain::Literal => self.out.extend_from_slice(text.as_bytes()),
            Plain::Ambiguous => {
                return Err(YamlError::Ambiguous {
                    line,
                    text: shortened(text),
                });
            }
        }
        Ok(())
    }

    fn start(&mut self, bracket: u8, open: Open, line: usize) -> Result<(), YamlError> {
        if self.open.len() == MAX_DEPTH {
            return Err(YamlError::TooDeep { line });
        }
        if self.separate() == Place::Key {
            let what = "a list or a mapping stands as a key; keys are text";
            return Err(YamlError::Refused { line, what });
        }
        self.out.push(bracket);
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, bracket: u8) {
        self.open.pop();
        self.out.push(bracket);
    }

    /// Writes what stands between the node before and this one, and says which of the two this one is.
    fn separate(&mut self) -> Place {
        let Some(open) = self.open.last_mut() else {
            return Place::Value;
        };
        let (next, comma, place) = match *open {
            Open::FirstItem => (Open::Item, false, Place::Value),
            Open::Item => (Open::Item, true, Place::Value),
            Open::FirstKey => (Open::Value, false, Place::Key),
            Open::Key => (Open::Value, true, Place::Key),
            Open::Value => (Open::Key, false, Place::Value),
        };
        *open = next;
        if comma {
            self.out.push(b',');
        }
        place
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Key,
    Value,
}

fn check_node(anchor: usize, tag: Option<&Cow<'_, Tag>>, line: usize) -> Result<(), YamlError> {
    let what = if anchor != 0 {
        "anchors (`&name`) are not read; write the value out"
    } else if tag.is_some() {
        "tags (`!name`) are not read; remove them, and quote text"
    } else {
        return Ok(());
    };
    Err(YamlError::Refused { line, what })
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}
