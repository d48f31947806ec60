//! A path as text from which it can be read back, whatever octets are in it.
//!
//! As in a URI (RFC 3986 section 2.1), but only `%` and octets that are not UTF-8 are written as `%` and two digits.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use data_encoding::HEXUPPER;

/// A path as text.
pub(crate) fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        for octet in chunk.invalid() {
            text.push('%');
            text.push_str(&HEXUPPER.encode(&[*octet]));
        }
    }
    text
}

/// The path again; `None` if this is not such text.
pub(crate) fn unescaped(text: &str) -> Option<PathBuf> {
    let mut parts = text.split('%');
    let mut octets = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        octets.push(u8::from_str_radix(digits, 16).ok().filter(|_| are_digits)?);
        octets.extend_from_slice(rest.as_bytes());
    }
    Some(PathBuf::from(OsString::from_vec(octets)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(octets: &[u8]) -> PathBuf {
        PathBuf::from(OsString::from_vec(octets.to_vec()))
    }

    #[test]
    fn a_path_is_itself_but_for_what_is_not_utf_8() {
        for (octets, text) in [
            (&b"a/cur/1.host:2,S"[..], "a/cur/1.host:2,S"),
            (b"M\xc3\xbcller/1", "M\u{fc}ller/1"),
            (b"M\xfcller/1", "M%FCller/1"),
            (b"100%/%FC", "100%25/%25FC"),
            (b"\xe2\x82", "%E2%82"),
            (b"", ""),
        ] {
            assert_eq!(escaped(&path(octets)), text);
            assert_eq!(unescaped(text), Some(path(octets)));
        }
        for text in ["%", "%F", "%GG", "a%+1", "%\u{fc}", "%F\u{fc}"] {
            assert_eq!(unescaped(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_path_is_read_back(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unescaped(&escaped(&path(&octets))), Some(path(&octets)));
        }
    }
}
