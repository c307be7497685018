//! Figures as people read them: three digits, a unit, and never a bare 0 for what was not measured.
//!
//! Knows nothing of: what is measured.

/// What stands where nothing could be measured.
pub(crate) const UNKNOWN: &str = "n/a";

/// `412,300`, and below 100 with as many decimals as give three digits.
pub(crate) fn count(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => UNKNOWN.into(),
        0.0 => "0".into(),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => with_commas(&format!("{value:.0}")),
    }
}

/// `2,000`: what is counted one by one.
pub(crate) fn whole(number: u64) -> String {
    with_commas(&number.to_string())
}

/// `412 k`, `1.58 M`: for axes and for figures at a glance.
pub(crate) fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 999.5e6 => (value / 1e9, " G"),
        size if size >= 999.5e3 => (value / 1e6, " M"),
        size if size >= 999.5 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    digits3(value) + unit
}

/// `259 µs`, `1.68 ms`, `2.4 s`.
pub(crate) fn time_us(us: f64) -> String {
    let (value, unit) = match us.abs() {
        size if size >= 999.5e3 => (us / 1e6, " s"),
        size if size >= 999.5 => (us / 1e3, " ms"),
        _ => (us, " µs"),
    };
    digits3(value) + unit
}

/// `97 %`, below ten `4.2 %`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent.abs() < 0.05 {
        "0 %".into()
    } else if percent.abs() < 9.95 {
        format!("{percent:.1}").trim_end_matches(".0").to_owned() + " %"
    } else {
        with_commas(&format!("{percent:.0}")) + " %"
    }
}

/// `+12 %`, `-3.1 %`: how a ratio differs from 1.
pub(crate) fn change(ratio: f64) -> String {
    let text = percent(ratio - 1.0);
    if ratio > 1.0 && text != "0 %" { format!("+{text}") } else { text }
}

/// `3.95×`: a ratio.
pub(crate) fn times(ratio: f64) -> String {
    match ratio.abs() {
        size if size < 0.0995 => format!("{ratio:.3}×"),
        size if size < 9.995 => format!("{ratio:.2}×"),
        _ => count(ratio) + "×",
    }
}

/// A share of the floor: `97 %`, and from twice on `39.9×`, for then many share a flush.
pub(crate) fn of_floor(share: f64) -> String {
    if share < 2.0 { percent(share) } else { times(share) }
}

/// `256 B`, `4 KiB`, `1.5 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if value.fract() == 0.0 { format!("{value:.0} {unit}") } else { format!("{} {unit}", digits3(value)) }
}

/// `2026-11-22 10:12 UTC`.
pub(crate) fn date(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Howard Hinnant's civil_from_days: years that begin in March, eras of 400 of them.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3_600, second / 60 % 60)
}

fn digits3(value: f64) -> String {
    let text = match value.abs() {
        _ if !value.is_finite() => return UNKNOWN.into(),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => return format!("{value:.0}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn with_commas(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut out = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        assert_eq!(count(1_234_567.4), "1,234,567");
        assert_eq!(
            (count(0.0), count(4.656), count(46.56), count(-1_000.0)),
            ("0".into(), "4.66".into(), "46.6".into(), "-1,000".into())
        );
        assert_eq!(
            (short(412_345.0), short(1_581_000.0), short(999.6)),
            ("412 k".into(), "1.58 M".into(), "1 k".into())
        );
        assert_eq!(
            (time_us(259.2), time_us(1_678.0), time_us(0.5)),
            ("259 µs".into(), "1.68 ms".into(), "0.5 µs".into())
        );
        assert_eq!((percent(0.97), percent(0.042), percent(12.0)), ("97 %".into(), "4.2 %".into(), "1,200 %".into()));
        assert_eq!((change(1.12), change(0.969)), ("+12 %".into(), "-3.1 %".into()));
        assert_eq!(
            (change(1.0), change(1.000_4), change(0.999_6), percent(0.05)),
            ("0 %".into(), "0 %".into(), "0 %".into(), "5 %".into())
        );
        assert_eq!((bytes(256), bytes(4096), bytes(1536 << 20)), ("256 B".into(), "4 KiB".into(), "1.5 GiB".into()));
        assert_eq!(count(f64::NAN), UNKNOWN);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_795_342_323), "2026-11-22 10:12 UTC");
    }
}
