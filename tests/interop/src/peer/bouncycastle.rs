//! BouncyCastle, by the driver in `tests/java`.

use smime::algorithm::DigestAlgorithm as Hash;
use testkit::peers;

use super::{Name, Peer, Said, Written};
use crate::{
    form::{Beside, Cipher, Scheme, Sealing, Signing, Way, Who},
    mail::Mail,
    world::{Member, World},
};

/// The server and everybody's keys.
#[derive(Debug)]
pub struct BouncyCastle<'a> {
    world: &'a World,
    server: peers::BouncyCastle,
    issuing: Vec<u8>,
    root: Vec<u8>,
}

impl<'a> BouncyCastle<'a> {
    /// Starts the server.
    pub fn new(world: &'a World) -> testkit::Result<Self> {
        let server = peers::BouncyCastle::start()?;
        let (issuing, root) = (world.issuing()?.der().to_vec(), world.root()?.der().to_vec());
        Ok(Self { world, server, issuing, root })
    }

    fn member(&self, who: Who) -> Result<&Member, Said> {
        Ok(self.world.member(who)?)
    }

    fn ask(&self, fields: &[&[u8]]) -> Result<Vec<u8>, Said> {
        Ok(self.server.ask(fields)?)
    }
}

fn word(is: bool, yes: &'static str, no: &'static str) -> &'static [u8] {
    if is { yes.as_bytes() } else { no.as_bytes() }
}

fn hash_name(hash: Hash) -> &'static str {
    match hash {
        Hash::Md5 => "MD5",
        Hash::Sha1 => "SHA1",
        Hash::Sha224 => "SHA224",
        Hash::Sha256 => "SHA256",
        Hash::Sha384 => "SHA384",
        Hash::Sha512 => "SHA512",
    }
}

impl Peer for BouncyCastle<'_> {
    fn name(&self) -> Name {
        Name::BouncyCastle
    }

    fn version(&self) -> Result<String, Said> {
        Ok(String::from_utf8_lossy(&self.ask(&[b"version"])?).into_owned())
    }

    fn sign(&self, content: &[u8], signing: &Signing) -> Result<Written, Said> {
        let all: Vec<(Who, Scheme)> = signing.signers.iter().copied().chain(signing.countersigner).collect();
        let algorithms: Vec<String> = all
            .iter()
            .map(|(_, scheme)| {
                let hash = hash_name(scheme.hash());
                match scheme {
                    Scheme::Pkcs1(_) => format!("{hash}withRSA"),
                    Scheme::Pss(_) => format!("{hash}withRSAandMGF1"),
                    // The modulus has 256 octets: all but the digest and two.
                    Scheme::PssMaximum(of) => format!("{hash} salt {}", 254 - of.output_len()),
                    Scheme::Ecdsa(_) => format!("{hash}withECDSA"),
                    Scheme::Ed25519 => "Ed25519".to_owned(),
                }
            })
            .collect();
        let mut fields: Vec<&[u8]> = vec![
            b"sign",
            content,
            word(signing.opaque, "opaque", "detached"),
            word(signing.ber, "ber", "der"),
            match (signing.bare, signing.countersigner) {
                (true, _) => b"bare",
                (false, Some(_)) => b"countersigned",
                (false, None) => b"attributes",
            },
            word(signing.by_key, "ski", "issuer"),
            &self.issuing,
        ];
        for ((who, _), algorithm) in all.iter().zip(&algorithms) {
            let member = self.member(*who)?;
            fields.extend([algorithm.as_bytes(), member.certificate.der(), &member.pkcs8]);
        }
        self.ask(&fields).map(Written::Object)
    }

    fn verify(&self, mail: &Mail, _: &Signing) -> Result<Vec<u8>, Said> {
        self.ask(&[b"verify", &mail.object, mail.content.as_deref().unwrap_or_default(), &self.root])
    }

    fn encrypt(&self, content: &[u8], sealing: &Sealing) -> Result<Written, Said> {
        let (cipher, bits) = match sealing.cipher {
            Cipher::AesCbc(bits) => (format!("AES{bits}_CBC"), 0),
            Cipher::AesGcm(bits) => (format!("AES{bits}_GCM"), 0),
            Cipher::ChaCha20Poly1305 => ("1.2.840.113549.1.9.16.3.18".to_owned(), 0),
            Cipher::TripleDes => ("DES_EDE3_CBC".to_owned(), 0),
            Cipher::Des => ("DES_CBC".to_owned(), 0),
            Cipher::Rc2(bits) => ("RC2_CBC".to_owned(), bits),
        };
        let bits = bits.to_string();
        let ways: Vec<String> = sealing
            .to
            .iter()
            .map(|(_, way)| match way {
                Way::Pkcs1 => "pkcs1".to_owned(),
                Way::Oaep(hash) => format!("oaep {}", hash_name(*hash)),
                Way::OaepMask(hash, mask) => format!("oaep {}/{}", hash_name(*hash), hash_name(*mask)),
                Way::OaepLabel(hash) => format!("oaep {} hsmime", hash_name(*hash)),
                Way::Cofactor(hash) => format!("ecdh ECCDH_{}KDF AES256_WRAP", hash_name(*hash)),
                Way::TripleDesWrap(hash) => format!("ecdh ECDH_{}KDF DES_EDE3_WRAP", hash_name(*hash)),
                Way::Ecdh(hash, bits) => format!("ecdh ECDH_{}KDF AES{bits}_WRAP", hash_name(*hash)),
                Way::Hkdf => "ecdh 1.2.840.113549.1.9.16.3.19 AES256_WRAP".to_owned(),
            })
            .collect();
        let form: &[u8] = match (sealing.ber, sealing.cipher.is_authenticated()) {
            // Its generator for streams knows EnvelopedData only, and puts AES-GCM into that.
            (true, _) => b"ber",
            (false, true) => b"auth",
            (false, false) => b"der",
        };
        let mut fields: Vec<&[u8]> = vec![b"encrypt", content, cipher.as_bytes(), bits.as_bytes(), form];
        for ((who, _), way) in sealing.to.iter().zip(&ways) {
            let certificate = self.member(*who)?.certificate.der();
            fields.extend([way.as_bytes(), word(sealing.by_key, "ski", "issuer"), certificate]);
        }
        if let (Some(beside), Some((who, _))) = (sealing.beside, sealing.to.first()) {
            let way: &[u8] = match beside {
                Beside::Password => b"password",
                Beside::SharedKey => b"kek",
            };
            fields.extend([way, b"issuer", self.member(*who)?.certificate.der()]);
        }
        self.ask(&fields).map(Written::Object)
    }

    fn decrypt(&self, mail: &Mail, who: Who, _: &Sealing) -> Result<Vec<u8>, Said> {
        let member = self.member(who)?;
        self.ask(&[b"decrypt", &mail.object, member.certificate.der(), &member.pkcs8])
    }

    fn compress(&self, content: &[u8], ber: bool) -> Result<Vec<u8>, Said> {
        self.ask(&[b"compress", content, word(ber, "ber", "der")])
    }

    fn decompress(&self, mail: &Mail) -> Result<Vec<u8>, Said> {
        self.ask(&[b"decompress", &mail.object])
    }

    fn certificates_only(&self, of: &[Who]) -> Result<Vec<u8>, Said> {
        let mut fields: Vec<&[u8]> = vec![b"certificates-only"];
        for who in of {
            fields.push(self.member(*who)?.certificate.der());
        }
        self.ask(&fields)
    }

    fn certificates(&self, mail: &Mail) -> Result<Vec<Vec<u8>>, Said> {
        let mut rest = &*self.ask(&[b"certificates", &mail.object])?;
        let mut all = Vec::new();
        // Each certificate is 30 82 and two octets of length.
        while let [_, _, high, low, ..] = rest {
            let len = 4 + (usize::from(*high) << 8) + usize::from(*low);
            let (one, after) =
                rest.split_at_checked(len).ok_or_else(|| Said("half a certificate".to_owned()))?;
            all.push(one.to_vec());
            rest = after;
        }
        Ok(all)
    }
}
