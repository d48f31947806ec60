//! MIME entities, octet by octet (RFC 5322, RFC 2045, RFC 2046).
//!
//! What is signed or verified is exactly the octets that were received or will be sent, so an entity
//! is a view of octets, and a change is a splice; nothing is ever serialised again from a model.
//! Line ends are CRLF; [`Message::from_stored`] makes them so.

mod base64;
mod boundary;
mod canonical;
mod codec;
mod content_type;
mod entity;
mod error;
mod field;
mod from;
mod hazard;
mod header;
mod mailboxes;
mod message;
mod multipart;
mod rewrite;
#[cfg(test)]
mod robustness;
mod structure;

pub(crate) use base64::Base64Buffer;
pub use base64::{Base64Error, decode_base64, encode_base64, encode_base64_segments};
pub use boundary::BoundaryError;
pub(crate) use boundary::fresh_boundary;
pub use canonical::Canonical;
pub(crate) use canonical::LEAD;
pub use content_type::ContentType;
pub use entity::{MAX_DEPTH, MimeEntity, TransferEncoding};
pub use error::{CanonicalError, MimeError};
pub(crate) use field::safe_field;
pub use from::{
    Claimed, FromError, SenderRule, named_recipients, originators, possible_originators, shown_originator,
    single_originator,
};
pub(crate) use from::{has_bare_line_end, has_line_without_name, has_long_line};
pub use hazard::{Hazard, LONGEST_ALLOWED, LONGEST_LINE};
pub(crate) use header::has_blank_line;
pub use header::{Fields, Header, HeaderField, HeaderTooLarge, MAX_HEADER_FIELDS, MAX_HEADER_OCTETS};
pub use message::{Message, MessageBuilder, crlf};
pub(crate) use message::{count_bare_lfs, has_bare_lf, with_crlf};
pub use multipart::{MAX_PARTS, Multipart, split};
pub use structure::{Crypto, Special, is_smime_or_pgp, special};
