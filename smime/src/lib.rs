//! S/MIME: MIME entities octet by octet, CMS objects, certificate paths, verdicts.
//!
//! RFC 8551 (messages), RFC 8550 (certificates), RFC 5652 (CMS), RFC 5280 (paths), RFC 7281 (results).
//! No I/O, no clock and no private key in here: octets, certificates and the time are arguments, and
//! everything that needs a private key goes through [`key::Signer`] or [`key::Decryptor`]. Nothing is fetched, and
//! whose mail is signed or opened is for the callers to decide.
//!
//! ```text
//! protection (header fields)      profile (which algorithms)
//!                     \           /
//!                 message (sign, seal, recognise, verify) ◀── octets, anchors, the time
//!                  /       │       \
//!              mime       cms       path ─ revocation
//!          (octets)    (objects)    (whom to trust)
//!                          │
//!                         key ◀── a Signer, a Decryptor
//! ```
//!
//! The examples have their keys and certificates from the feature `testing`, which is for tests alone. Elsewhere a key is
//! whatever implements [`key::Signer`] or [`key::Decryptor`], and certificates are read by [`Certificate::from_pem`] or
//! [`Certificate::from_der`].
//!
//! # Signing and verifying
//!
//! What is signed is a [`Canonical`](mime::Canonical) entity: the content of a message, made to survive transport. The
//! other header fields stay outside. Whoever verifies says whom he trusts and who the signer should be:
//!
//! ```
//! use smime::message::{AuthResult, sign, verify};
//! use smime::mime::{Canonical, Message, single_originator};
//! use smime::testing::fixtures::{certificate, key, now, trust};
//!
//! let mail = Message::from_stored(b"Content-Type: text/plain\n\nHello, Bob.\n");
//! let entity = Canonical::from_entity(&mail.entity())?;
//! let signed = sign(&entity, &key("alice"), &[certificate("ca")], now())?;
//! let header = format!("From: alice@example.org\r\nContent-Type: {}\r\n\r\n", signed.content_type);
//!
//! let mail = Message::from_owned([header.as_bytes(), &signed.body].concat());
//! let sender = single_originator(&mail.entity());
//! let (verdict, signers) = verify(&mail.entity(), sender, &trust(), now());
//! assert_eq!(verdict.result(), AuthResult::Pass);
//! assert_eq!(signers[0].certificate(), &certificate("alice"));
//! assert_eq!(signers[0].path().chain().last(), Some(&certificate("root")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a verdict is
//!
//! A [`Verdict`](message::Verdict) is one of RFC 7281's words and the [`Reason`](message::Reason) for it, with what was
//! found of each layer and signer. It is `pass` only where everything holds: the octets, the signed attributes, each
//! signer's certificate and path, revocation as far as [`path::Trust`] wants it, and that one signer has the address in
//! From. Of several reasons the worst decides. What becomes of the mail is for the callers to decide.
//!
//! ```
//! use smime::message::{Reason, verify};
//! use smime::mime::{Message, single_originator};
//! use smime::path::Trust;
//! use smime::testing::fixtures::{now, trust};
//! # use smime::{message::sign, mime::Canonical, testing::fixtures::{certificate, key}};
//! # let plain = Message::from_stored(b"Content-Type: text/plain\n\nHello, Bob.\n");
//! # let entity = Canonical::from_entity(&plain.entity())?;
//! # let signed = sign(&entity, &key("alice"), &[certificate("ca")], now())?;
//! # let body = String::from_utf8(signed.body)?;
//! # let mail = format!("From: alice@example.org\r\nContent-Type: {}\r\n\r\n{body}", signed.content_type);
//!
//! let judge = |mail: &str, trust: &Trust| {
//!     let mail = Message::from_stored(mail.as_bytes());
//!     let (verdict, _) = verify(&mail.entity(), single_originator(&mail.entity()), trust, now());
//!     (verdict.result().as_str(), verdict.reason().clone())
//! };
//! // `mail` is what was signed above. These anchors come without CRLs, and nobody is asked for some.
//! assert_eq!(judge(&mail, &trust()), ("pass", Reason::RevocationNotChecked));
//! assert_eq!(judge(&mail.replace("Bob", "Eve"), &trust()), ("fail", Reason::ContentChanged));
//! assert_eq!(judge(&mail.replace("From: alice", "From: bob"), &trust()), ("policy", Reason::OtherSender));
//! assert!(matches!(judge(&mail, &Trust::default()), ("policy", Reason::Path(_))));
//! assert_eq!(judge("From: alice@example.org\n\nHello.\n", &trust()), ("none", Reason::NotSigned));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Encrypting and opening
//!
//! [`profile::plan`] chooses the algorithms by what the recipients announce.
//! [`Ciphertext::find`](message::Ciphertext::find) takes a ciphertext only where no other part is beside it: somebody
//! else's text there would have it opened in the reader's eyes (EFAIL).
//!
//! ```
//! use smime::cms::Object;
//! use smime::message::{Ciphertext, SealedMessage, seal};
//! use smime::mime::{Canonical, Message};
//! use smime::profile::{Correspondent, Profile, plan};
//! use smime::testing::fixtures::{certificate, key};
//!
//! let mail = Message::from_stored(b"Content-Type: text/plain\n\nHello, Bob.\n");
//! let entity = Canonical::from_entity(&mail.entity())?;
//! let bob = certificate("bob"); // found good before, by `path::validate`
//! let to = Correspondent { certificate: &bob, capabilities: None, profile: &Profile::STANDARD };
//! let sealed = seal(&entity, &plan(&[to])?)?;
//! let (kind, encoding) = (sealed.content_type, SealedMessage::TRANSFER_ENCODING);
//! let header = format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
//!
//! let mail = Message::from_owned([header.as_bytes(), &sealed.body].concat());
//! let found = Ciphertext::find(&mail.entity()).expect("nothing is beside it");
//! let Object::EnvelopedData(enveloped) = Object::parse(&found.object)? else { panic!("no ciphertext") };
//! assert!(enveloped.recipient_for(&certificate("alice")).is_none());
//! let recipient = enveloped.recipient_for(&bob).expect("it is for Bob");
//! assert_eq!(enveloped.open(recipient, &key("bob"))?, entity.octets());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A ciphertext, a key or a padding that is bad is one error, [`cms::OpenError::Undecryptable`]. Tell strangers no more than
//! that, nor let the time tell them (RFC 3218); [`EnvelopedData::key_with`](cms::EnvelopedData::key_with) is for that.
//!
//! # Where to read on
//!
//! [`message`] for whole messages, [`key`] for what a key must do, [`question`] for those who do not wait for one, [`path`]
//! and [`revocation`] for whom to trust, [`cms`] for the objects alone, [`protection`] for header fields. Each error says
//! whose [`Fault`] it is.

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
