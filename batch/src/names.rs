//! Names of new files that are made of others' names: no longer than a file's name may be, whoever chose those.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use crate::maildir::hash;

/// A name with an ending. Where that would be too long, only how it begins, and a number that is its own.
pub(crate) fn with_ending(name: &OsStr, ending: &str) -> OsString {
    let name = name.as_bytes();
    if name.len() + ending.len() <= LONGEST {
        return OsString::from_vec([name, ending.as_bytes()].concat());
    }
    let number = format!(".{:016x}{ending}", hash(name));
    let mut room = LONGEST.saturating_sub(number.len()).min(name.len());
    // No character is cut: some file systems want names in UTF-8.
    while name.get(room).is_some_and(|octet| octet & 0xc0 == 0x80) && room > 0 {
        room -= 1;
    }
    OsString::from_vec([name.get(..room).unwrap_or_default(), number.as_bytes()].concat())
}

/// How long a file's name may be, in octets.
pub(crate) const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_be_too_long_is_cut_between_characters_and_stays_its_own() {
        let long = |letter: &str, count: usize| letter.repeat(count);
        for (name, ending, expected) in [
            (long("x", 251), ".eml", long("x", 251) + ".eml"),
            (long("x", 252), ".eml", long("x", 234) + ".NUMBER.eml"),
            (long("ü", 127), "~2.eml", long("ü", 116) + ".NUMBER~2.eml"),
            (long("ü", 127), ".mbox", long("ü", 116) + ".NUMBER.mbox"),
            (long("x", 400), ".mbox", long("x", 233) + ".NUMBER.mbox"),
        ] {
            let made = with_ending(OsStr::new(&name), ending);
            let number = format!("{:016x}", hash(name.as_bytes()));
            assert_eq!(made.to_str().unwrap().replace(&number, "NUMBER"), expected);
            assert!(made.len() <= LONGEST);
        }
        let [one, other] = ["a", "b"].map(|last| with_ending(OsStr::new(&(long("x", 254) + last)), ".eml"));
        assert_ne!(one, other);
        // What is not UTF-8 is cut somewhere.
        assert!(with_ending(OsStr::from_bytes(&[0x80; 255]), ".eml").len() <= LONGEST);
    }
}
