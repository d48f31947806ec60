//! S/MIME messages (RFC 8551 section 3): recognised, signed, encrypted, verified.
//!
//! [`sign()`] makes a `multipart/signed`, [`seal()`] encrypts, [`Wrapped`] recognises what came in, [`verify()`] tells what a
//! signature is worth. Who may have a message opened is for the callers to decide.

mod compress;
mod reason;
mod seal;
mod sign;
mod verdict;
mod verify;
mod wrapped;

pub use compress::{CompressedMessage, compress};
pub use reason::Reason;
pub use seal::{SealedMessage, seal, seal_signed};
pub use sign::{SignedMessage, sign};
pub use verdict::{AuthResult, SignerReport, Verdict};
pub use verify::{VerifiedSigner, verify, verify_within};
pub use wrapped::{Wrapped, WrappedError};
