//! What is encrypted here others open, and the reverse, cell by cell: OpenSSL, gpgsm, NSS.
//!
//! A cell that a peer cannot do must fail at the peer, so that this file is wrong, and not silent, when a newer
//! one can. `cargo nextest run -p smime --test peers --no-capture` prints the cells.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]
#![expect(clippy::print_stdout, reason = "the cells are to be read")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use smime::{
    Certificate,
    algorithm::DigestAlgorithm::{self, Sha1, Sha256, Sha384, Sha512},
    cipher::ContentCipher::{self, Aes128Cbc, Aes192Cbc, Aes256Cbc, ChaCha20Poly1305},
    cms::{Keep, Object, Proof, RecipientKey, RsaTransport, rekey, seal},
    testing::{MemoryKey, fixtures},
};
use testkit::{
    Person, Pki, Workdir,
    peers::{Gpgsm, Nss},
    pki::{Key, Profile},
};

const CONTENT: &[u8] = b"Content-Type: text/plain\r\n\r\nFor your eyes only.\r\n";

fn open(octets: &[u8], name: &str) -> Vec<u8> {
    let Ok(Object::EnvelopedData(enveloped)) = Object::parse(octets) else { unreachable!() };
    let recipient = enveloped.recipient_for(&fixtures::certificate(name)).unwrap();
    enveloped.open(recipient, &fixtures::key(name)).unwrap()
}

/// The fixtures' folder, which has the certificates and keys as files.
fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testing/data").join(file)
}

/// Runs `openssl cms` on octets; what it wrote, or what it said.
fn openssl(workdir: &Workdir, input: &[u8], options: &[&str]) -> Result<Vec<u8>, String> {
    let (from, to) = (workdir.file("in", input).unwrap(), workdir.join("out"));
    let mut command = Command::new("openssl");
    command.env("OPENSSL_CONF", "/dev/null").arg("cms").args(options).arg("-binary");
    let output = command.arg("-in").arg(from).arg("-out").arg(&to).output().unwrap();
    if output.status.success() {
        Ok(std::fs::read(to).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn openssl_decrypts(workdir: &Workdir, octets: &[u8], name: &str) -> Result<Vec<u8>, String> {
    let (certificate, key) = (fixture(&format!("{name}.pem")), fixture(&format!("{name}.p8")));
    let paths = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let options = ["-decrypt", "-inform", "DER", "-recip", paths[0], "-inkey", paths[1], "-keyform", "DER"];
    openssl(workdir, octets, &options)
}

/// Every kind of key that OpenSSL has, by name, with the way to use it.
fn recipients() -> Vec<(String, &'static str, RecipientKey)> {
    let key = |name| RecipientKey::new(fixtures::certificate(name)).unwrap();
    let mut all = vec![("PKCS #1 v1.5".to_owned(), "bob", key("bob"))];
    for hash in [Sha1, Sha256, Sha384, Sha512] {
        all.push((format!("OAEP {hash:?}"), "bob", key("bob").with_rsa_transport(RsaTransport::Oaep(hash))));
    }
    for name in ["p256", "p384", "p521"] {
        all.push((name.to_owned(), name, key(name)));
    }
    all
}

#[test]
fn openssl_opens_what_is_sealed_here() {
    let workdir = Workdir::new("seal-openssl").unwrap();
    for (how, name, recipient) in recipients() {
        let by_key = recipient.clone().by_key_identifier().unwrap();
        for cipher in ContentCipher::ALL {
            for recipient in [&recipient, &by_key] {
                let octets = seal(&[CONTENT], cipher, std::slice::from_ref(recipient)).unwrap();
                let opened = openssl_decrypts(&workdir, &octets, name);
                if cipher == ChaCha20Poly1305 {
                    // Known to OpenSSL, but not in CMS.
                    assert!(opened.as_ref().is_err_and(|said| !said.is_empty()), "{opened:?}");
                } else {
                    assert_eq!(opened.as_deref(), Ok(CONTENT), "{how}, {}", cipher.name());
                }
            }
            println!("we write, OpenSSL reads: {how}, {}: {}", cipher.name(), cipher != ChaCha20Poly1305);
        }
    }
    // RFC 8418 is not in OpenSSL, up to version 4.
    let x25519 = RecipientKey::new(fixtures::certificate("x25519")).unwrap();
    let octets = seal(&[CONTENT], Aes256Cbc, &[x25519]).unwrap();
    let said = openssl_decrypts(&workdir, &octets, "x25519").unwrap_err();
    println!("we write, OpenSSL reads: X25519: cannot: {}", said.lines().last().unwrap_or_default());
}

#[test]
fn one_message_for_many_is_opened_by_openssl_for_each() {
    let workdir = Workdir::new("seal-many").unwrap();
    let names = ["bob", "p256", "alice", "p384", "x25519", "p521"];
    let keys = names.map(|name| RecipientKey::new(fixtures::certificate(name)).unwrap());
    for cipher in [Aes256Cbc, ContentCipher::Aes256Gcm] {
        let octets = seal(&[CONTENT, CONTENT], cipher, &keys).unwrap();
        for name in names.into_iter().filter(|name| *name != "x25519") {
            let opened = openssl_decrypts(&workdir, &octets, name).unwrap();
            assert_eq!(opened, [CONTENT, CONTENT].concat(), "{name}");
        }
    }
}

#[test]
fn what_openssl_encrypts_is_opened_here() {
    let workdir = Workdir::new("open-openssl").unwrap();
    let oaep = ["-keyopt", "rsa_padding_mode:oaep", "-keyopt"];
    let mut cells: Vec<(&str, Vec<String>)> = vec![("bob", Vec::new())];
    for hash in ["sha1", "sha256", "sha384", "sha512"] {
        let hash = format!("rsa_oaep_md:{hash}");
        cells.push(("bob", oaep.iter().copied().chain([hash.as_str()]).map(str::to_owned).collect()));
    }
    let label = ["rsa_oaep_md:sha256", "-keyopt", "rsa_oaep_label:68736d696d65"];
    cells.push(("bob", oaep.into_iter().chain(label).map(str::to_owned).collect()));
    for name in ["p256", "p384", "p521"] {
        cells.push((name, Vec::new()));
        for hash in ["sha1", "sha224", "sha256", "sha384", "sha512"] {
            for mode in ["ecdh_cofactor_mode:0", "ecdh_cofactor_mode:1"] {
                let kdf = format!("ecdh_kdf_md:{hash}");
                cells.push((name, ["-keyopt", kdf.as_str(), "-keyopt", mode].map(str::to_owned).to_vec()));
            }
        }
    }
    let forms: [&[&str]; 7] = [
        &["-aes-128-cbc"],
        &["-aes-192-cbc", "-stream"],
        &["-aes-256-cbc", "-keyid"],
        &["-aes-128-gcm", "-keyid", "-stream"],
        &["-aes-192-gcm"],
        &["-aes-256-gcm"],
        &["-des3"],
    ];
    for (at, (name, keyopt)) in cells.iter().enumerate() {
        let certificate = fixture(&format!("{name}.pem"));
        // Every kind of key with three of the forms, so that each form meets each kind.
        for form in forms.iter().cycle().skip(at * 3 % forms.len()).take(3) {
            let mut options = vec!["-encrypt", "-outform", "DER"];
            options.extend(*form);
            options.extend(["-recip", certificate.to_str().unwrap()]);
            options.extend(keyopt.iter().map(String::as_str));
            let octets = openssl(&workdir, CONTENT, &options).unwrap();
            assert_eq!(open(&octets, name), CONTENT, "{name} {form:?} {keyopt:?}");
            println!("OpenSSL writes, we read: {name} {} {}", form.join(" "), keyopt.join(" "));
        }
    }
}

#[test]
fn openssl_opens_its_own_messages_that_were_given_other_recipients_here() {
    let workdir = Workdir::new("rekey-openssl").unwrap();
    let bob = fixture("bob.pem");
    for form in [&["-aes-256-cbc"][..], &["-aes-128-cbc", "-stream"], &["-aes-256-gcm", "-stream"]] {
        let options = [&["-encrypt", "-outform", "DER"], form, &["-recip", bob.to_str().unwrap()]].concat();
        let octets = openssl(&workdir, CONTENT, &options).unwrap();
        let new = ["alice", "p384"].map(|name| RecipientKey::new(fixtures::certificate(name)).unwrap());
        for keep in [Keep::All, Keep::None] {
            let rekeyed = rekey(&octets, &fixtures::key("bob"), &new, keep, Proof::Key).unwrap();
            for name in ["alice", "p384"] {
                assert_eq!(
                    openssl_decrypts(&workdir, &rekeyed, name).as_deref(),
                    Ok(CONTENT),
                    "{form:?} {name}"
                );
            }
            let old = openssl_decrypts(&workdir, &rekeyed, "bob");
            assert_eq!(old.is_ok_and(|content| content == CONTENT), keep == Keep::All, "{form:?}");
        }
        println!("OpenSSL writes, we rekey, OpenSSL reads: {}", form.join(" "));
    }
}

/// Somebody whose key gpgsm and NSS take too.
struct World {
    pki: Pki,
    erin: Person,
    workdir: Workdir,
}

impl World {
    fn new(name: &str, key: Key) -> Self {
        let workdir = Workdir::new(name).unwrap();
        let pki = Pki::new(&workdir.directory("pki").unwrap()).unwrap();
        let erin = pki.issue(&Profile::new("erin", "erin@partner.example", key)).unwrap();
        Self { pki, erin, workdir }
    }

    fn certificate(&self) -> Certificate {
        Certificate::from_pem(&std::fs::read_to_string(&self.erin.certificate).unwrap()).unwrap().remove(0)
    }

    fn open(&self, octets: &[u8]) -> Vec<u8> {
        let pem = std::fs::read_to_string(&self.erin.key).unwrap();
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let pkcs8 = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
        let key = MemoryKey::from_pkcs8(&pkcs8, self.certificate()).unwrap();
        let Ok(Object::EnvelopedData(enveloped)) = Object::parse(octets) else { unreachable!() };
        enveloped.open(enveloped.recipient_for(&self.certificate()).unwrap(), &key).unwrap()
    }
}

/// How a key is encrypted to erin, and whether a peer opens that.
type Cell = (Option<DigestAlgorithm>, ContentCipher, bool);

fn seal_cells(world: &World, cells: &[Cell], decrypt: impl Fn(&[u8]) -> Result<Vec<u8>, String>, peer: &str) {
    for &(oaep, cipher, can) in cells {
        let transport = oaep.map_or(RsaTransport::Pkcs1, RsaTransport::Oaep);
        let key = RecipientKey::new(world.certificate()).unwrap().with_rsa_transport(transport);
        let octets = seal(&[CONTENT], cipher, &[key]).unwrap();
        let opened = decrypt(&octets).and_then(|content| {
            if content == CONTENT {
                Ok(())
            } else {
                Err(format!("{} octets of something else", content.len()))
            }
        });
        println!("we write, {peer} reads: {transport:?}, {}: {opened:?}", cipher.name());
        assert_eq!(opened.is_ok(), can, "{peer}: {transport:?}, {}: {opened:?}", cipher.name());
    }
}

#[test]
fn gpgsm_opens_what_it_can_and_what_it_encrypts_is_opened_here() {
    let world = World::new("seal-gpgsm", Key::Rsa2048);
    let gpgsm = Gpgsm::new(&world.workdir, &world.pki, Some(&world.erin)).unwrap();
    let cells = [
        (None, Aes128Cbc, true),
        (None, Aes192Cbc, true),
        (None, Aes256Cbc, true),
        // Debian 12's version knows neither.
        (None, ContentCipher::Aes256Gcm, false),
        (Some(Sha256), Aes256Cbc, false),
    ];
    let decrypt = |octets: &[u8]| gpgsm.decrypt(octets).map_err(|error| format!("{error:#}"));
    seal_cells(&world, &cells, decrypt, "gpgsm");
    let octets = gpgsm.encrypt(CONTENT, &[&world.erin]).unwrap();
    assert_eq!(world.open(&octets), CONTENT);
}

#[test]
fn nss_opens_what_it_can_and_what_it_encrypts_is_opened_here() {
    let cells = [
        (None, Aes128Cbc, true),
        (None, Aes192Cbc, true),
        (None, Aes256Cbc, true),
        // NSS 3.87 knows neither AuthEnvelopedData nor, in CMS, OAEP.
        (None, ContentCipher::Aes256Gcm, false),
        (Some(Sha256), Aes256Cbc, false),
    ];
    let world = World::new("seal-nss", Key::Rsa2048);
    let nss = Nss::new(&world.workdir, &world.pki).unwrap();
    nss.import(&world.pki, &world.erin).unwrap();
    let decrypt = |octets: &[u8]| nss.decrypt(octets).map_err(|error| format!("{error:#}"));
    seal_cells(&world, &cells, decrypt, "NSS");
    let octets = nss.encrypt(CONTENT, &world.erin).unwrap();
    assert_eq!(world.open(&octets), CONTENT);
}

#[test]
fn key_agreement_is_unknown_to_nss_whoever_writes_it() {
    let world = World::new("seal-nss-ec", Key::P256);
    let nss = Nss::new(&world.workdir, &world.pki).unwrap();
    nss.import(&world.pki, &world.erin).unwrap();
    let decrypt = |octets: &[u8]| nss.decrypt(octets).map_err(|error| format!("{error:#}"));
    seal_cells(&world, &[(None, Aes128Cbc, false)], decrypt, "NSS, P-256,");
    let certificate = world.erin.certificate.to_str().unwrap();
    let options = ["-encrypt", "-outform", "DER", "-aes-128-cbc", "-recip", certificate];
    assert!(nss.decrypt(&openssl(&world.workdir, CONTENT, &options).unwrap()).is_err(), "OpenSSL's");
    assert!(nss.encrypt(CONTENT, &world.erin).is_err());
}
