//! The milter as the MTA sees it: over a socket, with treatments made for the test.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests, outside of #[test] functions"
)]

mod at_once;
mod child;
mod exchange;
mod faults;
mod hostile;
mod limits;
mod mta;
mod offers;
mod program;
mod replace;
mod running;
mod service;
mod stop;
mod watched;
