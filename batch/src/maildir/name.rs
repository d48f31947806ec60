//! The name of a message's file: `unique,S=size,W=wire-size:2,flags`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// The unique part, by which a message is known whatever its flags.
pub(crate) fn base(name: &OsStr) -> &OsStr {
    let octets = name.as_bytes();
    OsStr::from_bytes(octets.split(|&octet| octet == b':').next().unwrap_or(octets))
}

/// What comes after the unique part: the flags.
pub(super) fn info(name: &OsStr) -> &OsStr {
    OsStr::from_bytes(name.as_bytes().get(base(name).len()..).unwrap_or_default())
}

/// The name of a message in place of one with other octets. To a server it is another message, because what it has
/// noted about the old one is not true of this; so the unique part is another one too. It tells of which message this
/// is the successor, see `predecessor`. Flags stay; sizes are those of the octets.
pub(crate) fn successor(name: &OsStr, octets: &[u8]) -> OsString {
    let base = base(name).as_bytes();
    let info = name.as_bytes().get(base.len()..).unwrap_or_default();
    let marker = format!("R{:016x}", hash(base));
    let comma = memchr::memchr(b',', base).unwrap_or(base.len());
    let (unique, sizes) = base.split_at(comma);
    let mut parts: Vec<&[u8]> = unique.split(|&octet| octet == b'.').collect();
    let id;
    match parts.as_mut_slice() {
        [.., last] if last.len() == MARKER && marker_at_end(last).is_some() => *last = marker.as_bytes(),
        // Time, delivery identifier, host: the identifier is made of such markers.
        [_, second, _, ..] => {
            let before = marker_at_end(second).and_then(|_| second.get(..second.len() - MARKER));
            id = [before.unwrap_or(second), marker.as_bytes()].concat();
            *second = &id;
        }
        _ => parts.push(marker.as_bytes()),
    }
    let name = [&parts.join(&b'.'), sizes, info].concat();
    with_sizes(OsStr::from_bytes(&name), octets)
}

/// The [`hash`] of the unique name that a message is the successor of, if it is one.
pub(crate) fn predecessor(name: &OsStr) -> Option<u64> {
    let unique = base(name).as_bytes().split(|&octet| octet == b',').next().unwrap_or_default();
    let parts: Vec<&[u8]> = unique.split(|&octet| octet == b'.').collect();
    match parts.as_slice() {
        [.., last] if last.len() == MARKER && marker_at_end(last).is_some() => marker_at_end(last),
        [_, second, _, ..] => marker_at_end(second),
        _ => None,
    }
}

/// The length of a marker.
const MARKER: usize = 17;

/// The number in a marker `R` and 16 hexadecimal digits.
fn marker_at_end(part: &[u8]) -> Option<u64> {
    let (before, digits) = part.split_at(part.len().checked_sub(MARKER - 1)?);
    let lower = digits.iter().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
    let text = std::str::from_utf8(digits).ok()?;
    if lower && before.last() == Some(&b'R') { u64::from_str_radix(text, 16).ok() } else { None }
}

/// A number for a unique name.
pub(crate) fn hash(base: &[u8]) -> u64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, base);
    digest.as_ref().iter().take(8).fold(0, |number, &octet| number << 8 | u64::from(octet))
}

/// The name with the sizes it tells set right for new octets: Dovecot does not deliver a message that is
/// longer than its name says.
fn with_sizes(name: &OsStr, octets: &[u8]) -> OsString {
    let base = base(name).as_bytes();
    let info = name.as_bytes().get(base.len()..).unwrap_or_default();
    let mut out = Vec::with_capacity(name.len() + 8);
    for (at, part) in base.split(|&octet| octet == b',').enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match part.get(..2) {
            Some(b"S=") if at > 0 => out.extend_from_slice(format!("S={}", octets.len()).as_bytes()),
            Some(b"W=") if at > 0 => out.extend_from_slice(format!("W={}", wire_size(octets)).as_bytes()),
            _ => out.extend_from_slice(part),
        }
    }
    out.extend_from_slice(info);
    OsString::from_vec(out)
}

/// The size with CRLF line ends.
pub(super) fn wire_size(octets: &[u8]) -> usize {
    let bare = memchr::memchr_iter(b'\n', octets)
        .filter(|&at| at.checked_sub(1).and_then(|before| octets.get(before)) != Some(&b'\r'));
    octets.len() + bare.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_another_message_with_the_same_flags_and_knows_its_predecessor() {
        for name in [
            "1204680122.M1P2.host,S=99,W=100:2,RS",
            "1204680122.M1P2.mail.example.org:2,",
            "1204680122.host:2,S",
            "odd",
            "1.2",
            "1.R.host",
            "1.R0123456789abcdef.host",
            "1.R0123456789abcdef",
        ] {
            let first = successor(OsStr::new(name), b"a\n");
            let second = successor(&first, b"b\n");
            assert_ne!(base(&first), base(OsStr::new(name)));
            assert_ne!(base(&first), base(&second));
            assert_eq!(predecessor(&first), Some(hash(base(OsStr::new(name)).as_bytes())), "{name}");
            assert_eq!(predecessor(&second), Some(hash(base(&first).as_bytes())), "{name}");
            // It does not grow with each change.
            assert_eq!(second.len(), first.len(), "{name}");
            let info = |name: &OsStr| name.to_string_lossy().split_once(':').map(|(_, info)| info.to_owned());
            assert_eq!(info(&second), info(OsStr::new(name)));
        }
        assert_eq!(predecessor(OsStr::new("1204680122.M1P2.host,S=99:2,")), None);
    }

    #[test]
    fn sizes_in_a_name_follow_the_octets_and_nothing_else_changes() {
        for (name, expected) in [
            ("1204680122.M1P2.host,S=99,W=100:2,RS", "1204680122.M1P2.host,S=7,W=9:2,RS"),
            ("1204680122.M1P2.host,W=100:2,", "1204680122.M1P2.host,W=9:2,"),
            ("1204680122.host:2,S", "1204680122.host:2,S"),
            ("S=1.host,x=2", "S=1.host,x=2"),
            ("1204680122.host,S=1:2,S=W=", "1204680122.host,S=7:2,S=W="),
        ] {
            assert_eq!(with_sizes(OsStr::new(name), b"ab\nc\r\n\n"), expected, "{name}");
        }
    }
}
