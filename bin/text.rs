//! Times, durations, sizes and payloads as people write and read them. Pure.

use std::time::Duration;

const NS: u64 = 1_000_000_000;

/// `30d`, `12h`, `5m`, `10s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time like 30d, 12h, 5m or 10s");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// Nanoseconds since 1970 of `2026-11-25T01:02:03Z`, also with a fraction and another offset than Z, or of seconds since 1970.
pub(crate) fn parse_time_ns(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is neither a time like 2026-11-25T01:02:03Z nor seconds since 1970");
    let parsed = if text.contains('-') { rfc3339_ns(text) } else { seconds_ns(text) };
    parsed.ok_or_else(wrong)
}

fn seconds_ns(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    digits(seconds)?.checked_mul(NS)?.checked_add(fraction_ns(fraction)?)
}

fn rfc3339_ns(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-')?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':')?;
    let in_range = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day) && hour < 24 && minute < 60;
    // 60 is a leap second; it counts as the one after.
    if !in_range || second > 60 {
        return None;
    }
    let days = days_since_1970(year, month, day);
    let seconds = days * 86_400 + (hour * 3600 + minute * 60 + second) as i64 - zone_seconds(zone)?;
    u64::try_from(seconds).ok()?.checked_mul(NS)?.checked_add(fraction_ns(fraction)?)
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let [hours, minutes] = numbers(&zone[1..], ':')?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60) as i64)
}

/// Plain digits: no sign, no blanks.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[u64; N]> {
    let numbers: Option<Vec<u64>> = text.split(separator).map(|part| digits(part).filter(|n| *n < 10_000)).collect();
    numbers?.try_into().ok()
}

fn fraction_ns(fraction: &str) -> Option<u64> {
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    digits(fraction).map(|number| number * 10u64.pow(9 - fraction.len() as u32))
}

fn days_in(year: u64, month: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Years begin in March here, so that the leap day is the last of its year.
fn days_since_1970(year: u64, month: u64, day: u64) -> i64 {
    let (year, month) = if month > 2 { (year as i64, month as i64 - 3) } else { (year as i64 - 1, month as i64 + 9) };
    let days_before_month = (153 * month + 2) / 5;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + days_before_month + day as i64
        - 719_469
}

/// A time as RFC 3339, to the millisecond.
pub(crate) fn time(ts_ns: u64) -> String {
    let (seconds, milliseconds) = (ts_ns / NS, ts_ns % NS / 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

/// The inverse of [`days_since_1970`].
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// `1.5 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `1 234 567`: digits in threes.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 entry`, `2 entries`.
pub(crate) fn entries(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "entry" } else { "entries" })
}

/// The beginning of a payload, safe for a terminal.
pub(crate) fn glimpse(payload: &[u8]) -> String {
    const BYTES_MAX: usize = 60;
    let start = String::from_utf8_lossy(&payload[..payload.len().min(BYTES_MAX)]);
    format!("\"{}\"{}", start.escape_debug(), if payload.len() > BYTES_MAX { "..." } else { "" })
}

/// A word as a shell takes it.
pub(crate) fn shell(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        let at = 1_795_568_523 * NS;
        for text in [
            "2026-11-25T01:02:03Z",
            "2026-11-25t01:02:03z",
            "2026-11-25 01:02:03.000Z",
            "2026-11-25T02:32:03+01:30",
            "2026-11-24T23:02:03-02:00",
            "1795568523",
            "1795568523.0",
        ] {
            assert_eq!(parse_time_ns(text), Ok(at), "{text}");
        }
        assert_eq!(parse_time_ns("2024-02-29T00:00:00.25Z"), Ok(1_709_164_800 * NS + NS / 4));
        assert_eq!(parse_time_ns("1970-01-01T00:00:00Z"), Ok(0));
        for bad in ["", "2026-11-25", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "1e9"] {
            assert!(parse_time_ns(bad).is_err(), "{bad:?}");
        }
        for bad in ["2026-11-25T01:02:03", "2026-11-25T24:00:00Z", "2026-11-25T01:02:03+1", "+5", "99999999999", "5."] {
            assert!(parse_time_ns(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_that_is_printed_is_read_back() {
        for day in (0..80_000).step_by(13) {
            let ts_ns = (day * 86_400 + day % 86_400) * NS + 7_000_000;
            assert_eq!(parse_time_ns(&time(ts_ns)), Ok(ts_ns), "{}", time(ts_ns));
        }
    }

    #[test]
    fn durations_sizes_counts_and_words_read_well() {
        assert_eq!(parse_duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert!(["", "d", "30", "3x", "-1s", "ä"].iter().all(|bad| parse_duration(bad).is_err()));
        assert_eq!(
            (bytes(1023), bytes(1536), bytes(3 << 30)),
            ("1023 bytes".into(), "1.5 KiB".into(), "3.0 GiB".into())
        );
        assert_eq!((count(999), count(1_234_567)), ("999".into(), "1 234 567".into()));
        assert_eq!((shell("a/b"), shell("it's"), shell("")), ("a/b".into(), r"'it'\''s'".into(), "''".into()));
        assert_eq!(glimpse(b"a\x1b[1m\xff"), "\"a\\u{1b}[1m\u{fffd}\"");
    }
}
