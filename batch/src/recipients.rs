//! To whom an archive is encrypted: certificates from files, and of the addresses of each message from a store.

use std::{collections::HashSet, fmt, path::PathBuf, time::SystemTime};

use certcache::{Cache, TrustState};
use smime::{
    Certificate, Fault, MailAddress,
    cms::RecipientKey,
    mime::Message,
    path::{Trust, validate},
    profile::Profile,
    store::{Lookup, RecipientCertificates, StoreError, Waited},
};

use crate::{error::BatchError, task::Failed};

/// The certificates of the cache that may be encrypted to: newest first, those that somebody vouches for before all.
pub struct Cached<'a>(pub &'a Cache);

impl RecipientCertificates for Cached<'_> {
    fn lookup(&self, address: &MailAddress, at: SystemTime, _: &mut Waited) -> Result<Lookup, StoreError> {
        let path = || self.0.path().display().to_string();
        let failed = |error: certcache::CacheError| StoreError { path: path(), reason: error.to_string() };
        let mut entries = self.0.by_address(address).map_err(failed)?;
        entries.retain(|entry| entry.state >= TrustState::Trusted && entry.certificate.is_valid_at(at));
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.state));
        if entries.is_empty() {
            return Ok(Lookup::Unknown);
        }
        Ok(Lookup::Found(entries.into_iter().map(|entry| entry.certificate).collect()))
    }
}

/// To whom to encrypt.
pub struct Recipients<'a> {
    fixed: Vec<Certificate>,
    store: Option<(&'a dyn RecipientCertificates, &'a Trust)>,
    profile: Profile,
}

impl fmt::Debug for Recipients<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipients").field("fixed", &self.fixed).finish_non_exhaustive()
    }
}

impl<'a> Recipients<'a> {
    /// Always these, which whoever runs this answers for. Each must be for encryption and valid now.
    pub fn new(fixed: Vec<Certificate>, profile: Profile, now: SystemTime) -> Result<Self, BatchError> {
        for certificate in &fixed {
            let refuse = |problem: String| BatchError::Recipient { problem };
            RecipientKey::new(certificate.clone()).map_err(|error| refuse(error.to_string()))?;
            if !certificate.is_valid_at(now) {
                return Err(refuse(format!("the certificate {certificate} is expired, or not valid yet")));
            }
        }
        Ok(Self { fixed, store: None, profile })
    }

    /// The certificates in these files.
    pub fn read(files: &[PathBuf]) -> Result<Vec<Certificate>, BatchError> {
        let mut found = Vec::new();
        for path in files {
            let failed = |source| BatchError::Read { origin: path.display().to_string(), source };
            let octets = std::fs::read(path).map_err(failed)?;
            let read = match std::str::from_utf8(&octets) {
                Ok(text) if text.contains("-----BEGIN") => Certificate::from_pem(text),
                _ => Certificate::from_der(&octets).map(|certificate| vec![certificate]),
            };
            found.extend(
                read.map_err(|error| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))?,
            );
        }
        Ok(found)
    }

    /// Also the owners of the addresses in From, To and Cc of each message. A store's certificates are not
    /// trusted for being there, so each needs a valid path.
    #[must_use]
    pub fn with_store(self, store: &'a dyn RecipientCertificates, trust: &'a Trust) -> Self {
        Self { store: Some((store, trust)), ..self }
    }

    /// What may be used.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Whether there is anybody.
    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.store.is_none()
    }

    /// To whom to encrypt a message. One address without a certificate is a failure: its owner could not read
    /// his own mail any more.
    pub(crate) fn of(&self, message: &Message, now: SystemTime) -> Result<Vec<Certificate>, Failed> {
        let mut all = self.fixed.clone();
        let Some((store, trust)) = &self.store else { return Ok(all) };
        let mut waited = Waited::default();
        for address in addresses(message)? {
            let found = match store.lookup(&address, now, &mut waited) {
                Ok(Lookup::Found(found)) => found,
                Ok(Lookup::Absent | Lookup::Unknown) => Vec::new(),
                Err(error) => return Err(Failed::new(error.fault(), error.to_string())),
            };
            let usable = found.into_iter().find(|certificate| {
                RecipientKey::new(certificate.clone()).is_ok()
                    && certificate.addresses().iter().any(|of| of.folded() == address.folded())
                    && validate(certificate, &[], trust, now).is_ok()
            });
            let Some(certificate) = usable else {
                let reason = format!("no certificate to encrypt to {address} that leads to an anchor");
                return Err(Failed::new(Fault::Policy, reason));
            };
            all.push(certificate);
        }
        Ok(all)
    }
}

/// The addresses of a message's sender and recipients, each once.
pub(crate) fn addresses(message: &Message) -> Result<Vec<MailAddress>, Failed> {
    let entity = message.entity();
    let header = entity.header();
    let (mut seen, mut addresses) = (HashSet::new(), Vec::new());
    for name in ["From", "To", "Cc"] {
        for field in header.all(name) {
            for text in listed(&field.unfolded()).ok_or_else(|| {
                Failed::new(Fault::Message, format!("the addresses in the field {name} cannot be read"))
            })? {
                let address = MailAddress::parse(&text).map_err(|error| {
                    Failed::new(Fault::Message, format!("an address in the field {name}: {error}"))
                })?;
                if seen.insert(address.folded()) {
                    addresses.push(address);
                }
            }
        }
    }
    Ok(addresses)
}

/// The addresses of a field; `None` if it cannot be read.
pub(crate) fn listed(value: &str) -> Option<Vec<String>> {
    let list = mailparse::addrparse(value).ok()?;
    let mut found = Vec::new();
    for address in list.iter() {
        match address {
            mailparse::MailAddr::Single(single) => found.push(single.addr.clone()),
            mailparse::MailAddr::Group(group) => {
                found.extend(group.addrs.iter().map(|single| single.addr.clone()));
            }
        }
    }
    Some(found)
}
