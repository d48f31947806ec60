//! S/MIME: MIME entities octet by octet, CMS objects, certificate paths, verdicts.
//!
//! RFC 8551 (messages), RFC 8550 (certificates), RFC 5652 (CMS), RFC 5280 (paths), RFC 7281 (results).
//! No I/O, no clock and no private key in here: octets, certificates and the time are arguments, and
//! everything that needs a private key goes through [`key::Signer`] or [`key::Decryptor`].

pub mod address;
pub mod agreement;
pub mod algorithm;
pub mod ber;
pub mod capabilities;
pub mod certificate;
pub mod cipher;
pub mod cms;
pub mod fault;
pub mod key;
pub mod message;
pub mod mime;
pub mod path;
pub mod profile;
pub mod protection;
pub mod public_key;
pub mod question;
pub mod revocation;
pub mod room;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use address::MailAddress;
pub use certificate::Certificate;
pub use fault::Fault;
pub use room::{NoRoom, Room};
