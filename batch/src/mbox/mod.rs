//! The mbox format: messages one after the other, each begun by a From_ line (RFC 4155, appendix A).
//!
//! There is no one mbox format, so the reader is strict about what begins a message, says where it is in
//! doubt, and the octets of whatever is not changed are kept as they are.

mod convert;
mod envelope;
mod from_line;
mod lock;
mod quoting;
mod sink;
mod source;
mod splitter;
mod survey;

pub use convert::{Variant, converted};
pub use envelope::{arrival, from_line, sender};
pub use quoting::{Quoting, quote, unquote};
pub use sink::MboxSink;
pub use source::MboxSource;
pub use splitter::{Found, Part, Probe, Splitter};
pub use survey::{Survey, Writer};

pub(crate) use convert::{Requote, with_length};
pub(crate) use from_line::{Shape, begins_header, shape};
pub(crate) use lock::remove_left_lock;
pub(crate) use sink::file_for;
pub(crate) use source::is_folder_data;
pub(crate) use survey::start;
