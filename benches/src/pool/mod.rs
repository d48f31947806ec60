//! The pool's benchmark: what `src/bin/pool.rs` puts together.
//!
//! ```text
//! bin/pool ── job (JSON) ──▶ child process: raw loop, or pool, or client of hsmime-keyd ── points (JSON) ──▶ report
//! ```
//!
//! A module is initialised once per process, so every measurement is a process of its own. All that are
//! compared are measured in the same rounds, one after the other, so that a machine that gets slower or
//! faster meanwhile does so for all.

pub mod child;
pub mod contender;
pub mod load;
pub mod openssl;
pub mod operation;
pub mod pictures;
pub mod plan;
pub mod plot;
pub mod raw;
pub mod report;
pub mod results;
pub mod server;
pub mod site;

pub use crate::statistics;
