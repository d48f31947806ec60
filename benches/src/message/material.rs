//! Keys, certificates and messages that all contenders get.

use std::{
    cell::OnceCell,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use openssl::{pkey::PKey, x509::X509};
use smime::{
    Certificate,
    cms::{RecipientKey, RsaTransport},
    message,
    mime::{Canonical, MimeEntity, encode_base64},
    path::{RevocationMode, Trust},
    profile::SealPlan,
    testing::MemoryKey,
};
use testkit::{Pki, Workdir, peers::Gpgsm, pki};

use super::{
    gpgsm,
    operation::{Key, Operation},
};

/// A small PKI by OpenSSL, with one person for each kind of key.
#[derive(Debug)]
pub struct Material {
    /// Dropped before the directory that it has its home in.
    gpgsm: OnceCell<Gpgsm>,
    pki: Pki,
    directory: Workdir,
    /// The trust anchor alone.
    pub trust: Trust,
    /// The issuing CA.
    pub chain: Vec<Certificate>,
    /// The files of root and issuing CA.
    pub authorities: [PathBuf; 2],
    people: Vec<Person>,
    /// When everything is valid.
    pub now: SystemTime,
}

/// Somebody with a key.
#[derive(Debug)]
pub struct Person {
    kind: Key,
    /// The key in memory, for our own code.
    pub key: MemoryKey,
    /// PKCS #8.
    pub pkcs8: Vec<u8>,
    /// The certificate.
    pub certificate: Certificate,
    /// Both as files.
    pub files: pki::Person,
}

/// What is asked of a contender.
#[derive(Debug)]
pub struct Task<'m> {
    /// The operation.
    pub operation: Operation,
    /// Who signs or has signed, decrypts or is encrypted to.
    pub person: &'m Person,
    /// Whom to trust.
    pub material: &'m Material,
    /// The entity, or the S/MIME message.
    pub input: Vec<u8>,
    /// The same in a file.
    pub file: PathBuf,
    /// The octets of the entity, signed or not.
    pub content_len: usize,
}

impl Material {
    /// Makes the keys and certificates.
    pub fn new() -> Result<Self> {
        let directory = Workdir::new("messages")?;
        let pki = Pki::new(directory.path())?;
        let person = |kind, name: &str, key| {
            let files = pki.issue(&pki::Profile::new(name, &format!("{name}@example.org"), key))?;
            Person::read(kind, files)
        };
        let people =
            vec![person(Key::Rsa2048, "rsa", pki::Key::Rsa2048)?, person(Key::P256, "p256", pki::Key::P256)?];
        let trust = Trust {
            anchors: vec![certificate(&pki.root())?],
            revocation: RevocationMode::Off,
            ..Trust::default()
        };
        Ok(Self {
            trust,
            chain: vec![certificate(&pki.issuing())?],
            authorities: [pki.root(), pki.issuing()],
            people,
            now: SystemTime::now(),
            gpgsm: OnceCell::new(),
            pki,
            directory,
        })
    }

    /// An operation on a message of about this many octets.
    pub fn task(&self, operation: Operation, key: Key, size: usize) -> Result<Task<'_>> {
        let person = self.people.iter().find(|person| person.kind == key).context("nobody has such a key")?;
        let entity = entity(size);
        let content_len = entity.len();
        let input = match operation {
            Operation::Sign | Operation::SignChecked | Operation::EncryptCbc | Operation::EncryptGcm => {
                entity
            }
            Operation::Verify => self.signed(person, &entity)?,
            Operation::DecryptCbc | Operation::DecryptGcm => sealed(person, operation, &entity)?,
        };
        let file = self.input_file("message");
        fs::write(&file, &input)?;
        Ok(Task { operation, person, material: self, input, file, content_len })
    }

    /// Where a contender may write.
    pub fn output_file(&self) -> PathBuf {
        self.directory.join("output")
    }

    /// A file that a contender is to read, by what is in it.
    pub fn input_file(&self, kind: &str) -> PathBuf {
        self.directory.join(format!("input.{kind}"))
    }

    /// GnuPG's home, which is made when somebody asks for it.
    pub fn gpgsm(&self) -> Result<&Gpgsm> {
        if self.gpgsm.get().is_none() {
            let own = self.people.iter().find(|person| person.is_rsa()).context("nobody has an RSA key")?;
            let made = gpgsm::home(&self.directory, &self.pki, &own.files)?;
            return Ok(self.gpgsm.get_or_init(|| made));
        }
        self.gpgsm.get().context("it was just there")
    }

    fn signed(&self, person: &Person, entity: &[u8]) -> Result<Vec<u8>> {
        let canonical = Canonical::from_entity(&MimeEntity::parse(entity))?;
        let signed = message::sign(&canonical, &person.key, &self.chain, self.now)?;
        let header = format!(
            "From: {}\r\nMIME-Version: 1.0\r\nContent-Type: {}\r\n\r\n",
            person.files.address, signed.content_type
        );
        Ok([header.as_bytes(), &signed.body].concat())
    }
}

impl Person {
    /// The kind of the key.
    pub fn kind(&self) -> Key {
        self.kind
    }

    /// Whether it is an RSA key.
    pub fn is_rsa(&self) -> bool {
        self.kind == Key::Rsa2048
    }

    fn read(kind: Key, files: pki::Person) -> Result<Self> {
        let certificate = certificate(&files.certificate)?;
        let pkcs8 = PKey::private_key_from_pem(&fs::read(&files.key)?)?.private_key_to_pkcs8()?;
        let key = MemoryKey::from_pkcs8(&pkcs8, certificate.clone()).context("no key that is known")?;
        Ok(Self { kind, key, pkcs8, certificate, files })
    }

    /// How to encrypt to this person: by PKCS#1 v1.5 or ECDH, as OpenSSL does by itself.
    pub fn plan(&self, operation: Operation) -> Result<SealPlan> {
        let recipient = RecipientKey::new(self.certificate.clone())?.with_rsa_transport(RsaTransport::Pkcs1);
        let cipher = operation.cipher().context("nothing is encrypted here")?;
        Ok(SealPlan { cipher, recipients: vec![recipient] })
    }

    /// The certificate and the private key as OpenSSL has them.
    pub fn openssl(&self) -> Result<(X509, PKey<openssl::pkey::Private>)> {
        Ok((X509::from_der(self.certificate.der())?, PKey::private_key_from_pkcs8(&self.pkcs8)?))
    }
}

fn certificate(file: &Path) -> Result<Certificate> {
    let pem = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let start = pem.find("-----BEGIN").unwrap_or_default();
    let mut all = Certificate::from_pem(pem.get(start..).unwrap_or_default())?;
    all.pop().context("no certificate in the file")
}

fn sealed(person: &Person, operation: Operation, entity: &[u8]) -> Result<Vec<u8>> {
    let canonical = Canonical::from_entity(&MimeEntity::parse(entity))?;
    let sealed = message::seal(&canonical, &person.plan(operation)?)?;
    let header = format!(
        "From: {}\r\nMIME-Version: 1.0\r\nContent-Type: {}\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        person.files.address, sealed.content_type
    );
    Ok([header.as_bytes(), &sealed.body].concat())
}

/// An entity of about `size` octets: a short text and an attachment in base64, as most large mail is.
pub fn entity(size: usize) -> Vec<u8> {
    // Octets that do not repeat: what compresses, or is all the same, could favour somebody.
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let attachment: Vec<u8> = (0..size / 32 * 23 / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nHello.\r\n\
                --b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    [head.as_bytes(), &encode_base64(&attachment), b"\r\n--b--\r\n"].concat()
}
