//! S/MIME messages (RFC 8551 section 3): recognised, signed, encrypted, verified.
//!
//! [`sign()`] makes a `multipart/signed`, [`sign_opaque()`] an `application/pkcs7-mime`, [`seal()`] encrypts, [`Wrapped`] recognises what came in, [`verify()`] tells what a
//! signature is worth. Who may have a message opened is for the callers to decide.

mod announcement;
mod compress;
mod finding;
mod firm;
mod layer;
mod opaque;
mod reason;
mod seal;
mod sign;
mod signer;
mod verdict;
mod verify;
mod wrapped;

pub use announcement::{Announcement, announcements};
pub use compress::{CompressedMessage, compress};
pub use finding::{Finding, Findings, SignerReport};
pub use firm::is_loose;
pub(crate) use layer::normalised;
pub use layer::{Ciphertext, Form, LayerReport};
pub use opaque::{OpaqueMessage, certificates_only, sign_opaque, sign_opaque_in_place};
pub use reason::Reason;
pub use seal::{SealedMessage, seal, seal_content, seal_in_place, seal_signed, seal_signed_in_place};
pub use sign::{SignedMessage, UnsignedMessage, sign, sign_in_place};
pub use verdict::{AuthResult, Verdict};
pub use verify::{VerifiedSigner, verify, verify_read, verify_within};
pub(crate) use wrapped::signed_octets;
pub use wrapped::{Signature, Wrapped, WrappedError};
