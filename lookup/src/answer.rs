//! What a source answers: found, absent, or unknown and why.

use std::{io, path::PathBuf, time::Duration};

use smime::{Certificate, Fault, MailAddress, algorithm::DigestAlgorithm, key::Digest};
use x509_cert::ext::pkix::BasicConstraints;

/// Three answers, because "there is none" and "I don't know" lead to different mail; as
/// [`smime::store::Lookup`] has them.
#[derive(Debug)]
pub enum Answer {
    /// It has something.
    Found(Finding),
    /// It knows that it has nothing.
    Absent,
    /// It could not be asked, or its answer cannot be believed.
    Unknown(LookupError),
}

/// What a source has for an address.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// Certificates that name the address. Nobody has looked whether they are valid.
    pub certificates: Vec<Certificate>,
    /// CA certificates that came with them, and may help to find their paths. Nobody trusts them for being there.
    pub issuers: Vec<Certificate>,
    /// Objects in which a signature may vouch for what somebody's mail program can open. Nothing of them was checked.
    pub signed: Vec<Vec<u8>>,
    /// What the owner of the domain says of the address's certificates without giving them (RFC 8162).
    pub pins: Vec<Pin>,
    /// Whether there may be others: the source tells not all, or anybody could have left some out on the way.
    pub is_partial: bool,
}

impl Finding {
    /// Those of a bag that name the address, the CA certificates beside them, and what was signed with them.
    pub(crate) fn of(
        bag: impl IntoIterator<Item = Certificate>,
        mut signed: Vec<Vec<u8>>,
        address: &MailAddress,
    ) -> Self {
        signed.retain(|object| object.len() <= MAX_SIGNED_LEN);
        signed.truncate(MAX_SIGNED);
        let mut finding = Self { signed, ..Self::default() };
        for certificate in bag {
            let (list, limit) = if certificate.addresses().contains(address) {
                (&mut finding.certificates, MAX_CERTIFICATES)
            } else if is_ca(&certificate) {
                (&mut finding.issuers, MAX_ISSUERS)
            } else {
                continue;
            };
            if list.len() < limit && !list.contains(&certificate) {
                list.push(certificate);
            }
        }
        if finding.certificates.is_empty() { Self::default() } else { finding }
    }
}

/// How many signed objects are kept, and how long one may be: a chain and some capabilities.
const MAX_SIGNED: usize = 10;
const MAX_SIGNED_LEN: usize = 1 << 16;
/// How many certificates of an address are looked at.
const MAX_CERTIFICATES: usize = 200;
/// How many CA certificates beside them.
pub(crate) const MAX_ISSUERS: usize = 50;

/// Whether a certificate may issue others (RFC 5280 4.2.1.9).
pub(crate) fn is_ca(certificate: &Certificate) -> bool {
    matches!(certificate.extension::<BasicConstraints>(), Ok(Some(BasicConstraints { ca: true, .. })))
}

/// A pin of an SMIMEA record: the certificates of an address are those that match one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// What is compared.
    pub selector: Selector,
    /// Its hash; `None` where `data` is the whole of it.
    pub digest: Option<DigestAlgorithm>,
    /// What it must be.
    pub data: Vec<u8>,
}

/// What of a certificate a pin is about (RFC 6698 2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// All of it.
    Certificate,
    /// Its `SubjectPublicKeyInfo`.
    PublicKey,
}

impl Pin {
    /// Whether a certificate is meant.
    pub fn matches(&self, certificate: &Certificate) -> bool {
        let key;
        let octets = match self.selector {
            Selector::Certificate => certificate.der(),
            Selector::PublicKey => {
                key = certificate.public_key_info();
                &key
            }
        };
        match self.digest {
            None => octets == self.data,
            Some(algorithm) => Digest::of(algorithm, octets).as_bytes() == self.data,
        }
    }
}

/// Why a source does not know.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The time was over.
    #[error("no answer within {} ms", after.as_millis())]
    Late {
        /// How long it had.
        after: Duration,
    },
    /// Files cannot be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// A server cannot be reached or used, whatever it is asked.
    #[error("{server}: {reason}")]
    Unreachable {
        /// The server.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// A server does not answer a question as it should.
    #[error("{server}: {reason}")]
    Server {
        /// The server.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// A server refuses.
    #[error("{server} refuses: {reason}")]
    Refused {
        /// The server.
        server: String,
        /// Its words.
        reason: String,
    },
    /// A server has nothing, and nothing proves that it was the server who said so.
    #[error(
        "{server} has none, but without TLS anybody on the way could say so: use ldaps:// or start-tls = true"
    )]
    Unproven {
        /// The server.
        server: String,
    },
    /// DNSSEC says that the answer is forged, or it cannot be proven to be good (RFC 4035 4.3).
    #[error("the DNS answer for {name} is {state}: it is not used (RFC 8162 section 3)")]
    NotSecure {
        /// The name asked for.
        name: String,
        /// `bogus` or `indeterminate`.
        state: &'static str,
    },
    /// It failed a moment ago, and is left alone for a while.
    #[error("not asked again for another {} s, because: {reason}", left.as_secs().max(1))]
    Resting {
        /// For how long.
        left: Duration,
        /// What it said then.
        reason: String,
    },
}

impl LookupError {
    /// Whose fault it is: what others must mend passes by itself, what the configuration names does not.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unreadable { .. } | Self::Refused { .. } | Self::Unproven { .. } => Fault::Operator,
            _ => Fault::Transient,
        }
    }
}
