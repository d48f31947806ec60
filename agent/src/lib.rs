//! What to do with a message: configuration, policy, and RFC 8551's sending and receiving agent.
//!
//! The front ends bring an [`Envelope`] and a message, and get an [`Outcome`]: edits to apply, or whose
//! [`smime::Fault`] it is that there are none. Not in here: SMTP, milter, files of mail; nor S/MIME itself ([`smime`]) and
//! the keys ([`hsmpool`]).
//!
//! ```text
//!                  Settings           ┌▶ sign, encrypt, copies ┐
//!                      ▼              │                        │
//! envelope, ─▶ Policy::plan ─▶ Plan ──┤                        ├─▶ Outcome (edits, copies, verdict)
//! message, time                       │                        │
//!                                     └▶ decrypt, verify ──────┘
//! ```
//!
//! # One message
//!
//! [`Agent::treat`] plans and does it. [`Policy::plan`] is a pure function, for those who only want to know:
//!
//! ```
//! use agent::{Agent, Envelope, Identities, Identity, Settings, settings::Logins};
//! use smime::{message::AuthResult, mime::Message};
//! # use smime::testing::fixtures::{certificate, data, key, now};
//! # let folder = tempfile::tempdir()?;
//! # std::fs::write(folder.path().join("module.so"), "")?;
//! # ["alice.pem", "root.pem"].iter().try_for_each(|name| std::fs::write(folder.path().join(name), data(name)))?;
//! # let path = folder.path().join("hsmime.toml");
//! # let site = "token = [{ module = 'module.so', label = 'mail', pin-credential = 'pin' }]\n\
//! #             trust = { anchors = ['root.pem'], revocation = 'off' }\n\
//! #             milter = { listen = 'inet:127.0.0.1:8890', authserv-id = 'mx.example.org' }\n";
//!
//! let rules = r#"
//!     [[identity]]
//!     certificate = "alice.pem"
//!     [[rule]]
//!     from = "*@example.org"
//!     sign = "required"
//! "#;
//! // In `site` are the tokens, the anchors and the MTA.
//! let settings = Settings::parse(&[site, rules].concat(), &path)?;
//! // `Agent::new` takes the keys from a pool; this one is in memory.
//! let key = || std::sync::Arc::new(key("alice"));
//! let alice = Identity::new(certificate("alice"), vec![certificate("ca")], Logins::Address, key(), key());
//! let agent = Agent::with_identities(&settings, Identities::from_parts([alice], ""));
//!
//! let mail = Message::from_stored(b"From: alice@example.org\nSubject: x\n\nHello.\n");
//! let [sender, to] = ["alice@example.org", "bob@example.net"].map(str::to_owned);
//! let login = Some(sender.clone());
//! let envelope = Envelope { sender, recipients: vec![to], login, ..Envelope::default() };
//! assert_eq!(agent.policy().plan(&envelope, &mail.entity(), now()).action(), "sign");
//! let outcome = agent.treat(&envelope, &mail, now())?;
//! let signed = outcome.edits.apply(&mail);
//! assert_eq!(agent.receiving().verify(&signed, now()).result(), AuthResult::Pass);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to read on
//!
//! [`settings`] for what a configuration says, [`policy`] for what becomes of which mail, [`ReceivingAgent`] for those who
//! open and verify without an envelope, [`Treating`] for archives, [`Turn`] for those who do not wait for keys.

mod agent;
mod archive;
mod audited;
pub mod authres;
pub mod config;
mod copies;
mod envelope;
mod fit;
mod foresight;
pub mod harvest;
pub mod identity;
mod incoming;
mod mailbox;
mod opened;
mod outcome;
pub mod output;
pub mod policy;
mod receiving;
mod recipients;
mod revocation;
mod sending;
pub mod settings;
mod turn;
mod uncached;
mod words;
mod writable;

pub use agent::{Agent, AgentError};
pub use archive::{ArchiveError, AsOf, Exchange, NewObject, Treated, Treating};
pub use audited::AuditedKey;
pub use config::{
    Action, Actions, ConfigError, HeaderProtection, Level, LogFormat, Mixed, NoCertificate, SignatureForm,
    WhenUnknown,
};
pub use envelope::{Asked, AskedOf, Envelope, Told};
pub use foresight::{Asking, Foreseen, Foresight, Form};
pub use identity::{Identities, Identity};
pub use incoming::{Incoming, IncomingShare};
pub use mailbox::{may_be_recipient, plain};
pub use opened::MOST_CONTENT_FIELDS;
pub use outcome::{Copy, Disposition, Edits, FieldRef, Keep, Outcome, Returned};
pub use policy::{PassReason, Plan, Policy, Protect, ReceiveReason, RefuseReason, Requirement, Share};
pub use receiving::{Entitled, Opening, Protection, Received, ReceivingAgent};
pub use recipients::{
    Given, Known, OpenStoreError, Recipient, chooser, encrypts, harvester, of_people, open_cache, store_of,
};
pub use sending::is_content_field;
pub use settings::Settings;
pub use turn::{Asks, Then, Turn};
pub use writable::{Unwritable, field_value, is_field_name};
