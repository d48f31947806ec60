//! A small public-key infrastructure by the `openssl` command: root, issuing CA, people, a CRL.
//!
//! The shape is that of RFC 8550 practice: the root signs one issuing CA (path length 0), which signs
//! end-entity certificates with an rfc822Name, a keyUsage that fits the key, and emailProtection.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::command;

/// A root CA and an issuing CA in a directory of their own.
#[derive(Debug)]
pub struct Pki {
    directory: PathBuf,
}

/// Somebody with an address, a certificate and the private key as a file.
#[derive(Clone, Debug)]
pub struct Person {
    /// Short and unique; file names are made of it.
    pub name: String,
    /// The rfc822Name.
    pub address: String,
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The private key, PKCS #8 PEM.
    pub key: PathBuf,
}

/// Kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
    /// The NIST curve P-256.
    P256,
    /// The NIST curve P-384.
    P384,
    /// The NIST curve P-521.
    P521,
    /// Ed25519, which signs only.
    Ed25519,
    /// X25519, which agrees on keys only.
    X25519,
}

/// What a certificate shall say; [`Profile::new`] gives a good one, the fields spoil it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Short and unique; also the common name.
    pub name: String,
    /// The rfc822Name.
    pub address: String,
    /// The kind of key.
    pub key: Key,
    /// The extended key usage, in OpenSSL's words.
    pub extended_key_usage: String,
    /// Further extensions, a line each, in OpenSSL's words.
    pub further: String,
    /// notBefore, as `YYYYMMDDHHMMSSZ`.
    pub not_before: String,
    /// notAfter, as `YYYYMMDDHHMMSSZ`.
    pub not_after: String,
    /// The hash that it is signed with, in OpenSSL's words.
    pub digest: String,
}

impl Profile {
    /// A certificate for S/MIME that is valid for years.
    pub fn new(name: &str, address: &str, key: Key) -> Self {
        Self {
            name: name.to_owned(),
            address: address.to_owned(),
            key,
            extended_key_usage: "emailProtection".to_owned(),
            further: String::new(),
            not_before: "20250101000000Z".to_owned(),
            not_after: "20391231000000Z".to_owned(),
            digest: "sha256".to_owned(),
        }
    }

    /// The same, but its time was over long ago.
    #[must_use]
    pub fn expired(self) -> Self {
        Self { not_after: "20250301000000Z".to_owned(), ..self }
    }

    /// The same, but for another purpose, e.g. `serverAuth`.
    #[must_use]
    pub fn for_purpose(self, extended_key_usage: &str) -> Self {
        Self { extended_key_usage: extended_key_usage.to_owned(), ..self }
    }

    fn extensions(&self) -> String {
        let usage = match self.key {
            Key::Rsa2048 => "digitalSignature,keyEncipherment",
            Key::P256 | Key::P384 | Key::P521 => "digitalSignature,keyAgreement",
            Key::Ed25519 => "digitalSignature",
            Key::X25519 => "keyAgreement",
        };
        format!(
            "basicConstraints = critical,CA:FALSE\nkeyUsage = critical,{usage}\n\
             extendedKeyUsage = {}\nsubjectAltName = email:{}\n\
             subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n{}",
            self.extended_key_usage, self.address, self.further
        )
    }
}

impl Pki {
    /// Makes both CAs below `directory`, which must be there and empty.
    pub fn new(directory: &Path) -> Result<Self> {
        let pki = Self { directory: directory.to_owned() };
        fs::create_dir(pki.path("issued"))?;
        for (file, content) in [
            ("ca.cnf", &*pki.configuration()),
            ("root.index", ""),
            ("root.serial", "01\n"),
            ("issuing.index", ""),
            ("issuing.serial", "1001\n"),
            ("issuing.crlnumber", "01\n"),
        ] {
            fs::write(pki.path(file), content)?;
        }
        let ca = "keyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash\n";
        let root = format!("basicConstraints = critical,CA:TRUE\n{ca}");
        pki.certify("root", "root", Key::Rsa2048, &root, &["-selfsign"], AGES)?;
        let issuing =
            format!("basicConstraints = critical,CA:TRUE,pathlen:0\n{ca}authorityKeyIdentifier = keyid\n");
        pki.certify("root", "issuing", Key::P256, &issuing, &[], AGES)?;
        pki.renew_crl()?;
        Ok(pki)
    }

    /// The root's certificate: the only trust anchor.
    pub fn root(&self) -> PathBuf {
        self.path("root.pem")
    }

    /// The issuing CA's certificate.
    pub fn issuing(&self) -> PathBuf {
        self.path("issuing.pem")
    }

    /// The issuing CA's CRL, PEM.
    pub fn crl(&self) -> PathBuf {
        self.path("issuing.crl")
    }

    /// Makes a key and a certificate.
    pub fn issue(&self, profile: &Profile) -> Result<Person> {
        if profile.key == Key::X25519 {
            self.certify_agreement_key(profile)?;
        } else {
            let validity = [profile.not_before.as_str(), profile.not_after.as_str()];
            self.certify(
                "issuing",
                &profile.name,
                profile.key,
                &profile.extensions(),
                &["-md", &profile.digest],
                validity,
            )?;
        }
        Ok(Person {
            name: profile.name.clone(),
            address: profile.address.clone(),
            certificate: self.path(&format!("{}.pem", profile.name)),
            key: self.path(&format!("{}.key", profile.name)),
        })
    }

    /// Puts a certificate on the CRL.
    pub fn revoke(&self, person: &Person) -> Result<()> {
        let mut revoke = self.ca("issuing");
        command::succeed(PACKAGE, revoke.arg("-revoke").arg(&person.certificate))?;
        self.renew_crl()
    }

    /// The person's key, certificate and chain as PKCS #12 of an old kind that gpgsm and NSS read as well.
    pub fn pkcs12(&self, person: &Person) -> Result<PathBuf> {
        // Two may ask for the same one at once.
        let number = PKCS12_FILES.fetch_add(1, Ordering::Relaxed);
        let file = self.path(&format!("{}.{number}.p12", person.name));
        let mut export = Command::new("openssl");
        export.args(["pkcs12", "-export", "-macalg", "sha1", "-name", &person.name]);
        export.args(["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES"]);
        export.arg("-in").arg(&person.certificate).arg("-inkey").arg(&person.key);
        export.arg("-certfile").arg(self.issuing()).arg("-out").arg(&file);
        command::succeed(PACKAGE, export.arg("-passout").arg(format!("pass:{PKCS12_PASSWORD}")))?;
        Ok(file)
    }

    fn certify(
        &self,
        issuer: &str,
        name: &str,
        key: Key,
        extensions: &str,
        options: &[&str],
        [not_before, not_after]: [&str; 2],
    ) -> Result<()> {
        let of = |extension: &str| self.path(&format!("{name}.{extension}"));
        generate_key(key, &of("key"))?;
        let mut request = Command::new("openssl");
        request.args(["req", "-new", "-subj", &format!("/O=Testkit/CN={name}")]);
        command::succeed(PACKAGE, request.arg("-key").arg(of("key")).arg("-out").arg(of("csr")))?;
        fs::write(of("ext"), extensions)?;
        let mut certify = self.ca(issuer);
        certify.args(["-batch", "-notext", "-startdate", not_before, "-enddate", not_after]).args(options);
        certify.arg("-extfile").arg(of("ext")).arg("-in").arg(of("csr")).arg("-out").arg(of("pem"));
        command::succeed(PACKAGE, &mut certify).map(drop)
    }

    /// Certifies a key that cannot sign a request: the CA's own signs it. The certificate is valid from now on.
    fn certify_agreement_key(&self, profile: &Profile) -> Result<()> {
        let of = |extension: &str| self.path(&format!("{}.{extension}", profile.name));
        let ca = self.path("issuing.key");
        generate_key(profile.key, &of("key"))?;
        let mut public = Command::new("openssl");
        command::succeed(
            PACKAGE,
            public.args(["pkey", "-pubout", "-in"]).arg(of("key")).arg("-out").arg(of("pub")),
        )?;
        let mut request = Command::new("openssl");
        request.args(["req", "-new", "-subj", &format!("/O=Testkit/CN={}", profile.name), "-key"]).arg(&ca);
        command::succeed(PACKAGE, request.arg("-out").arg(of("csr")))?;
        fs::write(of("ext"), profile.extensions())?;
        let mut certify = Command::new("openssl");
        certify.args(["x509", "-req", "-days", "1000", "-in"]).arg(of("csr"));
        certify.arg("-CA").arg(self.issuing()).arg("-CAkey").arg(&ca).arg("-force_pubkey").arg(of("pub"));
        certify.arg("-extfile").arg(of("ext")).arg("-out").arg(of("pem"));
        command::succeed(PACKAGE, &mut certify).map(drop)
    }

    fn renew_crl(&self) -> Result<()> {
        let mut crl = self.ca("issuing");
        command::succeed(PACKAGE, crl.arg("-gencrl").arg("-out").arg(self.crl())).map(drop)
    }

    fn ca(&self, name: &str) -> Command {
        let mut ca = Command::new("openssl");
        ca.args(["ca", "-name", name, "-config"]).arg(self.path("ca.cnf"));
        ca
    }

    fn configuration(&self) -> String {
        let section = |name: &str| {
            let base = self.path(name);
            let base = base.display();
            format!(
                "[{name}]\ndatabase = {base}.index\nserial = {base}.serial\ncrlnumber = {base}.crlnumber\n\
                 certificate = {base}.pem\nprivate_key = {base}.key\nnew_certs_dir = {}\n\
                 default_md = sha256\ndefault_crl_days = 30\nunique_subject = no\npolicy = policy\n",
                self.path("issued").display()
            )
        };
        format!(
            "{}{}[policy]\norganizationName = optional\ncommonName = supplied\n",
            section("root"),
            section("issuing")
        )
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }
}

/// Makes a private key with OpenSSL and writes it as PKCS #8 PEM.
pub fn generate_key(key: Key, file: &Path) -> Result<()> {
    let (algorithm, option) = match key {
        Key::Rsa2048 => ("RSA", Some("rsa_keygen_bits:2048")),
        Key::P256 => ("EC", Some("ec_paramgen_curve:P-256")),
        Key::P384 => ("EC", Some("ec_paramgen_curve:P-384")),
        Key::P521 => ("EC", Some("ec_paramgen_curve:P-521")),
        Key::Ed25519 => ("ED25519", None),
        Key::X25519 => ("X25519", None),
    };
    let mut generate = Command::new("openssl");
    generate.args(["genpkey", "-algorithm", algorithm]);
    if let Some(option) = option {
        generate.args(["-pkeyopt", option]);
    }
    command::succeed(PACKAGE, generate.arg("-out").arg(file)).map(drop)
}

/// The password of every PKCS #12 file.
pub const PKCS12_PASSWORD: &str = "secret";

static PKCS12_FILES: AtomicU32 = AtomicU32::new(0);
const PACKAGE: &str = "openssl";
const AGES: [&str; 2] = ["20250101000000Z", "20391231000000Z"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::Workdir;

    #[test]
    fn openssl_accepts_the_good_certificate_and_refuses_each_bad_one() {
        let workdir = Workdir::new("pki").unwrap();
        let pki = Pki::new(&workdir.directory("pki").unwrap()).unwrap();
        let good = Profile::new("good", "good@example.org", Key::P256);
        let issue =
            |name: &str, profile: Profile| pki.issue(&Profile { name: name.into(), ..profile }).unwrap();
        let people = [
            (issue("good", good.clone()), None),
            (issue("expired", good.clone().expired()), Some("certificate has expired")),
            (issue("server", good.clone().for_purpose("serverAuth")), Some("unsuitable certificate purpose")),
            (issue("revoked", good), Some("certificate revoked")),
        ];
        pki.revoke(&people[3].0).unwrap();
        for (person, complaint) in people {
            let mut verify = Command::new("openssl");
            verify.args(["verify", "-crl_check", "-purpose", "smimesign", "-CAfile"]).arg(pki.root());
            verify.arg("-untrusted").arg(pki.issuing()).arg("-CRLfile").arg(pki.crl());
            let finished = command::finish(PACKAGE, verify.arg(&person.certificate)).unwrap();
            match complaint {
                None => assert!(finished.success(), "{finished:?}"),
                Some(words) => assert!(finished.stderr.contains(words), "{finished:?}"),
            }
        }
    }
}
