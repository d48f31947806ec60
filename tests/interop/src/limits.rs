//! What the peers cannot, each in its own words. A cell that fails with other words is red, and so is one that is
//! good although it is named here.

use smime::algorithm::DigestAlgorithm::{Md5, Sha1};

use crate::{
    cell::Direction,
    form::{Cipher, Dress, Form, Scheme, Sealing, Signing, Way, Who},
    peer::Name,
};

/// The words with which a peer says that it cannot do this; `None` where it must.
pub fn of(peer: Name, direction: Direction, form: &Form) -> Option<&'static str> {
    match (form, direction) {
        (Form::Signed(signing), Direction::TheyWrite) => signs(peer, signing),
        (Form::Signed(signing), Direction::WeWrite) => verifies(peer, signing),
        (
            Form::Sealed(sealing) | Form::Rekeyed(sealing, _) | Form::Added(sealing, _),
            Direction::TheyWrite,
        ) => encrypts(peer, sealing),
        (Form::Sealed(sealing), Direction::WeWrite) => decrypts(peer, sealing),
        (
            Form::SignedSealed(signing, sealing)
            | Form::RawSealed(signing, sealing)
            | Form::Triple(signing, sealing),
            Direction::TheyWrite,
        ) => signs(peer, signing).or_else(|| encrypts(peer, sealing)),
        (Form::SignedSealed(signing, sealing) | Form::RawSealed(signing, sealing), Direction::WeWrite) => {
            decrypts(peer, sealing).or_else(|| verifies(peer, signing))
        }
        (Form::SealedSigned(sealing, signing), Direction::TheyWrite) => {
            encrypts(peer, sealing).or_else(|| signs(peer, signing))
        }
        (Form::SealedSigned(sealing, signing) | Form::Triple(signing, sealing), Direction::WeWrite) => {
            verifies(peer, signing).or_else(|| decrypts(peer, sealing))
        }
        (Form::Added(sealing, to), Direction::WeWrite) => encrypts(peer, sealing).or_else(|| {
            let to = [&sealing.to[..], &[*to]].concat();
            decrypts(peer, &Sealing { to, ..sealing.clone() })
        }),
        (Form::SignedCompressed(signing), Direction::TheyWrite) => {
            signs(peer, signing).or_else(|| compresses(peer, direction))
        }
        (Form::SignedCompressed(signing), Direction::WeWrite) => {
            compresses(peer, direction).or_else(|| verifies(peer, signing))
        }
        (Form::CompressedSealed(sealing), Direction::TheyWrite) => {
            compresses(peer, direction).or_else(|| encrypts(peer, sealing))
        }
        (Form::CompressedSealed(sealing), Direction::WeWrite) => {
            decrypts(peer, sealing).or_else(|| compresses(peer, direction))
        }
        (Form::Rekeyed(sealing, to), Direction::WeWrite) => {
            encrypts(peer, sealing).or_else(|| decrypts(peer, &Sealing { to: vec![*to], ..sealing.clone() }))
        }
        (Form::Compressed { .. }, _) => compresses(peer, direction),
        (Form::CertificatesOnly, Direction::TheyWrite) if peer == Name::Gpgsm => {
            Some("its options have no p7c, no certs-only, no pkcs7")
        }
        (Form::CertificatesOnly, _) => None,
    }
}

fn signs(peer: Name, signing: &Signing) -> Option<&'static str> {
    let pss = signing.any(|_, scheme| scheme.is_pss());
    let ed25519 = signing.any(|_, scheme| scheme == Scheme::Ed25519);
    match peer {
        Name::OpenSsl | Name::Gpgsm | Name::Nss if signing.countersigner.is_some() => {
            Some("its options have no counter")
        }
        Name::OpenSsl if ed25519 => Some("invalid digest"),
        Name::OpenSsl if signing.ber && !signing.opaque => {
            Some("its detached signature has the content in it")
        }
        Name::Gpgsm if pss => Some("its options have no pss, no padding"),
        Name::Gpgsm if signing.by_key => Some(GPGSM_BY_KEY),
        Name::Gpgsm if signing.bare => Some("its options have no attr"),
        Name::Gpgsm if ed25519 => Some(GPGSM_IMPORT),
        Name::Gpgsm if signing.any(|_, scheme| scheme.hash() == Md5) => {
            Some("it wrote something else: signed by Some(RsaPkcs1(Sha1))")
        }
        // The hash must be as long as the curve wants, or longer.
        Name::Gpgsm if signing.any(|_, scheme| scheme == Scheme::Ecdsa(Sha1)) => {
            Some("Invalid length <GPG Agent>")
        }
        Name::Nss if pss => Some("its options have no pss"),
        Name::Nss if signing.by_key => Some(NSS_BY_KEY),
        Name::Nss if signing.signers.len() > 1 => Some("its options have no -N nick,"),
        Name::Nss if ed25519 => Some(NSS_IMPORT),
        Name::Nss if signing.dress == Dress::Pkcs7 => Some("its options have no attribute"),
        Name::Nss if signing.bare && signing.any(|_, scheme| scheme.hash() != Sha1) => {
            Some("its options have no hash")
        }
        Name::Nss if signing.any(|_, scheme| scheme.hash() == Md5) => {
            Some("SEC_ERROR_SIGNATURE_ALGORITHM_DISABLED")
        }
        _ => None,
    }
}

fn verifies(peer: Name, signing: &Signing) -> Option<&'static str> {
    let ed25519 = signing.any(|_, scheme| scheme == Scheme::Ed25519);
    match peer {
        Name::OpenSsl if ed25519 => Some("invalid digest"),
        // 521 bits are none, and the hash of Ed25519 is not looked up.
        Name::Gpgsm if ed25519 || signing.any(|who, _| who == Who::P521) => {
            Some("DSA requires the hash length to be a multiple of 8 bits")
        }
        Name::Nss if ed25519 => Some("signer0.status=ProcessingError"),
        // It knows the hashes up to SHA-1.
        Name::Nss if signing.dress == Dress::Pkcs7 && !signing.opaque => Some("SEC_ERROR_UNRECOGNIZED_OID"),
        _ => None,
    }
}

fn encrypts(peer: Name, sealing: &Sealing) -> Option<&'static str> {
    let oaep = sealing.any(|_, way| way.is_oaep());
    let ecdh = sealing.any(|_, way| way.is_ecdh());
    let hkdf = sealing.any(|_, way| way == Way::Hkdf);
    match peer {
        Name::OpenSsl if sealing.cipher == Cipher::ChaCha20Poly1305 => {
            Some("unsupported content encryption algorithm")
        }
        Name::OpenSsl if hkdf => Some("operation not supported for this keytype"),
        Name::Gpgsm | Name::Nss if sealing.beside.is_some() => Some("its options have no pwri, no kek"),
        Name::Gpgsm if oaep => Some("its options have no oaep, no padding"),
        Name::Gpgsm if sealing.by_key => Some(GPGSM_BY_KEY),
        Name::Gpgsm if sealing.cipher.is_authenticated() => Some(GPGSM_CIPHER),
        Name::Gpgsm if matches!(sealing.cipher, Cipher::Des | Cipher::Rc2(_)) => Some(GPGSM_CIPHER),
        // It wants keyEncipherment of a key that cannot do it.
        Name::Gpgsm if ecdh || hkdf => Some("certificate is not usable for encryption"),
        Name::Nss if oaep => Some("its options have no oaep"),
        Name::Nss if sealing.by_key => Some(NSS_BY_KEY),
        Name::Nss if sealing.dress == Dress::Pkcs7 && sealing.cipher == Cipher::TripleDes => None,
        Name::Nss if sealing.cipher != Cipher::AesCbc(128) || sealing.dress == Dress::Pkcs7 => {
            Some("its options have no cipher, no algorithm")
        }
        Name::Nss if ecdh => Some("SEC_ERROR_INVALID_ALGORITHM"),
        Name::Nss if hkdf => Some("cannot find certificate for"),
        Name::BouncyCastle if sealing.cipher == Cipher::ChaCha20Poly1305 => {
            Some("cannot be cast to class org.bouncycastle.operator.OutputAEADEncryptor")
        }
        Name::BouncyCastle if hkdf => Some("Unknown key agreement algorithm: 1.2.840.113549.1.9.16.3.19"),
        _ => None,
    }
}

fn decrypts(peer: Name, sealing: &Sealing) -> Option<&'static str> {
    let oaep = sealing.any(|_, way| way.is_oaep());
    let ecdh = sealing.any(|_, way| way.is_ecdh());
    let hkdf = sealing.any(|_, way| way == Way::Hkdf);
    match peer {
        Name::OpenSsl if sealing.cipher == Cipher::ChaCha20Poly1305 => Some("unknown cipher"),
        Name::OpenSsl if hkdf => Some("no matching recipient"),
        Name::Gpgsm if hkdf => Some(GPGSM_IMPORT),
        // It takes the first key that it has and knows to use, whomever it is asked for.
        Name::Gpgsm if sealing.to.len() > 1 && sealing.any(|_, way| way == Way::Pkcs1) => None,
        Name::Gpgsm if oaep || ecdh || sealing.by_key || sealing.cipher.is_authenticated() => {
            Some("message decryption failed")
        }
        Name::Nss if hkdf => Some(NSS_IMPORT),
        Name::Nss if sealing.cipher.is_authenticated() => Some("SEC_ERROR_UNRECOGNIZED_OID"),
        Name::Nss if ecdh => Some("SEC_ERROR_BAD_DER"),
        Name::Nss if oaep => Some("SEC_ERROR_UNSUPPORTED_KEYALG"),
        Name::BouncyCastle if hkdf => Some("no such algorithm: 1.2.840.113549.1.9.16.3.19 for provider BC"),
        _ => None,
    }
}

fn compresses(peer: Name, direction: Direction) -> Option<&'static str> {
    match (peer, direction) {
        (Name::OpenSsl, _) => Some("unsupported compression algorithm"),
        (Name::Gpgsm | Name::Nss, Direction::TheyWrite) => Some("its options have no compress"),
        (Name::Gpgsm, Direction::WeWrite) => Some("Unknown CMS object"),
        (Name::Nss, Direction::WeWrite) => Some("SEC_ERROR_UNRECOGNIZED_OID"),
        (Name::BouncyCastle, _) => None,
    }
}

const GPGSM_BY_KEY: &str = "its options have no keyid, no key-id, no subjectKey";
const GPGSM_IMPORT: &str = "error parsing or decrypting the PKCS#12 file";
const GPGSM_CIPHER: &str = "selected cipher algorithm is invalid";
const NSS_BY_KEY: &str = "its options have no subjectkey, no key identifier";
const NSS_IMPORT: &str = "SEC_ERROR_PKCS12_UNABLE_TO_IMPORT_KEY";
