//! Header protection (RFC 9788): header fields that a signature covers and an encryption hides.
//!
//! [`ProtectedHeader::read`] finds the fields in a cryptographic payload, and says of each how it was protected;
//! [`protect_signed`] and [`protect_encrypted`] put a message's fields into its payload. Which field of an inner header
//! takes the place of an outer one is not decided here: [`ProtectedHeader::differences`] is what to decide it by.
//!
//! Two older schemes are read and never written: `protected-headers="v1"` (draft-autocrypt-lamps-protected-headers) and
//! the `message/rfc822` of RFC 8551 3.1, both without a word on what the sender meant to hide.

mod legacy_display;
mod payload;
mod read;
mod write;

pub use legacy_display::without_legacy_display;
pub use payload::Payload;
pub use read::{Difference, FieldProtection, ProtectedHeader, Scheme};
pub use write::{
    ConfidentialityPolicy, HeaderChange, ProtectError, ProtectedMessage, protect_encrypted, protect_signed,
};

use crate::mime::HeaderField;

/// A header field inside a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedField {
    /// The name as it was spelled.
    pub name: String,
    /// The value on one line, without control characters; encoded words stay.
    pub value: String,
}

impl ProtectedField {
    fn of(field: &HeaderField<'_>) -> Self {
        Self { name: field.name().to_owned(), value: one_line(&field.unfolded()) }
    }

    /// Whether this is the field's name. Case does not matter.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// A value without what folding adds: each run of blanks is one.
fn one_line(value: &str) -> String {
    value.split([' ', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The field that says which outer field stood where (RFC 9788 2.2).
const HP_OUTER: &str = "HP-Outer";

/// What a subject is where it is hidden (RFC 9788 3.2.1).
const OBSCURED_SUBJECT: &str = "[...]";

/// Whether a field describes the part that it stands in, and not the message (RFC 9788 1.1.1: Structural Header Fields).
fn is_structural(name: &str) -> bool {
    name.eq_ignore_ascii_case("MIME-Version")
        || name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("Content-"))
}
