//! OpenSSL's `cms` command, version 3.0 and later.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::command;
use crate::pki::{Person, Pki};
use crate::workdir::Workdir;

/// The command with a directory for its files; it trusts one root.
#[derive(Debug)]
pub struct OpenSsl {
    directory: PathBuf,
    root: PathBuf,
    issuing: PathBuf,
    count: AtomicU32,
}

/// For whom and how a content-encryption key is wrapped.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    person: &'a Person,
    oaep: bool,
}

impl<'a> Recipient<'a> {
    /// RSA PKCS #1 v1.5, or key agreement where the key is an EC key.
    pub fn pkcs1(person: &'a Person) -> Self {
        Self { person, oaep: false }
    }

    /// RSAES-OAEP with SHA-1.
    pub fn oaep(person: &'a Person) -> Self {
        Self { person, oaep: true }
    }
}

impl OpenSsl {
    /// Prepares the files.
    pub fn new(workdir: &Workdir, pki: &Pki) -> Result<Self> {
        let directory = workdir.directory("openssl")?;
        Ok(Self { directory, root: pki.root(), issuing: pki.issuing(), count: AtomicU32::new(0) })
    }

    /// Verifies the signed mail as it is, knowing the root only; gives the content.
    pub fn verify(&self, mail: &[u8]) -> Result<Vec<u8>> {
        let mut verify = cms(&["-verify", "-purpose", "smimesign", "-CAfile"]);
        verify.arg(&self.root);
        self.convert(verify, mail)
    }

    /// The same where this person signed it, whatever certificates are with it.
    pub fn verify_by(&self, mail: &[u8], signer: &Person) -> Result<Vec<u8>> {
        let mut verify = cms(&["-verify", "-purpose", "smimesign", "-nointern", "-certfile"]);
        verify.arg(&signer.certificate).arg("-CAfile").arg(&self.root);
        self.convert(verify, mail)
    }

    /// Makes a `multipart/signed` entity of a canonical entity.
    pub fn sign(&self, entity: &[u8], signer: &Person) -> Result<Vec<u8>> {
        self.sign_with(entity, signer, &[])
    }

    /// As [`OpenSsl::sign`] with further options, e.g. `-nodetach` for an opaque signature.
    pub fn sign_with(&self, entity: &[u8], signer: &Person, options: &[&str]) -> Result<Vec<u8>> {
        let mut sign = cms(&["-sign", "-binary", "-md", "sha256", "-certfile"]);
        sign.arg(&self.issuing).arg("-signer").arg(&signer.certificate).arg("-inkey").arg(&signer.key);
        sign.args(options);
        self.convert(sign, entity)
    }

    /// Makes an `application/pkcs7-mime` entity of an entity (AES-256-CBC unless `options` say otherwise).
    pub fn encrypt(&self, entity: &[u8], to: &[Recipient<'_>], options: &[&str]) -> Result<Vec<u8>> {
        let mut encrypt = cms(&["-encrypt", "-binary"]);
        let chooses_cipher = options.iter().any(|option| option.starts_with("-aes") || *option == "-des3");
        if !chooses_cipher {
            encrypt.arg("-aes-256-cbc");
        }
        encrypt.args(options);
        for recipient in to {
            encrypt.arg("-recip").arg(&recipient.person.certificate);
            if recipient.oaep {
                encrypt.args(["-keyopt", "rsa_padding_mode:oaep"]);
            }
        }
        self.convert(encrypt, entity)
    }

    /// Opens an encrypted mail; gives the content.
    pub fn decrypt(&self, mail: &[u8], recipient: &Person) -> Result<Vec<u8>> {
        let mut decrypt = cms(&["-decrypt", "-binary", "-recip"]);
        decrypt.arg(&recipient.certificate).arg("-inkey").arg(&recipient.key);
        self.convert(decrypt, mail)
    }

    /// How many recipients an encrypted mail names.
    pub fn count_recipients(&self, mail: &[u8]) -> Result<usize> {
        let printed = self.convert(cms(&["-cmsout", "-print"]), mail)?;
        let printed = String::from_utf8_lossy(&printed);
        Ok(printed.matches("d.ktri:").count() + printed.matches("d.kari:").count())
    }

    /// Runs the command from file to file. OpenSSL writes content before it knows whether it is good, so what
    /// is in the file counts only after success.
    fn convert(&self, mut command: Command, input: &[u8]) -> Result<Vec<u8>> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| self.directory.join(format!("{number}.{kind}"));
        fs::write(file("in"), input)?;
        command::succeed("openssl", command.arg("-in").arg(file("in")).arg("-out").arg(file("out")))?;
        Ok(fs::read(file("out"))?)
    }
}

fn cms(options: &[&str]) -> Command {
    let mut cms = Command::new("openssl");
    cms.arg("cms").args(options);
    cms
}
