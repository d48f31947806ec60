//! Forged mail that other programs took for good: each forgery made here, and refused.
//!
//! Nothing forged passes as signed, and nothing of a ciphertext comes out that its key's owner should not see. Where
//! the OpenSSL on this machine takes the forgery, the test says so: `cargo nextest run -p smime --test forgeries
//! --no-capture` prints it.
//!
//! `docs/attacks.md` has the list; a test here that is not on it fails one of `testkit`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "the functions beside the tests are part of them, and what OpenSSL says is to be read"
)]

mod certificates;
mod enveloped_data;
mod opening;
mod recipients;
mod senders;
mod signed_data;
mod support;
mod wrapping;
