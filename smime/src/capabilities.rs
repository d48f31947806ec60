//! SMIMECapabilities (RFC 8551 2.5.2): what somebody's mail program can open, best first.
//!
//! They come in a signed attribute, to be believed only of a signature that was found good (RFC 8551 2.7.1), or
//! in a certificate's extension (RFC 4262). What is made of them is decided in [`crate::profile`].

use const_oid::db::{rfc5911::SMIME_CAPABILITIES, rfc5912::ID_RSAES_OAEP};
use der::{Decode, asn1::ObjectIdentifier};
use spki::AlgorithmIdentifierOwned;

use crate::{
    Certificate,
    algorithm::{DigestAlgorithm, KeyEncryptionAlgorithm},
    ber::{BerError, Tag, Tree},
    cipher::ContentCipher,
};

/// A list of capabilities; those that mean nothing here stay in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    octets: Vec<u8>,
    list: Vec<AlgorithmIdentifierOwned>,
}

/// Why octets are no capabilities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilitiesError {
    /// The structure is wrong.
    #[error("malformed SMIMECapabilities: {0}")]
    Structure(#[from] BerError),
    /// A capability does not decode.
    #[error("malformed capability in SMIMECapabilities")]
    Malformed,
    /// More than anybody has.
    #[error("more than {MAX_CAPABILITIES} capabilities")]
    TooMany,
}

/// How many capabilities are looked at.
pub const MAX_CAPABILITIES: usize = 100;

impl Capabilities {
    /// Reads `SMIMECapabilities` in DER or BER.
    pub fn read(octets: &[u8]) -> Result<Self, CapabilitiesError> {
        let tree = Tree::parse(octets)?;
        let root = tree.root().expect(Tag::SEQUENCE, "SMIMECapabilities")?;
        if root.children().count() > MAX_CAPABILITIES {
            return Err(CapabilitiesError::TooMany);
        }
        // SMIMECapability { capabilityID, parameters OPTIONAL } has the shape of an AlgorithmIdentifier.
        let list = root.children().map(|capability| {
            let der = capability.to_der()?;
            AlgorithmIdentifierOwned::from_der(&der).map_err(|_| CapabilitiesError::Malformed)
        });
        Ok(Self { list: list.collect::<Result<_, _>>()?, octets: root.to_der()? })
    }

    /// Those in a certificate's extension (RFC 4262), where there are any that can be read.
    pub fn of_certificate(certificate: &Certificate) -> Option<Self> {
        let mut extensions = certificate.decoded().tbs_certificate().extensions().into_iter().flatten();
        let extension = extensions.find(|extension| extension.extn_id == SMIME_CAPABILITIES)?;
        Self::read(extension.extn_value.as_bytes()).ok()
    }

    /// The list in DER, to be kept and read again.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The ciphers in it that are written here, in its order. Parameters, which these ciphers have none of, are
    /// not looked at: some senders write NULL.
    pub fn ciphers(&self) -> impl Iterator<Item = ContentCipher> {
        self.list.iter().filter_map(|capability| ContentCipher::from_oid(capability.oid))
    }

    /// The hashes with which RSAES-OAEP is announced, each used for MGF1 too, without a label (RFC 4055 4.1).
    pub fn oaep_hashes(&self) -> impl Iterator<Item = DigestAlgorithm> {
        self.list.iter().filter(|capability| capability.oid == ID_RSAES_OAEP).filter_map(|capability| {
            match KeyEncryptionAlgorithm::from_identifier(capability) {
                Some(KeyEncryptionAlgorithm::RsaOaep { hash, mask_hash, label })
                    if hash == mask_hash && label.is_empty() =>
                {
                    Some(hash)
                }
                _ => None,
            }
        })
    }

    /// The object identifiers, for people and reports.
    pub fn identifiers(&self) -> impl Iterator<Item = ObjectIdentifier> {
        self.list.iter().map(|capability| capability.oid)
    }
}

#[cfg(all(test, feature = "testing"))]
#[expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]
mod tests {
    use der::Encode;

    use super::*;
    use crate::{
        cms::{RsaTransport, transport_identifier},
        testing::{
            fixtures::{certificate, data},
            hostile::{self, wrap},
            signed_data,
        },
    };

    fn list(capabilities: &[Vec<u8>]) -> Vec<u8> {
        wrap(Tag::SEQUENCE, capabilities)
    }

    fn capability(oid: ObjectIdentifier, parameters: &[u8]) -> Vec<u8> {
        wrap(Tag::SEQUENCE, &[oid.to_der().unwrap(), parameters.to_vec()])
    }

    #[test]
    fn what_is_known_is_found_among_what_is_not() {
        use DigestAlgorithm::{Sha1, Sha256, Sha512};
        let rc2 = const_oid::db::rfc5911::RC_2_CBC;
        let octets = list(&[
            capability(rc2, &[0x02, 0x01, 0x28]),
            capability(ContentCipher::Aes128Cbc.oid(), &[]),
            capability(ContentCipher::Aes256Gcm.oid(), &[0x05, 0x00]),
            transport_identifier(RsaTransport::Oaep(Sha512)).unwrap(),
            transport_identifier(RsaTransport::Oaep(Sha1)).unwrap(),
            transport_identifier(RsaTransport::Pkcs1).unwrap(),
        ]);
        let capabilities = Capabilities::read(&octets).unwrap();
        let ciphers: Vec<_> = capabilities.ciphers().collect();
        assert_eq!(ciphers, [ContentCipher::Aes128Cbc, ContentCipher::Aes256Gcm]);
        assert_eq!(capabilities.oaep_hashes().collect::<Vec<_>>(), [Sha512, Sha1]);
        assert!(!capabilities.oaep_hashes().any(|hash| hash == Sha256));
        assert_eq!(capabilities.identifiers().count(), 6);
        assert_eq!(Capabilities::read(capabilities.octets()), Ok(capabilities));
    }

    #[test]
    fn malformed_and_endless_lists_are_refused() {
        let one = capability(ContentCipher::Aes128Cbc.oid(), &[]);
        assert!(Capabilities::read(&list(&vec![one.clone(); MAX_CAPABILITIES])).is_ok());
        let many = list(&vec![one.clone(); MAX_CAPABILITIES + 1]);
        assert_eq!(Capabilities::read(&many), Err(CapabilitiesError::TooMany));
        assert_eq!(Capabilities::read(&list(&[vec![0x30, 0]])), Err(CapabilitiesError::Malformed));
        assert!(Capabilities::read(&one[2..]).is_err());
        assert!(Capabilities::read(&[]).is_err());
        assert_eq!(Capabilities::read(&list(&[])).unwrap().ciphers().count(), 0);
    }

    #[test]
    fn those_of_a_certificate_are_in_its_extension() {
        assert_eq!(Capabilities::of_certificate(&certificate("alice")), None);
        let octets = list(&[capability(ContentCipher::Aes256Gcm.oid(), &[])]);
        let with = hostile::of_extension(SMIME_CAPABILITIES, &octets);
        let found = Capabilities::of_certificate(&with).unwrap();
        assert_eq!(found.ciphers().collect::<Vec<_>>(), [ContentCipher::Aes256Gcm]);
        let malformed = hostile::of_extension(SMIME_CAPABILITIES, b"\x30\x02\x30\x00");
        assert_eq!(Capabilities::of_certificate(&malformed), None);
    }

    #[test]
    fn those_of_a_signature_are_among_its_attributes() {
        let octets = data("detached.p7s");
        let signed = signed_data(&octets);
        let attributes = signed.signer_infos()[0].signed_attributes.as_ref().unwrap().as_ref().unwrap();
        let capabilities = attributes.capabilities().unwrap();
        let ciphers: Vec<_> = capabilities.ciphers().collect();
        // OpenSSL's list, with Triple-DES and RC2 behind.
        assert_eq!(ciphers, [ContentCipher::Aes256Cbc, ContentCipher::Aes192Cbc, ContentCipher::Aes128Cbc]);
        assert!(capabilities.identifiers().count() > 3);
    }
}
