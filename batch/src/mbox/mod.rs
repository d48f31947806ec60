//! The mbox format: messages one after the other, each begun by a From_ line (RFC 4155, appendix A).
//!
//! There is no one mbox format, so the reader is strict about what begins a message, says where it is in
//! doubt, and the octets of whatever is not changed are kept as they are.

mod from_line;
mod quoting;
mod source;
mod splitter;
mod survey;

pub use quoting::{Quoting, quote, unquote};
pub use source::MboxSource;
pub use splitter::{Found, Part, Splitter};
pub use survey::Survey;

pub(crate) use from_line::{Shape, begins_header, shape};
