//! OpenSSL: `cms`, and `smime` for PKCS #7 v1.5.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use data_encoding::{BASE64, HEXLOWER};
use memchr::memmem;
use smime::algorithm::DigestAlgorithm as Hash;
use testkit::command;

use super::{Name, Peer, Said, Written, done, no_option};
use crate::{
    claims::LABEL,
    form::{Beside, Cipher, Dress, Scheme, Sealing, Signing, Way, Who},
    mail::Mail,
    world::World,
};

/// The command with a directory for its files.
#[derive(Debug)]
pub struct OpenSsl<'a> {
    world: &'a World,
    directory: PathBuf,
    count: AtomicU32,
}

impl<'a> OpenSsl<'a> {
    /// Prepares the directory.
    pub fn new(world: &'a World) -> testkit::Result<Self> {
        Ok(Self { world, directory: world.workdir.directory("openssl")?, count: AtomicU32::new(0) })
    }

    fn person(&self, who: Who) -> Result<&testkit::Person, Said> {
        Ok(&self.world.member(who)?.person)
    }

    /// Runs a command from file to file. What is in the file counts only after success.
    fn run(&self, command: &mut Command, input: &[u8]) -> Result<Vec<u8>, Said> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| self.directory.join(format!("{number}.{kind}"));
        fs::write(file("in"), input)?;
        command.env("OPENSSL_CONF", "/dev/null").arg("-in").arg(file("in")).arg("-out").arg(file("out"));
        done(command::finish("openssl", command))?;
        Ok(fs::read(file("out"))?)
    }
}

fn tool(name: &str, options: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.arg(name).args(options);
    command
}

/// The program for a dress.
fn program(dress: Dress) -> &'static str {
    if dress == Dress::Pkcs7 { "smime" } else { "cms" }
}

fn hash_option(hash: Hash) -> &'static str {
    match hash {
        Hash::Md5 => "md5",
        Hash::Sha1 => "sha1",
        Hash::Sha224 => "sha224",
        Hash::Sha256 => "sha256",
        Hash::Sha384 => "sha384",
        Hash::Sha512 => "sha512",
    }
}

fn cipher_option(cipher: Cipher) -> String {
    match cipher {
        Cipher::AesCbc(bits) => format!("-aes-{bits}-cbc"),
        Cipher::AesGcm(bits) => format!("-aes-{bits}-gcm"),
        Cipher::ChaCha20Poly1305 => "-chacha20-poly1305".to_owned(),
        Cipher::TripleDes => "-des3".to_owned(),
        Cipher::Des => "-des".to_owned(),
        Cipher::Rc2(128) => "-rc2".to_owned(),
        Cipher::Rc2(bits) => format!("-rc2-{bits}"),
    }
}

impl Peer for OpenSsl<'_> {
    fn name(&self) -> Name {
        Name::OpenSsl
    }

    fn version(&self) -> Result<String, Said> {
        let text = done(command::finish("openssl", &mut tool("version", &[])))?.text();
        let version = text.split(' ').nth(1).unwrap_or_default();
        Ok(version.split('.').take(2).collect::<Vec<_>>().join("."))
    }

    fn sign(&self, content: &[u8], signing: &Signing) -> Result<Written, Said> {
        if signing.countersigner.is_some() {
            let help = command::finish("openssl", &mut tool("cms", &["-help"]))?;
            return no_option(&format!("{}{}", help.text(), help.stderr), &["counter"]);
        }
        let mut command = tool(program(signing.dress), &["-sign", "-binary"]);
        let native = signing.dress == Dress::Pkcs7;
        if !native {
            command.args(["-outform", "DER"]);
        }
        let flags = [
            (signing.opaque, "-nodetach"),
            (signing.by_key, "-keyid"),
            (signing.bare, "-noattr"),
            (signing.ber, "-stream"),
        ];
        command.args(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag));
        command.arg("-certfile").arg(self.world.pki.issuing());
        if let Some((_, scheme)) = signing.signers.first() {
            command.args(["-md", hash_option(scheme.hash())]);
        }
        for &(who, scheme) in &signing.signers {
            let person = self.person(who)?;
            command.arg("-signer").arg(&person.certificate).arg("-inkey").arg(&person.key);
            let salt = match scheme {
                Scheme::Pss(_) => "rsa_pss_saltlen:digest",
                Scheme::PssMaximum(_) => "rsa_pss_saltlen:max",
                _ => continue,
            };
            command.args(["-keyopt", "rsa_padding_mode:pss", "-keyopt", salt]);
        }
        let made = self.run(&mut command, content)?;
        if !native && !signing.opaque && memmem::find(&made, content).is_some() {
            return Err(Said("its detached signature has the content in it".to_owned()));
        }
        Ok(if native { Written::Entity(made) } else { Written::Object(made) })
    }

    fn verify(&self, mail: &Mail, signing: &Signing) -> Result<Vec<u8>, Said> {
        let mut command = tool(program(signing.dress), &["-verify", "-purpose", "smimesign", "-CAfile"]);
        self.run(command.arg(self.world.pki.root()), &mail.octets)
    }

    fn encrypt(&self, content: &[u8], sealing: &Sealing) -> Result<Written, Said> {
        if sealing.dress == Dress::Pkcs7 {
            return self.smime_encrypt(content, sealing).map(Written::Entity);
        }
        let mut command = tool("cms", &["-encrypt", "-binary", "-outform", "DER"]);
        if sealing.cipher.is_old() {
            command.args(["-provider", "default", "-provider", "legacy"]);
        }
        let flags = [(sealing.by_key, "-keyid"), (sealing.ber, "-stream")];
        command.args(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag));
        command.arg(cipher_option(sealing.cipher));
        match sealing.beside {
            Some(Beside::Password) => command.args(["-pwri_password", "secret"]),
            Some(Beside::SharedKey) => {
                command.args(["-secretkey", "000102030405060708090a0b0c0d0e0f", "-secretkeyid", "0102"])
            }
            None => &mut command,
        };
        for &(who, way) in &sealing.to {
            match way {
                Way::Ecdh(_, bits) => command.arg(format!("-aes{bits}-wrap")),
                Way::Cofactor(_) => command.arg("-aes256-wrap"),
                Way::TripleDesWrap(_) => command.arg("-des3-wrap"),
                _ => &mut command,
            };
            command.arg("-recip").arg(&self.person(who)?.certificate);
            match way {
                Way::Oaep(hash) => {
                    command.args(["-keyopt", "rsa_padding_mode:oaep", "-keyopt"]);
                    command.arg(format!("rsa_oaep_md:{}", hash_option(hash)));
                }
                Way::OaepMask(hash, mask) => {
                    command.args(["-keyopt", "rsa_padding_mode:oaep", "-keyopt"]);
                    command.arg(format!("rsa_oaep_md:{}", hash_option(hash)));
                    command.args(["-keyopt", &format!("rsa_mgf1_md:{}", hash_option(mask))]);
                }
                Way::OaepLabel(hash) => {
                    command.args(["-keyopt", "rsa_padding_mode:oaep", "-keyopt"]);
                    command.arg(format!("rsa_oaep_md:{}", hash_option(hash)));
                    command.args(["-keyopt", &format!("rsa_oaep_label:{}", HEXLOWER.encode(LABEL))]);
                }
                Way::Ecdh(hash, _) | Way::TripleDesWrap(hash) | Way::Cofactor(hash) => {
                    command.args(["-keyopt", &format!("ecdh_kdf_md:{}", hash_option(hash))]);
                    if matches!(way, Way::Cofactor(_)) {
                        command.args(["-keyopt", "ecdh_cofactor_mode:1"]);
                    }
                }
                Way::Pkcs1 | Way::Hkdf => {}
            }
        }
        self.run(&mut command, content).map(Written::Object)
    }

    fn decrypt(&self, mail: &Mail, who: Who, sealing: &Sealing) -> Result<Vec<u8>, Said> {
        let person = self.person(who)?;
        let mut command = tool(program(sealing.dress), &["-decrypt", "-binary", "-recip"]);
        self.run(command.arg(&person.certificate).arg("-inkey").arg(&person.key), &mail.octets)
    }

    fn compress(&self, content: &[u8], ber: bool) -> Result<Vec<u8>, Said> {
        let mut command = tool("cms", &["-compress", "-binary", "-outform", "DER"]);
        if ber {
            command.arg("-stream");
        }
        self.run(&mut command, content)
    }

    fn decompress(&self, mail: &Mail) -> Result<Vec<u8>, Said> {
        self.run(&mut tool("cms", &["-uncompress", "-binary"]), &mail.octets)
    }

    fn certificates_only(&self, of: &[Who]) -> Result<Vec<u8>, Said> {
        let mut command = tool("crl2pkcs7", &["-nocrl", "-outform", "DER"]);
        for who in of {
            command.arg("-certfile").arg(&self.person(*who)?.certificate);
        }
        let out = self.directory.join("certificates.p7c");
        done(command::finish("openssl", command.arg("-out").arg(&out)))?;
        Ok(fs::read(out)?)
    }

    fn certificates(&self, mail: &Mail) -> Result<Vec<Vec<u8>>, Said> {
        let text = self.run(&mut tool("pkcs7", &["-inform", "DER", "-print_certs"]), &mail.object)?;
        pem(&String::from_utf8_lossy(&text))
    }
}

impl OpenSsl<'_> {
    /// Recipients are bare arguments here, so the files stand before them.
    fn smime_encrypt(&self, content: &[u8], sealing: &Sealing) -> Result<Vec<u8>, Said> {
        let (from, to) = (self.directory.join("smime.in"), self.directory.join("smime.out"));
        fs::write(&from, content)?;
        let mut command = tool("smime", &["-encrypt", "-binary", &cipher_option(sealing.cipher), "-in"]);
        command.arg(from).arg("-out").arg(&to);
        for (who, _) in &sealing.to {
            command.arg(&self.person(*who)?.certificate);
        }
        done(command::finish("openssl", command.env("OPENSSL_CONF", "/dev/null")))?;
        Ok(fs::read(to)?)
    }
}

/// The blocks of a PEM text.
fn pem(text: &str) -> Result<Vec<Vec<u8>>, Said> {
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    blocks
        .map(|block| {
            let base64: String = block.lines().take_while(|line| !line.starts_with('-')).collect();
            BASE64.decode(base64.as_bytes()).map_err(|error| Said(error.to_string()))
        })
        .collect()
}
