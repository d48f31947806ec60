//! Dates: those on the command line, and those of messages (RFC 5322 3.3).

use std::time::{Duration, SystemTime};

use mbox::{civil_from_days, days_from_civil};
use smime::mime::Message;

/// Reads a date of the command line: `2024-05-31`, or `2024-05-31T12:00:00Z`.
pub fn parse(text: &str) -> Result<SystemTime, String> {
    read(text).ok_or_else(|| {
        format!("{text:?} is no date such as 2024-05-31 or 2024-05-31T12:00:00Z, from 1970 to 9999")
    })
}

fn read(text: &str) -> Option<SystemTime> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let in_month = match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let is_date = year >= 1970 && (1..=12).contains(&month) && (1..=in_month).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = u64::try_from(days_from_civil(i64::from(year), month, day)).ok()?;
    let seconds = days * 86_400 + u64::from(hour * 3_600 + minute * 60 + second);
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn numbers(text: &str, separator: char, lengths: [usize; 3]) -> Option<[u32; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, length) in numbers.iter_mut().zip(lengths) {
        let part = parts.next().filter(|part| part.len() == length)?;
        *number = part.bytes().all(|octet| octet.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

/// The year of a time.
pub fn year(at: SystemTime) -> u64 {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, ..) = civil_from_days(seconds / 86_400);
    year
}

/// When a message says that it was written; where it does not say so, when the last host says that it came by.
pub fn of_message(message: &Message) -> Option<SystemTime> {
    let entity = message.entity();
    let header = entity.header();
    let date = header.all("Date").next().map(|field| field.unfolded());
    let received = || {
        let field = header.all("Received").next()?.unfolded();
        field.rsplit_once(';').map(|(_, date)| date.to_owned())
    };
    of_header(&date.or_else(received)?)
}

/// A date as it stands in a header. What has more digits in a row than a year is none: the parser would count the years
/// up to it one by one.
pub(crate) fn of_header(text: &str) -> Option<SystemTime> {
    let text = text.split('(').next().unwrap_or_default().trim();
    let is_number = |run: &str| run.len() <= 4;
    if text.len() > 100 || !text.split(|character: char| !character.is_ascii_digit()).all(is_number) {
        return None;
    }
    let seconds = mailparse::dateparse(text).ok()?;
    // What cannot be read comes back as the beginning of 1970.
    let seconds = u64::try_from(seconds).ok().filter(|seconds| (1..LAST).contains(seconds))?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The year 10000.
const LAST: u64 = 253_402_300_800;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn dates_of_the_command_line_are_read_exactly() {
        for (text, seconds) in [
            ("1970-01-01", Some(0)),
            ("2000-02-29", Some(951_782_400)),
            ("2024-05-31T12:34:56Z", Some(1_717_158_896)),
            ("2024-12-31", Some(1_735_603_200)),
            ("9999-12-31", Some(253_402_214_400)),
            ("2023-02-29", None),
            ("2100-02-29", None),
            ("1969-12-31", None),
            ("2024-5-31", None),
            ("2024-05-31T24:00:00Z", None),
            ("2024-05-31T12:00:00", None),
            ("2024-05-+1", None),
            ("now", None),
        ] {
            let expected = seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_year_ends_with_its_last_second() {
        for (text, expected) in [
            ("1970-01-01", 1970),
            ("2023-12-31T23:59:59Z", 2023),
            ("2024-01-01", 2024),
            ("2024-12-31T23:59:59Z", 2024),
            ("9999-12-31", 9999),
        ] {
            assert_eq!(year(parse(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_message_without_a_date_has_that_of_its_last_hop() {
        for (header, expected) in [
            ("Date: Fri, 31 May 2024 12:34:56 +0000", Some("2024-05-31T12:34:56Z")),
            ("Date: 31 May 2024 14:34:56 +0200", Some("2024-05-31T12:34:56Z")),
            ("Received: from a by b;\n\tFri, 31 May 2024 12:34:56 +0000", Some("2024-05-31T12:34:56Z")),
            ("Date: 31 May 2024 12:34:56 +0000 (number 123456 of the day)", Some("2024-05-31T12:34:56Z")),
            ("Date: soon", None),
            ("Subject: x", None),
        ] {
            let message = Message::from_stored(format!("{header}\n\nbody\n").as_bytes());
            assert_eq!(of_message(&message), expected.map(|text| parse(text).unwrap()), "{header}");
        }
    }

    #[test]
    fn a_year_far_away_is_no_date_and_takes_no_time() {
        let began = Instant::now();
        for number in 0..300 {
            let date = format!("Fri, 31 May 4294967{:03} 12:34:56 +0000", number % 296);
            assert_eq!(of_header(&date), None, "{date}");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
