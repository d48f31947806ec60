//! What the tests need of an MTA, whichever it is.

use std::fmt;

use anyhow::Result;

use crate::smtp::{Client, Origin};

/// A running MTA that asks the milter and delivers everything to the sink.
pub trait Mta: fmt::Debug {
    /// A new SMTP session of a client that the milter takes for `origin`.
    fn connect(&self, origin: &Origin) -> Result<Client>;

    /// The mail log so far.
    fn log(&self) -> String;
}
