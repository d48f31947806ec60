//! What keys are needed for and no token that has them can do: told at the start, not with the first mail.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use smime::{Certificate, algorithm::DigestAlgorithm};

use crate::{
    Pool, PoolError,
    mechanisms::Deed,
    public_key::{KeyName, PublicKey},
    request::end_of,
    token::Token,
};

/// Something that a certificate's key is there for and that no token with that key can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortcoming {
    /// The certificate's subject and serial number.
    pub certificate: String,
    /// What the tokens lack, one by one: the label, and the end of a sentence like "cannot do CKM_EDDSA".
    pub tokens: Vec<(String, String)>,
}

impl fmt::Display for Shortcoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (token, lacks)) in self.tokens.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}token \"{token}\" has the key of {} but {lacks}", self.certificate)?;
        }
        Ok(())
    }
}

impl Pool {
    /// What no token can do of all that these certificates' keys are for: to sign with the algorithm that their
    /// signatures are made with, to decrypt or to agree, as keyUsage says. Keys that are on no token are not in it
    /// ([`Pool::missing_keys`]). That is known only when every token is up: the error is [`Pool::ready`]'s.
    pub fn shortcomings<'c>(
        &self,
        certificates: impl IntoIterator<Item = &'c Certificate>,
        timeout: Duration,
    ) -> Result<Vec<Shortcoming>, PoolError> {
        let needs: Vec<Need> = certificates.into_iter().map(Need::of).collect();
        let findings = self.findings(&needs, end_of(timeout))?;
        Ok(conclude(&needs, &findings))
    }

    /// How the tokens that have these keys stand to what they are needed for, here and behind sockets.
    pub(crate) fn findings(&self, needs: &[Need], deadline: Instant) -> Result<Vec<Finding>, PoolError> {
        self.ready(deadline.saturating_duration_since(Instant::now()))?;
        let mut all: Vec<Finding> = self.tokens().iter().flat_map(|token| findings(token, needs)).collect();
        for remote in self.remotes() {
            all.extend(remote.findings(needs, deadline)?);
        }
        Ok(all)
    }
}

/// What a key is there for.
pub(crate) struct Need {
    pub(crate) name: KeyName,
    /// Whether it is to sign, by the algorithm that comes first for such keys.
    pub(crate) signs: bool,
    /// Whether it is to decrypt, or to agree on keys.
    pub(crate) decrypts: bool,
    deeds: Vec<Deed>,
}

impl Need {
    fn of(certificate: &Certificate) -> Self {
        Self::new(KeyName::of_certificate(certificate), certificate.may_sign(), certificate.may_encrypt())
    }

    pub(crate) fn new(name: KeyName, signs: bool, decrypts: bool) -> Self {
        let mut deeds = Vec::new();
        if let Some(public_key) = &name.public_key {
            if signs {
                deeds.extend(public_key.signature_algorithms().first().map(|first| Deed::Sign(*first)));
            }
            match public_key {
                _ if !decrypts => {}
                PublicKey::Rsa { .. } => deeds.extend([
                    Deed::DecryptPkcs1,
                    Deed::DecryptOaep(DigestAlgorithm::Sha1),
                    Deed::DecryptOaep(DigestAlgorithm::Sha256),
                ]),
                _ => deeds.extend(public_key.agreement_curve().map(|_| Deed::Agree)),
            }
        }
        Self { name, signs, decrypts, deeds }
    }
}

/// How a token stands to one deed of one need, by their places: plain data, which also another process may tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) need: usize,
    pub(crate) deed: usize,
    /// The token's label.
    pub(crate) token: String,
    /// What keeps it from the deed, if anything is known to.
    pub(crate) lacks: Option<String>,
}

/// What a token that has a need's key can do of it.
pub(crate) fn findings(token: &Token, needs: &[Need]) -> Vec<Finding> {
    let (abilities, index) = (token.abilities(), token.index());
    let mut found = Vec::new();
    for (place, need) in needs.iter().enumerate() {
        let Some(public_key) = &need.name.public_key else { continue };
        for (deed_place, deed) in need.deeds.iter().enumerate() {
            // What one object of the key may not do, another may.
            let Some(object) = index.find(&need.name, deed.purpose()) else { break };
            found.push(Finding {
                need: place,
                deed: deed_place,
                token: token.label().to_owned(),
                lacks: abilities.lacks(*deed, public_key, object.permissions),
            });
        }
    }
    found
}

/// What all tokens that have a key lack for it.
pub(crate) fn conclude(needs: &[Need], findings: &[Finding]) -> Vec<Shortcoming> {
    let mut shortcomings: Vec<Shortcoming> = Vec::new();
    for (place, need) in needs.iter().enumerate() {
        for deed in 0..need.deeds.len() {
            let of_deed = findings.iter().filter(|finding| finding.need == place && finding.deed == deed);
            let lacks: Option<Vec<_>> =
                of_deed.map(|finding| Some((finding.token.clone(), finding.lacks.clone()?))).collect();
            let Some(tokens) = lacks.filter(|tokens| !tokens.is_empty()) else { continue };
            let shortcoming = Shortcoming { certificate: need.name.description.clone(), tokens };
            // A key that may not decrypt lacks the same for each way to do so.
            if !shortcomings.contains(&shortcoming) {
                shortcomings.push(shortcoming);
            }
        }
    }
    shortcomings
}

#[cfg(test)]
mod tests {
    use smime::testing::fixtures::certificate;

    use super::*;

    fn finding(deed: usize, token: &str, lacks: Option<&str>) -> Finding {
        Finding { need: 0, deed, token: token.into(), lacks: lacks.map(str::to_owned) }
    }

    #[test]
    fn a_certificate_needs_what_its_key_usage_says() {
        use smime::algorithm::DigestAlgorithm::{Sha1, Sha256, Sha384};
        use smime::algorithm::SignatureAlgorithm::{Ecdsa, Ed25519, RsaPkcs1};
        let opens = [Deed::DecryptPkcs1, Deed::DecryptOaep(Sha1), Deed::DecryptOaep(Sha256)];
        for (name, expected) in [
            ("alice", [&[Deed::Sign(RsaPkcs1(Sha256))], &opens[..]].concat()),
            ("encrypt-only", opens.to_vec()),
            ("carol", vec![Deed::Sign(Ecdsa(Sha256))]),
            ("p384", vec![Deed::Sign(Ecdsa(Sha384)), Deed::Agree]),
            ("ed25519", vec![Deed::Sign(Ed25519)]),
            ("x25519", vec![Deed::Agree]),
        ] {
            assert_eq!(Need::of(&certificate(name)).deeds, expected, "{name}");
        }
    }

    #[test]
    fn only_what_no_token_can_do_is_a_shortcoming() {
        let needs = [Need::of(&certificate("p384"))];
        let lacks = Some("cannot do CKM_ECDSA");
        for (findings, expected) in [
            (vec![], 0),
            (vec![finding(0, "a", None), finding(0, "b", lacks)], 0),
            (vec![finding(0, "a", lacks), finding(0, "b", lacks)], 1),
            (vec![finding(0, "a", lacks), finding(1, "a", None)], 1),
            (vec![finding(0, "a", lacks), finding(1, "a", Some("cannot do CKM_ECDH1_DERIVE"))], 2),
            (vec![finding(0, "a", lacks), finding(1, "a", lacks)], 1),
        ] {
            assert_eq!(conclude(&needs, &findings).len(), expected, "{findings:?}");
        }
        let told = conclude(&needs, &[finding(0, "a", lacks), finding(0, "b", lacks)]).remove(0).to_string();
        let name = certificate("p384").to_string();
        assert_eq!(
            told,
            format!(
                "token \"a\" has the key of {name} but cannot do CKM_ECDSA; \
                 token \"b\" has the key of {name} but cannot do CKM_ECDSA"
            )
        );
    }
}
