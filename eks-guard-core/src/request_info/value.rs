//! Query values: checked as kube-apiserver's decoders would, and brought to one form.

use std::borrow::Cow;

use crate::request_info::allow_list::Kind;

/// Longest time span in seconds that Go's `time.Duration` holds (2^63 ns).
const MAX_SECONDS: i64 = i64::MAX / 1_000_000_000;

/// Longest duration text.
const MAX_DURATION_TEXT: usize = 64;

/// A value the API server would refuse, or would silently take for another; the text says what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    #[error("must be `true` or `false`")]
    StrictSwitch,
    #[error("is on whatever its value; leave the value out, or the whole parameter")]
    Presence,
    #[error("must not be on: the API server would talk to a kubelet without checking who it is")]
    Forbidden,
    #[error("must be a whole number from 0")]
    Count,
    #[error("must be a whole number of seconds from 0 to {MAX_SECONDS}")]
    Seconds,
    #[error("must be a duration like `30s` or `1m30s`")]
    Duration,
    #[error("must be a time like `2026-01-31T12:00:00Z`")]
    Time,
    #[error("must be one of {}", .0.join(", "))]
    Choice(&'static [&'static str]),
    #[error("must be `All`; anything else would not be a dry run everywhere")]
    DryRun,
    #[error("holds a control character")]
    Text,
    #[error("must be port numbers separated by commas")]
    Ports,
}

/// Checks a decoded value and normalises it.
pub(super) fn normalize(kind: Kind, value: Cow<'_, str>) -> Result<Cow<'static, str>, ValueError> {
    let checked = |holds: bool, error: ValueError| if holds { Ok(()) } else { Err(error) };
    match kind {
        Kind::Switch => return Ok(switch_text(is_on(&value))),
        Kind::StrictSwitch => {
            return strict_switch(&value)
                .map(switch_text)
                .ok_or(ValueError::StrictSwitch);
        }
        Kind::Presence => checked(matches!(value.as_ref(), "" | "1" | "true"), ValueError::Presence)?,
        Kind::Forbidden => {
            checked(!is_on(&value), ValueError::Forbidden)?;
            return Ok(switch_text(false));
        }
        Kind::Count => return number(value, i64::MAX).ok_or(ValueError::Count),
        Kind::Seconds => return number(value, MAX_SECONDS).ok_or(ValueError::Seconds),
        Kind::Duration => checked(is_duration(&value), ValueError::Duration)?,
        Kind::Time => checked(is_time(&value), ValueError::Time)?,
        Kind::Choice(words) => {
            let word = words.iter().find(|word| **word == value);
            return word
                .map(|word| Cow::Borrowed(*word))
                .ok_or(ValueError::Choice(words));
        }
        Kind::DryRun => {
            checked(value == "All", ValueError::DryRun)?;
            return Ok(Cow::Borrowed("All"));
        }
        Kind::Text => checked(!holds_control(&value), ValueError::Text)?,
        Kind::Argument => {}
        Kind::Ports => checked(value.split(',').all(is_port), ValueError::Ports)?,
    }
    Ok(Cow::Owned(value.into_owned()))
}

/// Only text beyond printable ASCII is looked at character by character.
fn holds_control(text: &str) -> bool {
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    !plain && text.contains(char::is_control)
}

fn switch_text(on: bool) -> Cow<'static, str> {
    Cow::Borrowed(if on { "true" } else { "false" })
}

/// apimachinery's conversion of a parameter to bool: only `0` and `false` in any case are off.
fn is_on(value: &str) -> bool {
    value != "0" && !value.eq_ignore_ascii_case("false")
}

fn strict_switch(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `ParseInt` in base 10, without negative numbers: the API server reads most of those as something else.
fn number(value: Cow<'_, str>, max: i64) -> Option<Cow<'static, str>> {
    let number: i64 = value.parse().ok()?;
    if !(0..=max).contains(&number) {
        return None;
    }
    Some(Cow::Owned(number.to_string()))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Go's `ParseDuration` without a sign.
fn is_duration(text: &str) -> bool {
    if text == "0" {
        return true;
    }
    if text.is_empty() || text.len() > MAX_DURATION_TEXT {
        return false;
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return false;
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let Some(unit) = unit_nanoseconds(unit) else {
            return false;
        };
        let Ok(whole) = (if whole.is_empty() {
            Ok(0)
        } else {
            whole.parse::<u64>()
        }) else {
            return false;
        };
        // A fraction counts as a whole unit: on the safe side of a limit of 292 years.
        total += (u128::from(whole) + u128::from(!fraction.is_empty())) * unit;
        rest = after;
    }
    total <= i64::MAX.unsigned_abs().into()
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn unit_nanoseconds(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `2006-01-02T15:04:05[.999]Z` or with `±07:00`. Days of a month are left to the API server.
fn is_time(text: &str) -> bool {
    let Some((date_time, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(&byte, &wanted): (&u8, &u8)| {
        if wanted == b'd' {
            byte.is_ascii_digit()
        } else {
            byte == wanted
        }
    };
    if !date_time.as_bytes().iter().zip(shape).all(fits) {
        return false;
    }
    let part = |from: usize| {
        date_time
            .get(from..from + 2)
            .and_then(|two| two.parse::<u8>().ok())
            .unwrap_or(99)
    };
    let in_range = (1..=12).contains(&part(5))
        && (1..=31).contains(&part(8))
        && part(11) < 24
        && part(14) < 60
        && part(17) < 60;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let (digits, zone) = split_digits(fraction);
            if digits.is_empty() {
                return false;
            }
            zone
        }
        None => rest,
    };
    in_range && is_zone(zone)
}

fn is_zone(zone: &str) -> bool {
    if zone == "Z" {
        return true;
    }
    let Some((hours, minutes)) = zone
        .strip_prefix(['+', '-'])
        .and_then(|zone| zone.split_once(':'))
    else {
        return false;
    };
    let below = |text: &str, limit: u8| {
        text.len() == 2
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && text.parse::<u8>().is_ok_and(|number| number < limit)
    };
    below(hours, 24) && below(minutes, 60)
}
