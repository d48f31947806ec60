//! To whom an archive is encrypted: certificates from files, and of the addresses of each message from a store.

use std::{collections::HashSet, fmt, path::PathBuf, time::SystemTime};

use agent::{Given, Recipient, of_people};
use smime::{
    Certificate, Fault, MailAddress,
    cms::RecipientKey,
    mime::Message,
    profile::Profile,
    store::{Lookup, RecipientCertificates, Waited},
};

use crate::{error::BatchError, task::Failed};

/// To whom to encrypt.
pub struct Recipients<'a> {
    fixed: Vec<Certificate>,
    store: Option<&'a dyn RecipientCertificates>,
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

    /// Also the owners of the addresses in From, To and Cc of each message.
    #[must_use]
    pub fn with_store(self, store: &'a dyn RecipientCertificates) -> Self {
        Self { store: Some(store), ..self }
    }

    /// What may be used.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Whether there is anybody.
    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.store.is_none()
    }

    /// To whom to encrypt a message, or to give its key. One address without a certificate is a failure: its owner could not read
    /// his own mail any more.
    pub(crate) fn of(
        &self,
        message: &Message,
        given: Given,
        now: SystemTime,
    ) -> Result<Vec<Recipient>, Failed> {
        let recipient = |certificate| Recipient::of(certificate, self.store);
        let always: Vec<_> = self.fixed.iter().cloned().map(recipient).collect();
        let Some(store) = self.store else { return Ok(always) };
        let mut people = Vec::new();
        let mut waited = Waited::default();
        for address in addresses(message)? {
            let found = store
                .lookup(&address, now, &mut waited)
                .map_err(|error| Failed::new(error.fault(), error.to_string()))?;
            let (fault, why) = match found {
                Lookup::Found(found) if !found.is_empty() => {
                    people.push(found.into_iter().map(recipient).collect());
                    continue;
                }
                Lookup::Unusable(reason) => (Fault::Policy, reason),
                Lookup::Unknown => (Fault::Transient, "it is not known whether it can be used".to_owned()),
                Lookup::Found(_) | Lookup::Absent | Lookup::Unlisted => {
                    (Fault::Policy, "there is none".to_owned())
                }
            };
            let reason =
                format!("no certificate to encrypt to {address}: {why}; see `hsmime explain {address}`");
            return Err(Failed::new(fault, reason));
        }
        Ok(of_people(always, people, &self.profile, given))
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
