//! The pool over a socket: one half asks, the other answers.
//!
//! ```text
//! Router ─ Remote ─ Link (a lane) ─ Outbox ═ socket ═ Server ─ Gate ─ Pool
//!             └──── Connector                  (in hsmime-keyd, and once more in its child processes)
//! ```

mod buffer;
mod child;
mod client;
mod connector;
mod error;
mod frame;
mod gate;
mod host;
mod inquiries;
mod link;
mod outbox;
mod outstanding;
mod pins;
mod pool;
mod receipts;
mod report;
mod served_keys;
mod server;
mod wire;

#[cfg(test)]
mod tests;

pub use child::Program;
pub(crate) use client::Remote;
pub use gate::{Closing, Ended, Gate, KeyUse, Permission, Told};
pub use host::host_module;
pub(crate) use outbox::{Cork, flush_corked};
pub use pool::RejectedPins;
pub use server::{ServeError, Server};
pub(crate) use wire::{few, few_of_map};
