//! Tags in the subject that say what a message's signature is worth, for people who see nothing else of it.
//!
//! Anybody can write such a tag, so what looks like one is removed first: decoded (RFC 2047), without regard to case, to
//! white space, to characters that do not show, and to full-width forms. What only looks alike stays (letters of other
//! scripts, mathematical letters, other brackets, UTF-7): no list of such is ever whole, and a tag is no proof.

use smime::{message::AuthResult, mime::MimeEntity};

use super::rewrite::folded;
use crate::{Edits, FieldRef, Opening, words::decode};

const NAME: &str = "Subject";
/// What all our tags begin with, behind the bracket.
const PREFIX: &str = "s/mime";

/// What the tag says of a message, if anything.
pub(super) fn words(opening: &Opening, result: AuthResult) -> Option<&'static str> {
    let is_opened = matches!(opening, Opening::Opened { .. });
    match (is_opened, result) {
        (_, AuthResult::None) if is_opened => Some("encrypted"),
        (_, AuthResult::None) => None,
        (false, AuthResult::Pass) => Some("signed"),
        (true, AuthResult::Pass) => Some("signed, encrypted"),
        (_, AuthResult::TempError) => Some("signature not checked"),
        (_, AuthResult::Fail) => Some("signature wrong"),
        _ => Some("signature not trusted"),
    }
}

/// Removes what looks like a tag of ours from each subject, and puts one before the first. `promoted` is the subject that the
/// edits put in the outer one's place already.
pub(super) fn retag(
    edits: &mut Edits,
    outer: &MimeEntity<'_>,
    promoted: Option<String>,
    words: Option<&'static str>,
) {
    let header = outer.header();
    let subjects: Vec<Vec<u8>> = match promoted {
        Some(promoted) => vec![promoted.into_bytes()],
        None => header.all(NAME).map(|field| unfolded(field.value())).collect(),
    };
    let is_promoted = edits.append.iter().any(|(name, _)| name == NAME);
    let mut changed: Vec<(usize, String)> = Vec::new();
    for (at, subject) in subjects.iter().enumerate() {
        let tag = words.filter(|_| at == 0);
        changed.extend(retagged(subject, tag).map(|value| (at, value)));
    }
    if subjects.is_empty() {
        edits.append.extend(words.map(|words| (NAME.to_owned(), format!("[S/MIME: {words}]"))));
    }
    if is_promoted && !changed.is_empty() {
        edits.append.retain(|(name, _)| name != NAME);
    }
    for (at, value) in changed {
        if !is_promoted && let Ok(at) = u32::try_from(at) {
            edits.remove.push(FieldRef { name: NAME.to_owned(), index: at + 1 });
        }
        edits.append.push((NAME.to_owned(), value));
    }
}

/// A value on one line, octet by octet.
fn unfolded(value: &[u8]) -> Vec<u8> {
    let octets = value.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n'));
    octets.collect::<Vec<_>>().trim_ascii().to_vec()
}

/// A subject without tags but this one, where it is not so already.
fn retagged(subject: &[u8], words: Option<&str>) -> Option<String> {
    let decoded = decode(subject);
    let clean = without_tags(&decoded);
    let rest = match (clean, std::str::from_utf8(subject)) {
        (Some(clean), _) => encode(&clean),
        // Octets that no one knows the characters of, or that no field may hold.
        (None, Ok(text)) if !text.contains(|c: char| c.is_control() && c != '\t') => {
            words?;
            text.trim().chars().take(MAX_CHARACTERS).collect()
        }
        (None, _) => {
            words?;
            encode(&decoded)
        }
    };
    Some(match words {
        Some(words) => format!("[S/MIME: {words}]\r\n {}", relined(&rest)).trim_end().to_owned(),
        None => relined(&rest),
    })
}

/// Folded again, since it was unfolded.
fn relined(text: &str) -> String {
    folded(&text.replace("\r\n", "").replace('\t', " "))
}

/// A text without anything that looks like a tag of ours, or nothing where it has none.
fn without_tags(text: &str) -> Option<String> {
    let mut text: Vec<char> = text.chars().collect();
    let mut found = false;
    // What is left may come together to another one.
    for _ in 0..MAX_TAGS {
        let Some((begin, end)) = find_tag(&text) else {
            return found.then(|| text.into_iter().collect::<String>().trim().to_owned());
        };
        text.drain(begin..end);
        found = true;
    }
    // Nobody's honest subject.
    text.retain(|c| plain(*c) != Some('['));
    found.then(|| text.into_iter().collect::<String>().trim().to_owned())
}

/// The first tag: from its bracket to the closing one, or, without that, to the end of the prefix.
fn find_tag(text: &[char]) -> Option<(usize, usize)> {
    for (begin, _) in text.iter().enumerate().filter(|(_, c)| plain(**c) == Some('[')) {
        let mut wanted = PREFIX.chars().peekable();
        let mut at = begin + 1;
        while let (Some(c), Some(want)) = (text.get(at), wanted.peek()) {
            match plain(*c) {
                None => {}
                Some(c) if c == *want => {
                    wanted.next();
                }
                Some(_) => break,
            }
            at += 1;
        }
        if wanted.peek().is_some() {
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        let close = rest.iter().take(MAX_TAG).position(|c| plain(*c) == Some(']'));
        return Some((begin, close.map_or(at, |close| at + close + 1)));
    }
    None
}

/// A character as a reader takes it; nothing for one that does not show.
fn plain(c: char) -> Option<char> {
    let c = match u32::from(c) {
        // Full-width forms of US-ASCII.
        code @ 0xff01..=0xff5e => char::from_u32(code - 0xfee0).unwrap_or(c),
        // Division, fraction and other slashes.
        0x2044 | 0x2215 | 0x29f8 => '/',
        0x00ad
        | 0x034f
        | 0x061c
        | 0x115f
        | 0x1160
        | 0x180b..=0x180e
        | 0x200b..=0x200f
        | 0x202a..=0x202e
        | 0x2060..=0x206f
        | 0xfe00..=0xfe0f
        | 0xfeff
        | 0xe0000..=0xe0fff => return None,
        _ => c,
    };
    (!c.is_whitespace() && !c.is_control()).then(|| c.to_ascii_lowercase())
}

/// In characters.
const MAX_TAG: usize = 200;
const MAX_TAGS: usize = 50;

/// A text as a field can hold it: as it is where it is US-ASCII, else in encoded words.
fn encode(text: &str) -> String {
    let text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CHARACTERS).collect();
    if text.is_ascii() && !text.contains("=?") {
        return text;
    }
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        if word.len() + c.len_utf8() > 42 {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let encoded =
        words.iter().map(|word| format!("=?utf-8?B?{}?=", data_encoding::BASE64.encode(word.as_bytes())));
    encoded.collect::<Vec<_>>().join(" ")
}

/// What is longer is no subject; and a field that grows beyond what an MTA writes would fail where a tag is put before it.
const MAX_CHARACTERS: usize = 4000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_looks_like_a_tag_is_removed_and_nothing_else() {
        for (subject, expected) in [
            ("Hello", None),
            ("[list] Hello [1]", None),
            ("S/MIME is a standard", None),
            ("[S/MIM] x", None),
            ("[S/MIME: signed] Hello", Some("Hello")),
            ("Hello [s/mime pass]", Some("Hello")),
            ("[S/MIME: signed", Some(": signed")),
            ("[S/M[S/MIME]IME: signed] x", Some("x")),
            ("[ S / M I M E : signed ] x", Some("x")),
            ("[S/\u{200b}MIME: signed] x", Some("x")),
            ("\u{ff3b}\u{ff33}/MIME: signed\u{ff3d} x", Some("x")),
            ("=?utf-8?B?W1MvTUlNRTogc2lnbmVkXSB4?=", Some("x")),
            ("=?utf-8?q?=5BS/MI?=  =?us-ascii?Q?ME=3A_signed]_x?=", Some("x")),
            ("=?iso-8859-15?Q?[S/MIME:_signed]_=FC?=", Some("=?utf-8?B?w7w=?=")),
            ("=?utf-16be?B?AFsAUwAvAE0ASQBNAEUAXQ==?= x", Some("x")),
            ("x=?utf-8?Q?[S/MIME]?=y", Some("xy")),
            ("=?x?Q?[S/MIME: signed]", Some("=?utf-8?B?PT94P1E/?=")),
        ] {
            assert_eq!(retagged(subject.as_bytes(), None).as_deref(), expected, "{subject}");
        }
    }

    #[test]
    fn a_tag_is_put_before_what_was_there() {
        for (subject, expected) in [
            (&b"Hello"[..], "[S/MIME: signed]\r\n Hello"),
            (b"", "[S/MIME: signed]"),
            (b"[S/MIME: signed, encrypted] Hello", "[S/MIME: signed]\r\n Hello"),
            (b"=?utf-8?Q?=C3=BC?= x", "[S/MIME: signed]\r\n =?utf-8?Q?=C3=BC?= x"),
            (b"gr\xfc\xdfe", "[S/MIME: signed]\r\n =?utf-8?B?Z3LDvMOfZQ==?="),
        ] {
            assert_eq!(retagged(subject, Some("signed")).as_deref(), Some(expected));
        }
    }

    #[test]
    fn hostile_subjects_end_soon_and_can_be_written() {
        for subject in [
            "[".repeat(50_000),
            "[S/MIME".repeat(2_000),
            "=?utf-8?B?".repeat(5_000),
            "[S/".repeat(9_000),
            "x".repeat(60_000),
            format!("{} ", "x".repeat(60)).repeat(980),
            "\u{10ffff}".repeat(15_000),
        ] {
            let value = retagged(subject.as_bytes(), Some("signed")).unwrap();
            assert!(value.len() < 30_000, "{} octets", value.len());
            assert!(!value.contains(|c: char| c.is_control() && c != '\r' && c != '\n'), "{value}");
        }
    }

    #[test]
    fn every_subject_is_cleaned_and_the_first_one_tagged() {
        let entity = b"Subject: one\r\nX: y\r\nsubject: [S/MIME: signed]\r\n two\r\nSubject: three\r\n\r\n";
        let mut edits = Edits::default();
        retag(&mut edits, &MimeEntity::parse(entity), None, Some("signature wrong"));
        let removed: Vec<u32> = edits.remove.iter().map(|field| field.index).collect();
        assert_eq!(removed, [1, 2]);
        let values: Vec<&str> = edits.append.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["[S/MIME: signature wrong]\r\n one", "two"]);
    }
}
