//! Recipients' certificates from elsewhere: folders of files, LDAP directories, SMIMEA records in DNS. And what tells of
//! their revocation: CRLs and OCSP responses by HTTP.
//!
//! All sources are behind one trait, [`CertificateSource`], and give three answers: found, absent, unknown.
//! [`Sources`] asks them in order within one budget of time. What a source says is a claim: its certificates are
//! candidates, and whoever encrypts validates the path first.
//!
//! Callers block. What is asynchronous in the libraries below (LDAP, DNS) runs on one thread of its own
//! (`reactor.rs`), and none of its types is seen outside of this crate.

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
