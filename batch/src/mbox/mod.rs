//! Archives that are mbox files: their locks and compression, and how they are read, converted, written and replaced.
//!
//! What an mbox is, and where its messages begin, is the crate [`mbox`]'s. The octets of whatever is not changed
//! are kept as they are.

mod convert;
mod lock;
mod long;
mod sink;
mod source;
mod survey;

pub use ::mbox::{
    Found, Lengths, MadeBy, Part, Probe, Quoting, Splitter, Survey, Variant, Writer, arrival, from_line,
    quote, sender, unquote,
};
pub use convert::converted;
pub use sink::MboxSink;
pub use source::MboxSource;

pub(crate) use ::mbox::{Shape, begins_header, shape};
pub(crate) use convert::{Requote, with_length};
pub(crate) use lock::{give_up, remove_left_lock, while_held};
pub(crate) use sink::file_for;
pub(crate) use source::is_folder_data;
pub(crate) use survey::start;
