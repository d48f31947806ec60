//! The parameters of RSASSA-PSS (RFC 4055 section 3.1).

use const_oid::db::rfc5912::ID_MGF_1;
use der::asn1::{Any, Null};
use spki::AlgorithmIdentifierOwned;

use super::{DigestAlgorithm, SignatureAlgorithm};

/// What a signer of RSASSA-PSS chose.
///
/// Any choice is read: "the recommended value of saltLength is the number of octets in the hash value", and it
/// "does not need to be fixed" (RFC 4055 3.1), nor does RFC 8551 2.2 ask for one. OpenSSL by itself takes the
/// longest salt that fits. The hash inside the mask may be another one; it should be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PssParameters {
    /// The digest that is signed.
    pub hash: DigestAlgorithm,
    /// The hash inside MGF1.
    pub mask_hash: DigestAlgorithm,
    /// The length of the salt in octets.
    pub salt_len: u16,
}

impl PssParameters {
    /// One hash for all of it and a salt as long as it, as recommended and as written here.
    pub fn usual(hash: DigestAlgorithm) -> Self {
        Self { hash, mask_hash: hash, salt_len: hash.output_len() }
    }

    /// The algorithm of an identifier's parameters: [`SignatureAlgorithm::RsaPss`] for the usual ones.
    pub(super) fn read(parameters: Option<&Any>) -> Option<SignatureAlgorithm> {
        let parameters: Encoded = parameters?.decode_as().ok()?;
        let hash = match &parameters.hash {
            Some(identifier) => DigestAlgorithm::from_identifier(identifier)?,
            None => DigestAlgorithm::Sha1,
        };
        let mask_hash = match &parameters.mask {
            Some(mask) if mask.oid == ID_MGF_1 => {
                DigestAlgorithm::from_identifier(&mask.parameters.as_ref()?.decode_as().ok()?)?
            }
            Some(_) => return None,
            None => DigestAlgorithm::Sha1,
        };
        if parameters.trailer != 1 {
            return None;
        }
        let found = Self { hash, mask_hash, salt_len: parameters.salt_len };
        Some(if found == Self::usual(hash) && hash.is_strong() {
            SignatureAlgorithm::RsaPss(hash)
        } else {
            SignatureAlgorithm::RsaPssOf(found)
        })
    }

    /// RSASSA-PSS-params with everything in them; digests have NULL parameters in there (RFC 4055 2.1).
    pub(super) fn write(self) -> Option<Any> {
        let identifier = |digest: DigestAlgorithm| AlgorithmIdentifierOwned {
            oid: digest.oid(),
            parameters: Some(Any::from(Null)),
        };
        let mask_hash = Any::encode_from(&identifier(self.mask_hash)).ok()?;
        let mask = AlgorithmIdentifierOwned { oid: ID_MGF_1, parameters: Some(mask_hash) };
        let hash = Some(identifier(self.hash));
        Any::encode_from(&Encoded { hash, mask: Some(mask), salt_len: self.salt_len, trailer: 1 }).ok()
    }
}

/// RSASSA-PSS-params; everything absent means SHA-1.
#[derive(Clone, Debug, der::Sequence)]
struct Encoded {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    hash: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    mask: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", default = "default_salt_len")]
    salt_len: u16,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", default = "default_trailer")]
    trailer: u8,
}

fn default_salt_len() -> u16 {
    20
}

fn default_trailer() -> u8 {
    1
}

#[cfg(test)]
mod tests {
    use DigestAlgorithm::{Md5, Sha1, Sha256, Sha512};

    use super::*;

    #[test]
    fn parameters_are_read_as_they_were_chosen() {
        for (hash, mask_hash, salt_len) in
            [(Sha256, Sha256, 20), (Sha256, Sha512, 32), (Sha512, Sha1, 0), (Sha1, Sha1, 20), (Md5, Md5, 16)]
        {
            let chosen = PssParameters { hash, mask_hash, salt_len };
            let read = PssParameters::read(chosen.write().as_ref());
            assert_eq!(read, Some(SignatureAlgorithm::RsaPssOf(chosen)));
        }
        let usual = PssParameters::usual(Sha256).write();
        assert_eq!(PssParameters::read(usual.as_ref()), Some(SignatureAlgorithm::RsaPss(Sha256)));
    }

    #[test]
    fn everything_absent_means_sha_1_and_no_parameters_mean_nothing() {
        // An empty SEQUENCE: these are the defaults of RFC 4055 3.1, not the absence of parameters, which is
        // for keys only.
        let empty = Any::new(der::Tag::Sequence, Vec::new()).unwrap();
        let sha1 = PssParameters { hash: Sha1, mask_hash: Sha1, salt_len: 20 };
        assert_eq!(PssParameters::read(Some(&empty)), Some(SignatureAlgorithm::RsaPssOf(sha1)));
        assert_eq!(PssParameters::read(None), None);
    }

    #[test]
    fn another_trailer_or_mask_generation_function_is_not_taken() {
        let encoded = |trailer, mask_oid| {
            let hash = AlgorithmIdentifierOwned { oid: Sha256.oid(), parameters: Some(Any::from(Null)) };
            let mask = AlgorithmIdentifierOwned { oid: mask_oid, parameters: Any::encode_from(&hash).ok() };
            Any::encode_from(&Encoded { hash: Some(hash), mask: Some(mask), salt_len: 32, trailer }).unwrap()
        };
        assert!(PssParameters::read(Some(&encoded(1, ID_MGF_1))).is_some());
        assert_eq!(PssParameters::read(Some(&encoded(2, ID_MGF_1))), None);
        assert_eq!(PssParameters::read(Some(&encoded(1, Sha256.oid()))), None);
    }
}
