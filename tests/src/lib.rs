//! Harness for whole-system tests and the demo: a token, a small CA, a private Postfix, and the peers.
//!
//! Everything real and of its own per test: SoftHSM in a directory, a Postfix instance without systemd, an
//! SMTP sink that keeps the octets it was given, and OpenSSL, gpgsm, NSS and BouncyCastle as the other side.
//! [`Lab`] puts them together. Nothing in here links the product; the programs are started as an administrator
//! would. Not in here: the tests themselves (`it/`).

mod acceptor;
pub mod archive;
pub mod command;
pub mod config;
pub mod der;
pub mod filter;
pub mod isolated;
pub mod lab;
pub mod mail;
pub mod memory;
pub mod milter;
pub mod mime;
pub mod mta;
pub mod nameserver;
pub mod opendkim;
pub mod peers;
pub mod pki;
pub mod postfix;
pub mod programs;
pub mod promises;
mod saslauthd;
pub mod sendmail;
pub mod sink;
pub mod slapd;
pub mod smtp;
pub mod softhsm;
pub mod token;
pub mod wait;
pub mod workdir;

pub use anyhow::{Context, Error, Result, bail, ensure};
pub use config::Config;
pub use lab::Lab;
pub use pki::{Person, Pki};
pub use workdir::Workdir;
