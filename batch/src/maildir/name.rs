//! The name of a message's file: `unique,S=size,W=wire-size:2,flags`.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use crate::names::LONGEST;

/// The unique part, by which a message is known whatever its flags.
pub(crate) fn base(name: &OsStr) -> &OsStr {
    let octets = name.as_bytes();
    OsStr::from_bytes(octets.split(|&octet| octet == b':').next().unwrap_or(octets))
}

/// What comes after the unique part: the flags.
pub(super) fn info(name: &OsStr) -> &OsStr {
    OsStr::from_bytes(name.as_bytes().get(base(name).len()..).unwrap_or_default())
}

/// A unique name with the flags of a file, as far as there is room for them.
pub(super) fn with_info(base: &OsStr, name: &OsStr) -> OsString {
    let info = info(name).as_bytes();
    let room = LONGEST.saturating_sub(base.len()).min(info.len());
    OsString::from_vec([base.as_bytes(), info.get(..room).unwrap_or_default()].concat())
}

/// The name of a message in place of one with other octets. To a server it is another message, because what it has
/// noted about the old one is not true of this; so the unique part is another one too. It tells of which message this
/// is the successor, see `predecessor`. Flags stay; sizes are those of the octets.
pub(crate) fn successor(name: &OsStr, octets: &[u8]) -> OsString {
    marked(name, &plain(name), Sizes::for_name(name, octets))
}

/// The same where another file has its unique name: it also tells of which file by its flags.
pub(crate) fn successor_of_twin(name: &OsStr, octets: &[u8]) -> OsString {
    successor_numbered(name, info_number(name), octets)
}

/// The same with another number, for where a third one has that name.
pub(super) fn successor_numbered(name: &OsStr, number: u32, octets: &[u8]) -> OsString {
    marked(name, &numbered(name, number), Sizes::for_name(name, octets))
}

/// Whether a file may be called `new` when its message, which was in one called `old`, has become octets of these sizes.
pub(crate) fn is_successor(new: &OsStr, old: &OsStr, sizes: Sizes) -> bool {
    let marker = match predecessor(new).and_then(|of| of.info) {
        Some(number) => numbered(old, number),
        None => plain(old),
    };
    base(&marked(old, &marker, sizes)) == base(new)
}

/// The marker of what takes a file's place.
fn plain(name: &OsStr) -> String {
    format!("R{:016x}", hash(base(name).as_bytes()))
}

/// The same with a number.
fn numbered(name: &OsStr, number: u32) -> String {
    format!("T{:016x}{number:08x}", hash(base(name).as_bytes()))
}

/// How large a message is, for its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    stored: u64,
    /// With CRLF line ends.
    wire: u64,
    /// Whether a CR was last.
    ends_in_cr: bool,
}

impl Sizes {
    /// Of these octets.
    pub(crate) fn of(octets: &[u8]) -> Self {
        let mut sizes = Self::default();
        sizes.add(octets);
        sizes
    }

    /// The same, as far as this name tells them.
    fn for_name(name: &OsStr, octets: &[u8]) -> Self {
        if memchr::memmem::find(name.as_bytes(), b"W=").is_some() {
            return Self::of(octets);
        }
        Self { stored: octets.len() as u64, ..Self::default() }
    }

    pub(super) fn stored(self) -> u64 {
        self.stored
    }

    pub(super) fn wire(self) -> u64 {
        self.wire
    }

    /// The same with these behind.
    pub(super) fn add(&mut self, octets: &[u8]) {
        let ends_in_cr = self.ends_in_cr;
        let before = |at: usize| match at.checked_sub(1) {
            Some(before) => octets.get(before) == Some(&b'\r'),
            None => ends_in_cr,
        };
        let bare = memchr::memchr_iter(b'\n', octets).filter(|&at| !before(at)).count();
        self.stored += octets.len() as u64;
        self.wire += (octets.len() + bare) as u64;
        self.ends_in_cr = octets.last().map_or(ends_in_cr, |last| *last == b'\r');
    }
}

/// Measures what is written to it.
impl Write for Sizes {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.add(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn marked(name: &OsStr, marker: &str, measured: Sizes) -> OsString {
    let unique = base(name).as_bytes();
    let comma = memchr::memchr(b',', unique).unwrap_or(unique.len());
    let (unique, sizes) = unique.split_at(comma);
    let mut parts: Vec<&[u8]> = unique.split(|&octet| octet == b'.').collect();
    let id;
    match parts.as_mut_slice() {
        [.., last] if is_marker(last) => *last = marker.as_bytes(),
        // Without a dot in front: nobody reads what begins with one.
        [b""] => parts = vec![marker.as_bytes()],
        // Time, delivery identifier, host: the identifier is made of such markers.
        [_, second, _, ..] => {
            let length = marker_at_end(second).map_or(0, |marker| marker.length);
            id = [second.get(..second.len() - length).unwrap_or(second), marker.as_bytes()].concat();
            *second = &id;
        }
        _ => parts.push(marker.as_bytes()),
    }
    let mut new = with_sizes(&[&parts.join(&b'.'), sizes].concat(), measured);
    if new.len() > LONGEST - FLAGS {
        // Only the time, the marker, which is as unique, and the sizes.
        let length = unique.iter().take(TIME).take_while(|&&octet| octet != b'.').count();
        let is_size = |part: &&[u8]| part.starts_with(b"S=") || part.starts_with(b"W=");
        let mut sizes: Vec<&[u8]> = sizes.split(|&octet| octet == b',').skip(1).filter(is_size).collect();
        sizes.truncate(2);
        let time = unique.get(..length).unwrap_or_default();
        let dot: &[u8] = if time.is_empty() { b"" } else { b"." };
        let unique = [time, dot, marker.as_bytes()].concat();
        sizes.insert(0, &unique);
        new = with_sizes(&sizes.join(&b','), measured);
    }
    with_info(OsStr::from_bytes(&new), name)
}

/// What a name tells of the file that its message was in before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Predecessor {
    /// The [`hash`] of its unique name.
    pub(crate) number: u64,
    /// That of its flags, see [`info_number`], if another one had its unique name.
    pub(crate) info: Option<u32>,
}

/// What a message is the successor of, if it is one.
pub(crate) fn predecessor(name: &OsStr) -> Option<Predecessor> {
    marker(name).map(|marker| marker.of)
}

/// `R` and 16 hexadecimal digits for a unique name, or `T` and 8 more for the flags.
#[derive(Clone, Copy, Debug)]
struct Marker {
    length: usize,
    of: Predecessor,
}

fn marker(name: &OsStr) -> Option<Marker> {
    let unique = base(name).as_bytes().split(|&octet| octet == b',').next().unwrap_or_default();
    let parts: Vec<&[u8]> = unique.split(|&octet| octet == b'.').collect();
    match parts.as_slice() {
        [.., last] if is_marker(last) => marker_at_end(last),
        [_, second, _, ..] => marker_at_end(second),
        _ => None,
    }
}

fn is_marker(part: &[u8]) -> bool {
    marker_at_end(part).is_some_and(|marker| marker.length == part.len())
}

fn marker_at_end(part: &[u8]) -> Option<Marker> {
    let digits_after = |letter: u8, count: usize| {
        let (before, digits) = part.split_at(part.len().checked_sub(count)?);
        let lower = digits.iter().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
        std::str::from_utf8(digits).ok().filter(|_| lower && before.last() == Some(&letter))
    };
    if let Some(digits) = digits_after(b'R', 16) {
        let number = u64::from_str_radix(digits, 16).ok()?;
        return Some(Marker { length: 17, of: Predecessor { number, info: None } });
    }
    let (number, info) = digits_after(b'T', 24)?.split_at_checked(16)?;
    let (number, info) = (u64::from_str_radix(number, 16).ok()?, u32::from_str_radix(info, 16).ok()?);
    Some(Marker { length: 25, of: Predecessor { number, info: Some(info) } })
}

/// A number for the flags in a name.
pub(crate) fn info_number(name: &OsStr) -> u32 {
    u32::try_from(hash(info(name).as_bytes()) >> 32).unwrap_or_default()
}

/// A number for a message in a folder, whatever its flags are.
pub(super) fn number(folder: &Path, name: &OsStr) -> u64 {
    // A root's folder may be written with a slash at its end.
    let folder = folder.components().as_path();
    hash(&[folder.as_os_str().as_bytes(), b"\0", base(name).as_bytes()].concat())
}

/// How many octets of a name are left for flags, of which there are 52,
const FLAGS: usize = 64;
/// and how much of the time stays, which has fewer digits.
const TIME: usize = 20;

/// A number for a unique name.
pub(crate) fn hash(base: &[u8]) -> u64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, base);
    digest.as_ref().iter().take(8).fold(0, |number, &octet| number << 8 | u64::from(octet))
}

/// A unique name with the sizes it tells set right for new octets: Dovecot does not deliver a message that is
/// longer than its name says.
fn with_sizes(base: &[u8], sizes: Sizes) -> Vec<u8> {
    let mut out = Vec::with_capacity(base.len() + 8);
    for (at, part) in base.split(|&octet| octet == b',').enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match part.get(..2) {
            Some(b"S=") if at > 0 => out.extend_from_slice(format!("S={}", sizes.stored).as_bytes()),
            Some(b"W=") if at > 0 => out.extend_from_slice(format!("W={}", sizes.wire).as_bytes()),
            _ => out.extend_from_slice(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a file can be what the message in another one became, by their names.
    fn may_be_successor(name: &OsStr, of: &OsStr) -> bool {
        predecessor(name).is_some_and(|told| {
            told.number == hash(base(of).as_bytes()) && told.info.is_none_or(|info| info == info_number(of))
        })
    }

    #[test]
    fn a_successor_is_another_message_with_the_same_flags_and_knows_its_predecessor() {
        for name in [
            "1204680122.M1P2.host,S=99,W=100:2,RS",
            "1204680122.M1P2.mail.example.org:2,",
            "1204680122.host:2,S",
            "odd",
            ",1.a.h:2,S",
            ":2,S",
            "1.2",
            "1.R.host",
            "1.R0123456789abcdef.host",
            "1.R0123456789abcdef",
        ] {
            let first = successor(OsStr::new(name), b"a\n");
            let second = successor(&first, b"b\n");
            assert_ne!(base(&first), base(OsStr::new(name)));
            assert!(!first.as_bytes().starts_with(b"."), "nobody reads {first:?}");
            assert_ne!(base(&first), base(&second));
            let of = |name| Some(Predecessor { number: hash(base(name).as_bytes()), info: None });
            assert_eq!(predecessor(&first), of(OsStr::new(name)), "{name}");
            assert_eq!(predecessor(&second), of(&first), "{name}");
            // It does not grow with each change.
            assert_eq!(second.len(), first.len(), "{name}");
            let info = |name: &OsStr| name.to_string_lossy().split_once(':').map(|(_, info)| info.to_owned());
            assert_eq!(info(&second), info(OsStr::new(name)));
        }
        assert_eq!(predecessor(OsStr::new("1204680122.M1P2.host,S=99:2,")), None);
    }

    #[test]
    fn a_successor_of_a_twin_is_of_the_file_with_its_flags_only() {
        let [read, replied] = ["1.M1P2.host:2,S", "1.M1P2.host:2,RS"].map(OsStr::new);
        let of_read = successor_of_twin(read, b"a\n");
        let number = |name: &OsStr| predecessor(name).unwrap().number;
        assert_eq!(number(&of_read), number(&successor(read, b"a\n")));
        assert!(may_be_successor(&of_read, read) && !may_be_successor(&of_read, replied));
        assert!(may_be_successor(&successor(read, b"a\n"), replied));
        // And the next one is one like any other.
        assert_eq!(successor(&of_read, b"a\n").len(), successor(read, b"a\n").len());
    }

    #[test]
    fn a_name_that_would_be_too_long_keeps_its_time_its_sizes_and_its_flags() {
        let long = "x".repeat(240);
        for (name, expected) in [
            (format!("1204680122.{long}:2,S"), "1204680122.MARKER:2,S".to_owned()),
            (
                format!("1204680122.M1P2.{},S=1,W=1:2,S", "x".repeat(200)),
                "1204680122.MARKER,S=2,W=3:2,S".into(),
            ),
            (format!("{long}:2,S"), format!("{}.MARKER:2,S", "x".repeat(20))),
            (format!("1,S=1,{long}"), "1.MARKER,S=2".into()),
            (format!(",{long}:2,S"), "MARKER:2,S".into()),
            (format!("1.2.3:{long}"), format!("1.2MARKER.3:{}", "x".repeat(255 - 22))),
        ] {
            for successor in [successor, successor_of_twin] {
                let new = successor(OsStr::new(&name), b"b\n");
                let text = new.to_str().unwrap();
                let (before, marker) = text.split_at(text.find(['R', 'T']).unwrap());
                let after = marker.split_at(if marker.starts_with('T') { 25 } else { 17 }).1;
                let found = format!("{before}MARKER{after}");
                assert!(expected.starts_with(&found) && new.len() <= 255, "{found}");
                assert!(may_be_successor(&new, OsStr::new(&name)), "{found}");
                let next = successor(&new, b"c\n");
                assert!(may_be_successor(&next, &new) && next.len() == new.len(), "{found}");
            }
        }
    }

    #[test]
    fn sizes_in_a_name_follow_the_octets_and_nothing_else_changes() {
        for (name, expected) in [
            ("1204680122.M1P2.host,S=99,W=100", "1204680122.M1P2.host,S=7,W=9"),
            ("1204680122.M1P2.host,W=100", "1204680122.M1P2.host,W=9"),
            ("1204680122.host", "1204680122.host"),
            ("S=1.host,x=2", "S=1.host,x=2"),
        ] {
            let mut sizes = Sizes::of(b"ab\nc\r");
            sizes.add(b"\n\n");
            assert_eq!(with_sizes(name.as_bytes(), sizes), expected.as_bytes(), "{name}");
        }
    }
}
