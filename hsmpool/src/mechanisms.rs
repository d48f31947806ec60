//! What a token can do, found when a connection is made: `C_GetMechanismInfo`, and a trial of OAEP with each hash.
//!
//! Tokens say `CKM_RSA_PKCS_OAEP` and then take SHA-1 only, or take all hashes in `C_DecryptInit` and fail later. So
//! something is encrypted in software to the first RSA key that may decrypt, and the token is asked for it: a mail
//! must not be the first to find out. What is not known is tried when it is needed.

use std::collections::HashMap;

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepPublicEncryptingKey, PublicEncryptingKey,
};
use cryptoki::{
    error::{Error, RvError},
    mechanism::{MechanismInfo, MechanismType},
};
use smime::{
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    key::ContentEncryptionKey,
};

use crate::{
    decrypt::{oaep_mechanism, run},
    index::{Index, Permissions, Purpose},
    private_key::{OperationError, PrivateKey},
    public_key::{PublicKey, rsa_info},
    session::OpenSession,
    token::Token,
};

/// What is known of a token's mechanisms. Nothing, before there was a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Abilities {
    /// `None`: the token did not tell.
    listed: Option<Vec<(MechanismType, MechanismInfo)>>,
    /// What came of trying OAEP.
    oaep: HashMap<DigestAlgorithm, bool>,
}

/// Something that is done with a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Sign(SignatureAlgorithm),
    /// RSAES-PKCS1-v1_5.
    DecryptPkcs1,
    /// RSAES-OAEP, hash and mask hash alike.
    DecryptOaep(DigestAlgorithm),
    Agree,
}

impl Deed {
    /// What it wants the private key for.
    pub(crate) fn purpose(self) -> Purpose {
        match self {
            Self::Sign(_) => Purpose::Sign,
            Self::DecryptPkcs1 | Self::DecryptOaep(_) => Purpose::Decrypt,
            Self::Agree => Purpose::Derive,
        }
    }
}

/// The mechanisms that are used here.
const USED: &[(MechanismType, &str)] = &[
    (MechanismType::RSA_PKCS, "CKM_RSA_PKCS"),
    (MechanismType::RSA_PKCS_PSS, "CKM_RSA_PKCS_PSS"),
    (MechanismType::RSA_PKCS_OAEP, "CKM_RSA_PKCS_OAEP"),
    (MechanismType::RSA_X_509, "CKM_RSA_X_509"),
    (MechanismType::ECDSA, "CKM_ECDSA"),
    (MechanismType::EDDSA, "CKM_EDDSA"),
    (MechanismType::ECDH1_DERIVE, "CKM_ECDH1_DERIVE"),
];

const HASHES: [DigestAlgorithm; 4] =
    [DigestAlgorithm::Sha1, DigestAlgorithm::Sha256, DigestAlgorithm::Sha384, DigestAlgorithm::Sha512];

impl Abilities {
    /// Asks and tries. Nothing that fails here is an error: it is not known then.
    pub(crate) fn find_out(token: &Token, session: &OpenSession, index: &Index) -> Self {
        let mut found = Self { listed: list(session), oaep: HashMap::new() };
        if !found.may(MechanismType::RSA_PKCS_OAEP, MechanismInfo::decrypt) {
            found.oaep.extend(HASHES.map(|hash| (hash, false)));
        } else if let Some((public_key, object)) = index.a_key_that_decrypts() {
            let key = PrivateKey { gate: Some(&token.gate), session, object };
            for hash in HASHES {
                found.oaep.extend(try_oaep(token, key, public_key, hash).map(|works| (hash, works)));
            }
        }
        let names: Vec<&str> = found.names().collect();
        tracing::debug!(token = token.label(), mechanisms = ?names, oaep = ?found.oaep, "what the token can do");
        found
    }

    /// Whether the token has told what it can do.
    pub(crate) fn is_known(&self) -> bool {
        self.listed.is_some()
    }

    /// Whether `CKM_RSA_PKCS` is worth trying for decryption.
    pub(crate) fn may_decrypt_pkcs1(&self) -> bool {
        self.may(MechanismType::RSA_PKCS, MechanismInfo::decrypt)
    }

    /// Whether `CKM_RSA_PKCS_OAEP` is worth trying with these hashes.
    pub(crate) fn may_decrypt_oaep(&self, hash: DigestAlgorithm, mask_hash: DigestAlgorithm) -> bool {
        let known = if hash == mask_hash { self.oaep.get(&hash) } else { None };
        known.copied().unwrap_or_else(|| self.may(MechanismType::RSA_PKCS_OAEP, MechanismInfo::decrypt))
    }

    /// What keeps the token from a deed with a key, as the end of a sentence about the token; `None` where nothing
    /// does, as far as is known.
    pub(crate) fn lacks(
        &self,
        deed: Deed,
        public_key: &PublicKey,
        permissions: Permissions,
    ) -> Option<String> {
        let what = match deed.purpose() {
            Purpose::Sign => "sign (CKA_SIGN)",
            Purpose::Decrypt => "decrypt (CKA_DECRYPT)",
            Purpose::Derive => "agree on keys (CKA_DERIVE)",
        };
        if permissions.of(deed.purpose()) == Some(false) {
            return Some(format!("does not let it {what}"));
        }
        let lacking = |mechanism, name: &str, does: fn(&MechanismInfo) -> bool| {
            if !self.may(mechanism, does) {
                Some(name.to_owned())
            } else if !self.takes_size(mechanism, public_key) {
                Some(format!("{name} with {} bits", public_key.bits()))
            } else {
                None
            }
        };
        let decrypts = |mechanism, name| lacking(mechanism, name, MechanismInfo::decrypt);
        let nor_raw = |name: String| {
            decrypts(MechanismType::RSA_X_509, "")?;
            Some(format!("{name} for decryption, nor CKM_RSA_X_509 in its place"))
        };
        let lacking = match deed {
            Deed::Sign(algorithm) => {
                let (mechanism, name) = signature_mechanism(algorithm)?;
                lacking(mechanism, name, MechanismInfo::sign)
            }
            Deed::DecryptPkcs1 => decrypts(MechanismType::RSA_PKCS, "CKM_RSA_PKCS").and_then(nor_raw),
            Deed::DecryptOaep(hash) => {
                let name = format!("CKM_RSA_PKCS_OAEP with {}", hash.micalg().to_uppercase());
                let itself = decrypts(MechanismType::RSA_PKCS_OAEP, &name);
                let failed = !self.may_decrypt_oaep(hash, hash);
                itself.or_else(|| failed.then_some(name.clone())).and_then(nor_raw)
            }
            Deed::Agree => lacking(MechanismType::ECDH1_DERIVE, "CKM_ECDH1_DERIVE", MechanismInfo::derive),
        };
        lacking.map(|name| format!("cannot do {name}"))
    }

    /// The mechanisms that matter here and that the token has, and OAEP's hashes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        USED.iter().filter(|(mechanism, _)| self.info(*mechanism).is_some()).map(|(_, name)| *name)
    }

    /// Whether the token has a mechanism with a use, as far as is known.
    fn may(&self, mechanism: MechanismType, does: fn(&MechanismInfo) -> bool) -> bool {
        self.listed.is_none() || self.info(mechanism).is_some_and(does)
    }

    fn info(&self, mechanism: MechanismType) -> Option<&MechanismInfo> {
        self.listed.iter().flatten().find(|(other, _)| *other == mechanism).map(|(_, info)| info)
    }

    /// Whether a key is neither too small nor too large for a mechanism. Some tokens give octets instead of bits,
    /// or zero for "no limit": what no key could be tells nothing. Keys on Curve25519 have 255 bits, which some
    /// count as 256.
    fn takes_size(&self, mechanism: MechanismType, public_key: &PublicKey) -> bool {
        let Some(info) = self.info(mechanism) else { return true };
        let (least, most) = (info.min_key_size(), info.max_key_size());
        let bits = usize::try_from(public_key.bits()).unwrap_or(usize::MAX);
        let sensible = match public_key {
            PublicKey::Rsa { .. } => most >= 1024,
            PublicKey::Ec { .. } => most >= 160,
            PublicKey::Ed25519(_) | PublicKey::X25519(_) => false,
        };
        !sensible || (least..=most).contains(&bits)
    }
}

fn signature_mechanism(algorithm: SignatureAlgorithm) -> Option<(MechanismType, &'static str)> {
    Some(match algorithm {
        SignatureAlgorithm::RsaPkcs1(_) => (MechanismType::RSA_PKCS, "CKM_RSA_PKCS"),
        SignatureAlgorithm::RsaPss(_) => (MechanismType::RSA_PKCS_PSS, "CKM_RSA_PKCS_PSS"),
        SignatureAlgorithm::Ecdsa(_) => (MechanismType::ECDSA, "CKM_ECDSA"),
        SignatureAlgorithm::Ed25519 => (MechanismType::EDDSA, "CKM_EDDSA"),
        _ => return None,
    })
}

/// What the token says of the mechanisms that are used here; nothing of those that it does not have. The list of
/// all it has would tell no more, and the wrapper writes an error into the log for each that it does not know.
fn list(session: &OpenSession) -> Option<Vec<(MechanismType, MechanismInfo)>> {
    let mut found = Vec::new();
    for (mechanism, _) in USED {
        match session.module().pkcs11().get_mechanism_info(session.slot(), *mechanism) {
            Ok(info) => found.push((*mechanism, info)),
            Err(Error::Pkcs11(RvError::MechanismInvalid, _)) => {}
            Err(_) => return None,
        }
    }
    Some(found)
}

/// Whether the token decrypts what is encrypted with a hash. `None`: something else went wrong.
fn try_oaep(
    token: &Token,
    key: PrivateKey<'_>,
    public_key: &PublicKey,
    hash: DigestAlgorithm,
) -> Option<bool> {
    let PublicKey::Rsa { modulus, exponent } = public_key else { return None };
    let algorithm = match hash {
        DigestAlgorithm::Sha1 => &OAEP_SHA1_MGF1SHA1,
        DigestAlgorithm::Sha256 => &OAEP_SHA256_MGF1SHA256,
        DigestAlgorithm::Sha384 => &OAEP_SHA384_MGF1SHA384,
        DigestAlgorithm::Sha512 => &OAEP_SHA512_MGF1SHA512,
        _ => return None,
    };
    let secret = ContentEncryptionKey::random(32).ok()?;
    let public = PublicEncryptingKey::from_der(&rsa_info(modulus, exponent)?).ok()?;
    let mut room = vec![0; public.key_size_bytes()];
    let public = OaepPublicEncryptingKey::new(public).ok()?;
    let encrypted = public.encrypt(algorithm, secret.expose(), &mut room, None).ok()?;
    match run(key, encrypted, &oaep_mechanism(hash, hash)?, token) {
        Ok(plaintext) => Some(plaintext.is_some_and(|plaintext| plaintext.as_slice() == secret.expose())),
        Err(OperationError::Call(error)) if error.function == "C_DecryptInit" => match error.rv()? {
            RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::ArgumentsBad
            | RvError::FunctionNotSupported => Some(false),
            _ => None,
        },
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use DigestAlgorithm::{Sha1, Sha256};

    use super::*;

    fn permissions(sign: Option<bool>) -> Permissions {
        Permissions { sign, ..Permissions::default() }
    }

    #[test]
    fn what_is_not_known_is_not_lacking() {
        let rsa = PublicKey::rsa(&[0xc1; 256], &[1, 0, 1]);
        let unknown = Abilities::default();
        for deed in [
            Deed::Sign(SignatureAlgorithm::RsaPss(Sha256)),
            Deed::DecryptPkcs1,
            Deed::DecryptOaep(Sha256),
            Deed::Agree,
        ] {
            assert_eq!(unknown.lacks(deed, &rsa, permissions(None)), None, "{deed:?}");
        }
        assert!(unknown.may_decrypt_pkcs1() && unknown.may_decrypt_oaep(Sha1, Sha256));
        let refused =
            unknown.lacks(Deed::Sign(SignatureAlgorithm::RsaPkcs1(Sha256)), &rsa, permissions(Some(false)));
        assert_eq!(refused.as_deref(), Some("does not let it sign (CKA_SIGN)"));
    }

    #[test]
    fn a_token_without_mechanisms_lacks_all_and_each_by_its_name() {
        let nothing = Abilities { listed: Some(Vec::new()), oaep: HashMap::new() };
        let rsa = PublicKey::rsa(&[0xc1; 256], &[1, 0, 1]);
        let ed25519 = PublicKey::Ed25519([1; 32]);
        for (deed, key, name) in [
            (Deed::Sign(SignatureAlgorithm::RsaPkcs1(Sha256)), &rsa, "cannot do CKM_RSA_PKCS"),
            (Deed::Sign(SignatureAlgorithm::Ed25519), &ed25519, "cannot do CKM_EDDSA"),
            (
                Deed::DecryptPkcs1,
                &rsa,
                "cannot do CKM_RSA_PKCS for decryption, nor CKM_RSA_X_509 in its place",
            ),
            (
                Deed::DecryptOaep(Sha256),
                &rsa,
                "cannot do CKM_RSA_PKCS_OAEP with SHA-256 for decryption, nor CKM_RSA_X_509 in its place",
            ),
        ] {
            assert_eq!(nothing.lacks(deed, key, permissions(None)).as_deref(), Some(name));
        }
        assert!(!nothing.may_decrypt_pkcs1() && !nothing.may_decrypt_oaep(Sha1, Sha1));
    }

    #[test]
    fn a_hash_that_failed_its_trial_is_not_used_and_the_others_are() {
        let tried = Abilities { listed: None, oaep: HashMap::from([(Sha1, true), (Sha256, false)]) };
        assert!(tried.may_decrypt_oaep(Sha1, Sha1));
        assert!(!tried.may_decrypt_oaep(Sha256, Sha256));
        assert!(tried.may_decrypt_oaep(Sha256, Sha1), "nobody tried unequal hashes");
    }
}
