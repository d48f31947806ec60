//! Our own identities: certificates whose private keys are on the tokens, found by mail address.
//!
//! Signing is for the newest certificate that may; decrypting is for every one there ever was, because
//! old mail stays encrypted to old keys.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use hsmpool::Pool;
use smime::{
    Certificate, MailAddress,
    key::{Decryptor, Signer},
};

use crate::settings::{IdentitySettings, Logins, Settings};

/// A certificate of ours with its key.
#[derive(Clone, Debug)]
pub struct Identity {
    certificate: Certificate,
    chain: Vec<Certificate>,
    addresses: Vec<MailAddress>,
    logins: Logins,
    signer: Arc<dyn Signer>,
    decryptor: Arc<dyn Decryptor>,
}

impl Identity {
    /// Puts together a certificate, those between it and an anchor, who may use it, and its private key.
    pub fn new(
        certificate: Certificate,
        chain: Vec<Certificate>,
        logins: Logins,
        signer: Arc<dyn Signer>,
        decryptor: Arc<dyn Decryptor>,
    ) -> Self {
        let addresses = certificate.addresses();
        Self { certificate, chain, addresses, logins, signer, decryptor }
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Certificates between it and an anchor, to be sent along.
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The certificate's addresses.
    pub fn addresses(&self) -> &[MailAddress] {
        &self.addresses
    }

    /// Who may sign with it.
    pub fn logins(&self) -> &Logins {
        &self.logins
    }

    /// The private key, for signing.
    pub fn signer(&self) -> &dyn Signer {
        &*self.signer
    }

    /// The private key, for decrypting.
    pub fn decryptor(&self) -> &dyn Decryptor {
        &*self.decryptor
    }
}

/// All identities.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    all: Vec<Identity>,
    /// Places in `all` by folded address.
    by_address: HashMap<String, Vec<usize>>,
    recipient_delimiter: String,
}

impl Identities {
    /// The identities of the settings, with their keys in a pool. No token is asked: whether a key is there
    /// shows when it is used.
    pub fn new(settings: &Settings, pool: &Pool) -> Self {
        let identity = |of: &IdentitySettings| {
            let key = Arc::new(pool.key(&of.certificate));
            Identity::new(of.certificate.clone(), of.chain.clone(), of.logins.clone(), key.clone(), key)
        };
        let delimiter = settings.milter().map_or("", |milter| &milter.recipient_delimiter);
        Self::from_parts(settings.identities().iter().map(identity), delimiter)
    }

    /// Puts identities together. A recipient `alice+tag@example.org` owns the keys of
    /// `alice@example.org` if `+` is among the delimiters and no certificate names the longer address.
    pub fn from_parts(identities: impl IntoIterator<Item = Identity>, recipient_delimiter: &str) -> Self {
        let mut found = Self { recipient_delimiter: recipient_delimiter.to_owned(), ..Self::default() };
        for identity in identities {
            for address in &identity.addresses {
                found.by_address.entry(address.folded()).or_default().push(found.all.len());
            }
            found.all.push(identity);
        }
        found
    }

    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Identity> {
        self.all.iter()
    }

    /// The identity that signs for an address at a time: of those that may sign, the newest. Subaddresses
    /// are not folded here, since a verifier compares `From` with the certificate to the letter.
    pub fn signing_identity(&self, address: &MailAddress, at: SystemTime) -> Option<&Identity> {
        newest_for_signing(self.exactly(&address.folded()), |identity| &identity.certificate, at)
    }

    /// The identity of a certificate.
    pub fn of_certificate(&self, certificate: &Certificate) -> Option<&Identity> {
        self.all.iter().find(|identity| identity.certificate == *certificate)
    }

    /// Every identity whose keys a recipient owns, expired ones too.
    pub fn owned_by<'a>(&'a self, recipient: &MailAddress) -> impl Iterator<Item = &'a Identity> + use<'a> {
        let exact = recipient.folded();
        let key = match base_address(recipient, &self.recipient_delimiter) {
            Some(base) if !self.by_address.contains_key(&exact) => base.folded(),
            _ => exact,
        };
        self.exactly(&key)
    }

    fn exactly<'a>(&'a self, folded: &str) -> impl Iterator<Item = &'a Identity> + use<'a> {
        let places = self.by_address.get(folded);
        places.into_iter().flatten().filter_map(|place| self.all.get(*place))
    }
}

/// `alice@example.org` of `alice+tag@example.org`; `None` where no delimiter is in the local part or nothing stands before
/// it.
pub(crate) fn base_address(address: &MailAddress, delimiters: &str) -> Option<MailAddress> {
    let (base, _) = address.local().split_once(|c| delimiters.contains(c))?;
    MailAddress::parse_exact(&format!("{base}@{}", address.ascii_domain())).ok()
}

/// Of those whose certificate may sign at a time, the one whose certificate is the newest.
pub(crate) fn newest_for_signing<'a, T>(
    candidates: impl Iterator<Item = &'a T>,
    certificate: impl Fn(&T) -> &Certificate,
    at: SystemTime,
) -> Option<&'a T> {
    candidates
        .filter(|candidate| signing_fault(certificate(candidate), at).is_none())
        .max_by_key(|candidate| certificate(candidate).not_before())
}

/// Why a certificate cannot sign at a time, to be read behind its name.
pub(crate) fn signing_fault(certificate: &Certificate, at: SystemTime) -> Option<&'static str> {
    if !certificate.may_sign() {
        return Some("is not for signing (keyUsage)");
    }
    if !certificate.is_for_email() {
        return Some("is not for e-mail (extKeyUsage)");
    }
    if at < certificate.not_before() {
        return Some("is not valid yet");
    }
    (!certificate.is_valid_at(at)).then_some("is expired")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use smime::{
        algorithm::{KeyEncryptionAlgorithm, SignatureAlgorithm},
        key::{KeyError, SignatureInput, SignatureValue, Unwrapped},
    };

    use super::*;

    /// The key of a test that never uses it.
    #[derive(Debug)]
    struct NoKey(Certificate);

    impl NoKey {
        fn unsupported<T>(&self, operation: &str) -> Result<T, KeyError> {
            let operation = operation.to_owned();
            Err(KeyError::Unsupported { certificate: self.0.to_string(), operation })
        }
    }

    impl Signer for NoKey {
        fn certificate(&self) -> &Certificate {
            &self.0
        }

        fn algorithms(&self) -> &[SignatureAlgorithm] {
            &[]
        }

        fn sign(&self, _: &SignatureInput<'_>, _: SignatureAlgorithm) -> Result<SignatureValue, KeyError> {
            self.unsupported("signing")
        }
    }

    impl Decryptor for NoKey {
        fn certificate(&self) -> &Certificate {
            &self.0
        }

        fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
            self.unsupported("decrypting")
        }
    }

    /// A certificate of `testdata`.
    pub(crate) fn certificate(name: &str) -> Certificate {
        let path = format!("{}/testdata/{name}.pem", env!("CARGO_MANIFEST_DIR"));
        Certificate::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap().remove(0)
    }

    /// The beginning of a year, near enough.
    pub(crate) fn year(year: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_556_952)
    }

    fn address(text: &str) -> MailAddress {
        MailAddress::parse(text).unwrap()
    }

    fn identities(names: &[&str], delimiter: &str) -> Identities {
        let identity = |name: &&str| {
            let certificate = certificate(name);
            let key = Arc::new(NoKey(certificate.clone()));
            Identity::new(certificate, Vec::new(), Logins::Address, key.clone(), key)
        };
        Identities::from_parts(names.iter().map(identity), delimiter)
    }

    #[test]
    fn the_newest_certificate_that_may_sign_signs() {
        // The order says nothing, nor do newer certificates that are not for signing or not for mail.
        let all =
            ["alice-2025", "alice-tls", "alice-2015", "alice-2110", "alice-encrypts", "alice-2024", "bob"];
        let identities = identities(&all, "");
        for (at, from, expected) in [
            (2014, "alice@example.org", None),
            (2016, "alice@example.org", Some("alice-2015")),
            (2018, "alice@example.org", None),
            (2024, "Alice@EXAMPLE.org", Some("alice-2024")),
            (2026, "alice@example.org", Some("alice-2025")),
            (2111, "alice@example.org", Some("alice-2110")),
            (2121, "alice@example.org", None),
            (2026, "robert@example.org", Some("bob")),
            (2026, "alice@example.net", None),
            (2026, "alice+tag@example.org", None),
        ] {
            let at = year(at) + Duration::from_hours(24);
            let found = identities.signing_identity(&address(from), at);
            assert_eq!(found.map(|i| &i.certificate), expected.map(certificate).as_ref(), "{at:?} {from}");
        }
    }

    #[test]
    fn a_certificate_is_valid_from_its_first_to_its_last_moment() {
        let certificate = certificate("alice-2015");
        let (first, last) = (certificate.not_before(), certificate.not_after());
        let instant = Duration::from_nanos(1);
        for (at, expected) in [
            (first - instant, Some("is not valid yet")),
            (first, None),
            (last, None),
            (last + instant, Some("is expired")),
        ] {
            assert_eq!(signing_fault(&certificate, at), expected, "{at:?}");
        }
    }

    #[test]
    fn every_certificate_of_an_address_decrypts_for_ever() {
        let identities = identities(&["alice-2015", "alice-2025", "alice-encrypts", "bob"], "");
        let owned = identities.owned_by(&address("alice@example.org"));
        let owned: Vec<&Certificate> = owned.map(|i| &i.certificate).collect();
        assert_eq!(owned, ["alice-2015", "alice-2025", "alice-encrypts"].map(certificate).each_ref());
    }

    #[test]
    fn a_base_address_is_folded_as_every_other() {
        for (text, expected) in [
            ("Bob+x@Example.ORG", Some("bob@example.org")),
            ("bob+x@M\u{dc}NCHEN.example", Some("bob@xn--mnchen-3ya.example")),
            ("bob+x@xn--mnchen-3ya.example", Some("bob@xn--mnchen-3ya.example")),
            // Only a local part all of ASCII is without regard to case.
            ("J\u{f6}rg+X@example.org", Some("J\u{f6}rg@example.org")),
            ("Bob+\u{f6}@example.org", Some("bob@example.org")),
            ("bob@example.org", None),
            ("+x@example.org", None),
        ] {
            let base = base_address(&address(text), "+").map(|base| base.folded());
            assert_eq!(base.as_deref(), expected, "{text}");
            let direct = text.replace("+x", "").replace("+X", "").replace("+\u{f6}", "");
            assert!(base.is_none_or(|base| base == address(&direct).folded()), "{text}");
        }
    }

    #[test]
    fn a_subaddress_owns_the_key_only_where_the_delimiter_is_configured() {
        for (delimiter, recipient, owned) in [
            ("", "alice+x@example.org", 0),
            ("+", "alice+x@example.org", 1),
            ("-+", "Alice-x+y@example.org", 1),
            ("+", "alice-x@example.org", 0),
            ("+", "alice+x@example.net", 0),
            ("+", "+alice@example.org", 0),
            ("+", "malice+alice@example.org", 0),
        ] {
            let identities = identities(&["alice-2025"], delimiter);
            assert_eq!(identities.owned_by(&address(recipient)).count(), owned, "{delimiter:?} {recipient}");
        }
    }
}
