//! The archive tool's benchmark: what `src/bin/batch.rs` puts together.
//!
//! ```text
//! bin/batch ── archive, token ──▶ hsmime-batch, and its peer: raw loop, the least, cp, openssl, python ── times ──▶ report
//! ```
//!
//! What is measured is the program itself, from its start to its end. Whoever it is compared with works in the same
//! rounds, one after the other, on the same archive.

pub mod least;
pub mod material;
pub mod peers;
pub mod pictures;
pub mod plan;
pub mod process;
pub mod punch;
pub mod report;
pub mod rest;
pub mod results;
pub mod sample;
pub mod signers;
pub mod site;
