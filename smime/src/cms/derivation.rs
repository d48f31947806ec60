//! From a shared secret to a key-encryption key: ECC-CMS-SharedInfo (RFC 5753 7.2), the X9.63 key derivation
//! (SEC 1, 3.6.1), and HKDF (RFC 8418 2.2).

use aws_lc_rs::{digest, hkdf};
use const_oid::db::rfc5753;
use der::asn1::ObjectIdentifier;
use zeroize::Zeroizing;

use super::attributes::tlv;
use crate::{agreement::AgreementCurve, ber::Tag};

/// How keys are derived. The cofactor of every curve here is 1 (RFC 8418 2 for X25519), so the schemes with
/// cofactor Diffie-Hellman are the same as those without.
#[derive(Clone, Copy, Debug)]
pub(super) enum Derivation {
    /// ANSI-X9.63-KDF.
    X963(&'static digest::Algorithm),
    /// HKDF.
    Hkdf(hkdf::Algorithm),
}

/// dhSinglePass-stdDH-hkdf-sha256-scheme (RFC 8418 section 7), and its like with SHA-384 and SHA-512.
const HKDF_SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.3.19");
const HKDF_SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.3.20");
const HKDF_SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.3.21");

impl Derivation {
    /// The derivation of a key-agreement scheme. SHA-1 is OpenSSL's default; it harms nothing here.
    pub(super) fn of_scheme(scheme: ObjectIdentifier) -> Option<Self> {
        Some(match scheme {
            rfc5753::DH_SINGLE_PASS_STD_DH_SHA_1_KDF_SCHEME
            | rfc5753::DH_SINGLE_PASS_COFACTOR_DH_SHA_1_KDF_SCHEME => {
                Self::X963(&digest::SHA1_FOR_LEGACY_USE_ONLY)
            }
            rfc5753::DH_SINGLE_PASS_STD_DH_SHA_224_KDF_SCHEME
            | rfc5753::DH_SINGLE_PASS_COFACTOR_DH_SHA_224_KDF_SCHEME => Self::X963(&digest::SHA224),
            rfc5753::DH_SINGLE_PASS_STD_DH_SHA_256_KDF_SCHEME
            | rfc5753::DH_SINGLE_PASS_COFACTOR_DH_SHA_256_KDF_SCHEME => Self::X963(&digest::SHA256),
            rfc5753::DH_SINGLE_PASS_STD_DH_SHA_384_KDF_SCHEME
            | rfc5753::DH_SINGLE_PASS_COFACTOR_DH_SHA_384_KDF_SCHEME => Self::X963(&digest::SHA384),
            rfc5753::DH_SINGLE_PASS_STD_DH_SHA_512_KDF_SCHEME
            | rfc5753::DH_SINGLE_PASS_COFACTOR_DH_SHA_512_KDF_SCHEME => Self::X963(&digest::SHA512),
            HKDF_SHA_256 => Self::Hkdf(hkdf::HKDF_SHA256),
            HKDF_SHA_384 => Self::Hkdf(hkdf::HKDF_SHA384),
            HKDF_SHA_512 => Self::Hkdf(hkdf::HKDF_SHA512),
            _ => return None,
        })
    }

    /// Derives a key-encryption key of `len` octets. `wrap` is the key-wrap algorithm's identifier octet by
    /// octet, because senders disagree on whether its parameters are NULL or absent.
    pub(super) fn derive(
        self,
        secret: &[u8],
        wrap: &[u8],
        ukm: Option<&[u8]>,
        len: usize,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let info = shared_info(wrap, ukm, len)?;
        let mut key = Zeroizing::new(vec![0; len]);
        match self {
            Self::X963(hash) => {
                for (counter, block) in (1_u32..).zip(key.chunks_mut(hash.output_len())) {
                    let mut context = digest::Context::new(hash);
                    context.update(secret);
                    context.update(&counter.to_be_bytes());
                    context.update(&info);
                    let value = context.finish();
                    block.copy_from_slice(value.as_ref().get(..block.len())?);
                }
            }
            Self::Hkdf(algorithm) => {
                // "The salt is the ukm where there is one" and else HashLen zeros, which is what no salt is.
                let salt = hkdf::Salt::new(algorithm, ukm.unwrap_or_default());
                let pseudorandom = salt.extract(secret);
                pseudorandom.expand(&[&info], Length(len)).ok()?.fill(&mut key).ok()?;
            }
        }
        Some(key)
    }
}

/// The scheme that is written for a curve: a digest of the curve's strength (RFC 5753 8), and HKDF with X25519
/// (RFC 8418 2).
pub(super) fn scheme_for(curve: AgreementCurve) -> ObjectIdentifier {
    match curve {
        AgreementCurve::P256 => rfc5753::DH_SINGLE_PASS_STD_DH_SHA_256_KDF_SCHEME,
        AgreementCurve::P384 => rfc5753::DH_SINGLE_PASS_STD_DH_SHA_384_KDF_SCHEME,
        AgreementCurve::P521 => rfc5753::DH_SINGLE_PASS_STD_DH_SHA_512_KDF_SCHEME,
        AgreementCurve::X25519 => HKDF_SHA_256,
    }
}

/// `ECC-CMS-SharedInfo { keyInfo, [0] entityUInfo, [2] suppPubInfo }`: the last is the key's length in bits.
fn shared_info(wrap: &[u8], ukm: Option<&[u8]>, len: usize) -> Option<Vec<u8>> {
    let bits = u32::try_from(len * 8).ok()?.to_be_bytes();
    let explicit = |number, octets: &[u8]| tlv(Tag::context(number), &tlv(Tag::OCTET_STRING, octets));
    let parts =
        [wrap.to_vec(), ukm.map(|ukm| explicit(0, ukm)).unwrap_or_default(), explicit(2, &bits)].concat();
    Some(tlv(Tag::SEQUENCE, &parts))
}

/// The engine wants the length of what HKDF makes as a type.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn shared_info_is_as_rfc_5753_wants_it() {
        let wrap = hex("300b060960864801650304012d");
        let info = shared_info(&wrap, Some(&[7; 2]), 32).unwrap();
        assert_eq!(info, hex("301b300b060960864801650304012da00404020707a206040400000100"));
        let info = shared_info(&wrap, None, 16).unwrap();
        assert_eq!(info, hex("3015300b060960864801650304012da206040400000080"));
    }

    #[test]
    fn x963_gives_the_hash_of_secret_counter_and_info_block_by_block() {
        // By hand: SHA-256(Z || 00000001 || info), as long as one block serves.
        let wrap = hex("300b060960864801650304012d");
        let info = shared_info(&wrap, None, 32).unwrap();
        let mut input = vec![0x5A; 32];
        input.extend([0, 0, 0, 1]);
        input.extend(&info);
        let derivation = Derivation::X963(&digest::SHA256);
        let key = derivation.derive(&[0x5A; 32], &wrap, None, 32).unwrap();
        assert_eq!(*key, digest::digest(&digest::SHA256, &input).as_ref());
        // SHA-1 needs two blocks for 32 octets.
        let key = Derivation::X963(&digest::SHA1_FOR_LEGACY_USE_ONLY).derive(&[0x5A; 32], &wrap, None, 32);
        let first = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &input);
        input[35] = 2;
        let second = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &input);
        assert_eq!(**key.unwrap(), [first.as_ref(), &second.as_ref()[..12]].concat());
    }

    #[test]
    fn what_goes_in_changes_what_comes_out() {
        let wrap = hex("300b060960864801650304012d");
        let null = hex("300d060960864801650304012d0500");
        for derivation in [Derivation::X963(&digest::SHA256), Derivation::Hkdf(hkdf::HKDF_SHA256)] {
            let derive = |secret: u8, wrap: &[u8], ukm: Option<&[u8]>, len| {
                derivation.derive(&[secret; 32], wrap, ukm, len).unwrap().to_vec()
            };
            let keys = [
                derive(1, &wrap, None, 32),
                derive(2, &wrap, None, 32),
                derive(1, &null, None, 32),
                derive(1, &wrap, Some(b""), 32),
                derive(1, &wrap, Some(b"x"), 32),
                derive(1, &wrap, None, 24),
                derive(1, &wrap, None, 16),
            ];
            for (at, key) in keys.iter().enumerate() {
                assert!(keys[..at].iter().all(|other| other[..16] != key[..16]), "{at}");
            }
        }
    }
}
