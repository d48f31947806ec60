//! Our side: what `smime` writes, and what it makes of what the peers wrote.

use std::{path::Path, process::Command, time::SystemTime};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aws_lc_rs::{
    digest,
    signature::{
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
        RsaEncoding, RsaKeyPair,
    },
};
use smime::{
    Certificate,
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::{DigestAlgorithm as Hash, KeyEncryptionAlgorithm, SignatureAlgorithm},
    cipher::ContentCipher,
    cms::{Keep, Object, Proof, RecipientKey, RsaTransport, rekey},
    key::{ContentEncryptionKey, Decryptor, KeyError, SignatureInput, SignatureValue, Signer, Unwrapped},
    message::{
        CompressedMessage, OpaqueMessage, Reason, SealedMessage, Wrapped, certificates_only, compress, seal,
        seal_content, sign, sign_opaque, verify,
    },
    mime::{Canonical, Message, MimeEntity, single_originator},
    path::{RevocationMode, Trust},
    profile::SealPlan,
    testing::MemoryKey,
};
use testkit::command;

use crate::{
    form::{Cipher, Dress, Scheme, Sealing, Signing, Way, Who},
    mail::Mail,
    rows::name,
    world::World,
};

/// The library, with everybody's keys.
#[derive(Debug)]
pub struct Ours<'a> {
    world: &'a World,
    trust: Trust,
    chain: Vec<Certificate>,
}

impl<'a> Ours<'a> {
    /// Trusts the root.
    pub fn new(world: &'a World) -> Result<Self> {
        let trust =
            Trust { anchors: vec![world.root()?], revocation: RevocationMode::Off, ..Trust::default() };
        Ok(Self { world, trust, chain: vec![world.issuing()?] })
    }

    /// Writes a signed entity; `None` for what is not written here: old or unusual, and read only.
    pub fn sign(&self, entity: &[u8], signing: &Signing) -> Option<Result<Vec<u8>>> {
        let [(who, scheme)] = *signing.signers.as_slice() else { return None };
        let dressed = matches!(signing.dress, Dress::X | Dress::OctetStream);
        let algorithm = algorithm(who, scheme)?;
        if signing.by_key || signing.bare || signing.ber || dressed || signing.countersigner.is_some() {
            return None;
        }
        Some(self.sign_with(entity, who, algorithm, signing.opaque))
    }

    fn sign_with(
        &self,
        entity: &[u8],
        who: Who,
        algorithm: SignatureAlgorithm,
        opaque: bool,
    ) -> Result<Vec<u8>> {
        let (entity, signer) = (canonical(entity)?, self.signer(who, algorithm)?);
        let now = SystemTime::now();
        if opaque {
            return Ok(opaque_entity(&sign_opaque(&entity, &*signer, &self.chain, now)?));
        }
        let message = sign(&entity, &*signer, &self.chain, now)?;
        let fields = format!("Content-Type: {}\r\n\r\n", message.content_type);
        Ok([fields.as_bytes(), &message.body].concat())
    }

    fn signer(&self, who: Who, algorithm: SignatureAlgorithm) -> Result<Box<dyn Signer>> {
        let member = self.world.member(who)?;
        Ok(match who {
            Who::Rsa | Who::Rsa2 => Box::new(RsaSigner {
                certificate: member.certificate.clone(),
                key: RsaKeyPair::from_pkcs8(&member.pkcs8).map_err(|error| anyhow!("{error}"))?,
                algorithm,
            }),
            _ => Box::new(self.key(who)?),
        })
    }

    fn key(&self, who: Who) -> Result<MemoryKey> {
        let member = self.world.member(who)?;
        MemoryKey::from_pkcs8(&member.pkcs8, member.certificate.clone()).context("no key")
    }

    /// Writes an encrypted entity; `None` for what is not written here.
    pub fn seal(&self, entity: &[u8], sealing: &Sealing) -> Option<Result<Vec<u8>>> {
        self.seal_by(sealing, |plan| Ok(seal(&canonical(entity)?, plan)?))
    }

    /// Writes encrypted octets that are no entity; `None` for what is not written here.
    pub fn seal_octets(&self, octets: &[u8], sealing: &Sealing) -> Option<Result<Vec<u8>>> {
        self.seal_by(sealing, |plan| Ok(seal_content(octets, plan)?))
    }

    fn seal_by(
        &self,
        sealing: &Sealing,
        seal: impl Fn(&SealPlan) -> Result<SealedMessage>,
    ) -> Option<Result<Vec<u8>>> {
        let cipher = match sealing.cipher {
            Cipher::AesCbc(128) => ContentCipher::Aes128Cbc,
            Cipher::AesCbc(192) => ContentCipher::Aes192Cbc,
            Cipher::AesCbc(256) => ContentCipher::Aes256Cbc,
            Cipher::AesGcm(128) => ContentCipher::Aes128Gcm,
            Cipher::AesGcm(256) => ContentCipher::Aes256Gcm,
            Cipher::ChaCha20Poly1305 => ContentCipher::ChaCha20Poly1305,
            _ => return None,
        };
        let dressed = matches!(sealing.dress, Dress::X | Dress::OctetStream);
        if sealing.ber
            || sealing.beside.is_some()
            || dressed
            || !sealing.to.iter().all(|&(who, way)| is_written(who, way))
        {
            return None;
        }
        Some(self.seal_with(cipher, sealing, seal))
    }

    fn seal_with(
        &self,
        cipher: ContentCipher,
        sealing: &Sealing,
        seal: impl Fn(&SealPlan) -> Result<SealedMessage>,
    ) -> Result<Vec<u8>> {
        let key = |&(who, way): &(Who, Way)| {
            let key = self.recipient(who, way)?;
            Ok(if sealing.by_key { key.by_key_identifier()? } else { key })
        };
        let recipients = sealing.to.iter().map(key).collect::<Result<_>>()?;
        let sealed = seal(&SealPlan { cipher, recipients })?;
        let fields = format!(
            "Content-Type: {}\r\nContent-Transfer-Encoding: {}\r\nContent-Disposition: {}\r\n\r\n",
            sealed.content_type,
            SealedMessage::TRANSFER_ENCODING,
            SealedMessage::DISPOSITION
        );
        Ok([fields.as_bytes(), &sealed.body].concat())
    }

    fn recipient(&self, who: Who, way: Way) -> Result<RecipientKey> {
        let key = RecipientKey::new(self.world.member(who)?.certificate.clone())?;
        Ok(match way {
            Way::Oaep(hash) => key.with_rsa_transport(RsaTransport::Oaep(hash)),
            _ => key,
        })
    }

    /// Writes a compressed entity.
    pub fn compress(entity: &[u8]) -> Result<Vec<u8>> {
        let compressed = compress(&canonical(entity)?)?;
        let fields = format!(
            "Content-Type: {}\r\nContent-Transfer-Encoding: {}\r\nContent-Disposition: {}\r\n\r\n",
            compressed.content_type,
            CompressedMessage::TRANSFER_ENCODING,
            CompressedMessage::DISPOSITION
        );
        Ok([fields.as_bytes(), &compressed.body].concat())
    }

    /// Writes an entity with these certificates only.
    pub fn certificates_only(&self, certificates: &[Vec<u8>]) -> Result<Vec<u8>> {
        let certificates = certificates.iter().map(|der| Certificate::from_der(der));
        Ok(opaque_entity(&certificates_only(&certificates.collect::<Result<Vec<_>, _>>()?)?))
    }

    /// Gives an encrypted object another recipient.
    pub fn rekey(&self, object: &[u8], from: Who, to: (Who, Way), keep: Keep) -> Result<Vec<u8>> {
        let to = self.recipient(to.0, to.1)?;
        Ok(rekey(object, &self.key(from)?, &[to], keep, Proof::Content)?)
    }

    /// Verifies a mail; the content, if the verdict is the one that is wanted.
    pub fn verify(&self, mail: &Mail, wanted: Option<&Reason>) -> Result<Vec<u8>> {
        let message = Message::from_stored(&mail.octets);
        let entity = message.entity();
        let (verdict, _) = verify(&entity, single_originator(&entity), &self.trust, SystemTime::now());
        let wanted = wanted.unwrap_or(&Reason::RevocationNotChecked);
        ensure!(
            verdict.reason() == wanted,
            "the verdict is {}: {}",
            verdict.result().as_str(),
            verdict.reason()
        );
        signed_content(&entity)
    }

    /// Opens a mail with somebody's key.
    pub fn open(&self, mail: &Mail, who: Who) -> Result<Vec<u8>> {
        let object = object(mail)?;
        match Object::parse(&object)? {
            Object::EnvelopedData(enveloped) => {
                let recipient = enveloped.recipient_for(&self.world.member(who)?.certificate);
                let key = AnyMask { key: self.key(who)?, file: &self.world.member(who)?.person.key };
                Ok(enveloped.open(recipient.context("it is not encrypted to the key")?, &key)?)
            }
            other => bail!("{other:?}"),
        }
    }

    /// Decompresses a mail.
    pub fn decompress(mail: &Mail) -> Result<Vec<u8>> {
        match Object::parse(&object(mail)?)? {
            Object::CompressedData(compressed) => Ok(compressed.decompress()?),
            other => bail!("{other:?}"),
        }
    }

    /// The certificates of a mail that has nothing else.
    pub fn certificates(&self, mail: &Mail) -> Result<Vec<Vec<u8>>> {
        let message = Message::from_stored(&mail.octets);
        let entity = message.entity();
        let (verdict, _) = verify(&entity, single_originator(&entity), &self.trust, SystemTime::now());
        ensure!(verdict.reason() == &Reason::CertificatesOnly, "the verdict is {}", verdict.reason());
        match Object::parse(&object(mail)?)? {
            Object::SignedData(signed) => {
                Ok(signed.certificates().iter().map(|certificate| certificate.der().to_vec()).collect())
            }
            other => bail!("{other:?}"),
        }
    }
}

/// What a signature is over, also one that is compressed.
fn signed_content(entity: &MimeEntity<'_>) -> Result<Vec<u8>> {
    match Wrapped::read(entity)? {
        Some(Wrapped::Clear { content, .. }) => Ok(content.octets().to_vec()),
        Some(Wrapped::Opaque(object)) => match Object::parse(&object)? {
            Object::SignedData(signed) => Ok(signed.content().context("no content")?.concat()),
            Object::CompressedData(compressed) => {
                signed_content(&MimeEntity::parse(&compressed.decompress()?))
            }
            other => bail!("{other:?}"),
        },
        None => bail!("no S/MIME"),
    }
}

/// The object of a mail that is one part.
fn object(mail: &Mail) -> Result<Vec<u8>> {
    match Wrapped::read(&Message::from_stored(&mail.octets).entity())? {
        Some(Wrapped::Opaque(object)) => Ok(object),
        other => bail!("{other:?}"),
    }
}

/// The entity, which is canonical as it is.
fn canonical(entity: &[u8]) -> Result<Canonical> {
    let canonical = Canonical::from_entity(&Message::from_stored(entity).entity())?;
    ensure!(canonical.octets() == entity, "the entity was changed: it was not canonical");
    Ok(canonical)
}

fn opaque_entity(message: &OpaqueMessage) -> Vec<u8> {
    let fields = format!(
        "Content-Type: {}\r\nContent-Transfer-Encoding: {}\r\nContent-Disposition: {}\r\n\r\n",
        message.content_type,
        OpaqueMessage::TRANSFER_ENCODING,
        message.disposition
    );
    [fields.as_bytes(), &message.body].concat()
}

/// What is written with a key, of what the rows ask for.
fn algorithm(who: Who, scheme: Scheme) -> Option<SignatureAlgorithm> {
    match (who, scheme) {
        (_, Scheme::Pkcs1(hash)) if hash.is_strong() => Some(SignatureAlgorithm::RsaPkcs1(hash)),
        (_, Scheme::Pss(hash)) if hash.is_strong() => Some(SignatureAlgorithm::RsaPss(hash)),
        // The hash goes with the curve.
        (Who::P256, Scheme::Ecdsa(Hash::Sha256)) => Some(SignatureAlgorithm::Ecdsa(Hash::Sha256)),
        (Who::P384, Scheme::Ecdsa(Hash::Sha384)) => Some(SignatureAlgorithm::Ecdsa(Hash::Sha384)),
        (Who::P521, Scheme::Ecdsa(Hash::Sha512)) => Some(SignatureAlgorithm::Ecdsa(Hash::Sha512)),
        (_, Scheme::Ed25519) => Some(SignatureAlgorithm::Ed25519),
        _ => None,
    }
}

/// Whether a key is sent so from here: the hash of key agreement goes with the curve.
fn is_written(who: Who, way: Way) -> bool {
    match way {
        Way::Ecdh(hash, _) => {
            matches!(
                (who, hash),
                (Who::P256, Hash::Sha256) | (Who::P384, Hash::Sha384) | (Who::P521, Hash::Sha512)
            )
        }
        Way::Pkcs1 | Way::Oaep(_) | Way::Hkdf => true,
        Way::OaepMask(..) | Way::OaepLabel(_) | Way::Cofactor(_) | Way::TripleDesWrap(_) => false,
    }
}

/// A key that undoes RSAES-OAEP also where MGF1 has another hash, which tokens do and the key in memory does not.
#[derive(Debug)]
struct AnyMask<'a> {
    key: MemoryKey,
    file: &'a Path,
}

impl Decryptor for AnyMask<'_> {
    fn certificate(&self) -> &Certificate {
        Decryptor::certificate(&self.key)
    }

    fn decrypt_key(
        &self,
        encrypted_key: &[u8],
        algorithm: &KeyEncryptionAlgorithm,
    ) -> Result<Unwrapped, KeyError> {
        let (hash, mask_hash) = match algorithm {
            KeyEncryptionAlgorithm::RsaOaep { hash, mask_hash, label }
                if hash != mask_hash && label.is_empty() =>
            {
                (hash, mask_hash)
            }
            _ => return self.key.decrypt_key(encrypted_key, algorithm),
        };
        let mut command = Command::new("openssl");
        command.args(["pkeyutl", "-decrypt", "-pkeyopt", "rsa_padding_mode:oaep", "-inkey"]).arg(self.file);
        for (option, hash) in [("rsa_oaep_md", hash), ("rsa_mgf1_md", mask_hash)] {
            command.arg("-pkeyopt").arg(format!("{option}:{}", name(*hash).replace('-', "")));
        }
        let finished = command::finish_with_input("openssl", &mut command, encrypted_key);
        Ok(match finished {
            Ok(finished) if finished.success() => {
                Unwrapped::Key(ContentEncryptionKey::new(finished.stdout.clone()))
            }
            _ => Unwrapped::Rejected,
        })
    }

    fn agree(&self, originator: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        self.key.agree(originator)
    }
}

/// An RSA key that signs in one way.
#[derive(Debug)]
struct RsaSigner {
    certificate: Certificate,
    key: RsaKeyPair,
    algorithm: SignatureAlgorithm,
}

impl RsaSigner {
    fn unsupported(&self) -> KeyError {
        KeyError::Unsupported {
            certificate: self.certificate.to_string(),
            operation: format!("{:?}", self.algorithm),
        }
    }
}

impl Signer for RsaSigner {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        std::slice::from_ref(&self.algorithm)
    }

    fn sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
    ) -> Result<SignatureValue, KeyError> {
        let (encoding, hash): (&'static dyn RsaEncoding, _) = match algorithm {
            SignatureAlgorithm::RsaPkcs1(Hash::Sha256) => (&RSA_PKCS1_SHA256, &digest::SHA256),
            SignatureAlgorithm::RsaPkcs1(Hash::Sha384) => (&RSA_PKCS1_SHA384, &digest::SHA384),
            SignatureAlgorithm::RsaPkcs1(Hash::Sha512) => (&RSA_PKCS1_SHA512, &digest::SHA512),
            SignatureAlgorithm::RsaPss(Hash::Sha256) => (&RSA_PSS_SHA256, &digest::SHA256),
            SignatureAlgorithm::RsaPss(Hash::Sha384) => (&RSA_PSS_SHA384, &digest::SHA384),
            SignatureAlgorithm::RsaPss(Hash::Sha512) => (&RSA_PSS_SHA512, &digest::SHA512),
            _ => return Err(self.unsupported()),
        };
        let SignatureInput::Digest(input) = input else { return Err(self.unsupported()) };
        let input =
            digest::Digest::import_less_safe(input.as_bytes(), hash).map_err(|_| self.unsupported())?;
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign_digest(encoding, &input, &mut signature).map_err(|_| self.unsupported())?;
        Ok(SignatureValue(signature))
    }
}
