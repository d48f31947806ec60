//! A key that signs as a profile wants it (RFC 8551 2.2): RSASSA-PSS or RSASSA-PKCS1-v1_5.

use super::{Profile, RsaSignature};
use crate::{
    Certificate,
    algorithm::SignatureAlgorithm,
    key::{KeyError, SignatureInput, SignatureValue, Signer},
    question::{Question, Reply, UnderWay},
};

/// A signer whose algorithms are those of a profile. Everything that signs takes the first of them.
#[derive(Debug)]
pub struct ProfileSigner<'a> {
    signer: &'a dyn Signer,
    algorithms: Vec<SignatureAlgorithm>,
}

impl Profile {
    /// The key as it signs for correspondents of this profile. Where they want RSASSA-PSS, an RSA key that cannot do
    /// it has no algorithm left, and nothing is signed with it; otherwise what the profile prefers comes first. Keys
    /// of other kinds have no choice.
    pub fn signer<'a>(&self, signer: &'a dyn Signer) -> ProfileSigner<'a> {
        use SignatureAlgorithm::{RsaPkcs1, RsaPss};
        let mut algorithms = signer.algorithms().to_vec();
        match self.rsa_signature {
            RsaSignature::Pss => algorithms.retain(|algorithm| !matches!(algorithm, RsaPkcs1(_))),
            RsaSignature::Pkcs1 => algorithms.sort_by_key(|algorithm| matches!(algorithm, RsaPss(_))),
        }
        ProfileSigner { signer, algorithms }
    }
}

impl Signer for ProfileSigner<'_> {
    fn certificate(&self) -> &Certificate {
        self.signer.certificate()
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        &self.algorithms
    }

    fn sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
    ) -> Result<SignatureValue, KeyError> {
        self.signer.sign(input, algorithm)
    }

    fn submit(&self, question: Question, reply: Reply) {
        self.signer.submit(question, reply);
    }

    fn submit_at_once(&self, question: Question, reply: Reply) -> Option<UnderWay> {
        self.signer.submit_at_once(question, reply)
    }

    fn must_be_checked(&self) -> bool {
        self.signer.must_be_checked()
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{
        algorithm::DigestAlgorithm::{Sha256, Sha384},
        cms::{SignError, sign},
        key::Digest,
        testing::{
            fixtures::{certificate, key, now},
            signed_data,
        },
    };

    /// An RSA key that says it can do this.
    #[derive(Debug)]
    struct Rsa(Certificate, &'static [SignatureAlgorithm]);

    impl Signer for Rsa {
        fn certificate(&self) -> &Certificate {
            &self.0
        }

        fn algorithms(&self) -> &[SignatureAlgorithm] {
            self.1
        }

        fn sign(
            &self,
            input: &SignatureInput<'_>,
            algorithm: SignatureAlgorithm,
        ) -> Result<SignatureValue, KeyError> {
            key("alice").sign(input, algorithm)
        }
    }

    #[test]
    fn an_rsa_key_signs_as_the_profile_wants_it_or_not_at_all() {
        use SignatureAlgorithm::{RsaPkcs1, RsaPss};
        const BOTH: [SignatureAlgorithm; 3] = [RsaPss(Sha384), RsaPkcs1(Sha256), RsaPss(Sha256)];
        const PKCS1: [SignatureAlgorithm; 1] = [RsaPkcs1(Sha256)];
        const PSS: [SignatureAlgorithm; 1] = [RsaPss(Sha256)];
        for (profile, can, first) in [
            (Profile::STANDARD, &BOTH[..], Some(RsaPkcs1(Sha256))),
            (Profile::STANDARD, &PKCS1, Some(RsaPkcs1(Sha256))),
            // A key for RSASSA-PSS only (RFC 4055 1.2) signs so whoever reads it.
            (Profile::STANDARD, &PSS, Some(RsaPss(Sha256))),
            (Profile::EDI_ENERGY, &BOTH, Some(RsaPss(Sha384))),
            (Profile::EDI_ENERGY, &PSS, Some(RsaPss(Sha256))),
            (Profile::EDI_ENERGY, &PKCS1, None),
        ] {
            let key = Rsa(certificate("alice"), can);
            assert_eq!(profile.signer(&key).algorithms().first().copied(), first, "{} {can:?}", profile.name);
        }
        let key = Rsa(certificate("alice"), &PKCS1);
        let signed = sign(|a| Digest::of(a, b""), &Profile::EDI_ENERGY.signer(&key), &[], now());
        assert!(matches!(signed, Err(SignError::NoAlgorithm { .. })), "{signed:?}");
    }

    #[test]
    fn what_is_signed_names_the_algorithm_of_the_profile() {
        for (profile, name, algorithm) in [
            (Profile::STANDARD, "alice", SignatureAlgorithm::RsaPkcs1(Sha256)),
            (Profile::EDI_ENERGY, "alice", SignatureAlgorithm::RsaPss(Sha256)),
            (Profile::EDI_ENERGY, "carol", SignatureAlgorithm::Ecdsa(Sha256)),
            (Profile::EDI_ENERGY, "ed25519", SignatureAlgorithm::Ed25519),
        ] {
            let key = key(name);
            let object = sign(|a| Digest::of(a, b"text"), &profile.signer(&key), &[], now()).unwrap();
            let signed = signed_data(&object);
            let identifier = &signed.signer_infos()[0].signature_algorithm;
            assert_eq!(*identifier, algorithm.identifier(), "{} {name}", profile.name);
        }
    }
}
