//! What MTAs write into a header as they are told to.
//!
//! A front end refuses to send anything else. What was opened is held against this before it is decided to deliver it: what
//! a stranger wrote into a ciphertext, or around it, must not make a message fail that is delivered where it stays closed.

use crate::Edits;

/// Why a field cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unwritable {
    /// RFC 5322, 3.6.8: a name is printable US-ASCII without the colon.
    Name,
    /// A NUL, a bare CR, a line end at the end, or one that begins a new field, at this octet.
    Octet(usize),
    /// Postfix cuts header fields at 60000 octets without a word; it has so many.
    TooLong(usize),
}

/// Whether a field may have this name.
pub fn is_field_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':')
}

/// A field's value as it goes to an MTA: with the space after the colon, and with LF folds, because a CR would reach the
/// wire as one too many.
pub fn field_value(value: &str) -> Result<String, Unwritable> {
    let value = format!(" {}", value.replace("\r\n", "\n"));
    if value.len() > MAX_VALUE_OCTETS {
        return Err(Unwritable::TooLong(value.len()));
    }
    let octets = value.as_bytes();
    let misfit = octets.iter().enumerate().position(|(at, octet)| match octet {
        0 | b'\r' => true,
        b'\n' => !matches!(octets.get(at + 1), Some(b' ' | b'\t')),
        _ => false,
    });
    misfit.map_or(Ok(value), |at| Err(Unwritable::Octet(at)))
}

impl Edits {
    /// Whether all of its fields can be written.
    pub(crate) fn can_be_written(&self) -> bool {
        let added = self.prepend.iter().chain(&self.append);
        self.remove.iter().all(|field| is_field_name(&field.name))
            && added.into_iter().all(|(name, value)| is_field_name(name) && field_value(value).is_ok())
    }
}

/// Postfix's limit for a field as soon as a milter is configured.
const MAX_VALUE_OCTETS: usize = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FieldRef;

    #[test]
    fn what_no_mta_would_write_is_known_before() {
        let edits = |name: &str, value: &str| Edits {
            append: vec![(name.to_owned(), value.to_owned())],
            ..Edits::default()
        };
        for (name, value, expected) in [
            ("Subject", "x\r\n y".to_owned(), true),
            ("Subject", "x".repeat(59_999), true),
            ("Subject", "x".repeat(60_000), false),
            ("Subject", "x\r\ny".to_owned(), false),
            ("Subject", "x\0".to_owned(), false),
            ("Subject", "x\ry".to_owned(), false),
            ("Sub ject", "x".to_owned(), false),
            ("", "x".to_owned(), false),
        ] {
            let appended = edits(name, &value);
            let prepended = Edits { prepend: appended.append.clone(), ..Edits::default() };
            assert_eq!(appended.can_be_written(), expected, "{name} {}", value.len());
            assert_eq!(prepended.can_be_written(), expected, "{name} {}", value.len());
        }
        let odd = FieldRef { name: "X Y".to_owned(), index: 1 };
        assert!(!Edits { remove: vec![odd], ..Edits::default() }.can_be_written());
    }
}
