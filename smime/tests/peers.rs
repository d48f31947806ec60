//! What is encrypted here OpenSSL opens, and the reverse: every cipher with every kind of key. Other peers, and
//! signatures, are in the matrix (`tests/interop`).
//!
//! A cell that OpenSSL cannot do must fail there, so that this file is wrong, and not silent, when a newer one can.
//! `cargo nextest run -p smime --test peers --no-capture` prints the cells.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]
#![expect(clippy::print_stdout, reason = "the cells are to be read")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use smime::{
    algorithm::DigestAlgorithm::{Sha1, Sha256, Sha384, Sha512},
    cipher::ContentCipher::{self, Aes256Cbc, ChaCha20Poly1305},
    cms::{Keep, Proof, RecipientKey, RsaTransport, rekey, seal},
    testing::{enveloped_data, fixtures},
};
use testkit::Workdir;

const CONTENT: &[u8] = b"Content-Type: text/plain\r\n\r\nFor your eyes only.\r\n";

fn open(octets: &[u8], name: &str) -> Vec<u8> {
    let enveloped = enveloped_data(octets);
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
