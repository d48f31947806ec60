//! Times as people and programs write them: days, periods, RFC 3339.

use std::time::{Duration, SystemTime};

use der::DateTime;

/// A day in ISO 8601.
pub(crate) fn day(time: SystemTime) -> String {
    DateTime::try_from(time).map_or_else(
        |_| "?".to_owned(),
        |date| format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
    )
}

/// A moment in RFC 3339, for programs.
pub(crate) fn moment(time: SystemTime) -> String {
    DateTime::try_from(time).map_or_else(|_| "?".to_owned(), |date| date.to_string())
}

/// The end of a day that is written as `YYYY-MM-DD`, in UTC.
pub(crate) fn parse_day(text: &str) -> Result<SystemTime, String> {
    let wrong = || "a day is written YYYY-MM-DD, like 2026-05-31".to_owned();
    let numbers: Vec<&str> = text.split('-').collect();
    let [year, month, day] = numbers.as_slice() else {
        return Err(wrong());
    };
    let shape = [(year, 4), (month, 2), (day, 2)];
    if shape.iter().any(|(text, len)| text.len() != *len || !text.bytes().all(|b| b.is_ascii_digit())) {
        return Err(wrong());
    }
    let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    let small = |text: &str| number(text).and_then(|n| u8::try_from(n).map_err(|_| wrong()));
    let date = DateTime::new(number(year)?, small(month)?, small(day)?, 23, 59, 59);
    date.map(|date| date.to_system_time()).map_err(|_| "there is no such day".to_owned())
}

/// A period in days or weeks: `30d`, `4w`.
pub(crate) fn parse_period(text: &str) -> Result<Duration, String> {
    let wrong = || "it is a number of days or weeks, like 30d or 4w".to_owned();
    let (digits, days) = match (text.strip_suffix('d'), text.strip_suffix('w')) {
        (Some(digits), _) => (digits, 1),
        (_, Some(digits)) => (digits, 7),
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let days =
        number.checked_mul(days).filter(|days| *days <= 36_500).ok_or("that is longer than a century")?;
    Ok(Duration::from_hours(24 * days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_periods_are_what_they_say() {
        assert_eq!(moment(parse_day("2026-02-28").unwrap()), "2026-02-28T23:59:59Z");
        assert_eq!(day(parse_day("2028-02-29").unwrap()), "2028-02-29");
        for text in
            ["2026-02-29", "2026-13-01", "26-01-01", "2026-1-1", "yesterday", "2026-01-01T00:00:00Z", ""]
        {
            assert!(parse_day(text).is_err(), "{text}");
        }
        assert_eq!(parse_period("30d"), Ok(Duration::from_hours(720)));
        assert_eq!(parse_period("2w"), parse_period("14d"));
        for text in ["30", "d", "-1d", "1.5d", "99999999999999999999d", "18446744073709551615w", "30 d"] {
            assert!(parse_period(text).is_err(), "{text}");
        }
    }
}
