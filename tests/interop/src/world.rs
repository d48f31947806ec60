//! Everybody with a key, and the CA: made once for a run.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use smime::Certificate;
use testkit::{
    Person, Pki, Workdir,
    pki::{Key, Profile},
};

use crate::form::Who;

/// The CA and the people.
#[derive(Debug)]
pub struct World {
    /// Where everything is.
    pub workdir: Workdir,
    /// The CA.
    pub pki: Pki,
    people: BTreeMap<Who, Member>,
}

/// Somebody, in files and in octets.
#[derive(Debug)]
pub struct Member {
    /// The files.
    pub person: Person,
    /// The certificate.
    pub certificate: Certificate,
    /// The private key, PKCS #8.
    pub pkcs8: Vec<u8>,
}

impl World {
    /// Makes all keys.
    pub fn new() -> Result<Self> {
        let workdir = Workdir::new("interop")?;
        let pki = Pki::new(&workdir.directory("pki")?)?;
        let mut people = BTreeMap::new();
        for who in Who::ALL {
            let key = match who {
                Who::Rsa | Who::Rsa2 => Key::Rsa2048,
                Who::P256 => Key::P256,
                Who::P384 => Key::P384,
                Who::P521 => Key::P521,
                Who::Ed25519 => Key::Ed25519,
                Who::X25519 => Key::X25519,
            };
            let person = pki.issue(&Profile::new(who.name(), &who.address(), key))?;
            let certificate = certificate(&person.certificate)?;
            let pem = fs::read_to_string(&person.key)?;
            let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
            let pkcs8 = data_encoding::BASE64.decode(base64.as_bytes())?;
            people.insert(who, Member { person, certificate, pkcs8 });
        }
        Ok(Self { workdir, pki, people })
    }

    /// Somebody.
    pub fn member(&self, who: Who) -> Result<&Member> {
        self.people.get(&who).context("nobody of that name")
    }

    /// The root, the only anchor.
    pub fn root(&self) -> Result<Certificate> {
        certificate(&self.pki.root())
    }

    /// The issuing CA.
    pub fn issuing(&self) -> Result<Certificate> {
        certificate(&self.pki.issuing())
    }
}

fn certificate(file: &Path) -> Result<Certificate> {
    let mut all = Certificate::from_pem(&fs::read_to_string(file)?)?;
    all.pop().context("no certificate")
}
