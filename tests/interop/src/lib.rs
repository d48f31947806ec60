//! The interoperability matrix: each algorithm and form of S/MIME × each peer × each direction.
//!
//! Every cell runs the peer. It is good if the same octets come out and the verdict is the right one; a peer that cannot
//! do something must say so in the words that `limits.rs` knows, so that nothing is silent when a newer one can. Not in
//! here: the peers' drivers (`testkit::peers`).

pub mod cell;
pub mod claims;
pub mod form;
pub mod limits;
pub mod mail;
pub mod markdown;
pub mod matrix;
pub mod ours;
pub mod peer;
pub mod rows;
pub mod world;

pub use cell::{Cell, Direction};
pub use matrix::{Matrix, Tampering};
