//! What the tests need of an MTA, whichever it is.

use std::fmt;

use anyhow::Result;

use crate::lab::{Lab, Running};
use crate::sink::Offer;
use crate::smtp::{Client, Origin};

/// A running MTA that asks the milter and delivers everything to the sink.
pub trait Mta: fmt::Debug + Sized {
    /// Whether it is the other one.
    const IS_SENDMAIL: bool;

    /// Starts the lab with it, and a next hop that offers so much.
    fn start(lab: Lab, offer: Offer) -> Result<Running<Self>>;

    /// The port its SMTP server listens on.
    fn port(&self) -> u16;

    /// A new SMTP session at a port of its of a client that the milter takes for `origin`.
    fn connect_at(&self, port: u16, origin: &Origin) -> Result<Client>;

    /// The port of a further server that calls itself `office`.
    fn office(&self) -> Result<u16>;

    /// From now on no mail may be larger.
    fn limit_size(&mut self, octets: usize) -> Result<()>;

    /// From now on a header, and each field of it, may be so large.
    fn limit_header(&mut self, octets: usize) -> Result<()>;

    /// Takes MIME apart and writes it anew when it delivers, as one does that is not as the guide says. Postfix never does.
    fn write_mime_anew(&mut self) -> Result<()> {
        Ok(())
    }

    /// How many mails it holds until somebody lets them go.
    fn held(&self) -> Result<usize>;

    /// How many mails it has, held ones included.
    fn queued(&self) -> Result<usize>;

    /// The mail log so far.
    fn log(&self) -> String;

    /// A new SMTP session of a client that the milter takes for `origin`.
    fn connect(&self, origin: &Origin) -> Result<Client> {
        self.connect_at(self.port(), origin)
    }
}
