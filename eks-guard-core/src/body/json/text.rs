//! Strings and numbers: the two scalars with a grammar of their own.
//! A string has exactly one canonical form, so two keys are equal exactly when their canonical bytes are.

use crate::body::json::JsonError;

/// Whether a byte inside a string needs a look: a delimiter, an escape, or the first byte of a character that
/// may have to be escaped.
const SPECIAL: [bool; 256] = special();

const fn special() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0x7f] = true;
    table[0xc2] = true;
    table[0xe2] = true;
    table[0xef] = true;
    table
}

/// The place after the closing quote of the string that `at` is inside of. What is not canonical from there on goes into `out`
/// as it should be, after everything from `copied` on, which is still to be copied as it stands.
pub(super) fn string_end(
    text: &str,
    at: usize,
    copied: &mut usize,
    out: &mut Vec<u8>,
) -> Result<usize, JsonError> {
    let bytes = text.as_bytes();
    let mut at = at;
    loop {
        at = plain_end(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            None | Some(..0x20) => {
                return Err(JsonError::Syntax {
                    at,
                    expected: "the rest of a string",
                });
            }
            Some(_) => {
                out.extend_from_slice(&bytes[*copied..at]);
                let (character, next) = special_char(text, at)?;
                write_char(character, out);
                (*copied, at) = (next, next);
            }
        }
    }
}

/// The character that starts with the special byte at `at`, spelled or escaped, and the place after it.
fn special_char(text: &str, at: usize) -> Result<(char, usize), JsonError> {
    if text.as_bytes()[at] == b'\\' {
        return unescape(text.as_bytes(), at);
    }
    let character = text[at..].chars().next().ok_or(JsonError::Syntax {
        at,
        expected: "the rest of a string",
    })?;
    Ok((character, at + character.len_utf8()))
}

/// Writes a string in canonical form, quotes included.
pub(in crate::body) fn write_str(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    loop {
        let (plain, special) = rest.split_at(plain_end(rest.as_bytes(), 0));
        out.extend_from_slice(plain.as_bytes());
        let mut characters = special.chars();
        let Some(character) = characters.next() else {
            break;
        };
        write_char(character, out);
        rest = characters.as_str();
    }
    out.push(b'"');
}

/// The value of a canonical string, quotes included.
pub(super) fn unquote(quoted: &[u8]) -> Option<String> {
    serde_json::from_slice(quoted).ok()
}

/// The place after the number that starts at `at`.
pub(super) fn number_end(bytes: &[u8], at: usize) -> Result<usize, JsonError> {
    let mut end = at;
    if bytes.get(end) == Some(&b'-') {
        end += 1;
    }
    end = match bytes.get(end) {
        Some(b'0') => end + 1,
        _ => digits_end(bytes, end)?,
    };
    if bytes.get(end) == Some(&b'.') {
        end = digits_end(bytes, end + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        end += 1;
        if let Some(b'+' | b'-') = bytes.get(end) {
            end += 1;
        }
        end = digits_end(bytes, end)?;
    }
    Ok(end)
}

fn digits_end(bytes: &[u8], at: usize) -> Result<usize, JsonError> {
    let count = bytes[at..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if count == 0 {
        return Err(JsonError::Syntax {
            at,
            expected: "a digit",
        });
    }
    Ok(at + count)
}

/// The place of the first special byte from `from` on; the end when there is none.
pub(super) fn plain_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(eight) = bytes[at..].first_chunk() {
        let suspects = suspects(u64::from_le_bytes(*eight));
        // Eight when there are none.
        at += suspects.trailing_zeros() as usize / 8;
        if suspects == 0 {
            continue;
        }
        if SPECIAL[usize::from(bytes[at])] {
            return at;
        }
        at += 1;
    }
    bytes[at..]
        .iter()
        .position(|byte| SPECIAL[usize::from(*byte)])
        .map_or(bytes.len(), |count| at + count)
}

/// The high bits of those of eight bytes that are special or outside ASCII. Above the first of them others may be marked as well,
/// and on the first the table has the last word.
const fn suspects(eight: u64) -> u64 {
    const EACH: u64 = u64::MAX / 0xff;
    const HIGH: u64 = EACH * 0x80;
    /// The high bit of a byte that is 0 at least; a byte above one that is 0 may have it too.
    const fn zeroes(eight: u64) -> u64 {
        eight.wrapping_sub(EACH) & !eight
    }
    let control = eight.wrapping_sub(EACH * 0x20) & !eight;
    let quote = zeroes(eight ^ (EACH * b'"' as u64));
    let backslash = zeroes(eight ^ (EACH * b'\\' as u64));
    // DEL gets the high bit by the addition; what is outside ASCII has it.
    let del = (eight & !HIGH).wrapping_add(EACH);
    (control | quote | backslash | del | eight) & HIGH
}

/// The character that the escape at `at` stands for, and the place after it.
fn unescape(bytes: &[u8], at: usize) -> Result<(char, usize), JsonError> {
    let character = match bytes.get(at + 1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unescape_unicode(bytes, at),
        _ => {
            return Err(JsonError::Syntax {
                at,
                expected: "an escape of JSON",
            });
        }
    };
    Ok((character, at + 2))
}

fn unescape_unicode(bytes: &[u8], at: usize) -> Result<(char, usize), JsonError> {
    let first = hex4(bytes, at + 2)?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, at + 6));
    }
    let paired = first < 0xdc00 && bytes.get(at + 6..at + 8) == Some(b"\\u");
    if !paired {
        return Err(JsonError::LoneSurrogate { at });
    }
    match hex4(bytes, at + 8)? {
        second @ 0xdc00..=0xdfff => {
            let scalar = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            char::from_u32(scalar)
                .map(|character| (character, at + 12))
                .ok_or(JsonError::LoneSurrogate { at })
        }
        _ => Err(JsonError::LoneSurrogate { at }),
    }
}

fn hex4(bytes: &[u8], at: usize) -> Result<u32, JsonError> {
    let wrong = JsonError::Syntax {
        at,
        expected: "four hexadecimal digits",
    };
    let Some(digits) = bytes.get(at..at + 4) else {
        return Err(wrong);
    };
    digits
        .iter()
        .try_fold(0, |value, byte| {
            char::from(*byte).to_digit(16).map(|digit| value * 16 + digit)
        })
        .ok_or(wrong)
}

/// Writes one character of a string.
///
/// The API server reads an apply patch as YAML, where raw line separators fold and control characters are errors;
/// they are always written as escapes, which both languages read alike.
fn write_char(character: char, out: &mut Vec<u8>) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\0'..='\u{1f}'
        | '\u{7f}'..='\u{9f}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{feff}'
        | '\u{fffe}'
        | '\u{ffff}' => {
            write_escape(u32::from(character), out);
        }
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn write_escape(code: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        let digit = (code >> shift) & 0xf;
        out.push(b"0123456789abcdef"[digit as usize]);
    }
}
