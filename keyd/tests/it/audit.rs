//! One line for each use of a key, whatever happens.

use std::{
    fs,
    io::Write as _,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use hsmpool::Lane;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use smime::{
    algorithm::{DigestAlgorithm::Sha256, KeyEncryptionAlgorithm},
    key::{Decryptor as _, Digest, KeyError},
};
use testmodule::Function;

use crate::{
    raw::Words,
    support::{LONG, Lab, eventually, sign},
};

#[test]
fn a_line_says_who_did_what_with_which_key() {
    let lab = Lab::new();
    let _keyd = lab.start();
    sign(&lab.key(), b"message").unwrap();
    let line = lab.uses().remove(0);
    let hex = |octets: &[u8]| data_encoding::HEXLOWER.encode(Digest::of(Sha256, octets).as_bytes());
    assert_eq!(line["seq"], 2, "{line}");
    assert_eq!(line["uid"], rustix::process::getuid().as_raw());
    assert_eq!(line["pid"], std::process::id());
    assert_eq!((&line["operation"], &line["lane"]), (&"sign".into(), &"interactive".into()));
    assert_eq!(line["algorithm"], "Ecdsa(Sha256)");
    assert_eq!(line["key"], hex(&lab.certificate.public_key_info()));
    assert_eq!(line["input"], hex(Digest::of(Sha256, b"message").as_bytes()));
    assert_eq!(line["outcome"], "done");
    assert!(line["description"].as_str().unwrap().contains("CN=ours"), "{line}");
    assert!(line["time"].as_str().unwrap().ends_with('Z') && line["elapsed_us"].is_u64(), "{line}");
}

#[test]
fn numbers_have_no_gap_over_kill_9_and_a_torn_line_is_told() {
    let lab = Lab::new();
    let mut keyd = lab.start();
    let key = lab.key();
    for round in 0..3_u32 {
        thread::scope(|scope| {
            for caller in 0..8_u32 {
                let key = &key;
                scope.spawn(move || {
                    for n in 0..30_u32 {
                        sign(key, &[round, caller, n].map(u32::to_le_bytes).concat()).unwrap();
                    }
                });
            }
            thread::sleep(Duration::from_millis(30));
            keyd.kill();
            // As if the system had gone down in the middle of a line.
            let mut file = fs::File::options().append(true).open(lab.audit()).unwrap();
            file.write_all(b"{\"seq\":99999,\"time\":\"20").unwrap();
            keyd = lab.start();
        });
    }
    let (status, text) = lab.check_audit();
    assert!(status.success() && text.contains("3 more not written whole"), "{text}");
    assert_eq!(lab.lines().iter().filter(|line| line["event"] == "torn").count(), 3);
    // Every signature that somebody got has its line; those that were cut off may have one too.
    let done = lab.uses().iter().filter(|line| line["outcome"] == "done").count();
    assert!(done >= 3 * 240, "{done}");

    let whole = fs::read_to_string(lab.audit()).unwrap();
    let gap: Vec<&str> = whole.lines().enumerate().filter(|(n, _)| *n != 5).map(|(_, line)| line).collect();
    fs::write(lab.audit(), format!("{}\n", gap.join("\n"))).unwrap();
    let (status, text) = lab.check_audit();
    assert_eq!(status.code(), Some(1));
    assert!(text.contains("line 6: number 7 follows 5"), "{text}");
}

#[test]
fn without_room_for_its_line_an_answer_is_withheld_and_the_key_rests() {
    let lab = Lab::new();
    let plain = lab.command();
    // A limit to the size of files, as a full disk: writing fails in the middle of a line.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -S -f 8; exec \"$@\"", "sh"]).arg(plain.get_program());
    limited.args(plain.get_args());
    limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let keyd = lab.spawn(limited);
    eventually("keyd listens", || std::os::unix::net::UnixStream::connect(lab.socket()).is_ok());
    let key = lab.key();
    let mut signed = 0;
    let error = loop {
        match sign(&key, b"message") {
            Ok(()) => signed += 1,
            Err(error) => break error,
        }
        assert!(signed < 100, "the limit is not there");
    };
    assert!(matches!(&error, KeyError::Unavailable { token, .. } if token == "(audit)"), "{error}");
    let (status, text) = lab.check_audit();
    assert!(status.success(), "half a line is left: {text}");
    assert_eq!(lab.uses().len(), signed);

    let calls = lab.begun(Function::Sign);
    for _ in 0..20 {
        sign(&key, b"message").unwrap_err();
        thread::sleep(Duration::from_millis(60));
    }
    assert_eq!(lab.begun(Function::Sign), calls, "the key was used without a record");
    assert_eq!(
        keyd.log().matches("the audit cannot be written: no key is used").count(),
        1,
        "{}",
        keyd.log()
    );

    let pid = Pid::from_raw(i32::try_from(keyd.id()).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    eventually("signatures again", || sign(&key, b"message").is_ok());
    let (status, text) = lab.check_audit();
    assert!(status.success(), "{text}");
    assert_eq!(lab.uses().len(), signed + 2, "the withheld one has its line too");
}

#[test]
fn a_flood_of_refusals_leaves_the_record_of_what_was_done() {
    let mut lab = Lab::new();
    lab.clients = lab.clients.replace("[[keyd.client]]", "[[keyd.client]]\noperations = [\"sign\"]");
    lab.keyd = "audit = \"audit.jsonl\"\naudit-max-bytes = 65536\naudit-files = 3\n".to_owned();
    let _keyd = lab.start();
    let key = lab.key();
    sign(&key, b"message").unwrap();
    // Each names the key by its certificate; SoftHSM is not asked.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    key.decrypt_key(&[1; 256], &KeyEncryptionAlgorithm::RsaPkcs1).unwrap_err();
                }
            });
        }
    });
    thread::sleep(Duration::from_millis(1100));
    key.decrypt_key(&[1; 256], &KeyEncryptionAlgorithm::RsaPkcs1).unwrap_err();
    let uses = lab.uses();
    assert_eq!(uses[0]["outcome"], "done", "the file is full of refusals");
    let refused: Vec<_> = uses.iter().filter(|line| line["outcome"] == "refused").collect();
    assert!(refused.len() < 1000, "{}", refused.len());
    let unlisted = refused.iter().filter_map(|line| line["unlisted"].as_u64()).sum::<u64>();
    assert_eq!(refused.len() as u64 + unlisted, 4001, "each is counted");
    let (status, text) = lab.check_audit();
    assert!(status.success() && text.contains("none missing"), "{text}");
}

#[test]
fn a_flood_of_ill_formed_keys_leaves_the_record_of_what_was_done_too() {
    let mut lab = Lab::new();
    let rsa = lab.rsa();
    lab.clients = lab.clients.replace("[[keyd.client]]", "[[keyd.client]]\noperations = [\"decrypt\"]");
    lab.clients = lab.clients.replace("ours.pem", "rsa.pem");
    let _keyd = lab.start();
    lab.pool().ready(LONG).unwrap();
    // An octet is no key, and no token is asked.
    let mut words = Words::hello(Lane::Interactive);
    words.define(&rsa.public_key_info(), b"it");
    (0..13_000).for_each(|n| words.decrypt(n, 0, b"a"));
    let begun = Instant::now();
    assert_eq!(words.say(&lab, 13_000), (13_000, 0));
    // Ten thousand at once and two hundred a second, and those that a connection may have under way.
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1900 * 5), "{took:?}");
    let rejected = lab.uses().iter().filter(|line| line["outcome"] == "rejected").count();
    assert_eq!(rejected, 13_000, "each has a line");
}

#[test]
fn the_file_may_be_moved_away_and_the_numbers_go_on() {
    let lab = Lab::new();
    let keyd = lab.start();
    let key = lab.key();
    sign(&key, b"one").unwrap();
    fs::rename(lab.audit(), lab.directory.join("old")).unwrap();
    keyd.signal(Signal::HUP);
    eventually("there is a new file", || lab.audit().exists() && !lab.lines().is_empty());
    sign(&key, b"two").unwrap();
    let numbers: Vec<u64> = lab.lines().iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [3, 4]);
}
