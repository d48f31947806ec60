//! Whether an object is what its row claims: an option that a program passes over must not make a cell good.

use smime::{
    algorithm::{DigestAlgorithm as Hash, KeyEncryptionAlgorithm, PssParameters, SignatureAlgorithm},
    cms::{EncryptedKey, EnvelopedData, Object, SignerIdentifier, SignerInfo},
};

use crate::{
    form::{Cipher, Scheme, Sealing, Signing, Way},
    world::World,
};

/// What is not as the row says; `None` if all is.
pub fn unlike_signing(world: &World, object: &[u8], signing: &Signing) -> Option<String> {
    let signed = match Object::parse(object) {
        Ok(Object::SignedData(signed)) => signed,
        other => return Some(format!("no SignedData: {other:?}")),
    };
    if signing.ber && !is_indefinite(object) {
        return Some("its lengths are definite".to_owned());
    }
    if signed.content().is_some() != signing.opaque {
        return Some(format!("content inside: {}", !signing.opaque));
    }
    for &(who, scheme) in &signing.signers {
        let Ok(member) = world.member(who) else { return Some("an unknown signer".to_owned()) };
        let Some(info) = signed.signer_infos().iter().find(|info| info.names(&member.certificate)) else {
            return Some(format!("{} has not signed", who.name()));
        };
        let by_key = matches!(info.sid, SignerIdentifier::SubjectKeyIdentifier(_));
        if by_key != signing.by_key || info.signed_attributes.is_none() != signing.bare {
            return Some(format!("named by key: {by_key}, bare: {}", info.signed_attributes.is_none()));
        }
        let countersigner = match signing.countersigner {
            Some((who, _)) => {
                let Ok(member) = world.member(who) else {
                    return Some("an unknown countersigner".to_owned());
                };
                Some(&member.certificate)
            }
            None => None,
        };
        let is_countersigned = match (info.countersigners.as_slice(), countersigner) {
            ([], None) => true,
            ([SignerIdentifier::IssuerAndSerialNumber(named)], Some(certificate)) => {
                named.issuer == *certificate.issuer()
                    && named.serial_number.as_bytes() == certificate.serial_number()
            }
            _ => false,
        };
        if !is_countersigned {
            return Some(format!("countersigned by {:?}", info.countersigners));
        }
        // Where several sign, a program may take one hash for all.
        let one = signing.signers.len() == 1;
        if algorithm(info).is_none_or(|algorithm| !is(algorithm, scheme, one)) {
            return Some(format!("signed by {:?}", algorithm(info)));
        }
    }
    None
}

fn algorithm(info: &SignerInfo) -> Option<SignatureAlgorithm> {
    let digest = Hash::from_identifier(&info.digest_algorithm)?;
    SignatureAlgorithm::from_identifier(&info.signature_algorithm, digest)
}

fn is(algorithm: SignatureAlgorithm, scheme: Scheme, same_hash: bool) -> bool {
    let of = |hash, wanted| hash == wanted || !same_hash;
    match (algorithm, scheme) {
        (SignatureAlgorithm::RsaPkcs1(hash), Scheme::Pkcs1(wanted))
        | (SignatureAlgorithm::RsaPss(hash), Scheme::Pss(wanted))
        | (SignatureAlgorithm::Ecdsa(hash), Scheme::Ecdsa(wanted)) => of(hash, wanted),
        (SignatureAlgorithm::RsaPssOf(parameters), Scheme::PssMaximum(wanted)) => {
            parameters.hash == wanted && parameters.salt_len == 254 - wanted.output_len()
        }
        // Of weak hashes all parameters are told, also the usual ones.
        (SignatureAlgorithm::RsaPssOf(parameters), Scheme::Pss(wanted)) => {
            parameters == PssParameters::usual(wanted) && !wanted.is_strong()
        }
        (algorithm, scheme) => algorithm == SignatureAlgorithm::Ed25519 && scheme == Scheme::Ed25519,
    }
}

/// What is not as the row says; `None` if all is.
pub fn unlike_sealing(world: &World, object: &[u8], sealing: &Sealing) -> Option<String> {
    let enveloped = match Object::parse(object) {
        Ok(Object::EnvelopedData(enveloped)) => enveloped,
        other => return Some(format!("no EnvelopedData: {other:?}")),
    };
    if sealing.ber && !is_indefinite(object) {
        return Some("its lengths are definite".to_owned());
    }
    let name = enveloped.algorithm().map_or("something unknown", |algorithm| algorithm.name());
    if name != cipher_name(sealing.cipher) {
        return Some(format!("encrypted by {name}"));
    }
    let count = enveloped.recipients().len();
    let wanted = sealing.to.len() + usize::from(sealing.beside.is_some());
    if count != wanted {
        return Some(format!("{count} recipients and not {wanted}"));
    }
    sealing.to.iter().find_map(|&(who, way)| {
        let Ok(member) = world.member(who) else { return Some("an unknown recipient".to_owned()) };
        let identifier = member.certificate.subject_key_identifier()?;
        // There are no certificates in these objects, so the identifier is a recipient's.
        if memchr::memmem::find(object, &identifier).is_some() != sealing.by_key {
            return Some(format!("named by key: {}", !sealing.by_key));
        }
        unlike_way(&enveloped, &member.certificate, object, way).map(|what| format!("{}: {what}", who.name()))
    })
}

fn unlike_way(
    enveloped: &EnvelopedData<'_>,
    certificate: &smime::Certificate,
    object: &[u8],
    way: Way,
) -> Option<String> {
    match (enveloped.recipient_for(certificate), way) {
        (
            Some(EncryptedKey::Transported(transport)),
            Way::Pkcs1 | Way::Oaep(_) | Way::OaepMask(..) | Way::OaepLabel(_),
        ) => {
            let algorithm = transport.algorithm();
            let is = match (algorithm, way) {
                (Ok(KeyEncryptionAlgorithm::RsaPkcs1), Way::Pkcs1) => true,
                (Ok(KeyEncryptionAlgorithm::RsaOaep { hash, mask_hash, label }), Way::Oaep(wanted)) => {
                    *hash == wanted && *mask_hash == wanted && label.is_empty()
                }
                (
                    Ok(KeyEncryptionAlgorithm::RsaOaep { hash, mask_hash, label }),
                    Way::OaepMask(wanted, mask),
                ) => *hash == wanted && *mask_hash == mask && label.is_empty(),
                (Ok(KeyEncryptionAlgorithm::RsaOaep { hash, label, .. }), Way::OaepLabel(wanted)) => {
                    *hash == wanted && label == LABEL
                }
                _ => false,
            };
            (!is).then(|| format!("{algorithm:?}"))
        }
        (Some(EncryptedKey::Agreed(agreement, _)), way) => {
            let (scheme, wrap): (_, &[u8]) = match way {
                Way::Ecdh(hash, bits) => (standard_scheme(hash), aes_wrap(bits)),
                Way::Cofactor(hash) => (cofactor_scheme(hash), aes_wrap(256)),
                Way::TripleDesWrap(hash) => (standard_scheme(hash), TRIPLE_DES_WRAP),
                _ => ("1.2.840.113549.1.9.16.3.19", aes_wrap(256)),
            };
            if agreement.scheme().to_string() != scheme {
                return Some(format!("agreed by {}", agreement.scheme()));
            }
            memchr::memmem::find(object, wrap).is_none().then(|| "wrapped otherwise".to_owned())
        }
        (None, _) => Some("no key for it".to_owned()),
        _ => Some("not agreed on".to_owned()),
    }
}

/// The label in the rows with one.
pub const LABEL: &[u8] = b"hsmime";

/// `ContentInfo` with an indefinite length.
fn is_indefinite(object: &[u8]) -> bool {
    object.starts_with(&[0x30, 0x80])
}

fn cipher_name(cipher: Cipher) -> String {
    match cipher {
        Cipher::AesCbc(bits) => format!("AES-{bits}-CBC"),
        Cipher::AesGcm(bits) => format!("AES-{bits}-GCM"),
        Cipher::ChaCha20Poly1305 => "ChaCha20-Poly1305".to_owned(),
        Cipher::TripleDes => "DES-EDE3-CBC".to_owned(),
        Cipher::Des => "DES-CBC".to_owned(),
        Cipher::Rc2(bits) => format!("RC2-{bits}-CBC"),
    }
}

/// dhSinglePass-stdDH-…kdf-scheme (RFC 5753 7.1.4).
fn standard_scheme(hash: Hash) -> &'static str {
    match hash {
        Hash::Sha224 => "1.3.132.1.11.0",
        Hash::Sha256 => "1.3.132.1.11.1",
        Hash::Sha384 => "1.3.132.1.11.2",
        Hash::Sha512 => "1.3.132.1.11.3",
        Hash::Md5 | Hash::Sha1 => "1.3.133.16.840.63.0.2",
    }
}

/// dhSinglePass-cofactorDH-…kdf-scheme (RFC 5753 7.1.4).
fn cofactor_scheme(hash: Hash) -> &'static str {
    match hash {
        Hash::Sha224 => "1.3.132.1.14.0",
        Hash::Sha256 => "1.3.132.1.14.1",
        Hash::Sha384 => "1.3.132.1.14.2",
        Hash::Sha512 => "1.3.132.1.14.3",
        Hash::Md5 | Hash::Sha1 => "1.3.133.16.840.63.0.3",
    }
}

/// The object identifier of AES Key Wrap (RFC 3565 2.3.2), encoded.
fn aes_wrap(bits: u16) -> &'static [u8] {
    match bits {
        128 => b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x05",
        192 => b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x19",
        _ => b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2d",
    }
}

/// id-alg-CMS3DESwrap (RFC 3370 4.3.1), encoded.
const TRIPLE_DES_WRAP: &[u8] = b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x03\x06";
