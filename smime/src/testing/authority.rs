//! A certification authority for tests: certificates and CRLs with whatever in them a test needs.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a fixture that cannot be made ends the test, as it should"
)]

use std::time::{Duration, SystemTime};

use const_oid::db::{rfc4519, rfc5280};
use der::{
    Encode,
    asn1::{BitString, ObjectIdentifier},
};
use x509_cert::{
    ext::pkix::{KeyUsage, KeyUsages},
    time::Time,
};

use super::{
    MemoryKey,
    fixtures::{certificate, data, now},
    hostile::wrap,
};
use crate::{
    Certificate,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    ber::Tag,
    key::{SignatureInput, Signer},
};

/// sha256WithRSAEncryption.
const ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00];

/// A certification authority. Its key is that of one of the fixtures, which must be an RSA key.
#[derive(Debug)]
pub struct Authority {
    certificate: Certificate,
    key: MemoryKey,
}

/// What a certificate is to hold.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The fixture whose public key it is.
    pub key: &'a str,
    /// The subject's commonName.
    pub name: &'a str,
    /// The rfc822Names.
    pub addresses: &'a [&'a str],
    /// The serial number.
    pub serial: u32,
    /// The first moment of its validity.
    pub from: SystemTime,
    /// The last moment of its validity.
    pub until: SystemTime,
    /// The bits of keyUsage.
    pub usage: der::flagset::FlagSet<KeyUsages>,
    /// The purposes of extKeyUsage; without any there is none.
    pub purposes: &'a [ObjectIdentifier],
    /// Whether it is a CA's.
    pub is_ca: bool,
}

impl Default for Wanted<'_> {
    /// Alice's certificate for signing and encrypting, valid a month before and a year after `fixtures::now`.
    fn default() -> Self {
        Self {
            key: "alice",
            name: "Alice",
            addresses: &["alice@example.org"],
            serial: 1,
            from: now() - Duration::from_hours(24 * 30),
            until: now() + Duration::from_hours(24 * 365),
            usage: KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment,
            purposes: &[rfc5280::ID_KP_EMAIL_PROTECTION],
            is_ca: false,
        }
    }
}

impl Authority {
    /// A root of this name with the RSA key of a fixture.
    pub fn root(name: &str, key: &str) -> Self {
        let memory = MemoryKey::from_pkcs8(&data(&format!("{key}.p8")), certificate(key)).unwrap();
        let mut authority = Self { certificate: certificate(key), key: memory };
        let wanted = Wanted {
            key,
            name,
            addresses: &[],
            usage: KeyUsages::KeyCertSign | KeyUsages::CRLSign,
            purposes: &[],
            is_ca: true,
            from: now() - Duration::from_hours(24 * 3650),
            until: now() + Duration::from_hours(24 * 3650),
            ..Wanted::default()
        };
        authority.certificate = authority.sign(&common_name(name), &wanted);
        authority
    }

    /// An intermediate of this authority with the RSA key of a fixture.
    #[must_use]
    pub fn intermediate(&self, name: &str, key: &str) -> Self {
        let wanted = Wanted {
            key,
            name,
            addresses: &[],
            serial: 7000,
            usage: KeyUsages::KeyCertSign | KeyUsages::CRLSign,
            purposes: &[],
            is_ca: true,
            ..Wanted::default()
        };
        let certificate = self.issue(&wanted);
        let key = MemoryKey::from_pkcs8(&data(&format!("{key}.p8")), certificate.clone()).unwrap();
        Self { certificate, key }
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Issues a certificate.
    pub fn issue(&self, wanted: &Wanted<'_>) -> Certificate {
        self.sign(&self.certificate.subject().to_der().unwrap(), wanted)
    }

    /// Issues a certificate, with the private key of the fixture that has the public one.
    pub fn issue_key(&self, wanted: &Wanted<'_>) -> MemoryKey {
        MemoryKey::from_pkcs8(&data(&format!("{}.p8", wanted.key)), self.issue(wanted)).unwrap()
    }

    fn sign(&self, issuer: &[u8], wanted: &Wanted<'_>) -> Certificate {
        let mut extensions =
            vec![extension(rfc5280::ID_CE_KEY_USAGE, true, &KeyUsage(wanted.usage).to_der().unwrap())];
        if wanted.is_ca {
            let constraints = wrap(Tag::SEQUENCE, &[wrap(Tag(0x01), &[vec![0xFF]])]);
            extensions.push(extension(rfc5280::ID_CE_BASIC_CONSTRAINTS, true, &constraints));
        }
        if !wanted.addresses.is_empty() {
            let names: Vec<_> =
                wanted.addresses.iter().map(|text| wrap(Tag(0x81), &[text.as_bytes().to_vec()])).collect();
            extensions.push(extension(rfc5280::ID_CE_SUBJECT_ALT_NAME, false, &wrap(Tag::SEQUENCE, &names)));
        }
        if !wanted.purposes.is_empty() {
            let purposes: Vec<_> = wanted.purposes.iter().map(|oid| oid.to_der().unwrap()).collect();
            extensions.push(extension(rfc5280::ID_CE_EXT_KEY_USAGE, false, &wrap(Tag::SEQUENCE, &purposes)));
        }
        let fields = [
            wrap(Tag::context(0), &[wrap(Tag::INTEGER, &[vec![2]])]),
            wrap(Tag::INTEGER, &[[&[1], wanted.serial.to_be_bytes().as_slice()].concat()]),
            ALGORITHM.to_vec(),
            issuer.to_vec(),
            wrap(Tag::SEQUENCE, &[time(wanted.from), time(wanted.until)]),
            common_name(wanted.name),
            certificate(wanted.key).public_key_info(),
            wrap(Tag::context(3), &[wrap(Tag::SEQUENCE, &extensions)]),
        ];
        Certificate::from_der(&self.signed(&fields)).unwrap()
    }

    /// A CRL of version 2 that lists these certificates.
    pub fn crl(&self, revoked: &[&Certificate], this_update: SystemTime, next_update: SystemTime) -> Vec<u8> {
        let entries: Vec<_> = revoked
            .iter()
            .map(|certificate| {
                let serial = wrap(Tag::INTEGER, &[certificate.serial_number().to_vec()]);
                wrap(Tag::SEQUENCE, &[serial, time(this_update)])
            })
            .collect();
        let number = extension(rfc5280::ID_CE_CRL_NUMBER, false, &wrap(Tag::INTEGER, &[vec![1]]));
        let mut fields = vec![
            wrap(Tag::INTEGER, &[vec![1]]),
            ALGORITHM.to_vec(),
            self.certificate.subject().to_der().unwrap(),
            time(this_update),
            time(next_update),
        ];
        if !entries.is_empty() {
            fields.push(wrap(Tag::SEQUENCE, &entries));
        }
        fields.push(wrap(Tag::context(0), &[wrap(Tag::SEQUENCE, &[number])]));
        self.signed(&fields)
    }

    fn signed(&self, fields: &[Vec<u8>]) -> Vec<u8> {
        let signed = wrap(Tag::SEQUENCE, fields);
        let algorithm = SignatureAlgorithm::RsaPkcs1(DigestAlgorithm::Sha256);
        let signature = self.key.sign(&SignatureInput::of(algorithm, &signed), algorithm).unwrap().0;
        let signature = BitString::from_bytes(&signature).unwrap().to_der().unwrap();
        wrap(Tag::SEQUENCE, &[signed, ALGORITHM.to_vec(), signature])
    }
}

fn common_name(text: &str) -> Vec<u8> {
    let value = wrap(Tag(0x0C), &[text.as_bytes().to_vec()]);
    let attribute = wrap(Tag::SEQUENCE, &[rfc4519::CN.to_der().unwrap(), value]);
    wrap(Tag::SEQUENCE, &[wrap(Tag::SET, &[attribute])])
}

fn extension(oid: ObjectIdentifier, critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid.to_der().unwrap()];
    if critical {
        parts.push(wrap(Tag(0x01), &[vec![0xFF]]));
    }
    parts.push(wrap(Tag::OCTET_STRING, &[value.to_vec()]));
    wrap(Tag::SEQUENCE, &parts)
}

fn time(time: SystemTime) -> Vec<u8> {
    // RFC 5280 has no fractions.
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    Time::try_from(whole).unwrap().to_der().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::{Crl, PathError, RevocationMode, Trust, validate};

    #[test]
    fn what_it_issues_and_revokes_is_taken_for_that() {
        let root = Authority::root("Root", "alice");
        let below = root.intermediate("Below", "bob");
        let wanted = Wanted::default();
        let good = below.issue(&wanted);
        let revoked = below.issue(&Wanted { serial: 2, ..wanted });
        let day = Duration::from_hours(24);
        let crls =
            [root.crl(&[], now() - day, now() + day), below.crl(&[&revoked], now() - day, now() + day)];
        let trust = Trust {
            anchors: vec![root.certificate().clone()],
            crls: crls.iter().map(|der| Crl::from_der(der).unwrap()).collect(),
            revocation: RevocationMode::HardFail,
            ..Trust::default()
        };
        let surplus = [below.certificate().clone()];
        validate(&good, &surplus, &trust, now()).unwrap();
        let error = validate(&revoked, &surplus, &trust, now()).unwrap_err();
        assert!(matches!(error, PathError::Revoked { .. }), "{error}");
        let error = validate(&good, &[], &trust, now()).unwrap_err();
        assert!(matches!(error, PathError::NoPath { .. }), "{error}");
    }
}
