//! meta/v1 Time and MicroTime: seconds and nanoseconds of UTC, written as RFC 3339.

use std::io::Write;

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z: what RFC 3339 can write.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

const SECONDS_PER_DAY: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;
const DAYS_PER_ERA: i64 = 146_097;

/// How much of a second is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    Seconds,
    Microseconds,
}

/// Writes the quoted text of a moment; none when it cannot be written exactly.
pub(super) fn write(seconds: i64, nanos: i64, precision: Precision, out: &mut Vec<u8>) -> Option<()> {
    if !SECONDS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return None;
    }
    let (year, month, day) = date(seconds.div_euclid(SECONDS_PER_DAY));
    let second = seconds.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    write!(
        out,
        "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    )
    .ok()?;
    match precision {
        Precision::Seconds if nanos != 0 => return None,
        Precision::Seconds => {}
        Precision::Microseconds => write!(out, ".{:06}", nanos / 1000).ok()?,
    }
    out.extend_from_slice(b"Z\"");
    Some(())
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that the leap day is last.
const fn date(day: i64) -> (i64, i64, i64) {
    let day = day + EPOCH;
    let era = day.div_euclid(DAYS_PER_ERA);
    let of_era = day.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (DAYS_PER_ERA - 1)) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + (month <= 2) as i64;
    (year, month, of_month)
}

#[cfg(test)]
mod tests {
    use super::{Precision, write};

    fn text(seconds: i64, nanos: i64, precision: Precision) -> Option<String> {
        let mut out = Vec::new();
        write(seconds, nanos, precision, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn writes_rfc_3339_over_the_whole_range() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_799, "2024-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-62_135_596_800, "0001-01-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(
                text(seconds, 0, Precision::Seconds),
                Some(format!("\"{expected}\""))
            );
        }
        assert_eq!(text(253_402_300_800, 0, Precision::Seconds), None);
        assert_eq!(text(-62_135_596_801, 0, Precision::Seconds), None);
    }

    #[test]
    fn keeps_microseconds_and_refuses_what_a_reader_would_drop() {
        assert_eq!(
            text(1, 2_000, Precision::Microseconds).unwrap(),
            "\"1970-01-01T00:00:01.000002Z\""
        );
        assert_eq!(
            text(1, 999, Precision::Microseconds).unwrap(),
            "\"1970-01-01T00:00:01.000000Z\""
        );
        assert_eq!(text(1, 1, Precision::Seconds), None);
        assert_eq!(text(1, 1_000_000_000, Precision::Microseconds), None);
        assert_eq!(text(1, -1, Precision::Microseconds), None);
    }
}
