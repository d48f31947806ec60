//! Which algorithms a message is encrypted with: from what its recipients can open (RFC 8551 2.7.1) and what
//! was agreed on with them.
//!
//! [`plan`] is a pure function. It plans no weaker cipher than AES with 128 bits, whatever somebody announces.

mod signing;

pub use signing::ProfileSigner;

use crate::{
    Certificate, Fault,
    algorithm::DigestAlgorithm,
    capabilities::Capabilities,
    cipher::ContentCipher,
    cms::{RecipientKey, RecipientKeyError, RsaTransport},
};

/// A named set of algorithms for correspondents of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The name in configuration and reports.
    pub name: &'static str,
    /// The content ciphers that may be used.
    pub ciphers: &'static [ContentCipher],
    /// Those of them that somebody who has announced nothing usable is taken to open.
    pub assumed: &'static [ContentCipher],
    /// When keys are encrypted with RSAES-OAEP.
    pub oaep: Oaep,
    /// How an RSA key signs.
    pub rsa_signature: RsaSignature,
}

/// When a content-encryption key is encrypted with RSAES-OAEP; otherwise it is RSAES-PKCS1-v1_5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oaep {
    /// Never: for readers that stumble over it.
    Never,
    /// To those who announce it, with a hash that they announce.
    WhereAnnounced,
    /// Always, with this hash.
    Always(DigestAlgorithm),
}

/// How an RSA key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsaSignature {
    /// RSASSA-PKCS1-v1_5.
    Pkcs1,
    /// RSASSA-PSS.
    Pss,
}

use ContentCipher::{Aes128Cbc, Aes128Gcm, Aes192Cbc, Aes256Cbc, Aes256Gcm, ChaCha20Poly1305};

impl Profile {
    /// For everybody: authenticated encryption and OAEP for those who announce that they can open it.
    ///
    /// To the others it is AES-256-CBC, and not the AES-256-GCM that RFC 8551 2.7.1.2 names for unknown
    /// recipients: GnuPG 2.2 and many other readers cannot open GCM, and what cannot be opened will be asked
    /// for once more, in the clear.
    pub const STANDARD: Self = Self {
        name: "standard",
        ciphers: &[Aes256Gcm, Aes128Gcm, ChaCha20Poly1305, Aes256Cbc, Aes192Cbc, Aes128Cbc],
        assumed: &[Aes256Cbc, Aes128Cbc],
        oaep: Oaep::WhereAnnounced,
        rsa_signature: RsaSignature::Pkcs1,
    };

    /// Authenticated encryption and OAEP with SHA-256, whatever is announced: what S/MIME 4.0 asks of everybody
    /// (RFC 8551 2.3, 2.7). Whoever announces other ciphers only is not written to.
    pub const AUTHENTICATED: Self = Self {
        name: "authenticated",
        ciphers: &[Aes256Gcm, Aes128Gcm, ChaCha20Poly1305],
        assumed: &[Aes256Gcm, Aes128Gcm],
        oaep: Oaep::Always(DigestAlgorithm::Sha256),
        rsa_signature: RsaSignature::Pkcs1,
    };

    /// What every reader of the last twenty years opens: AES-CBC and RSAES-PKCS1-v1_5, whatever is announced.
    pub const COMPATIBLE: Self = Self {
        name: "compatible",
        ciphers: &[Aes256Cbc, Aes192Cbc, Aes128Cbc],
        assumed: &[Aes256Cbc, Aes128Cbc],
        oaep: Oaep::Never,
        rsa_signature: RsaSignature::Pkcs1,
    };

    /// The German energy market (EDI@Energy, "Regelungen zum Übertragungsweg"): RSASSA-PSS and RSAES-OAEP
    /// since 2018. AES-128-CBC is what all its versions know; AES-128-GCM, whose duty the regulator put off in
    /// 2024 because libraries read it differently, goes to those who announce it.
    pub const EDI_ENERGY: Self = Self {
        name: "edi-energy",
        ciphers: &[Aes128Gcm, Aes128Cbc],
        assumed: &[Aes128Cbc],
        oaep: Oaep::Always(DigestAlgorithm::Sha256),
        rsa_signature: RsaSignature::Pss,
    };

    /// All named profiles.
    pub const ALL: [Self; 4] = [Self::STANDARD, Self::AUTHENTICATED, Self::COMPATIBLE, Self::EDI_ENERGY];

    /// The profile of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name == name)
    }
}

/// Somebody to encrypt to. The originator's own copy is one more of them.
#[derive(Clone, Copy, Debug)]
pub struct Correspondent<'a> {
    /// The certificate, found valid and the correspondent's by the caller.
    pub certificate: &'a Certificate,
    /// What is known from a signature that was found good. Where nothing is, the certificate is asked.
    pub capabilities: Option<&'a Capabilities>,
    /// What was agreed on.
    pub profile: &'a Profile,
}

/// How one message is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealPlan {
    /// The content cipher.
    pub cipher: ContentCipher,
    /// The recipients, and how each gets the key.
    pub recipients: Vec<RecipientKey>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Nobody to encrypt to.
    #[error("there is no recipient to encrypt to")]
    NoRecipients,
    /// A certificate that is not to encrypt to.
    #[error(transparent)]
    Recipient(#[from] RecipientKeyError),
    /// The profile of one recipient allows no cipher that it announces.
    #[error("the owner of {certificate} announces no cipher of the profile \"{profile}\"")]
    NothingAnnounced {
        /// The certificate's subject and serial number.
        certificate: String,
        /// The profile's name.
        profile: &'static str,
    },
    /// There is no cipher for all recipients; two messages would do.
    #[error("the owner of {certificate} opens no cipher that the other recipients open")]
    NoCommonCipher {
        /// The certificate of the first one with whom there is none.
        certificate: String,
    },
}

impl PlanError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoRecipients => Fault::Internal,
            Self::Recipient(error) => error.fault(),
            Self::NothingAnnounced { .. } | Self::NoCommonCipher { .. } => Fault::Policy,
        }
    }
}

/// Plans one message for all of its recipients: the best cipher that all of them open, and for each the way to
/// give it the key.
///
/// RFC 8551 2.7.1.1 would take the first cipher of the recipient's list. Several lists have no common first, and
/// an old preference for CBC costs integrity; so it is the best one of ours that all of them name.
pub fn plan(recipients: &[Correspondent<'_>]) -> Result<SealPlan, PlanError> {
    let mut common = ContentCipher::ALL.to_vec();
    let mut keys = Vec::with_capacity(recipients.len());
    for recipient in recipients {
        let capabilities =
            recipient.capabilities.cloned().or_else(|| Capabilities::of_certificate(recipient.certificate));
        let opens = ciphers(recipient.profile, capabilities.as_ref());
        let certificate = || recipient.certificate.to_string();
        if opens.is_empty() {
            let profile = recipient.profile.name;
            return Err(PlanError::NothingAnnounced { certificate: certificate(), profile });
        }
        common.retain(|cipher| opens.contains(cipher));
        if common.is_empty() {
            return Err(PlanError::NoCommonCipher { certificate: certificate() });
        }
        let transport = transport(recipient.profile, capabilities.as_ref());
        keys.push(RecipientKey::new(recipient.certificate.clone())?.with_rsa_transport(transport));
    }
    match common.first() {
        Some(cipher) if !keys.is_empty() => Ok(SealPlan { cipher: *cipher, recipients: keys }),
        _ => Err(PlanError::NoRecipients),
    }
}

/// The ciphers of a profile that somebody opens.
///
/// Whoever announces one of AES or ChaCha20 also opens AES-128-CBC, which all versions since 3.2 demand (RFC 5751
/// 2.7, RFC 8551 2.7). Whoever announces nothing of the kind, as Windows CAs do for everybody with their
/// extension of RC2 and Triple-DES, has told nothing.
fn ciphers(profile: &Profile, capabilities: Option<&Capabilities>) -> Vec<ContentCipher> {
    let announced: Vec<_> = capabilities.into_iter().flat_map(Capabilities::ciphers).collect();
    if announced.is_empty() {
        return profile.assumed.to_vec();
    }
    let opens = |cipher: &ContentCipher| announced.contains(cipher) || *cipher == Aes128Cbc;
    profile.ciphers.iter().copied().filter(opens).collect()
}

/// How a key is encrypted with an RSA key. Of several announced hashes the first of these: even OAEP with SHA-1
/// is better than PKCS #1 v1.5, and its hash need not resist collisions.
fn transport(profile: &Profile, capabilities: Option<&Capabilities>) -> RsaTransport {
    use DigestAlgorithm::{Sha1, Sha256, Sha384, Sha512};
    match profile.oaep {
        Oaep::Never => RsaTransport::Pkcs1,
        Oaep::Always(hash) => RsaTransport::Oaep(hash),
        Oaep::WhereAnnounced => {
            let announced: Vec<_> = capabilities.into_iter().flat_map(Capabilities::oaep_hashes).collect();
            let best = [Sha256, Sha512, Sha384, Sha1].into_iter().find(|hash| announced.contains(hash));
            best.map_or(RsaTransport::Pkcs1, RsaTransport::Oaep)
        }
    }
}

#[cfg(all(test, feature = "testing"))]
#[expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]
mod tests {
    use DigestAlgorithm::{Sha1, Sha256, Sha512};
    use const_oid::db::rfc5911::{DES_EDE_3_CBC, SMIME_CAPABILITIES};
    use der::Encode;

    use super::*;
    use crate::{
        ber::Tag,
        cms::transport_identifier,
        testing::{
            fixtures::certificate,
            hostile::{self, wrap},
        },
    };

    fn announce(ciphers: &[ContentCipher], oaep: &[DigestAlgorithm]) -> Capabilities {
        let ciphers = ciphers.iter().map(|cipher| wrap(Tag::SEQUENCE, &[cipher.oid().to_der().unwrap()]));
        let oaep = oaep.iter().map(|hash| transport_identifier(RsaTransport::Oaep(*hash)).unwrap());
        let des = wrap(Tag::SEQUENCE, &[DES_EDE_3_CBC.to_der().unwrap()]);
        let all: Vec<_> = [des].into_iter().chain(ciphers).chain(oaep).collect();
        Capabilities::read(&wrap(Tag::SEQUENCE, &all)).unwrap()
    }

    #[test]
    fn one_recipient_gets_the_best_that_it_announces_and_its_profile_allows() {
        let bob = certificate("bob");
        let gcm = [Aes128Cbc, Aes256Cbc, Aes128Gcm, Aes256Gcm];
        let pkcs1 = RsaTransport::Pkcs1;
        let oaep = RsaTransport::Oaep;
        for (profile, announced, cipher, transport) in [
            (Profile::STANDARD, None, Aes256Cbc, pkcs1),
            (Profile::STANDARD, Some(announce(&[], &[])), Aes256Cbc, pkcs1),
            (Profile::STANDARD, Some(announce(&[Aes128Cbc], &[])), Aes128Cbc, pkcs1),
            (Profile::STANDARD, Some(announce(&[Aes192Cbc], &[])), Aes192Cbc, pkcs1),
            (Profile::STANDARD, Some(announce(&[Aes128Gcm], &[])), Aes128Gcm, pkcs1),
            (Profile::STANDARD, Some(announce(&[ChaCha20Poly1305, Aes256Cbc], &[])), ChaCha20Poly1305, pkcs1),
            (Profile::STANDARD, Some(announce(&gcm, &[Sha1])), Aes256Gcm, oaep(Sha1)),
            (Profile::STANDARD, Some(announce(&gcm, &[Sha1, Sha512, Sha256])), Aes256Gcm, oaep(Sha256)),
            (Profile::STANDARD, Some(announce(&gcm, &[Sha1, Sha512])), Aes256Gcm, oaep(Sha512)),
            (Profile::AUTHENTICATED, None, Aes256Gcm, oaep(Sha256)),
            (Profile::AUTHENTICATED, Some(announce(&[Aes128Gcm], &[Sha1])), Aes128Gcm, oaep(Sha256)),
            (Profile::COMPATIBLE, Some(announce(&gcm, &[Sha256])), Aes256Cbc, pkcs1),
            (Profile::COMPATIBLE, None, Aes256Cbc, pkcs1),
            (Profile::EDI_ENERGY, None, Aes128Cbc, oaep(Sha256)),
            (Profile::EDI_ENERGY, Some(announce(&[Aes256Gcm], &[])), Aes128Cbc, oaep(Sha256)),
            (Profile::EDI_ENERGY, Some(announce(&gcm, &[Sha1])), Aes128Gcm, oaep(Sha256)),
        ] {
            let recipient =
                Correspondent { certificate: &bob, capabilities: announced.as_ref(), profile: &profile };
            let plan = plan(&[recipient]).unwrap();
            assert_eq!(plan.cipher, cipher, "{} {announced:?}", profile.name);
            assert_eq!(plan.recipients[0].rsa_transport(), Some(transport), "{} {announced:?}", profile.name);
        }
    }

    #[test]
    fn several_recipients_get_the_best_that_all_of_them_open() {
        let [alice, bob, x25519] = ["alice", "bob", "x25519"].map(certificate);
        let gcm = announce(&[Aes256Gcm, Aes128Gcm, Aes256Cbc], &[Sha256]);
        let only_gcm = announce(&[Aes256Gcm], &[]);
        let cbc = announce(&[Aes256Cbc, Aes128Cbc], &[]);
        let standard = Profile::STANDARD;
        let edi = Profile::EDI_ENERGY;
        for (all, expected) in [
            (vec![(&alice, Some(&gcm), &standard), (&bob, Some(&only_gcm), &standard)], Some(Aes256Gcm)),
            (vec![(&alice, Some(&gcm), &standard), (&bob, None, &standard)], Some(Aes256Cbc)),
            (vec![(&alice, Some(&only_gcm), &standard), (&bob, None, &standard)], Some(Aes128Cbc)),
            (vec![(&alice, Some(&gcm), &standard), (&bob, Some(&cbc), &standard)], Some(Aes256Cbc)),
            (vec![(&alice, Some(&gcm), &standard), (&bob, Some(&gcm), &edi)], Some(Aes128Gcm)),
            (vec![(&alice, None, &standard), (&x25519, None, &edi)], Some(Aes128Cbc)),
            (vec![(&alice, None, &Profile::AUTHENTICATED), (&bob, None, &standard)], None),
            (vec![(&alice, None, &Profile::AUTHENTICATED), (&bob, None, &edi)], None),
        ] {
            let recipients: Vec<_> = all
                .iter()
                .map(|&(certificate, capabilities, profile)| Correspondent {
                    certificate,
                    capabilities,
                    profile,
                })
                .collect();
            match (plan(&recipients), expected) {
                (Ok(plan), Some(expected)) => {
                    assert_eq!(plan.cipher, expected, "{all:?}");
                    assert_eq!(plan.recipients.len(), 2);
                }
                (Err(PlanError::NoCommonCipher { certificate }), None) => {
                    assert_eq!(certificate, bob.to_string());
                }
                (other, _) => unreachable!("{other:?} for {all:?}"),
            }
        }
    }

    #[test]
    fn each_recipient_gets_the_key_in_its_own_way() {
        let [alice, bob, p384] = ["alice", "bob", "p384"].map(certificate);
        let announced = announce(&[Aes256Cbc], &[Sha256]);
        let of = |certificate, capabilities| Correspondent {
            certificate,
            capabilities,
            profile: &Profile::STANDARD,
        };
        let plan = plan(&[of(&alice, Some(&announced)), of(&bob, None), of(&p384, None)]).unwrap();
        let ways: Vec<_> = plan.recipients.iter().map(RecipientKey::rsa_transport).collect();
        assert_eq!(ways, [Some(RsaTransport::Oaep(Sha256)), Some(RsaTransport::Pkcs1), None]);
    }

    #[test]
    fn a_certificate_says_what_no_signature_has_said() {
        let gcm = announce(&[Aes256Gcm], &[]);
        let cbc = announce(&[Aes128Cbc], &[]);
        let certificate = hostile::of_extension(SMIME_CAPABILITIES, gcm.octets());
        for (capabilities, cipher) in [(None, Aes256Gcm), (Some(&cbc), Aes128Cbc)] {
            let profile = &Profile::STANDARD;
            let recipient = Correspondent { certificate: &certificate, capabilities, profile };
            assert_eq!(plan(&[recipient]).unwrap().cipher, cipher);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        let bob = certificate("bob");
        let carol = certificate("carol");
        let chacha = announce(&[Aes256Cbc], &[]);
        let of = |certificate, capabilities, profile| Correspondent { certificate, capabilities, profile };
        assert_eq!(plan(&[]), Err(PlanError::NoRecipients));
        let error = plan(&[of(&bob, Some(&chacha), &Profile::AUTHENTICATED)]).unwrap_err();
        assert!(
            error.to_string().contains("announces no cipher of the profile \"authenticated\""),
            "{error}"
        );
        let error = plan(&[of(&carol, None, &Profile::STANDARD)]).unwrap_err();
        assert!(matches!(error, PlanError::Recipient(RecipientKeyError::KeyUsage { .. })), "{error}");
        assert_eq!(error.fault(), Fault::Policy);
    }

    #[test]
    fn profiles_assume_only_what_they_allow_and_have_names_of_their_own() {
        for profile in Profile::ALL {
            assert!(!profile.assumed.is_empty());
            assert!(
                profile.assumed.iter().all(|cipher| profile.ciphers.contains(cipher)),
                "{}",
                profile.name
            );
            assert_eq!(Profile::named(profile.name), Some(profile));
        }
        assert_eq!(Profile::named("Standard"), None);
    }
}
