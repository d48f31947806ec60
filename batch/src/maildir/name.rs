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

/// The name with the sizes it tells set right for new octets: Dovecot does not deliver a message that is
/// longer than its name says.
pub(super) fn with_sizes(name: &OsStr, octets: &[u8]) -> OsString {
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
fn wire_size(octets: &[u8]) -> usize {
    let bare = memchr::memchr_iter(b'\n', octets)
        .filter(|&at| at.checked_sub(1).and_then(|before| octets.get(before)) != Some(&b'\r'));
    octets.len() + bare.count()
}

#[cfg(test)]
mod tests {
    use super::*;

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
