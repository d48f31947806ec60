//! How `hsmime-batch` cuts an mbox into messages: its own files, without the crate around them, whose dependencies would
//! take minutes to build here.
#![allow(dead_code, reason = "what only the rest of that crate uses")]

#[path = "../../batch/src/mbox/from_line.rs"]
mod from_line;
#[path = "../../batch/src/mbox/quoting.rs"]
mod quoting;
#[path = "../../batch/src/mbox/splitter.rs"]
mod splitter;

pub(crate) use from_line::{begins_header, shape};
pub use quoting::{Quoting, quote, unquote};
pub use splitter::{Found, Part, Probe, Splitter};
