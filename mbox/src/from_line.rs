//! Whether a line that starts with `From ` begins a message: its shape, and that of the next line.
//!
//! Writers put an address and a date of `asctime` there (RFC 4155). Others leave the date out
//! (Thunderbird, Google Takeout), put the zone before the year, or append `remote from`.

/// What a line that starts with `From ` looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It has a month, a time and a year: the From_ line of nearly all writers.
    Dated,
    /// Nothing but `From `, `From -` or `From address@domain`.
    Undated,
    /// It has a time, but is no From_ line anybody is known to write.
    Odd,
    /// Words.
    Text,
}

/// The shape of a line that starts with `From `; a line that does not is [`Shape::Text`].
pub fn shape(line: &[u8]) -> Shape {
    let Some(rest) = line.strip_prefix(b"From ") else { return Shape::Text };
    let mut words = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).peekable();
    let Some(first) = words.next() else { return Shape::Undated };
    if words.peek().is_none() {
        return if first == b"-" || first.contains(&b'@') { Shape::Undated } else { Shape::Text };
    }
    let (mut month, mut time, mut year) = (false, false, false);
    for word in words {
        month |= !time && is_month(word);
        year |= time && is_year(word);
        time |= is_time(word);
    }
    match (month, time, year) {
        (true, true, true) => Shape::Dated,
        (_, true, _) => Shape::Odd,
        _ => Shape::Text,
    }
}

/// Whether a line may be the first of a header: `name:`, or a `>From ` left there by a relay, quoted as often as an mbox has it.
pub fn begins_header(line: &[u8]) -> bool {
    let marks = line.iter().take_while(|octet| **octet == b'>').count();
    if marks > 0 && line.get(marks..).is_some_and(|words| words.starts_with(b"From ")) {
        return true;
    }
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let name = line.get(..colon).unwrap_or_default().trim_ascii_end();
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

fn is_month(word: &[u8]) -> bool {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    MONTHS.iter().any(|month| word.eq_ignore_ascii_case(month))
}

/// `h:mm`, `hh:mm` or `hh:mm:ss`.
fn is_time(word: &[u8]) -> bool {
    let mut parts = word.split(|&octet| octet == b':');
    let hour = parts.next().is_some_and(|part| digits(part, 1..=2));
    let minute = parts.next().is_some_and(|part| digits(part, 2..=2));
    hour && minute && parts.next().is_none_or(|part| digits(part, 2..=2)) && parts.next().is_none()
}

/// Two or four digits; a zone has a sign or letters.
fn is_year(word: &[u8]) -> bool {
    digits(word, 2..=2) || digits(word, 4..=4)
}

fn digits(word: &[u8], count: std::ops::RangeInclusive<usize>) -> bool {
    count.contains(&word.len()) && word.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_from_line_is_told_from_words() {
        for (line, expected) in [
            ("From alice@example.org Fri Sep 16 22:26:51 2016", Shape::Dated),
            ("From alice@example.org Fri Sep 16 22:26 2016\r\n", Shape::Dated),
            ("From 1545668983435175434@xxx Fri Sep 16 22:26:51 +0000 2016", Shape::Dated),
            ("From alice Fri Sep  6 22:26:51 MEST 1996 remote from uunet", Shape::Dated),
            ("From a name with blanks Fri Sep 16 2:26:51 96", Shape::Dated),
            ("From \"quoted \u{e4}\" Fri Sep 16 22:26:51 2016 +0200", Shape::Dated),
            ("From - Mon Jun  3 12:50:27 1996", Shape::Dated),
            ("From - \n", Shape::Undated),
            ("From \r\n", Shape::Undated),
            ("From 1844347792267117879@xxx", Shape::Undated),
            ("From alice@example.org 2016-09-16 22:26:51", Shape::Odd),
            ("From here it is 12:30 by train", Shape::Odd),
            ("From Russia with love", Shape::Text),
            ("From Russia", Shape::Text),
            ("From the start in Sep 2016", Shape::Text),
            ("From: alice@example.org", Shape::Text),
            (">From alice@example.org Fri Sep 16 22:26:51 2016", Shape::Text),
        ] {
            assert_eq!(shape(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn a_header_begins_with_a_field_name() {
        for (line, expected) in [
            ("Return-Path: <a@example.org>", true),
            ("Subject : obsolete syntax", true),
            (">From alice Fri Sep 16 22:26:51 2016", true),
            (">>>From alice Fri Sep 16 22:26:51 2016", true),
            ("From alice Fri Sep 16 22:26:51 2016", false),
            (">> From alice", false),
            ("What does Thunderbird do?", false),
            ("two words: no field", false),
            (": no name", false),
            ("", false),
        ] {
            assert_eq!(begins_header(line.as_bytes()), expected, "{line:?}");
        }
    }
}
