//! Durations as Go reads them: `1h30m`, `-1.5s`.

use cel::common::types::{CelDuration, DURATION_TYPE, STRING_TYPE};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env};

use crate::policy::condition::library::signatures::DURATION;
use crate::policy::condition::library::{Answer, Arguments, no_overload, rejected, text};

/// Units, longer names before those that they begin with, and their nanoseconds.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The crate's own takes what begins like a duration, whatever follows.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(DURATION, "duration of text", vec![STRING_TYPE], of_text)?;
    env.add_overload(DURATION, "duration of duration", vec![DURATION_TYPE], |it| {
        it.into_iter().next().ok_or_else(no_overload)
    })
}

fn of_text<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let nanoseconds = parse(text(&arguments, 0)?).ok_or_else(|| rejected("duration"))?;
    Ok(CowVal::owned(CelDuration::from(chrono::Duration::nanoseconds(
        nanoseconds,
    ))))
}

/// Nanoseconds.
fn parse(text: &str) -> Option<i64> {
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_i128;
    loop {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (name, unit) = UNITS.into_iter().find(|(name, _)| after.starts_with(name))?;
        total = total.checked_add(i128::try_from(part(whole, fraction, unit)?).ok()?)?;
        rest = after.strip_prefix(name)?;
        if rest.is_empty() {
            return i64::try_from(if negative { -total } else { total }).ok();
        }
    }
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|char: char| !char.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// Parts of a nanosecond are cut off.
fn part(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let number = |digits: &str| match digits {
        "" => Some(0),
        digits => digits.parse::<u64>().ok().map(u128::from),
    };
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    number(whole)?
        .checked_mul(unit)?
        .checked_add(number(fraction)?.checked_mul(unit)? / scale)
}
