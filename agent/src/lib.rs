//! What to do with a message: configuration, policy, and RFC 8551's sending and receiving agent.
//!
//! The front ends bring an [`Envelope`] and a message, and get an [`Outcome`]: edits to apply, or whose
//! [`smime::Fault`] it is that there are none. Not in here: SMTP, milter, files of mail.

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
pub use recipients::{Known, OpenStoreError, Recipient, chooser, encrypts, harvester, open_cache, store_of};
pub use sending::is_content_field;
pub use settings::Settings;
pub use turn::{Asks, Then, Turn};
pub use writable::{Unwritable, field_value, is_field_name};
