//! S/MIME messages (RFC 8551 section 3): recognised, signed, verified.
//!
//! [`sign()`] makes a `multipart/signed`, [`Wrapped`] recognises what came in, [`verify()`] tells what a
//! signature is worth. Who may have a message opened is for the callers to decide.

mod compress;
mod reason;
mod sign;
mod verdict;
mod verify;
mod wrapped;

pub use compress::{CompressedMessage, compress};
pub use reason::Reason;
pub use sign::{SignedMessage, sign};
pub use verdict::{AuthResult, SignerReport, Verdict};
pub use verify::{VerifiedSigner, verify, verify_within};
pub use wrapped::{Wrapped, WrappedError};
