//! Cryptographic Message Syntax (RFC 5652): reading what others wrote, writing what they can read.
//!
//! Structures are walked over a [`Tree`], so that content stays where it is, certificates and CRLs keep
//! their exact octets, and one odd certificate does not spoil a message. What a signature is worth is
//! not decided here but in [`crate::message`].

mod attributes;
mod compressed_data;
mod decrypt;
mod derivation;
mod enveloped_data;
mod gcm_variants;
mod key_agreement;
mod key_preference;
mod key_wrap;
mod legacy;
mod recipient;
mod rekey;
mod seal;
mod signed_data;
mod signer_info;
mod triple_des_wrap;
mod write;

use const_oid::db::rfc5911;
use der::asn1::ObjectIdentifier;

pub use attributes::{AttributeError, SignedAttributes};
pub use compressed_data::{CompressedData, DecompressError, MAX_DECOMPRESSED, compress};
pub use enveloped_data::{EnvelopedData, OpenError, Unlocked};
pub use key_agreement::KeyAgreement;
pub use key_preference::EncryptionKeyPreference;
pub use recipient::{EncryptedKey, KeyTransport, Recipient, RecipientIdentifier};
pub use rekey::{Keep, Proof, RekeyError, Rekeyed, rekey, rekey_in_parts, rekey_question};
#[cfg(test)]
pub(crate) use seal::transport_identifier;
pub(crate) use seal::{Layout as SealLayout, Plain};
pub use seal::{RecipientKey, RecipientKeyError, RsaTransport, SealError, seal};
pub use signed_data::SignedData;
pub use signer_info::{SignerIdentifier, SignerInfo};
pub(crate) use write::frame_of_opaque;
pub use write::{SignError, Unsigned, certificates_only, sign, sign_opaque};

use crate::{
    Room,
    ber::{BerError, Tag, Tree},
};

/// How many certificates one object may carry.
pub const MAX_CERTIFICATES: usize = 100;
/// How many signers one object may have.
pub const MAX_SIGNERS: usize = 20;
/// How many recipients one object may have.
pub const MAX_RECIPIENTS: usize = 500;

/// How much memory an element of a certificate may take once it is decoded. Names take most.
const OCTETS_OF_DECODED: usize = 100;

/// How much memory a relative distinguished name takes once it is decoded: a SET, and three elements in it.
const OCTETS_OF_NAME: usize = 370;

/// Why octets are not a CMS object that is read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmsError {
    /// The encoding or the structure is wrong.
    #[error("malformed CMS object: {0}")]
    Structure(#[from] BerError),
    /// A part does not decode.
    #[error("malformed {part} in the CMS object")]
    Part {
        /// Which part.
        part: &'static str,
    },
    /// More of something than is taken.
    #[error("the CMS object has more than {limit} {part}")]
    TooMany {
        /// Of what.
        part: &'static str,
        /// The limit.
        limit: usize,
    },
    /// More names of signers or recipients than there is room for.
    #[error("the names of signers or recipients in the CMS object are more than are taken of this message")]
    TooLarge,
    /// Octets follow the object.
    #[error("{0} octets follow the CMS object")]
    Trailing(usize),
    /// The content is of a type that is not read here.
    #[error("content type {0} is not supported")]
    ContentType(ObjectIdentifier),
}

/// Whether octets begin like a `ContentInfo` with `EnvelopedData` or `AuthEnvelopedData`. Whether they are one only
/// [`Object::parse`] tells.
pub fn begins_enveloped_data(octets: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = octets else { return false };
    let more = if *length > 0x80 { usize::from(length & 0x7F) } else { 0 };
    let [0x06, length, rest @ ..] = rest.get(more..).unwrap_or_default() else { return false };
    let content_type = rest.get(..usize::from(*length)).unwrap_or_default();
    let known = [rfc5911::ID_ENVELOPED_DATA, rfc5911::ID_CT_AUTH_ENVELOPED_DATA];
    known.iter().any(|known| known.as_bytes() == content_type)
}

/// A CMS object of one of the types that are read here.
#[derive(Debug)]
#[non_exhaustive]
pub enum Object<'a> {
    /// RFC 5652 section 5.
    SignedData(SignedData<'a>),
    /// RFC 5652 section 6, or RFC 5083.
    EnvelopedData(EnvelopedData<'a>),
    /// RFC 3274.
    CompressedData(CompressedData<'a>),
}

impl<'a> Object<'a> {
    /// Reads a `ContentInfo` (RFC 5652 section 3) in DER or BER.
    pub fn parse(octets: &'a [u8]) -> Result<Self, CmsError> {
        Self::of_tree(&Tree::parse(octets)?, usize::MAX)
    }

    /// Like [`Self::parse`], in the room that is left of a message.
    pub fn parse_within(octets: &'a [u8], room: Room) -> Result<Self, CmsError> {
        Self::of_tree(&Tree::parse_within(octets, room.left())?, room.left())
    }

    fn of_tree(tree: &Tree<'a>, room: usize) -> Result<Self, CmsError> {
        // Some senders pad the object; anything else after it may be an attempt to confuse.
        if tree.trailing().iter().any(|octet| !matches!(octet, 0 | b'\r' | b'\n')) {
            return Err(CmsError::Trailing(tree.trailing().len()));
        }
        let mut fields = tree.root().expect(Tag::SEQUENCE, "ContentInfo")?.children();
        let content_type = fields.required("contentType")?.object_identifier()?;
        let content = fields.required("content")?.expect(Tag::context(0), "content [0]")?;
        fields.end()?;
        let mut inner = content.children();
        let content = inner.required("content")?;
        inner.end()?;
        // Signers and recipients are decoded, and the names in them.
        let sets = content.children().filter(|field| field.tag() == Tag::SET);
        if sets.map(|set| set.count_inside(Tag::SET)).sum::<usize>() > room / OCTETS_OF_NAME {
            return Err(CmsError::TooLarge);
        }
        match content_type {
            rfc5911::ID_SIGNED_DATA => SignedData::read(content).map(Self::SignedData),
            rfc5911::ID_ENVELOPED_DATA => EnvelopedData::read(content).map(Self::EnvelopedData),
            rfc5911::ID_CT_AUTH_ENVELOPED_DATA => {
                EnvelopedData::read_authenticated(content).map(Self::EnvelopedData)
            }
            compressed_data::ID_COMPRESSED_DATA => CompressedData::read(content).map(Self::CompressedData),
            other => Err(CmsError::ContentType(other)),
        }
    }
}
