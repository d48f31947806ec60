//! Why an entity cannot be read as MIME, or not be signed.

use super::{Hazard, base64::Base64Error, entity::MAX_DEPTH, multipart::MAX_PARTS};
use crate::Fault;

/// Why an entity cannot be read as MIME.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MimeError {
    /// Agents disagree about what this means, so it means nothing: a header field or a parameter that
    /// is there more than once.
    #[error("{what} is there more than once")]
    Ambiguous {
        /// The name of the header field or parameter.
        what: String,
    },
    /// A structured header field that its grammar does not produce.
    #[error("{field} is malformed at octet {at}: {reason}")]
    Malformed {
        /// The name of the header field.
        field: &'static str,
        /// Where in the field's value.
        at: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// A transfer encoding that RFC 2045 section 6 does not define.
    #[error("transfer encoding {name:?} is unknown")]
    UnknownTransferEncoding {
        /// The encoding as it was spelled.
        name: String,
    },
    /// The body is not the base64 that the header says it is.
    #[error("the body is not base64")]
    Base64(#[from] Base64Error),
    /// The entity has no parts.
    #[error("{media} is not a multipart")]
    NotMultipart {
        /// The media type.
        media: String,
    },
    /// A multipart without a boundary parameter, or with one that cannot delimit anything.
    #[error("the boundary of {media} is missing or unusable")]
    NoBoundary {
        /// The media type.
        media: String,
    },
    /// A line begins like a delimiter, or a delimiter follows a bare CR or LF: RFC 2046 lets agents cut
    /// there or not.
    #[error("agents may cut the parts in different places")]
    AmbiguousBoundary,
    /// A multipart without any delimiter.
    #[error("there is no part")]
    NoParts,
    /// A line among the header fields that is none: agents disagree where the body begins.
    #[error("a line of the header is no field")]
    HeaderLine,
    /// A multipart with base64 or quoted-printable around its parts, which RFC 2045 section 6.4 forbids.
    #[error("{media} is transfer-encoded as a whole")]
    EncodedMultipart {
        /// The media type.
        media: String,
    },
    /// More levels than an honest message has.
    #[error("entities are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// More parts than an honest message has.
    #[error("there are more than {MAX_PARTS} parts")]
    TooManyParts,
}

impl MimeError {
    /// Whose fault it is: always the message's.
    pub fn fault(&self) -> Fault {
        Fault::Message
    }
}

/// Why a message cannot be made safe for signing. Parts are numbered as in IMAP (RFC 3501 6.4.5), and a
/// message inside has the number of its part; the root is `0`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CanonicalError {
    /// A multipart/signed or multipart/encrypted inside would not survive and must not be changed.
    #[error("part {part} is signed or encrypted already and would not survive transport: it holds {hazard}")]
    NestedSignatureNotSafe {
        /// The number of the part.
        part: String,
        /// What would not survive.
        hazard: Hazard,
    },
    /// A part that would not survive, of a type that must not be encoded.
    #[error("part {part} ({media}) must not be encoded and would not survive transport: it holds {hazard}")]
    NotEncodable {
        /// The number of the part.
        part: String,
        /// The media type.
        media: String,
        /// What would not survive.
        hazard: Hazard,
    },
    /// A part that would not survive and that agents may read in other ways than we do.
    #[error("part {part} cannot be read and would not survive transport: it holds {hazard}")]
    Unreadable {
        /// The number of the part.
        part: String,
        /// What would not survive.
        hazard: Hazard,
        /// Why it cannot be read.
        source: MimeError,
    },
    /// A header field that would not survive and has no other form.
    #[error("field {field:?} of part {part} would not survive transport: it holds {hazard}")]
    HeaderNotSafe {
        /// The number of the part.
        part: String,
        /// The name of the field.
        field: String,
        /// What would not survive.
        hazard: Hazard,
    },
    /// What was written would be cut in other places than what was read.
    #[error("part {part} would have other parts when read again")]
    Boundary {
        /// The number of the part.
        part: String,
    },
}

impl CanonicalError {
    /// Whose fault it is: always the message's.
    pub fn fault(&self) -> Fault {
        Fault::Message
    }
}
