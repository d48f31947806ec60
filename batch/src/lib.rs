//! Signs, encrypts, decrypts, rekeys and verifies archives of mail: the parts of `hsmime-batch`.
//!
//! Messages come from a [`pipeline::Source`] in order, go through a [`task::Task`] on many threads, and leave
//! through a [`pipeline::Sink`] in order. A message that fails, or in doubt, is copied octet by octet and
//! named; the input is only read; output appears by rename when all of it is durable.

pub mod agents;
pub mod archive;
pub mod attributes;
mod basket;
mod beneath;
pub mod compress;
mod desk;
pub mod digest;
mod direct;
mod done;
pub mod error;
mod escape;
mod expected;
pub mod flags;
mod flusher;
pub mod form;
pub mod gate;
mod html;
pub mod inspect;
pub mod instant;
mod journal;
pub mod keys;
mod large;
pub mod log;
pub mod maildir;
pub mod manifest;
pub mod mbox;
mod message_id;
mod names;
mod open;
pub mod outage;
pub mod output;
mod own;
mod owner;
pub mod panics;
pub mod pipeline;
pub mod progress;
pub mod recipients;
pub mod render;
pub mod report;
pub mod request;
mod restore;
pub mod run;
pub mod scan;
pub mod scratch;
mod seen;
pub mod select;
mod signature;
pub mod single;
pub mod statistics;
pub mod stop;
pub mod stored;
pub mod task;
pub mod tree;
mod weigh;
pub mod words;
pub mod worker;
mod writer;
