//! The form a message has in an archive of another kind: what an mbox puts around it is taken off or put on, and
//! what only a file has, its time and flags, is found another place.

use std::{borrow::Cow, path::Path, time::SystemTime};

use crate::{
    attributes::Attributes,
    flags::Flags,
    instant,
    mbox::{Quoting, Variant, arrival, begins_header, converted, from_line, sender},
    render::{LineEnd, split},
    stored::{Frame, Origin},
};

/// What messages must look like for an output of another kind than the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Messages of an mbox.
    Mbox(Variant),
    /// Each message a file of its own.
    File,
}

/// A message in another form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formed {
    /// All its octets, with what the archive puts around it.
    pub octets: Vec<u8>,
    /// What that is.
    pub frame: Frame,
    /// What only the other kind of archive has room for.
    pub kept: Kept,
}

/// What one kind of archive says of a message and the other has no place for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The From_ line and the empty line after the message, octet by octet.
    pub frame: Vec<u8>,
    /// When it arrived, if that is known.
    pub arrival: Option<SystemTime>,
    /// Whether it was read, answered and so on.
    pub flags: Flags,
}

/// Gives a message, with what the archive has put around it, the form that is asked for.
pub fn form(
    form: Form,
    octets: &[u8],
    frame: Frame,
    origin: &Origin,
    attributes: Option<&Attributes>,
) -> Formed {
    let (before, content, after) = parts(octets, frame);
    match (form, frame) {
        (Form::File, Frame::File) => {
            Formed { octets: octets.to_vec(), frame, kept: kept(before, content, after, attributes) }
        }
        (Form::File, Frame::Mbox { quoting, .. }) => Formed {
            octets: converted(content, quoting, None, false).into_owned(),
            frame: Frame::File,
            kept: kept(before, content, after, attributes),
        },
        (Form::Mbox(variant), Frame::Mbox { quoting, followed, .. }) => {
            let mut content = converted(content, quoting, variant.quoting(), variant.has_lengths());
            // Right behind a From_ line this is a field with a mark alone.
            if content.starts_with(b"From ") {
                content.to_mut().insert(0, b'>');
            }
            let line_end = LineEnd::of(&content).octets();
            lead(&mut content, line_end);
            framed(before, &content, after, followed, variant.quoting())
        }
        (Form::Mbox(variant), Frame::File) => {
            let line_end = LineEnd::of(content).octets();
            let content = with_flags(content, origin);
            let mut content = converted(&content, None, variant.quoting(), variant.has_lengths());
            let (before, after) = around(split(&content).0, line_end, attributes);
            lead(&mut content, line_end);
            if !content.ends_with(b"\n") && !after.is_empty() {
                content.to_mut().extend_from_slice(line_end);
            }
            framed(&before, &content, &after, true, variant.quoting())
        }
    }
}

/// What is around a message, and the message.
pub(crate) fn parts(octets: &[u8], frame: Frame) -> (&[u8], &[u8], &[u8]) {
    let Frame::Mbox { from_line, separator, .. } = frame else { return (b"", octets, b"") };
    let (before, rest) = octets.split_at(from_line.min(octets.len()));
    let (content, after) = rest.split_at(rest.len().saturating_sub(separator));
    (before, content, after)
}

fn framed(before: &[u8], content: &[u8], after: &[u8], followed: bool, quoting: Option<Quoting>) -> Formed {
    let (from_line, separator) = (before.len(), after.len());
    let frame = Frame::Mbox { from_line, separator, followed, quoting };
    Formed { octets: [before, content, after].concat(), frame, kept: Kept::default() }
}

/// What an mbox says of a message besides its octets.
pub(crate) fn kept(before: &[u8], content: &[u8], after: &[u8], attributes: Option<&Attributes>) -> Kept {
    let (header, _) = split(content);
    let arrival =
        arrival(before).or_else(|| attributes.and_then(Attributes::modified)).or_else(|| date(header));
    Kept { frame: [before, after].concat(), arrival, flags: Flags::of_header(header) }
}

/// The From_ line and the empty line of a message that comes from a file: those it had in an mbox, or new ones.
pub(crate) fn around(header: &[u8], line_end: &[u8], attributes: Option<&Attributes>) -> (Vec<u8>, Vec<u8>) {
    let known = attributes.and_then(|attributes| attributes.extended(FROM_LINE));
    if let Some(kept) = known.filter(|kept| kept.starts_with(b"From ") && kept.contains(&b'\n')) {
        let end = memchr::memchr(b'\n', kept).map_or(kept.len(), |at| at + 1);
        let (from_line, separator) = kept.split_at(end);
        if matches!(separator, b"" | b"\n" | b"\r\n") {
            return (from_line.to_vec(), separator.to_vec());
        }
    }
    let arrival = attributes.and_then(Attributes::modified).or_else(|| date(header));
    let mut line = from_line(sender(header), arrival.unwrap_or(SystemTime::UNIX_EPOCH)).into_bytes();
    line.extend_from_slice(line_end);
    (line, line_end.to_vec())
}

/// Puts a field before a header whose first line is none. Behind a From_ line there is a field, or nobody can tell that line from
/// the text of the message before it.
pub(crate) fn lead(content: &mut Cow<'_, [u8]>, line_end: &[u8]) {
    let first = content.split(|&octet| octet == b'\n').next().unwrap_or_default();
    if !begins_header(first) {
        content.to_mut().splice(..0, NO_FIELD.iter().chain(line_end).copied());
    }
}

/// That field.
pub(crate) const NO_FIELD: &[u8] = b"X-Hsmime-Header: the first line of this message was no header field";

/// A message of a Maildir with its flags in its header, where an mbox has them.
pub(crate) fn with_flags<'a>(content: &'a [u8], origin: &Origin) -> Cow<'a, [u8]> {
    let Some(flags) = flags(&origin.file) else { return content.into() };
    let (header, body) = split(content);
    let end = header.strip_suffix(b"\r\n").or_else(|| header.strip_suffix(b"\n")).unwrap_or(header);
    // Without an empty line after it there is no place for a field.
    let (fields, empty) = header.split_at(end.len());
    if empty.is_empty() || !(fields.is_empty() || fields.ends_with(b"\n")) {
        return content.into();
    }
    let line_end = std::str::from_utf8(empty).unwrap_or("\n");
    match flags.in_header(fields, line_end) {
        Some(fields) => [&fields[..], empty, body].concat().into(),
        None => content.into(),
    }
}

/// The flags that the name of a Maildir's file tells.
fn flags(file: &Path) -> Option<Flags> {
    let part = file.parent()?.file_name()?;
    let is_new = part == "new";
    (is_new || part == "cur").then(|| Flags::of_name(file.file_name().unwrap_or_default(), is_new))
}

/// The `Date` of a message, for want of anything better.
fn date(header: &[u8]) -> Option<SystemTime> {
    const NAME: &[u8] = b"Date:";
    let mut lines = header.split(|&octet| octet == b'\n');
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    })?;
    instant::of_header(std::str::from_utf8(value).ok()?)
}

/// The extended attribute in which a message from an mbox keeps its From_ line and the line after it.
pub const FROM_LINE: &str = "user.hsmime.from_";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn origin(file: &str) -> Origin {
        Origin { file: Path::new(file).into(), offset: None }
    }

    #[test]
    fn a_file_becomes_a_message_of_an_mbox_with_its_flags() {
        for (file, content, expected) in [
            (
                "a/cur/1.h:2,S",
                "Return-Path: <a@b>\nA: 1\n\nFrom x\n",
                "From a@b Thu Jan  1 00:00:00 1970\nReturn-Path: <a@b>\nA: 1\nStatus: RO\n\n>From x\n\n",
            ),
            (
                "a/new/1.h",
                "A: 1\r\n\r\nx",
                "From MAILER-DAEMON Thu Jan  1 00:00:00 1970\r\nA: 1\r\n\r\nx\r\n\r\n",
            ),
            (
                "a/b.eml",
                "Date: Fri, 16 Sep 2016 22:26:51 +0000\n\n",
                "From MAILER-DAEMON Fri Sep 16 22:26:51 2016\nDate: Fri, 16 Sep 2016 22:26:51 +0000\n\n\n",
            ),
            (
                "a/cur/1.h:2,S",
                "no header",
                "From MAILER-DAEMON Thu Jan  1 00:00:00 1970\nX-Hsmime-Header: the first line of this message was no header \
                 field\nno header\n\n",
            ),
        ] {
            let formed =
                form(Form::Mbox(Variant::Mboxrd), content.as_bytes(), Frame::File, &origin(file), None);
            assert_eq!(String::from_utf8_lossy(&formed.octets), expected);
        }
    }

    #[test]
    fn a_message_of_an_mbox_becomes_a_file_and_what_was_around_it_is_kept() {
        let octets = b"From a@b Fri Sep 16 22:26:51 2016\r\nStatus: RO\r\n\r\n>From x\r\n\r\n";
        let quoting = Some(Quoting::Mboxrd);
        let frame = Frame::Mbox { from_line: 35, separator: 2, followed: true, quoting };
        let formed = form(Form::File, octets, frame, &origin("in"), None);
        assert_eq!(formed.octets, b"Status: RO\r\n\r\nFrom x\r\n");
        assert_eq!(formed.kept.frame, b"From a@b Fri Sep 16 22:26:51 2016\r\n\r\n");
        assert_eq!(formed.kept.arrival, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_474_064_811)));
        assert_eq!(formed.kept.flags.info(), ":2,S");
    }
}
