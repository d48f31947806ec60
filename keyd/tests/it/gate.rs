//! Who is served, and with what.

use std::{io::Write as _, os::unix::net::UnixStream, process::Command};

use hsmpool::Lane;
use rustix::process::Signal;
use smime::{
    Fault,
    algorithm::KeyEncryptionAlgorithm,
    key::{ContentEncryptionKey, Decryptor, KeyError, Unwrapped},
};

use crate::{
    raw::Words,
    support::{LONG, Lab, eventually, run, sign},
};

#[test]
fn a_peer_that_is_not_listed_is_refused_with_the_reason() {
    let mut lab = Lab::new();
    lab.clients = "[[keyd.client]]\nuser = \"64999\"\ncertificates = [\"ours.pem\"]\n".to_owned();
    let keyd = lab.start();
    let pool = lab.pool();
    let error = pool.ready(LONG).unwrap_err();
    assert!(error.to_string().contains("is no [[keyd.client]]"), "{error}");
    let error = sign(&pool.key(&lab.certificate), b"no").unwrap_err();
    assert!(error.to_string().contains("is no [[keyd.client]]"), "{error}");
    eventually("it is told", || keyd.log().contains("client refused"));
    assert!(lab.uses().is_empty());
}

#[test]
fn a_client_does_what_it_may_with_the_keys_it_may_and_nothing_else() {
    let mut lab = Lab::new();
    let other = lab.another();
    lab.clients = lab.clients.replace("[[keyd.client]]", "[[keyd.client]]\noperations = [\"sign\"]");
    let _keyd = lab.start();
    let key = lab.key();
    sign(&key, b"yes").unwrap();

    let refused = |error: KeyError, words: &str| {
        assert!(matches!(error, KeyError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.fault(), Fault::Operator, "nobody should try again");
    };
    let pool = lab.pool();
    refused(sign(&pool.key(&other), b"no").unwrap_err(), "may not use this key");
    // For it, that key is not there.
    let missing = pool.missing_keys([&lab.certificate, &other], LONG).unwrap();
    assert_eq!(missing, [&other]);
    let rsa = key.decrypt_key(&[1; 256], &KeyEncryptionAlgorithm::RsaPkcs1);
    refused(rsa.unwrap_err(), "may not decrypt with it; `operations` in its [[keyd.client]] lacks decrypt");
    let outcomes: Vec<_> =
        lab.uses().iter().map(|line| line["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes, ["done", "refused", "refused"]);
}

#[test]
fn who_may_decrypt_only_learns_nothing_of_keys_that_no_cipher_has_and_good_ones_are_never_refused() {
    let mut lab = Lab::new();
    let rsa = lab.rsa();
    let entry = "[[keyd.client]]\noperations = [\"decrypt\"]";
    lab.clients = lab.clients.replace("[[keyd.client]]", entry).replace("ours.pem", "rsa.pem");
    let keyd = lab.start();
    let pool = lab.pool();
    pool.ready(LONG).unwrap();
    let key = pool.key(&rsa);
    let unwrapped = |octets: &[u8]| {
        std::fs::write(lab.directory.join("content.key"), octets).unwrap();
        run(
            &lab.directory,
            "openssl",
            "pkeyutl -encrypt -certin -inkey rsa.pem -in content.key -out encrypted.key",
        );
        let encrypted = std::fs::read(lab.directory.join("encrypted.key")).unwrap();
        match key.decrypt_key(&encrypted, &KeyEncryptionAlgorithm::RsaPkcs1).unwrap() {
            Unwrapped::Key(key) => Some(key.is_same_as(&ContentEncryptionKey::new(octets.to_vec()))),
            Unwrapped::Rejected => None,
        }
    };
    for octets in [5, 8, 16, 24, 32] {
        assert_eq!(unwrapped(&vec![0x5a; octets]), Some(true), "{octets}");
    }
    for octets in [1, 15, 17, 33, 245] {
        assert_eq!(unwrapped(&vec![0x5a; octets]), None, "{octets}");
    }
    let ask = |n: u32| {
        let mut encrypted = [7; 256];
        encrypted[0] = 1;
        encrypted[252..].copy_from_slice(&n.to_be_bytes());
        key.decrypt_key(&encrypted, &KeyEncryptionAlgorithm::RsaPkcs1)
    };
    std::thread::scope(|scope| {
        for caller in 0..4_u32 {
            scope.spawn(move || (0..500).for_each(|n| drop(ask(caller * 1000 + n).unwrap())));
        }
    });
    assert_eq!(unwrapped(&[0x5a; 32]), Some(true));
    let outcomes: Vec<_> =
        lab.uses().iter().map(|line| line["outcome"].as_str().unwrap().to_owned()).collect();
    let count = |what: &str| outcomes.iter().filter(|outcome| *outcome == what).count();
    assert_eq!((count("rejected"), count("refused"), count("done")), (2005, 0, 6));
    assert!(keyd.log().contains("out for a signature"), "{}", keyd.log());
}

#[test]
fn a_key_that_others_sign_with_decrypts_pkcs1_v15_for_who_may_not_sign_only_where_that_is_allowed() {
    const SIGNER: &str = "[[keyd.client]]\nuser = \"64999\"\ncertificates = [\"rsa.pem\"]\n";
    let mut lab = Lab::new();
    let rsa = lab.rsa();
    let own = lab.clients.replace("[[keyd.client]]", "[[keyd.client]]\noperations = [\"decrypt\"]");
    let own = own.replace("ours.pem", "rsa.pem");
    lab.clients = format!("{own}{SIGNER}");
    let keyd = lab.start();
    std::fs::write(lab.directory.join("content.key"), [0x5a; 32]).unwrap();
    let encrypted = |options: &str| {
        let to = "pkeyutl -encrypt -certin -inkey rsa.pem -in content.key -out encrypted.key";
        run(&lab.directory, "openssl", &format!("{to} {options}"));
        std::fs::read(lab.directory.join("encrypted.key")).unwrap()
    };
    let v15 = encrypted("");
    let oaep = encrypted("-pkeyopt rsa_padding_mode:oaep");
    let pool = lab.pool();
    pool.ready(LONG).unwrap();
    let key = pool.key(&rsa);
    let error = key.decrypt_key(&v15, &KeyEncryptionAlgorithm::RsaPkcs1).unwrap_err();
    assert!(matches!(error, KeyError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("add `allow-signing-keys = true` to its [[keyd.client]]"), "{error}");
    let sha1 = smime::algorithm::DigestAlgorithm::Sha1;
    let by_oaep = KeyEncryptionAlgorithm::RsaOaep { hash: sha1, mask_hash: sha1, label: Vec::new() };
    assert!(matches!(key.decrypt_key(&oaep, &by_oaep), Ok(Unwrapped::Key(_))), "its padding tells nothing");

    let reload = |lab: &Lab, times: usize| {
        lab.write_config();
        keyd.signal(Signal::HUP);
        eventually("it is read", || keyd.log().matches("configuration read again").count() == times);
    };
    // The same key as a client can write it that may use all: without the parameters of rsaEncryption.
    lab.clients = format!("{}{SIGNER}", own.replace("rsa.pem", "*"));
    reload(&lab, 1);
    let mut info = rsa.public_key_info();
    assert_eq!((info[5], &info[17..19]), (13, &[5, 0][..]), "{info:02x?}");
    info.drain(17..19);
    (info[3], info[5]) = (info[3] - 2, 11);
    let mut words = Words::hello(Lane::Interactive);
    words.define(&info, b"it");
    words.decrypt_v15(0, 0, &v15);
    assert_eq!(words.say(&lab, 1), (0, 1));

    lab.clients = format!("{}allow-signing-keys = true\n{SIGNER}", own.replace("rsa.pem", "*"));
    reload(&lab, 2);
    assert!(matches!(key.decrypt_key(&v15, &KeyEncryptionAlgorithm::RsaPkcs1), Ok(Unwrapped::Key(_))));
    assert_eq!(words.say(&lab, 1), (1, 0), "it is the same key");
    let outcomes: Vec<_> =
        lab.uses().iter().map(|line| line["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes, ["refused", "done", "refused", "done", "done"]);
}

#[test]
fn what_is_worth_a_warning_is_told_at_the_start_and_whenever_the_configuration_is_read() {
    let mut lab = Lab::new();
    lab.rsa();
    let of_anchors = "names no anchors";
    let of_client = "write `allow-signing-keys = true` there";
    let keyd = lab.start();
    let told = |what: &str| keyd.log().matches(what).count();
    assert_eq!((told(of_anchors), told(of_client)), (1, 0), "{}", keyd.log());
    let own = lab.clients.replace("[[keyd.client]]", "[[keyd.client]]\noperations = [\"decrypt\"]");
    let signer = "[[keyd.client]]\nuser = \"64999\"\ncertificates = [\"rsa.pem\"]\n";
    lab.clients = format!("{}{signer}", own.replace("ours.pem", "rsa.pem"));
    for times in 1..3 {
        lab.write_config();
        keyd.signal(Signal::HUP);
        eventually("it is read", || told("configuration read again") == times);
        assert_eq!((told(of_anchors), told(of_client)), (1 + times, times), "{}", keyd.log());
    }
    // What is not taken is not warned of, but why.
    lab.clients = format!("{signer}user = 1\n");
    lab.write_config();
    keyd.signal(Signal::HUP);
    eventually("it is refused", || told("the configuration stays as it was") == 1);
    assert_eq!((told(of_anchors), told(of_client)), (3, 2), "{}", keyd.log());
}

#[test]
fn keys_that_a_client_may_not_use_take_no_room() {
    let lab = Lab::new();
    let keyd = lab.start();
    let memory = || -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", keyd.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let before = memory();
    let mut words = Words::hello(Lane::Bulk);
    (0..16_384).for_each(|_| words.define(&[0x30; 4096], &[b'x'; 2000]));
    let stream = UnixStream::connect(lab.socket()).unwrap();
    (&stream).write_all(&words.0).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let taken = memory().saturating_sub(before);
    assert!(taken < 16 * 1024, "{taken} KiB");
    sign(&lab.key(), b"yes").unwrap();
}

#[test]
fn a_key_that_is_permitted_later_can_be_used_by_who_has_asked_before() {
    let mut lab = Lab::new();
    let other = lab.another();
    let keyd = lab.start();
    let pool = lab.pool();
    pool.ready(LONG).unwrap();
    let key = pool.key(&other);
    sign(&key, b"no").unwrap_err();
    lab.clients = lab.clients.replace("\"ours.pem\"", "\"ours.pem\", \"other.pem\"");
    lab.write_config();
    keyd.signal(Signal::HUP);
    eventually("it is read", || keyd.log().contains("configuration read again"));
    sign(&key, b"yes").unwrap();
}

#[test]
fn a_lane_that_is_not_given_is_refused() {
    let mut lab = Lab::new();
    lab.clients = lab.clients.replace("[[keyd.client]]", "[[keyd.client]]\nlanes = [\"bulk\"]");
    let _keyd = lab.start();
    let error = sign(&lab.key(), b"no").unwrap_err();
    assert!(error.to_string().contains("may not use the interactive lane"), "{error}");
    let pool = lab.pool().lane(Lane::Bulk);
    sign(&pool.key(&lab.certificate), b"yes").unwrap();
}

#[test]
fn the_configuration_is_checked_before_anything_is_served() {
    let mut lab = Lab::new();
    let check = |lab: &Lab| -> (Option<i32>, String) {
        let mut command: Command = lab.command();
        let output = command.arg("check-config").output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = check(&lab);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("sign, decrypt with 1 keys"), "{text}");
    lab.rsa();
    let decrypts = lab.clients.replace("[[keyd.client]]", "[[keyd.client]]\noperations = [\"decrypt\"]");
    let signer = "[[keyd.client]]\nuser = \"64999\"\ncertificates = [\"rsa.pem\"]\n";
    lab.clients = format!("{}{signer}", decrypts.replace("ours.pem", "rsa.pem"));
    let (code, text) = check(&lab);
    assert_eq!(code, Some(0), "such a client keeps nobody else from being served: {text}");
    assert!(text.contains("write `allow-signing-keys = true` there"), "{text}");
    lab.clients = "[[keyd.client]]\nuser = \"no such user\"\n".to_owned();
    let (code, text) = check(&lab);
    assert_eq!(code, Some(2));
    assert!(text.contains("[[keyd.client]] in line") && text.contains("no such user"), "{text}");
    lab.clients = String::new();
    let (code, text) = check(&lab);
    assert_eq!(code, Some(2));
    assert!(text.contains("it would serve nobody"), "{text}");
}
