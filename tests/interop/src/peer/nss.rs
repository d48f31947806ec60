//! NSS: `cmsutil`, and `p7sign`, `p7verify`, `p7env` and `p7content` for PKCS #7 v1.5.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use memchr::memmem;
use smime::algorithm::DigestAlgorithm as Hash;
use testkit::{
    command::{self, Finished},
    peers,
};

use super::{Name, Peer, Said, Written, done, no_option, said};
use crate::{
    form::{Cipher, Dress, Sealing, Signing, Who},
    mail::Mail,
    world::World,
};

/// A database that trusts the root and has everybody's key that it takes.
#[derive(Debug)]
pub struct Nss {
    database: peers::Nss,
    /// A database that knows nobody.
    anchors: peers::Nss,
    /// What it said to the keys that it does not take.
    refused: BTreeMap<Who, Said>,
    directory: PathBuf,
    count: AtomicU32,
    usage: String,
    /// Everybody's.
    certificates: Vec<Vec<u8>>,
}

impl Nss {
    /// Imports all keys.
    pub fn new(world: &World) -> testkit::Result<Self> {
        let nss = peers::Nss::new(&world.workdir, &world.pki)?;
        let anchors = peers::Nss::named("nss-anchors", &world.workdir, &world.pki)?;
        let mut refused = BTreeMap::new();
        for who in Who::ALL {
            if let Err(error) = nss.import(&world.pki, &world.member(who)?.person) {
                refused.insert(who, Said(format!("{error:#}")));
            }
        }
        let certificates = Who::ALL.iter().map(|who| Ok(world.member(*who)?.certificate.der().to_vec()));
        let certificates = certificates.collect::<testkit::Result<_>>()?;
        let usage = nss.call("cmsutil", &[OsStr::new("-H")])?;
        let usage = format!("{}{}", usage.text(), usage.stderr);
        let directory = world.workdir.directory("nss-files")?;
        Ok(Self { database: nss, anchors, refused, directory, count: AtomicU32::new(0), usage, certificates })
    }

    fn has_key(&self, who: Who) -> Result<(), Said> {
        self.refused.get(&who).map_or(Ok(()), |said| Err(said.clone()))
    }

    fn usage_of(&self, program: &str) -> Result<String, Said> {
        let usage = self.database.call(program, &[])?;
        Ok(format!("{}{}", usage.text(), usage.stderr))
    }

    fn file(&self, octets: &[u8]) -> Result<PathBuf, Said> {
        let file = self.directory.join(self.count.fetch_add(1, Ordering::Relaxed).to_string());
        fs::write(&file, octets)?;
        Ok(file)
    }

    fn call(&self, program: &str, arguments: &[&OsStr]) -> Result<Finished, Said> {
        done(self.database.call(program, arguments))
    }

    /// The only one, because the programs take no more.
    fn one<'a, T>(&self, all: &'a [T], option: &str) -> Result<&'a T, Said> {
        match all {
            [one] => Ok(one),
            _ => no_option(&self.usage, &[option]),
        }
    }
}

fn words<'a>(words: &[&'a str]) -> Vec<&'a OsStr> {
    words.iter().map(|word| OsStr::new(*word)).collect()
}

impl Peer for Nss {
    fn name(&self) -> Name {
        Name::Nss
    }

    fn version(&self) -> Result<String, Said> {
        let mut query = Command::new("dpkg-query");
        query.args(["--show", "--showformat=${Version}", "libnss3-tools"]);
        let version = done(command::finish("dpkg", &mut query))?.text();
        let version = version.rsplit(':').next().unwrap_or_default().split('-').next().unwrap_or_default();
        Ok(version.split('.').take(2).collect::<Vec<_>>().join("."))
    }

    fn sign(&self, content: &[u8], signing: &Signing) -> Result<Written, Said> {
        if signing.any(|_, scheme| scheme.is_pss()) {
            return no_option(&self.usage, &["pss"]);
        }
        if signing.by_key {
            return no_option(&self.usage, &["subjectkey", "key identifier"]);
        }
        if signing.countersigner.is_some() {
            return no_option(&self.usage, &["counter"]);
        }
        let (who, scheme) = *self.one(&signing.signers, "-N nick,")?;
        self.has_key(who)?;
        let content = self.file(content)?;
        if signing.dress == Dress::Pkcs7 && !signing.bare {
            return no_option(&self.usage_of("p7sign")?, &["attribute"]);
        }
        if signing.bare && scheme.hash() != Hash::Sha1 {
            return no_option(&self.usage_of("p7sign")?, &["hash"]);
        }
        if signing.bare {
            let mut arguments =
                vec![OsStr::new("-k"), OsStr::new(who.name()), OsStr::new("-i"), content.as_os_str()];
            if signing.opaque {
                arguments.push(OsStr::new("-e"));
            }
            return Ok(Written::Object(self.call("p7sign", &arguments)?.stdout));
        }
        let hash = match scheme.hash() {
            Hash::Md5 => "MD5",
            Hash::Sha1 => "SHA1",
            Hash::Sha224 => "SHA224",
            Hash::Sha256 => "SHA256",
            Hash::Sha384 => "SHA384",
            Hash::Sha512 => "SHA512",
        };
        let mut arguments = words(&["-S", "-N", who.name(), "-H", hash, "-G", "-P"]);
        if !signing.opaque {
            arguments.push(OsStr::new("-T"));
        }
        arguments.extend([OsStr::new("-i"), content.as_os_str()]);
        Ok(Written::Object(self.call("cmsutil", &arguments)?.stdout))
    }

    fn verify(&self, mail: &Mail, signing: &Signing) -> Result<Vec<u8>, Said> {
        let object = self.file(&mail.object)?;
        let detached = mail.content.as_deref().map(|content| self.file(content)).transpose()?;
        if signing.dress == Dress::Pkcs7 {
            let Some(content) = &detached else {
                return self.content_of_pkcs7(&object, "Signature is valid.");
            };
            let arguments = [OsStr::new("-c"), content.as_os_str(), OsStr::new("-s"), object.as_os_str()];
            let finished = self.call("p7verify", &arguments)?;
            if finished.text().contains("Signature is valid") {
                return Ok(mail.content.clone().unwrap_or_default());
            }
            return Err(said(&finished));
        }
        let mut arguments =
            vec![OsStr::new("-D"), OsStr::new("-h"), OsStr::new("0"), OsStr::new("-i"), object.as_os_str()];
        if let Some(content) = &detached {
            arguments.extend([OsStr::new("-c"), content.as_os_str()]);
        }
        let finished = self.call("cmsutil", &arguments)?;
        // cmsutil ends with 0 even when the digest does not match; only its words tell. They stand before the content.
        let text = finished.text();
        let good = text.matches(".status=GoodSignature").count();
        if good != signing.signers.len() {
            return Err(said(&finished));
        }
        if let Some(content) = &mail.content {
            return Ok(content.clone());
        }
        let plain = self.call("cmsutil", &[OsStr::new("-D"), OsStr::new("-i"), object.as_os_str()])?;
        Ok(plain.stdout)
    }

    fn encrypt(&self, content: &[u8], sealing: &Sealing) -> Result<Written, Said> {
        if sealing.beside.is_some() {
            return no_option(&self.usage, &["pwri", "kek"]);
        }
        if sealing.any(|_, way| way.is_oaep()) {
            return no_option(&self.usage, &["oaep"]);
        }
        if sealing.by_key {
            return no_option(&self.usage, &["subjectkey", "key identifier"]);
        }
        let content = self.file(content)?;
        let names = sealing.to.iter().map(|(who, _)| who.name()).collect::<Vec<_>>().join(",");
        let arguments = [OsStr::new("-r"), OsStr::new(&names), OsStr::new("-i"), content.as_os_str()];
        if sealing.dress == Dress::Pkcs7 {
            // It takes Triple-DES.
            if sealing.cipher != Cipher::TripleDes {
                return no_option(&self.usage_of("p7env")?, &["cipher", "algorithm"]);
            }
            return Ok(Written::Object(self.call("p7env", &arguments)?.stdout));
        }
        // It takes what it knows of the recipients, and for those of whom it knows nothing AES-128-CBC.
        if sealing.cipher != Cipher::AesCbc(128) {
            return no_option(&self.usage, &["cipher", "algorithm"]);
        }
        let arguments = [&[OsStr::new("-E")], &arguments[..]].concat();
        Ok(Written::Object(self.call("cmsutil", &arguments)?.stdout))
    }

    fn decrypt(&self, mail: &Mail, who: Who, sealing: &Sealing) -> Result<Vec<u8>, Said> {
        self.has_key(who)?;
        let object = self.file(&mail.object)?;
        if sealing.dress == Dress::Pkcs7 {
            return self.content_of_pkcs7(&object, "Content was encrypted.");
        }
        Ok(self.call("cmsutil", &[OsStr::new("-D"), OsStr::new("-i"), object.as_os_str()])?.stdout)
    }

    fn compress(&self, _: &[u8], _: bool) -> Result<Vec<u8>, Said> {
        no_option(&self.usage, &["compress"])
    }

    fn decompress(&self, mail: &Mail) -> Result<Vec<u8>, Said> {
        let object = self.file(&mail.object)?;
        Ok(self.call("cmsutil", &[OsStr::new("-D"), OsStr::new("-i"), object.as_os_str()])?.stdout)
    }

    fn certificates_only(&self, of: &[Who]) -> Result<Vec<u8>, Said> {
        let names = of.iter().map(|who| who.name()).collect::<Vec<_>>().join(",");
        Ok(self.call("cmsutil", &words(&["-O", "-r", &names]))?.stdout)
    }

    fn certificates(&self, mail: &Mail) -> Result<Vec<Vec<u8>>, Said> {
        let object = self.file(&mail.object)?;
        let accepts =
            |object: &Path| {
                done(self.anchors.call(
                    "cmsutil",
                    &[OsStr::new("-D"), OsStr::new("-n"), OsStr::new("-i"), object.as_os_str()],
                ))
            };
        accepts(&object)?;
        // It shows no certificates but verifies them all: those are in it whose signature must not be changed.
        let mut found = Vec::new();
        for certificate in &self.certificates {
            if let Some(at) = memmem::find(&mail.object, certificate) {
                let mut changed = mail.object.clone();
                if let Some(last) = changed.get_mut(at + certificate.len() - 1) {
                    *last ^= 1;
                }
                if accepts(&self.file(&changed)?).is_err() {
                    found.push(certificate.clone());
                }
            }
        }
        Ok(found)
    }
}

impl Nss {
    /// What `p7content` shows between two bars, if it then says this.
    fn content_of_pkcs7(&self, object: &Path, word: &str) -> Result<Vec<u8>, Said> {
        const BAR: &str = "---------------------------------------------\n";
        let finished = self.call("p7content", &[OsStr::new("-i"), object.as_os_str()])?;
        let text = finished.text();
        let mut pieces = text.split(BAR).skip(1);
        match (pieces.next().and_then(|content| content.strip_suffix('\n')), pieces.next()) {
            (Some(content), Some(words)) if words.contains(word) => Ok(content.as_bytes().to_vec()),
            _ => Err(said(&finished)),
        }
    }
}
