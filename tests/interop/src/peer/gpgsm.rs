//! GnuPG's `gpgsm`.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Context as _;
use memchr::memmem;
use smime::algorithm::DigestAlgorithm as Hash;
use testkit::{command::Finished, peers};

use super::{Name, Peer, Said, Written, done, no_option, said};
use crate::{
    form::{Cipher, Sealing, Signing, Who},
    mail::Mail,
    world::World,
};

/// A GnuPG home that trusts the root and has everybody's key that it takes.
#[derive(Debug)]
pub struct Gpgsm {
    home: peers::Gpgsm,
    /// What it said to the keys that it does not take.
    refused: BTreeMap<Who, Said>,
    directory: PathBuf,
    count: AtomicU32,
    options: String,
}

impl Gpgsm {
    /// Imports all keys; those it does not take as certificates.
    pub fn new(world: &World) -> testkit::Result<Self> {
        let gpgsm = peers::Gpgsm::new(&world.workdir, &world.pki, None)?;
        let mut refused = BTreeMap::new();
        for who in Who::ALL {
            let member = world.member(who)?;
            if let Some(key) = agent_key(who, &member.pkcs8) {
                // Its import of PKCS #12 files is for RSA only; what its agent and its CMS can do is another matter.
                gpgsm.know(&member.person)?;
                let options = ["--with-colons", "--with-keygrip", "--list-keys", &member.person.address];
                let listed = gpgsm.call(&words(&options))?.text();
                let line = listed.lines().find_map(|line| line.strip_prefix("grp:"));
                let keygrip = line.map(|line| line.trim_matches(':')).context("no keygrip")?;
                let keys = gpgsm.home().join("private-keys-v1.d");
                fs::create_dir_all(&keys)?;
                fs::write(keys.join(format!("{keygrip}.key")), key)?;
            } else if let Err(error) = gpgsm.import(&world.pki, &member.person) {
                refused.insert(who, Said(format!("{error:#}")));
                gpgsm.know(&member.person)?;
            }
        }
        let options = gpgsm.call(&[OsStr::new("--dump-options")])?.text();
        let directory = world.workdir.directory("gpgsm")?;
        Ok(Self { home: gpgsm, refused, directory, count: AtomicU32::new(0), options })
    }

    fn has_key(&self, who: Who) -> Result<(), Said> {
        self.refused.get(&who).map_or(Ok(()), |said| Err(said.clone()))
    }

    fn file(&self, octets: &[u8]) -> Result<PathBuf, Said> {
        let file = self.directory.join(self.count.fetch_add(1, Ordering::Relaxed).to_string());
        fs::write(&file, octets)?;
        Ok(file)
    }

    fn call(&self, arguments: &[&OsStr]) -> Result<Finished, Said> {
        done(self.home.call(arguments))
    }
}

/// A key on a curve as the agent keeps it: a canonical S-expression.
fn agent_key(who: Who, pkcs8: &[u8]) -> Option<Vec<u8>> {
    let (curve, len) = match who {
        Who::P256 => ("NIST P-256", 32),
        Who::P384 => ("NIST P-384", 48),
        Who::P521 => ("NIST P-521", 66),
        _ => return None,
    };
    // ECPrivateKey { 1, OCTET STRING d, [1] BIT STRING q }, at the end of the PKCS #8 object.
    let start = memmem::find(pkcs8, b"\x02\x01\x01\x04")? + 5;
    let d = pkcs8.get(start..start + len)?;
    let q = pkcs8.get(pkcs8.len().checked_sub(2 * len + 1)?..)?;
    let mut key = Vec::new();
    let mut list = |parts: &[&[u8]]| {
        for part in parts {
            match *part {
                b"(" | b")" => key.extend_from_slice(part),
                atom => {
                    key.extend(format!("{}:", atom.len()).into_bytes());
                    key.extend_from_slice(atom);
                }
            }
        }
    };
    list(&[b"(", b"private-key", b"(", b"ecc", b"(", b"curve", curve.as_bytes(), b")"]);
    list(&[b"(", b"q", q, b")", b"(", b"d", d, b")", b")", b")"]);
    Some(key)
}

fn words<'a>(words: &[&'a str]) -> Vec<&'a OsStr> {
    words.iter().map(|word| OsStr::new(*word)).collect()
}

impl Peer for Gpgsm {
    fn name(&self) -> Name {
        Name::Gpgsm
    }

    fn version(&self) -> Result<String, Said> {
        let text = self.call(&words(&["--version"]))?.text();
        let version = text.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
        Ok(version.split('.').take(2).collect::<Vec<_>>().join("."))
    }

    fn sign(&self, content: &[u8], signing: &Signing) -> Result<Written, Said> {
        if signing.any(|_, scheme| scheme.is_pss()) {
            return no_option(&self.options, &["pss", "padding"]);
        }
        if signing.by_key {
            return no_option(&self.options, &["keyid", "key-id", "subjectKey"]);
        }
        if signing.bare {
            return no_option(&self.options, &["attr"]);
        }
        if signing.countersigner.is_some() {
            return no_option(&self.options, &["counter"]);
        }
        let content = self.file(content)?;
        // It takes one for all, which must be long enough for each key.
        let hashes = signing.signers.iter().map(|(_, scheme)| scheme.hash());
        let hash = hashes.max_by_key(|hash| hash.output_len()).unwrap_or(Hash::Sha256);
        let hash = match hash {
            Hash::Md5 => "MD5",
            Hash::Sha1 => "SHA1",
            Hash::Sha224 => "SHA224",
            Hash::Sha256 => "SHA256",
            Hash::Sha384 => "SHA384",
            Hash::Sha512 => "SHA512",
        };
        let mut arguments =
            words(&[if signing.opaque { "--sign" } else { "--detach-sign" }, "--digest-algo", hash]);
        let addresses: Vec<String> = signing.signers.iter().map(|(who, _)| who.address()).collect();
        for ((who, _), address) in signing.signers.iter().zip(&addresses) {
            self.has_key(*who)?;
            arguments.extend(words(&["-u", address]));
        }
        arguments.push(content.as_os_str());
        Ok(Written::Object(self.call(&arguments)?.stdout))
    }

    fn verify(&self, mail: &Mail, _: &Signing) -> Result<Vec<u8>, Said> {
        let object = self.file(&mail.object)?;
        let (finished, content) = if let Some(content) = &mail.content {
            let file = self.file(content)?;
            let arguments = [words(&["--verify"]), vec![object.as_os_str(), file.as_os_str()]].concat();
            (self.call(&arguments)?, content.clone())
        } else {
            let out = self.file(b"")?;
            let arguments = [
                words(&["--yes", "--output"]),
                vec![out.as_os_str()],
                words(&["--verify"]),
                vec![object.as_os_str()],
            ];
            (self.call(&arguments.concat())?, fs::read(out)?)
        };
        if finished.stderr.contains("Good signature") { Ok(content) } else { Err(said(&finished)) }
    }

    fn encrypt(&self, content: &[u8], sealing: &Sealing) -> Result<Written, Said> {
        if sealing.beside.is_some() {
            return no_option(&self.options, &["pwri", "kek"]);
        }
        if sealing.any(|_, way| way.is_oaep()) {
            return no_option(&self.options, &["oaep", "padding"]);
        }
        if sealing.by_key {
            return no_option(&self.options, &["keyid", "key-id", "subjectKey"]);
        }
        let cipher = match sealing.cipher {
            Cipher::AesCbc(128) => "AES",
            Cipher::AesCbc(192) => "AES192",
            Cipher::AesCbc(_) => "AES256",
            Cipher::AesGcm(_) => "AES256-GCM",
            Cipher::ChaCha20Poly1305 => "CHACHA20-POLY1305",
            Cipher::TripleDes => "3DES",
            Cipher::Des => "DES",
            Cipher::Rc2(40) => "RFC2268_40",
            Cipher::Rc2(64) => "RFC2268_64",
            Cipher::Rc2(_) => "RFC2268_128",
        };
        let content = self.file(content)?;
        let mut arguments = words(&["--encrypt", "--cipher-algo", cipher]);
        let addresses: Vec<String> = sealing.to.iter().map(|(who, _)| who.address()).collect();
        for address in &addresses {
            arguments.extend(words(&["-r", address]));
        }
        arguments.push(content.as_os_str());
        Ok(Written::Object(self.call(&arguments)?.stdout))
    }

    fn decrypt(&self, mail: &Mail, who: Who, _: &Sealing) -> Result<Vec<u8>, Said> {
        self.has_key(who)?;
        let object = self.file(&mail.object)?;
        Ok(self.call(&[OsStr::new("--decrypt"), object.as_os_str()])?.stdout)
    }

    fn compress(&self, _: &[u8], _: bool) -> Result<Vec<u8>, Said> {
        no_option(&self.options, &["compress"])
    }

    fn decompress(&self, mail: &Mail) -> Result<Vec<u8>, Said> {
        let object = self.file(&mail.object)?;
        Ok(self.call(&[OsStr::new("--decrypt"), object.as_os_str()])?.stdout)
    }

    fn certificates_only(&self, _: &[Who]) -> Result<Vec<u8>, Said> {
        no_option(&self.options, &["p7c", "certs-only", "pkcs7"])
    }

    fn certificates(&self, mail: &Mail) -> Result<Vec<Vec<u8>>, Said> {
        // A home of its own, so that only what is in the message comes out.
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let home = self.directory.join(format!("home{number}"));
        fs::create_dir(&home)?;
        let object = self.file(&mail.object)?;
        let homedir = [OsStr::new("--homedir"), home.as_os_str(), OsStr::new("--disable-dirmngr")];
        self.call(&[&homedir[..], &[OsStr::new("--import"), object.as_os_str()]].concat())?;
        let listed = self.call(&[&homedir[..], &words(&["--with-colons", "--list-keys"])].concat())?.text();
        let mut all = Vec::new();
        for fingerprint in listed.lines().filter_map(|line| line.strip_prefix("fpr:")) {
            let fingerprint = fingerprint.trim_matches(':').split(':').next().unwrap_or_default();
            let export = [&homedir[..], &words(&["--export", fingerprint])].concat();
            all.push(self.call(&export)?.stdout);
        }
        Ok(all)
    }
}
