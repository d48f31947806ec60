//! Why a signature is worth what it is worth.

use crate::{cms::AttributeError, path::PathError};

/// The reason behind a [`super::Verdict`], in words that fit behind "because".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// There is nothing to verify.
    #[error("the message is not signed")]
    NotSigned,
    /// Certificates and no signer.
    #[error("the message carries certificates and no signature")]
    CertificatesOnly,
    /// The ciphertext stays as it is.
    #[error("the message is encrypted")]
    Encrypted,
    /// Everything holds.
    #[error("signature, certificate and sender agree")]
    AllGood,
    /// Everything holds, but nobody says whether a certificate is revoked.
    #[error("signature, certificate and sender agree; revocation is not known: {0}")]
    RevocationUnknown(String),
    /// Everything holds; revocation is switched off.
    #[error("signature, certificate and sender agree; revocation is not checked")]
    RevocationNotChecked,
    /// The outer form or the CMS object is broken.
    #[error("{0}")]
    Unreadable(String),
    /// A detached signature with a content of its own: what is shown and what is signed may differ.
    #[error("the detached signature carries a content of its own")]
    EmbeddedContent,
    /// `pkcs7-mime` of kind SignedData without content.
    #[error("the signature carries no content")]
    NoContent,
    /// No certificate that the signer's identifier names.
    #[error("the signer's certificate is not in the message")]
    NoCertificate,
    /// The digest differs.
    #[error("the content was changed after it was signed")]
    ContentChanged,
    /// The signature over the attributes does not verify.
    #[error("the signature does not verify")]
    BadSignature,
    /// Signed attributes break the rules.
    #[error(transparent)]
    Attributes(#[from] AttributeError),
    /// The content-type attribute and eContentType differ, or it is no MIME content.
    #[error("the signed content type is not that of a MIME message")]
    ContentType,
    /// signingCertificate names another certificate.
    #[error("the signature was made with another certificate")]
    OtherCertificate,
    /// CMSAlgorithmProtection names other algorithms.
    #[error("the signature was made with other algorithms")]
    OtherAlgorithms,
    /// Without signed attributes a signature can be moved to other content.
    #[error("the signature has no signed attributes")]
    NoSignedAttributes,
    /// An algorithm that is not known here; the signature was not checked.
    #[error("the signature's algorithm {0} is not supported")]
    UnknownAlgorithm(String),
    /// An algorithm or key that is too weak today.
    #[error("the signature's algorithm or key is too weak")]
    Weak,
    /// keyUsage has neither digitalSignature nor nonRepudiation.
    #[error("the certificate is not for signatures")]
    NotForSigning,
    /// The path is not valid.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The signed part has lines or octets that mail transport changes.
    #[error("what is signed does not survive mail transport")]
    NotTransportSafe,
    /// A signature around ciphertext, and none inside: it says nothing of who wrote the text.
    #[error("what is signed is the ciphertext, and not the text inside")]
    SignedCiphertext,
    /// Content that came out of a cipher without authentication, with something in it that no signature covers.
    #[error("there is something beside what is signed, and the cipher does not keep others from changing it")]
    BesideSigned,
    /// Content that came out of a cipher without authentication whose blocks have eight octets.
    #[error("the cipher's blocks are so short that others can find out by what passes what is in them")]
    ShortBlocks,
    /// The certificate's addresses do not include the sender's.
    #[error("the certificate is not of the sender in From")]
    OtherSender,
    /// From is missing, there twice, or has several mailboxes.
    #[error("the sender in From is not clear: {0}")]
    From(String),
}
