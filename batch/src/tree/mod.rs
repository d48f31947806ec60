//! A tree of `.eml` files: each message a file, in folders of any depth.

mod sink;
mod source;

pub use sink::{Naming, TreeSink};
pub use source::{Listing, TreeSource};

pub(crate) use sink::{file_of, numbered, twin_of};
pub(crate) use source::{is_gone, is_named_message, read};
