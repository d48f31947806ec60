//! Samples made by others: each is read, and what comes of it is what its name or text says.
//!
//! The samples are not part of this project: `HSMIME_CORPORA` names their folder, and without it the tests say that they
//! are skipped. `expected.txt` has one line for each of them; a sample that is not in it, and a line without a sample,
//! fails. To see what comes out: `cargo nextest run -p smime --test corpora --no-capture`.

#![expect(clippy::print_stdout, reason = "what is skipped, and what each sample gave, is said")]
#![expect(clippy::case_sensitive_file_extension_comparisons, reason = "the names are as they are")]
#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

mod headers;
mod keys;
mod outcome;
mod structures;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use smime::{
    Certificate,
    mime::Message,
    path::{RevocationMode, Trust},
};

use crate::{
    keys::Key,
    outcome::{Reader, structure},
};

pub(crate) fn corpora() -> Option<PathBuf> {
    let folder = std::env::var_os("HSMIME_CORPORA").map(PathBuf::from).filter(|folder| folder.is_dir());
    if folder.is_none() {
        println!("skipped: HSMIME_CORPORA names no folder with corpora");
    }
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn expected() -> BTreeMap<&'static str, &'static str> {
    let lines =
        include_str!("expected.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split_once(" => ").unwrap()).collect()
}

fn pem(path: &Path) -> Vec<Certificate> {
    Certificate::from_pem(&fs::read_to_string(path).unwrap()).unwrap()
}

fn der(path: &Path) -> Certificate {
    Certificate::from_der(&fs::read(path).unwrap()).unwrap()
}

/// Who can read the samples of a folder.
fn reader(folder: &Path, name: &str) -> Reader {
    let keys = |names: &[&str], password| {
        names.iter().flat_map(|name| Key::of_pkcs12(&folder.join(name), password)).collect::<Vec<_>>()
    };
    let (anchors, keys, sender) = match name {
        "thunderbird/smime" => (
            pem(&folder.join("TestCA.pem")),
            keys(&["Bob.p12", "Alice.p12", "Fran.p12"], "nss"),
            "alice@example.com",
        ),
        "thunderbird/smime-interop" | "nss" => {
            (Vec::new(), keys(&["Fran.p12", "Fran-ec.p12"], "nss"), "fran@example.com")
        }
        "protected-headers" => {
            (pem(&folder.join("sample-ca.pem")), keys(&["bob.p12"], "bob"), "alice@smime.example")
        }
        "rfc4134" => {
            let anchors = ["CarlRSASelf.cer", "CarlDSSSelf.cer"].map(|name| der(&folder.join(name)));
            let key = |private: &str, certificate: &str| {
                Key::new(&fs::read(folder.join(private)).unwrap(), der(&folder.join(certificate)))
            };
            let keys = vec![
                key("BobPrivRSAEncrypt.pri", "BobRSASignByCarl.cer"),
                key("DianePrivRSASignEncrypt.pri", "DianeRSASignByCarl.cer"),
            ];
            (anchors.to_vec(), keys, "alice@example.com")
        }
        _ => (Vec::new(), Vec::new(), "nobody@example.com"),
    };
    // 2002 for the oldest; two days after the CA began for the others.
    let start = |anchor: &Certificate| anchor.not_before() + Duration::from_hours(48);
    let at = match name {
        "rfc4134" => SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 32),
        _ => anchors.first().map_or(SystemTime::now(), start),
    };
    let trust = Trust { anchors, revocation: RevocationMode::Off, ..Trust::default() };
    Reader { trust, at, keys, sender }
}

/// What comes of one file.
fn outcome(corpora: &Path, reader: &Reader, name: &str) -> String {
    let path = corpora.join(name);
    let octets = fs::read(&path).unwrap();
    let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.parent().unwrap();
    match extension.as_str() {
        "p12" => {
            let password = if name.starts_with("protected-headers") { "bob" } else { "nss" };
            let keys = Key::of_pkcs12(&path, password);
            let names: Vec<_> = keys.iter().map(|key| key.certificate.subject().to_string()).collect();
            format!("keys of {}", names.join(" and "))
        }
        "pem" => {
            let names: Vec<_> = pem(&path).iter().map(|c| c.subject().to_string()).collect();
            format!("certificates of {}", names.join(" and "))
        }
        "cer" => outcome::certificate(&path),
        "crl" => outcome::crl(&path),
        "pri" => format!("private key, {} octets", octets.len()),
        "json" => structures::compared(&path),
        "md" => "text".to_owned(),
        _ if name.starts_with("mimekit/mbox") => "text, read by the offsets beside it".to_owned(),
        _ if name == "rfc4134/rfc4134.txt" || name.ends_with("expiration.txt") => "text".to_owned(),
        _ if name.starts_with("mimekit/") => {
            let message = Message::from_stored(&octets);
            format!("{}; {}", reader.mail(&octets), structure(&message.entity()))
        }
        "eml" => reader.mail(&octets),
        // DER or BER.
        _ if octets.first() == Some(&0x30) => {
            let content = content_of(folder, name);
            reader.object(&octets, content.as_deref())
        }
        _ if name == "rfc4134/ExContent.bin" => "text".to_owned(),
        _ => reader.mail(&octets),
    }
}

/// What a detached signature in a file of its own is of, by its name.
fn content_of(folder: &Path, name: &str) -> Option<Vec<u8>> {
    let name = Path::new(name).file_name()?.to_str()?;
    let file = if name == "4.3.bin" {
        "ExContent.bin".to_owned()
    } else {
        name.split_once(".dsig.").map(|(content, _)| content.to_owned())?
    };
    fs::read(folder.join(file)).ok()
}

#[test]
fn of_every_sample_comes_what_is_expected_and_none_is_left_out() {
    let Some(corpora) = corpora() else { return };
    let expected = expected();
    let mut readers: BTreeMap<String, Reader> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut names: Vec<_> = files(&corpora)
        .iter()
        .map(|path| path.strip_prefix(&corpora).unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    for name in &names {
        let folder = Path::new(name).parent().unwrap().to_string_lossy().into_owned();
        let reader = readers.entry(folder.clone()).or_insert_with(|| reader(&corpora.join(&folder), &folder));
        let found = outcome(&corpora, reader, name);
        println!("{name} => {found}");
        if expected.get(name.as_str()).copied() != Some(&found) {
            wrong.push(format!("{name} => {found}\n    expected {:?}", expected.get(name.as_str())));
        }
    }
    let gone: Vec<_> = expected.keys().filter(|name| !names.iter().any(|found| found == *name)).collect();
    assert!(gone.is_empty(), "these are expected, and not there: {gone:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the names promise, held against the list itself: so that nobody writes down what must not be.
#[test]
fn the_list_says_what_the_names_of_the_samples_promise() {
    let mut counts = [0; 5];
    for (name, outcome) in expected() {
        let Some(name) = name.strip_prefix("thunderbird/").or(name.strip_prefix("nss/")) else { continue };
        let verified = outcome.contains("pass: ") || outcome.contains("too weak");
        if name.contains("bad") || name.contains("mismatch-econtent") {
            assert!(outcome.starts_with("fail: ") && !verified, "{name}: {outcome}");
            counts[0] += 1;
        } else if name.starts_with("smime/") && name.ends_with(".env") {
            // For a key that is not among the samples.
            assert!(outcome.starts_with("for nobody here"), "{name}: {outcome}");
        } else if name.ends_with(".env") || name.ends_with(".env.eml") {
            assert!(outcome.starts_with("opened, "), "{name}: {outcome}");
            // What is signed inside is good, as it is outside; with SHA-1 it is not good enough.
            assert!(!name.contains("sig") || verified, "{name}: {outcome}");
            assert_eq!(outcome.contains("too weak"), name.contains("SHA1"), "{name}: {outcome}");
            counts[1] += 1;
        } else if name.contains("sig") && name.contains("SHA1") {
            assert!(!outcome.contains("pass: "), "{name}: {outcome}");
            counts[2] += 1;
        } else if name.contains("sig") && (!name.contains(".env.dsig") || name.contains("dave")) {
            let is_older = !name.ends_with(".eml") && outcome.starts_with("policy: no path from ");
            assert!(verified || is_older, "{name}: {outcome}");
            counts[3] += 1;
        } else {
            counts[4] += 1;
        }
    }
    println!("{counts:?}");
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
}
