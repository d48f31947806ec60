//! Recipients' certificates from elsewhere: folders of files, LDAP directories, SMIMEA records in DNS. And what tells of
//! their revocation: CRLs and OCSP responses by HTTP.
//!
//! All sources are behind one trait, [`CertificateSource`], and give three answers: found, absent, unknown.
//! [`Sources`] asks them in order within one budget of time. What a source says is a claim: its certificates are
//! candidates, and whoever encrypts validates the path first. Not in here: where they are kept ([`certcache`]), and who is
//! believed ([`smime::path`]).
//!
//! ```text
//!                ┌▶ certcache (first)
//! who encrypts ─▶ Refill            ┌▶ Directory (files)
//!                └▶ Sources (then) ─┼▶ ldap
//!                                   └▶ smimea (DNS)
//! who validates ─▶ Fetcher ─▶ CRLs, OCSP responses
//! ```
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use lookup::{CertificateSource, Directory, Sources};
//! use smime::{MailAddress, store::Lookup, testing::fixtures::{certificate, data, now}};
//!
//! let folder = tempfile::tempdir()?;
//! std::fs::write(folder.path().join("partners.pem"), data("alice.pem"))?;
//! let source = |path| Arc::new(Directory::new("files", path)) as Arc<dyn CertificateSource>;
//! let (alice, bob) = (MailAddress::parse("alice@example.org")?, MailAddress::parse("bob@example.org")?);
//!
//! let sources = Sources::new(vec![source(folder.path().into())], Duration::from_secs(20));
//! let found = sources.find(&alice, now()).lookup();
//! assert!(matches!(found, Lookup::Found(found) if found == [certificate("alice")]));
//! assert!(matches!(sources.find(&bob, now()).lookup(), Lookup::Absent));
//!
//! // Who cannot be asked has not said that there is none.
//! let gone = Sources::new(vec![source(folder.path().join("gone"))], Duration::from_secs(20));
//! assert!(matches!(gone.find(&bob, now()).lookup(), Lookup::Unknown));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Callers block. What is asynchronous in the libraries below (LDAP, DNS) runs on one thread of its own
//! (`reactor.rs`), and none of its types is seen outside of this crate.
//!
//! Where to read on: [`Answer`] for what a source says, [`ldap`] and [`smimea`] for the other sources, [`Refill`] for the
//! cache in front of them, [`Fetcher`] for revocation.

mod announced;
mod answer;
mod directory;
mod fetch;
pub mod files;
mod flight;
pub mod ldap;
mod refill;
pub mod smimea;
mod source;
mod sources;
mod unasked;

pub use answer::{Answer, Finding, LookupError, Pin, Selector};
pub use directory::Directory;
pub use fetch::{
    CacheStore, FetchSettings, Fetcher, MemoryStore, Prefetch, ProxyError, RevocationStore, check_proxy,
};
pub use refill::Refill;
pub use source::{CertificateSource, Kind};
pub use sources::{Asked, Search, Sources};
pub use unasked::{Instead, Unasked};
