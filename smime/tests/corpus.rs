//! Mail written by NSS (Mozilla's test data): what must verify does, what must not never does.
//!
//! The samples are not part of this project: `HSMIME_CORPORA` names their folder.

#![expect(clippy::print_stdout, reason = "what is skipped, and what each sample gave, is said")]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use smime::{
    Certificate,
    message::{AuthResult, Reason, verify},
    mime::{Message, single_originator},
    path::{RevocationMode, Trust},
};

fn corpus(name: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpora");
    let folder = PathBuf::from(std::env::var_os("HSMIME_CORPORA").unwrap_or(default.into())).join(name);
    if !folder.is_dir() {
        println!("skipped: no corpora at {}", folder.display());
        return None;
    }
    Some(folder)
}

/// A time at which the certificates are valid.
fn valid_time(anchor: &Certificate) -> SystemTime {
    anchor.decoded().tbs_certificate().validity().not_before.to_system_time() + Duration::from_hours(48)
}

#[test]
fn mozillas_signed_mail_gets_the_verdict_that_its_name_promises() {
    let Some(folder) = corpus("thunderbird/smime") else { return };
    let anchor = Certificate::from_pem(&fs::read_to_string(folder.join("TestCA.pem")).unwrap()).unwrap();
    let at = valid_time(&anchor[0]);
    let trust = Trust { anchors: anchor, crls: Vec::new(), revocation: RevocationMode::Off };
    let (mut good, mut weak, mut bad) = (0, 0, 0);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.extension().is_none_or(|extension| extension != "eml") {
            continue;
        }
        let message = Message::from_stored(&fs::read(&path).unwrap());
        let entity = message.entity();
        let (verdict, _) = verify(&entity, single_originator(&entity), &trust, at);
        println!("{name}: {} ({})", verdict.result().as_str(), verdict.reason());
        if name.contains("bad") || name.contains("mismatch") {
            assert_eq!(verdict.result(), AuthResult::Fail, "{name}");
            bad += 1;
        } else if name.starts_with("alice.env.dsig") && !name.contains("dave") {
            // The ciphertext in these was made anew after they were signed; OpenSSL finds so too.
            assert_eq!(verdict.reason(), &Reason::ContentChanged, "{name}");
        } else if name.ends_with(".env.eml") {
            assert_eq!(verdict.result(), AuthResult::None, "{name}");
        } else if name.contains("SHA1") {
            assert_eq!(verdict.reason(), &Reason::Weak, "{name}");
            weak += 1;
        } else {
            assert_eq!(verdict.result(), AuthResult::Pass, "{name}");
            good += 1;
        }
    }
    assert_eq!((good, weak, bad), (31, 10, 8));
}
