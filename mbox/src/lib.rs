//! The mbox format: messages one after the other, each begun by a From_ line (RFC 4155, appendix A).
//!
//! There is no one mbox format. So the reader is strict about what begins a message, says where it is in doubt, and
//! accounts for every octet; and it never changes one. Locks and compression are its caller's.
//!
//! ```text
//! Splitter (cuts, counts, doubts) ─ from_line (what begins a message) ─ quoting (what keeps text from doing so)
//!    └─▶ Survey (which variant, whose)        envelope (what a From_ line says)
//! ```
//!
//! # Reading an archive
//!
//! [`Splitter`] takes any [`BufRead`](std::io::BufRead). A [`Probe`] lets it look elsewhere in the same archive, to test
//! what a `Content-Length` claims; octets in memory are one, and so is a file, of which a [`Cursor`] reads. [`Survey`] tells how the lines of all messages are quoted:
//!
//! ```
//! use mbox::{Part, Splitter, Survey, Variant, unquote};
//!
//! let archive: &[u8] = b"From alice@example.org Fri Sep 16 22:26:51 2016\nSubject: one\n\n>From me to you\n\n\
//!                        From bob@example.org Fri Sep 16 22:30:02 2016\nSubject: two\n\n>>From here\n\n";
//! let survey = Survey::of(archive, archive)?;
//! assert_eq!((survey.messages, survey.variant()), (2, Variant::Mboxrd));
//!
//! let mut splitter = Splitter::new(archive, archive, 1 << 20);
//! while let Some(part) = splitter.next_part()? {
//!     let Part::Message(found) = part else { panic!("nothing is before the first message") };
//!     let octets = found.octets.expect("none is over the limit");
//!     let content = &octets[found.from_line..octets.len() - found.separator];
//!     let text = match survey.quoting() {
//!         Some(quoting) => unquote(content, quoting),
//!         None => content.into(),
//!     };
//!     assert!(text.ends_with(b"\nFrom me to you\n") || text.ends_with(b"\n>From here\n"));
//!     assert!(found.doubt.is_none());
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Whose lengths are believed
//!
//! A `Content-Length` may say that what looks like a From_ line is text. Where the archive's writer tells the length of every
//! message (mboxcl, mboxcl2), that is so. Elsewhere the field came with the message, and with the right number its sender would
//! have the mail of others for his own text: there the line begins a message, and those that it is about are [disputed](Found::disputed).
//! Which of the two it is is what the archive looks like, by the messages that are not hidden; and these may be his as well. So what
//! has a header behind it is told where it is [hidden](Found::hidden) by a length, unless somebody [told](Lengths::told) whose the lengths are.
//!
//! # What is no From_ line
//!
//! A line begins a message if an empty line or the start is before it, it has the shape of a From_ line, and a header
//! begins after it. What has only some of that stays where it is, and is told:
//!
//! ```
//! use mbox::{Part, Splitter};
//!
//! let archive: &[u8] = b"From a@example.org Fri Sep 16 22:26:51 2016\nSubject: x\n\n\
//!                        From b@example.org Fri Sep 16 22:30:02 2016\nand no header after it\n";
//! let mut splitter = Splitter::new(archive, archive, 1 << 20);
//! let Some(Part::Message(found)) = splitter.next_part()? else { panic!("there is one") };
//! assert_eq!(found.len, archive.len() as u64);
//! assert_eq!(found.doubt, Some(56));
//! # Ok::<(), std::io::Error>(())
//! ```

mod ends;
mod envelope;
mod file;
mod found;
mod from_line;
mod length;
mod probe;
mod quoting;
mod reading;
mod splitter;
mod survey;
mod variant;

pub use ends::Ends;
pub use envelope::{arrival, civil_from_days, days_from_civil, from_line, sender};
pub use file::{Cursor, read_at};
pub use found::{Found, Part};
pub use from_line::{Shape, begins_header, shape};
pub use probe::{Believing, Lengths, MadeBy, Probe};
pub use quoting::{Quoting, quote, unquote};
pub use splitter::Splitter;
pub use survey::{Survey, Writer};
pub use variant::Variant;
