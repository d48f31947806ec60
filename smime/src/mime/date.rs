//! When a message says it was written (RFC 5322 3.6.1).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::MimeEntity;

/// The time in the one Date field of a message. `None` where there is none, or more than one, or it is no time.
pub fn date(message: &MimeEntity<'_>) -> Option<SystemTime> {
    let header = message.header();
    let mut fields = header.all("Date");
    let field = fields.next().filter(|_| fields.next().is_none())?;
    let seconds = mailparse::dateparse(&field.unfolded()).ok()?;
    // What is no date at all comes out as 1970.
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_date_of_a_message_is_read_and_no_other() {
        let read = |header: &str| date(&MimeEntity::parse(format!("{header}\r\n").as_bytes()));
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        for (header, expected) in [
            ("Date: Sat, 20 Feb 2021 10:07:02 -0500\r\n", at(1_613_833_622)),
            ("date:20 Feb 2021\r\n 15:07:02 GMT\r\n", at(1_613_833_622)),
            ("Date: Thu, 1 Jan 1970 00:00:01 +0000\r\n", at(1)),
            ("Date: Wed, 31 Dec 1969 23:59:59 +0000\r\n", None),
            ("Date: soon\r\n", None),
            ("Date:\r\n", None),
            ("Subject: x\r\n", None),
            ("Date: 20 Feb 2021 15:07:02 GMT\r\nDate: 20 Feb 2021 15:07:02 GMT\r\n", None),
        ] {
            assert_eq!(read(header), expected, "{header:?}");
        }
    }
}
