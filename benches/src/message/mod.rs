//! The benchmark of whole messages: what `src/bin/messages.rs` puts together.
//!
//! Every contender gets the same message and the same keys, and does the same work: from a MIME entity to an S/MIME
//! message with its base64, and back with the certification path. All are measured in the same rounds, one after
//! the other, so that a machine that gets slower or faster meanwhile does so for all. What a contender cannot do is left out,
//! and stands as `–` in the table.

pub mod contender;
pub mod gpgsm;
pub mod limit;
pub mod material;
pub mod memory;
pub mod openssl;
pub mod operation;
pub mod ours;
pub mod pictures;
pub mod plan;
pub mod process;
pub mod python;
pub mod report;
pub mod results;
