//! MIME entities, octet by octet (RFC 5322, RFC 2045, RFC 2046).
//!
//! What is signed or verified is exactly the octets that were received or will be sent, so an entity
//! is a view of octets, and a change is a splice; nothing is ever serialised again from a model.

mod message;

pub use message::{Message, MessageBuilder};
