//! What a From_ line says: who sent the message, and when it arrived. Read from one, and written where there is none.
//!
//! RFC 4155, appendix A: `From sender Www Mmm dd hh:mm:ss yyyy`, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When a message arrived, as its From_ line says it. Without a zone that is UTC, as RFC 4155 has it.
pub fn arrival(from_line: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(from_line.strip_prefix(b"From ")?.trim_ascii()).ok();
    // The sender may be anything, the date is ASCII.
    let lossy = text.map_or_else(|| String::from_utf8_lossy(from_line).into_owned(), str::to_owned);
    let words: Vec<&str> = lossy.split_ascii_whitespace().collect();
    let at = words.iter().rposition(|word| clock(word).is_some())?;
    let (hour, minute, second) = clock(words.get(at)?)?;
    let day: u32 = words.get(at.checked_sub(1)?)?.parse().ok()?;
    let month = month(words.get(at.checked_sub(2)?)?)?;
    let mut year = None;
    let mut zone = 0;
    for word in words.iter().skip(at + 1).take(3) {
        if let Some(offset) = numeric_zone(word) {
            zone = offset;
        } else if year.is_none() && word.bytes().all(|octet| octet.is_ascii_digit()) {
            year = Some(full_year(word.parse().ok()?));
        }
    }
    if !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_from_civil(year?, month, day);
    let seconds = days * 86_400 + i64::from(hour * 3600 + minute * 60 + second) - i64::from(zone);
    let since = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) }
}

/// A From_ line without its line end.
pub fn from_line(sender: &str, at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let week = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let weekday = week.get(usize::try_from(days % 7).unwrap_or(0)).unwrap_or(&"Thu");
    let month = MONTHS.get(month).unwrap_or(&"Jan");
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("From {sender} {weekday} {month} {day:>2} {hour:02}:{minute:02}:{second:02} {year}")
}

/// The sender for a From_ line: who the `Return-Path` names; else nobody is known.
pub fn sender(header: &[u8]) -> &str {
    const NAME: &[u8] = b"Return-Path:";
    let mut lines = header.split(|&octet| octet == b'\n');
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    });
    let text = value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default().trim();
    let address = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
    let usable =
        !address.is_empty() && address.len() < 320 && address.bytes().all(|octet| octet.is_ascii_graphic());
    if usable { address } else { "MAILER-DAEMON" }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn month(word: &str) -> Option<u32> {
    let at = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(word))?;
    u32::try_from(at + 1).ok()
}

fn clock(word: &str) -> Option<(u32, u32, u32)> {
    let mut parts = word.split(':');
    let mut next = || -> Option<u32> {
        let part = parts.next()?;
        (part.len() <= 2 && part.bytes().all(|octet| octet.is_ascii_digit())).then(|| part.parse().ok())?
    };
    Some((next()?, next()?, next().unwrap_or(0)))
}

/// `+hhmm`, in seconds east of UTC. Names of zones mean different things to different people.
fn numeric_zone(word: &str) -> Option<i32> {
    let sign = match word.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let number: i32 = word.get(1..).filter(|digits| digits.len() == 4)?.parse().ok()?;
    Some(sign * (number / 100 * 3600 + number % 100 * 60))
}

fn full_year(year: i64) -> i64 {
    match year {
        0..70 => year + 2000,
        70..100 => year + 1900,
        _ => year,
    }
}

/// Days since 1970-01-01, for any date of the Gregorian calendar; months are counted from 1.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = i64::from((153 * ((month + 9) % 12) + 2) / 5 + day - 1);
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month counted from 0, and day, so many days after 1970-01-01.
pub fn civil_from_days(days: u64) -> (u64, usize, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = (shifted + 2) % 12;
    (year_of_era + era * 400 + u64::from(month < 2), usize::try_from(month).unwrap_or(0), day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrival_is_read_in_all_spellings() {
        let expected = 1_474_064_811;
        for (line, seconds) in [
            ("From alice@example.org Fri Sep 16 22:26:51 2016", Some(expected)),
            ("From alice@example.org Fri Sep 16 22:26 2016\r\n", Some(expected - 51)),
            ("From 15@xxx Fri Sep 16 22:26:51 +0000 2016", Some(expected)),
            ("From a Fri Sep 16 22:26:51 2016 +0200 remote from b", Some(expected - 7200)),
            ("From a Fri Sep 16 22:26:51 CEST 2016", Some(expected)),
            ("From a 12:00 b Fri Sep 16 22:26:51 16", Some(expected)),
            ("From - Thu Feb 29 00:00:00 1968", Some(-58_060_800)),
            ("From a Sun Feb 30 99:00:00 2016", None),
            ("From - \n", None),
            ("From 15@xxx", None),
        ] {
            let found = arrival(line.as_bytes()).map(|at| match at.duration_since(UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_secs()).unwrap(),
                Err(error) => -i64::try_from(error.duration().as_secs()).unwrap(),
            });
            assert_eq!(found, seconds, "{line}");
        }
    }

    #[test]
    fn a_from_line_tells_the_time_it_was_made_of() {
        for seconds in (0..4_000_000_000_u64).step_by(86_399 * 7) {
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(arrival(from_line("a@b", at).as_bytes()), Some(at));
        }
        let line = from_line("a@b", UNIX_EPOCH + Duration::from_secs(1_472_984_811));
        assert_eq!(line, "From a@b Sun Sep  4 10:26:51 2016");
    }

    #[test]
    fn the_sender_is_who_the_return_path_names() {
        for (header, expected) in [
            ("Subject: x\nreturn-path: <a@b.example>\r\n", "a@b.example"),
            ("Return-Path: a@b\n", "a@b"),
            ("Return-Path: <>\n", "MAILER-DAEMON"),
            ("Return-Path: <two words@b>\n", "MAILER-DAEMON"),
            ("Subject: x\n", "MAILER-DAEMON"),
        ] {
            assert_eq!(sender(header.as_bytes()), expected, "{header:?}");
        }
    }
}
