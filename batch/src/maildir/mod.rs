//! Maildir: a message is a file in `new` or `cur`, its flags are in its name; Maildir++ folders beside it.
//!
//! <https://cr.yp.to/proto/maildir.html>, <https://www.courier-mta.org/imap/README.maildirquota.html>

mod commit;
mod delivery;
mod disks;
mod files;
mod name;
mod replace;
mod sink;
mod source;
mod tree;

pub use delivery::MaildirDelivery;
pub(crate) use delivery::numbered_name;
#[cfg(test)]
pub(crate) use name::successor;
pub(crate) use name::{Predecessor, Sizes, base, hash, info_number, is_successor, predecessor};
pub use replace::MaildirReplacer;
pub use sink::MaildirSink;
pub use source::MaildirSource;
pub use tree::Tree;
