//! Why an entity cannot be read as MIME.

use super::{codec::Base64Error, entity::MAX_DEPTH, multipart::MAX_PARTS};
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
