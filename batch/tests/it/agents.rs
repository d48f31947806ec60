//! The agents on archives, with keys in memory: what is signed verifies, what is encrypted opens.

use std::{fs, path::Path, sync::Arc, time::Duration};

use agent::{Agent, Identities, Identity, Settings, settings::Logins};
use batch::{
    agents::{At, Decrypt, Encrypt, Reencrypt, Rekey, Resign, Sign, Signatures, Verify},
    inspect::Contents,
    recipients::Recipients,
    stored::Origin,
    task::{Altered, Body, Done, Failed, Task, Work},
};
use certcache::{Announced, Cache, Chooser, Insertion, Source, Take};
use smime::{
    cms::{Keep, Object, Proof},
    message::Wrapped,
    mime::{Message, encode_base64},
    profile::Profile,
    testing::fixtures::{self, certificate, data, key, now},
};

use crate::{
    scan::{sealed, sealed_to},
    support::{Ran, run_on},
};

/// An agent with the keys of these people.
pub(crate) fn agent(people: &[&str]) -> Agent {
    let folder = tempfile::tempdir().unwrap();
    let text = "[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n";
    fs::write(folder.path().join("root.pem"), data("root.pem")).unwrap();
    let settings = Settings::parse(text, &folder.path().join("hsmime.toml")).unwrap();
    let identity = |name: &&str| {
        let key = || Arc::new(key(name));
        Identity::new(certificate(name), vec![certificate("ca")], Logins::Address, key(), key())
    };
    Agent::with_identities(&settings, Identities::from_parts(people.iter().map(identity), ""))
}

pub(crate) fn verify(agent: &Agent) -> Verify<'_> {
    Verify::new(agent, At::Now, now)
}

pub(crate) fn decrypt(agent: &Agent) -> Decrypt<'_> {
    Decrypt { agent, signatures: Signatures::Keep, clock: now }
}

pub(crate) fn to(people: &[&str]) -> Recipients<'static> {
    Recipients::new(people.iter().map(|name| certificate(name)).collect(), Profile::STANDARD, now()).unwrap()
}

fn run_mbox(folder: &Path, name: &str, mbox: &str, task: &dyn Task) -> (Ran, String) {
    let (input, output) = (folder.join(format!("{name}.in")), folder.join(format!("{name}.out")));
    fs::write(&input, mbox).unwrap();
    let ran = run_on(&input, &output, task);
    (ran, fs::read_to_string(output).unwrap())
}

fn column<'a>(ran: &'a Ran, pointer: &str) -> Vec<Option<&'a str>> {
    ran.report.iter().map(|line| line.pointer(pointer).and_then(|value| value.as_str())).collect()
}

pub(crate) fn in_mbox(header: &str, body: &str) -> String {
    format!("From - \n{header}\n\n{body}\n\n")
}

fn encrypted(object: &str) -> String {
    let body = String::from_utf8(encode_base64(&data(object))).unwrap().replace("\r\n", "\n");
    let header = "From: friend@example.net\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\
                  Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m";
    in_mbox(header, body.trim_end())
}

#[test]
fn our_senders_mail_is_signed_once_and_verifies_as_it_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(&["alice"]);
    let (sign, verify) = (Sign { agent: &agent, clock: now }, verify(&agent));
    let ours = in_mbox("From: alice@example.org\nContent-Length: 999", ">From here\nto \u{e4}\n>>From there");
    let foreign = in_mbox("From: stranger@example.net", "hello");
    let (ran, signed) = run_mbox(folder.path(), "first", &format!("{ours}{foreign}"), &sign);
    assert_eq!(column(&ran, "/action"), [Some("signed"), Some("kept")]);
    assert!(signed.ends_with(&foreign) && signed.contains("=46rom here"), "{signed}");

    let (ran, again) = run_mbox(folder.path(), "again", &signed, &sign);
    assert_eq!(column(&ran, "/action"), [Some("kept"), Some("kept")]);
    assert_eq!(again, signed);

    let (ran, copied) = run_mbox(folder.path(), "verified", &signed, &verify);
    assert_eq!(column(&ran, "/verdict"), [Some("pass"), Some("none")]);
    assert_eq!((copied, ran.totals.failed()), (signed.clone(), 0));

    let (ran, _) = run_mbox(folder.path(), "forged", &signed.replace("to =C3=A4", "to nobody"), &verify);
    assert_eq!(column(&ran, "/verdict"), [Some("fail"), Some("none")]);
    assert_eq!(ran.totals.failed(), 1);
}

#[test]
fn a_signature_over_a_genuine_quoted_line_passes_in_the_reading_in_which_it_holds() {
    let agent = agent(&["alice"]);
    let (sign, verify) = (Sign { agent: &agent, clock: now }, verify(&agent));
    let genuine = Message::from_stored(b"From: alice@example.org\n\n>From me\n");
    let origin = Origin { file: Path::new("-").into(), offset: None };
    let contents = Contents::of(&genuine.entity());
    let work = Work {
        index: 1,
        message: &genuine,
        origin: &origin,
        contents: &contents,
        other_reading: None,
        object: None,
        signature: None,
    };
    let Some(Altered::Edited { header, body: Body::Lines(body) }) = sign.run(&work).unwrap().message else {
        panic!("not signed");
    };
    let text = String::from_utf8([&header[..], b"\r\n", &body].concat()).unwrap();
    assert!(
        text.contains("\r\n>From me"),
        "nothing keeps that line from being taken for a quoted one: {text}"
    );
    // An mbox in which nothing is quoted, read as if it were.
    let folder = tempfile::tempdir().unwrap();
    let mbox = format!("From - \n{}\n", text.replace("\r\n", "\n"));
    let (ran, _) = run_mbox(folder.path(), "mboxo", &mbox, &verify);
    assert_eq!(column(&ran, "/verdict"), [Some("pass")]);
}

#[test]
fn what_is_encrypted_to_us_is_opened_and_what_is_not_is_copied_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let broken = encrypted("der.p7m").replace("MII", "AAA");
    let plain = in_mbox("From: friend@example.net", "hello");
    let mbox = [encrypted("der.p7m"), plain.clone(), broken.clone(), encrypted("ber.p7m")].concat();
    let owner = agent(&["bob"]);
    let (ran, opened) = run_mbox(folder.path(), "owner", &mbox, &decrypt(&owner));
    assert_eq!(column(&ran, "/action"), [Some("opened"), Some("kept"), Some("failed"), Some("opened")]);
    assert_eq!(column(&ran, "/error/fault"), [None, None, Some("message"), None]);
    assert!(opened.contains(&format!("{plain}{broken}")), "{opened}");
    assert!(!opened.contains(&encrypted("der.p7m")) && !opened.contains(&encrypted("ber.p7m")));

    let stranger = agent(&["carol"]);
    let (ran, kept) = run_mbox(folder.path(), "stranger", &mbox, &decrypt(&stranger));
    assert_eq!(column(&ran, "/action"), [Some("failed"), Some("kept"), Some("failed"), Some("failed")]);
    assert_eq!(column(&ran, "/error/fault"), [Some("operator"), None, Some("message"), Some("operator")]);
    assert_eq!(kept, mbox);
}

#[test]
fn each_key_that_opened_a_message_is_in_the_report_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (one, both) = (sealed_to(&[NEW]), sealed_to(&[NEW, "bob"]));
    let nested = sealed(one.as_bytes(), &["bob"]);
    let [bob, new] = ["bob", NEW].map(|name| certificate(name).to_string());
    for (people, mail, action, key) in [
        (["bob", NEW], &one, "opened", Some(&new)),
        (["bob", NEW], &both, "opened", Some(&bob)),
        ([NEW, "bob"], &both, "opened", Some(&new)),
        (["bob", NEW], &nested, "opened", Some(&bob)),
        (["bob", "alice"], &nested, "opened", Some(&bob)),
        (["alice", NEW], &nested, "failed", None),
    ] {
        let name = format!("{people:?}{}", mail.len());
        let owner = agent(&people);
        let (ran, _) = run_mbox(folder.path(), &name, &format!("From - \n{mail}\n"), &decrypt(&owner));
        assert_eq!(column(&ran, "/action"), [Some(action)], "{people:?}");
        assert_eq!(column(&ran, "/key"), [key.map(String::as_str)], "{people:?}");
        // All are told where there are several, from outside in.
        let all = (people == ["bob", NEW] && mail.len() == nested.len()).then_some([&bob, &new]);
        let keys: Vec<&str> =
            ran.report[0]["keys"].as_array().into_iter().flatten().filter_map(|key| key.as_str()).collect();
        assert_eq!(keys, all.into_iter().flatten().collect::<Vec<_>>(), "{people:?}");
    }
}

/// Somebody else with a key for encryption.
const NEW: &str = "encrypt-only";

/// The CMS object of the only message of an mbox.
fn object_in(mbox: &str) -> Vec<u8> {
    let (_, message) = mbox.split_once('\n').unwrap();
    let message = Message::from_stored(message.as_bytes());
    let Ok(Some(Wrapped::Opaque(object))) = Wrapped::read(&message.entity()) else { panic!("{mbox}") };
    object
}

#[test]
fn rekeyed_mail_opens_with_the_new_key_and_not_one_octet_of_content_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (bob, carol) = (agent(&["bob"]), agent(&[NEW]));
    let recipients = to(&[NEW]);
    for (object, keep, bob_opens) in
        [("der.p7m", Keep::All, true), ("ber.p7m", Keep::Others, false), ("gcm.p7m", Keep::None, false)]
    {
        let name = |step: &str| format!("{object}.{step}");
        let (ran, opened) = run_mbox(folder.path(), &name("before"), &encrypted(object), &decrypt(&bob));
        assert_eq!(column(&ran, "/action"), [Some("opened")], "{object}");

        let rekey = Rekey { agent: &bob, recipients: &recipients, keep, proof: Proof::Content, clock: now };
        let (ran, rekeyed) = run_mbox(folder.path(), &name("rekeyed"), &encrypted(object), &rekey);
        assert_eq!(column(&ran, "/action"), [Some("rekeyed")], "{object}");
        assert!(column(&ran, "/key")[0].unwrap().contains("Bob"), "{:?}", ran.report);
        // The encrypted content is at the end of the object, with some length or end octets around it.
        let (before, after) = (object_in(&encrypted(object)), object_in(&rekeyed));
        let content = &before[before.len() - 80..before.len() - 16];
        assert!(after.windows(content.len()).any(|octets| octets == content), "{object}");

        let (ran, by_carol) = run_mbox(folder.path(), &name(NEW), &rekeyed, &decrypt(&carol));
        assert_eq!(column(&ran, "/action"), [Some("opened")], "{object}");
        assert_eq!(by_carol, opened, "{object}");
        let (ran, _) = run_mbox(folder.path(), &name("bob"), &rekeyed, &decrypt(&bob));
        assert_eq!(column(&ran, "/action") == [Some("opened")], bob_opens, "{object}");

        let (ran, again) = run_mbox(
            folder.path(),
            &name("again"),
            &rekeyed,
            &Rekey { agent: &carol, keep: Keep::All, ..rekey },
        );
        assert_eq!(column(&ran, "/action"), [Some("kept")], "{object}");
        assert_eq!(again, rekeyed, "{object}: who is there already is not added twice");
    }
}

/// `SMIMECapability` of a cipher under 2.16.840.1.101.3.4.1, by its last number.
fn cipher(last: u8) -> Vec<u8> {
    [&[0x30, 11, 6, 9], AES, &[last]].concat()
}

const AES: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1];
/// The OID of RSAES-OAEP, and its identifier with SHA-256.
const OAEP: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 7];
const SHA_256: &[u8] = &[0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const MGF_1: &[u8] = &[6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 8];

/// A task that is given messages as a whole.
struct Whole<'t>(&'t dyn Task);

impl Task for Whole<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        assert!(work.object.is_none());
        self.0.run(work)
    }
}

#[test]
fn a_ciphertext_is_rekeyed_to_the_same_whether_its_object_or_all_of_it_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let (bob, recipients) = (agent(&["bob"]), to(&[NEW]));
    let wide = encrypted("der.p7m").replace("=\n", "=");
    let crlf = encrypted("ber.p7m").replace('\n', "\r\n");
    let cut = encrypted("der.p7m").replace("\n\nMII", "\n\nMIJ");
    let quoted = encrypted("der.p7m").replace("\n\nMII", "\n\n>From \nMII");
    let foreign = encrypted("der.p7m").replace("base64", "binary");
    let mboxes =
        [encrypted("ber.p7m"), encrypted("gcm.p7m"), encrypted("des.p7m"), wide, crlf, cut, quoted, foreign];
    for (number, mbox) in mboxes.iter().enumerate() {
        for keep in [Keep::None, Keep::All] {
            let rekey =
                Rekey { agent: &bob, recipients: &recipients, keep, proof: Proof::Content, clock: now };
            let name = |how: &str| format!("{number}.{keep:?}.{how}");
            let (by_object, one) = run_mbox(folder.path(), &name("object"), mbox, &rekey);
            let (as_a_whole, other) = run_mbox(folder.path(), &name("whole"), mbox, &Whole(&rekey));
            for field in ["/action", "/reason", "/layers", "/error/reason", "/error/fault", "/message_id"] {
                assert_eq!(column(&by_object, field), column(&as_a_whole, field), "{number} {field}");
            }
            // But for the new recipient's key, which is never encrypted to the same octets twice.
            let without =
                |text: &str| text.replace("\r\n", "\n").split("\n\n").next().unwrap_or_default().to_owned();
            assert_eq!((without(&one), one.len()), (without(&other), other.len()), "{number}");
            let carol = agent(&[NEW]);
            let (_, one) = run_mbox(folder.path(), &name("one"), &one, &decrypt(&carol));
            let (_, other) = run_mbox(folder.path(), &name("other"), &other, &decrypt(&carol));
            assert_eq!(column(&by_object, "/action")[0] == Some("failed"), one == *mbox, "{number}");
            if one != *mbox {
                assert_eq!(one, other, "{number}");
            }
        }
    }
}

fn oaep_with_sha_256() -> Vec<u8> {
    let parameters = [&[0x30, 43, 0xA0, 13], SHA_256, &[0xA1, 26, 0x30, 24], MGF_1, SHA_256].concat();
    [&[0x30, 56, 6, 9], OAEP, &parameters].concat()
}

#[test]
fn an_archive_is_encrypted_with_what_the_cache_knows_that_its_readers_open() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(&folder.path().join("cache")).unwrap());
    let trust = fixtures::trust();
    let issuer = certificate("ca");
    cache.insert(&issuer, Source::Imported, now()).unwrap();
    let bob = agent(&["bob"]);
    for (number, (announced, expected, is_oaep)) in [
        (vec![], "AES-256-CBC", false),
        (vec![cipher(2)], "AES-128-CBC", false),
        (vec![cipher(46), oaep_with_sha_256()], "AES-256-GCM", true),
    ]
    .into_iter()
    .enumerate()
    {
        let list = announced.concat();
        let capabilities = [&[0x30, u8::try_from(list.len()).unwrap()], list.as_slice()].concat();
        let at = now() + Duration::from_secs(number as u64);
        let announced = (!announced.is_empty()).then_some(Announced { at, capabilities });
        let people = ["bob", "alice"].map(certificate);
        let insertions = people
            .each_ref()
            .map(|person| Insertion { announced: announced.clone(), ..Insertion::new(person, Source::Ldap) });
        cache.put(&insertions, now()).unwrap();
        let chooser = Chooser::new(Arc::clone(&cache), trust.clone(), Take::default());
        let recipients = to(&[]).with_store(&chooser);
        let (keep, proof) = (Keep::None, Proof::Content);
        let encrypt = Encrypt { recipients: &recipients, clock: now };
        let reencrypt = Reencrypt { agent: &bob, recipients: &recipients, clock: now };
        let rekey = Rekey { agent: &bob, recipients: &recipients, keep, proof, clock: now };
        let header = "From: bob@example.org\nTo: alice@example.org";
        let plain = in_mbox(header, "Hello");
        let sealed = encrypted("der.p7m").replacen("\nFrom:", "\nTo: alice@example.org\nX-From:", 1);
        let sealed = sealed.replacen("\nX-From: ", "\nFrom: bob@example.org\nX-From: ", 1);
        let before = object_in(&sealed);
        let Object::EnvelopedData(before) = Object::parse(&before).unwrap() else { unreachable!() };
        let before = before.algorithm().unwrap().name();
        let tasks: [(&dyn Task, &str, &str); 3] =
            [(&encrypt, &plain, expected), (&reencrypt, &sealed, expected), (&rekey, &sealed, before)];
        for (place, (task, mbox, cipher)) in tasks.into_iter().enumerate() {
            let (ran, output) = run_mbox(folder.path(), &format!("{number}.{place}"), mbox, task);
            assert_eq!(column(&ran, "/outcome").len(), 1);
            let object = object_in(&output);
            let Object::EnvelopedData(enveloped) = Object::parse(&object).unwrap() else { unreachable!() };
            assert_eq!(enveloped.algorithm().unwrap().name(), cipher, "{number} {place} {:?}", ran.report);
            assert_eq!(enveloped.recipients().len(), 2, "{number} {place}");
            let has_oaep = object.windows(OAEP.len()).any(|octets| octets == OAEP);
            assert_eq!(has_oaep, is_oaep, "{number} {place}");
        }
    }
}

#[test]
fn a_device_that_opens_nothing_of_the_profile_keeps_no_archive_from_being_encrypted_to_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let trust = fixtures::trust();
    let bob = agent(&["bob"]);
    let list = |last: u8| {
        let list = cipher(last);
        Some([&[0x30, u8::try_from(list.len()).unwrap()], list.as_slice()].concat())
    };
    let (cbc, gcm) = (|| list(2), || list(46));
    // Both are Alice's: what is encrypted anew needs a cipher in common, and a key does not.
    for (number, (phone, pc, devices)) in
        [(gcm(), cbc(), 1), (cbc(), gcm(), 1), (gcm(), gcm(), 2), (None, None, 2)].into_iter().enumerate()
    {
        let cache = Arc::new(Cache::open(&folder.path().join(format!("cache{number}"))).unwrap());
        cache.insert(&certificate("ca"), Source::Imported, now()).unwrap();
        for (name, capabilities) in [("bob", gcm()), ("alice", phone), ("encrypt-only", pc)] {
            let announced = capabilities.map(|capabilities| Announced { at: now(), capabilities });
            let certificate = certificate(name);
            let insertion = Insertion { announced, ..Insertion::new(&certificate, Source::Imported) };
            cache.put(&[insertion], now()).unwrap();
        }
        let chooser = Chooser::new(cache, trust.clone(), Take::All);
        let recipients = Recipients::new(Vec::new(), Profile::AUTHENTICATED, now()).unwrap();
        let recipients = recipients.with_store(&chooser);
        let (keep, proof) = (Keep::None, Proof::Content);
        let encrypt = Encrypt { recipients: &recipients, clock: now };
        let reencrypt = Reencrypt { agent: &bob, recipients: &recipients, clock: now };
        let rekey = Rekey { agent: &bob, recipients: &recipients, keep, proof, clock: now };
        let plain = in_mbox("From: bob@example.org\nTo: alice@example.org", "Hello");
        let sealed = encrypted("der.p7m").replacen("\nFrom:", "\nTo: alice@example.org\nX-From:", 1);
        let sealed = sealed.replacen("\nX-From: ", "\nFrom: bob@example.org\nX-From: ", 1);
        let tasks: [(&dyn Task, &str); 3] = [(&encrypt, &plain), (&reencrypt, &sealed), (&rekey, &sealed)];
        for (place, (task, mbox)) in tasks.into_iter().enumerate() {
            let (ran, output) = run_mbox(folder.path(), &format!("{number}.{place}"), mbox, task);
            assert_ne!(column(&ran, "/action"), [Some("failed")], "{number} {place} {:?}", ran.report);
            let object = object_in(&output);
            let Object::EnvelopedData(enveloped) = Object::parse(&object).unwrap() else { unreachable!() };
            assert_eq!(enveloped.recipients().len(), 1 + devices, "{number} {place}");
        }
    }
}

#[test]
fn a_signed_ciphertext_is_not_rekeyed_but_can_be_encrypted_anew() {
    let folder = tempfile::tempdir().unwrap();
    let bob = agent(&["alice", "bob"]);
    // A signature around the ciphertext: given a message that is signed as it is,
    let sealed = encrypted("der.p7m").replace("friend@example.net", "alice@example.org");
    let message = Message::from_stored(sealed.split_once('\n').unwrap().1.as_bytes());
    let canonical = smime::mime::Canonical::from_entity(&message.entity()).unwrap();
    let signed = smime::message::sign(&canonical, &key("alice"), &[certificate("ca")], now()).unwrap();
    let header = format!("From: alice@example.org\nMIME-Version: 1.0\nContent-Type: {}", signed.content_type);
    let mbox = in_mbox(&header, String::from_utf8(signed.body).unwrap().trim_end()).replace("\r\n", "\n");
    let recipients = to(&[NEW]);
    // it is named and kept where the content must stay,
    let rekey =
        Rekey { agent: &bob, recipients: &recipients, keep: Keep::All, proof: Proof::Key, clock: now };
    let (ran, kept) = run_mbox(folder.path(), "rekey", &mbox, &rekey);
    assert_eq!(column(&ran, "/action"), [Some("failed")], "{:?}", ran.report);
    assert!(column(&ran, "/error/reason")[0].unwrap().contains("a signature covers the ciphertext"));
    assert_eq!(kept, mbox);
    // and the signature's worth is recorded where it goes.
    let anew = Reencrypt { agent: &bob, recipients: &recipients, clock: now };
    let (ran, anew) = run_mbox(folder.path(), "anew", &mbox, &anew);
    assert_eq!(column(&ran, "/action"), [Some("encrypted anew")], "{:?}", ran.report);
    assert!(column(&ran, "/verdict")[0].is_some());
    let (ran, _) = run_mbox(folder.path(), "opened", &anew, &decrypt(&agent(&[NEW])));
    assert_eq!(column(&ran, "/action"), [Some("opened")], "{anew}");
}

#[test]
fn what_is_encrypted_comes_out_as_it_was_signed_also_after_it_was_encrypted_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, bob, carol) = (agent(&["alice"]), agent(&["bob"]), agent(&[NEW]));
    let mail = in_mbox("From: alice@example.org\nSubject: x", ">From here\nto \u{e4}");
    let (_, signed) = run_mbox(folder.path(), "signed", &mail, &Sign { agent: &alice, clock: now });
    let (to_bob, to_carol) = (to(&["bob"]), to(&[NEW]));
    let encrypt = Encrypt { recipients: &to_bob, clock: now };
    let (ran, sealed) = run_mbox(folder.path(), "sealed", &signed, &encrypt);
    assert_eq!(column(&ran, "/action"), [Some("encrypted")], "{:?}", ran.report);
    assert!(!sealed.contains("multipart/signed"), "{sealed}");
    let (ran, again) = run_mbox(folder.path(), "again", &sealed, &encrypt);
    assert_eq!((column(&ran, "/action"), &again), (vec![Some("kept")], &sealed));

    let anew = Reencrypt { agent: &bob, recipients: &to_carol, clock: now };
    let (ran, anew) = run_mbox(folder.path(), "anew", &sealed, &anew);
    assert_eq!(column(&ran, "/action"), [Some("encrypted anew")], "{:?}", ran.report);
    let (ran, opened) = run_mbox(folder.path(), "opened", &anew, &decrypt(&carol));
    assert_eq!(column(&ran, "/verdict"), [Some("pass")], "{:?}", ran.report);
    assert!(column(&ran, "/signers/0")[0].unwrap().contains("Alice"), "{:?}", ran.report);
    let (ran, _) = run_mbox(folder.path(), "verified", &opened, &verify(&carol));
    assert_eq!(column(&ran, "/verdict"), [Some("pass")], "{opened}");

    let bare = Decrypt { signatures: Signatures::Remove, ..decrypt(&carol) };
    let (ran, bare) = run_mbox(folder.path(), "bare", &anew, &bare);
    assert_eq!(column(&ran, "/verdict"), [Some("pass")], "{:?}", ran.report);
    assert!(bare.contains("to =C3=A4") && !bare.contains("signed"), "{bare}");
}

#[test]
fn only_our_senders_good_signatures_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let alice = agent(&["alice"]);
    let mail = in_mbox("From: alice@example.org\nSubject: x", "the price is 5");
    let (_, signed) = run_mbox(folder.path(), "signed", &mail, &Sign { agent: &alice, clock: now });
    let changed = signed.replace("price is 5", "price is 6");
    let plain = in_mbox("From: alice@example.org", "hello");
    let mbox = [signed.clone(), changed.clone(), plain.clone()].concat();
    let resign = |agent| Resign { agent, at: At::SigningTime, clock: || now() + Duration::from_hours(1) };
    let (ran, anew) = run_mbox(folder.path(), "anew", &mbox, &resign(&alice));
    assert_eq!(column(&ran, "/action"), [Some("signed anew"), Some("failed"), Some("kept")]);
    assert_eq!(column(&ran, "/verdict"), [Some("pass"), Some("fail"), None]);
    assert!(anew.ends_with(&format!("{changed}{plain}")), "what somebody changed is not made genuine");
    assert!(!anew.starts_with(&signed));
    let (ran, _) = run_mbox(folder.path(), "verified", &anew, &verify(&alice));
    assert_eq!(column(&ran, "/verdict"), [Some("pass"), Some("fail"), Some("none")]);

    let (ran, kept) = run_mbox(folder.path(), "foreign", &mbox, &resign(&agent(&["bob"])));
    assert_eq!(column(&ran, "/action"), [Some("kept"), Some("kept"), Some("kept")]);
    assert_eq!(kept, mbox);
}

#[test]
fn an_old_signature_is_worth_what_it_was_when_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let alice = agent(&["alice"]);
    let mail = in_mbox("From: alice@example.org\nSubject: x", "hello");
    let (_, signed) = run_mbox(folder.path(), "signed", &mail, &Sign { agent: &alice, clock: now });
    let later = || certificate("alice").not_after() + Duration::from_hours(1);
    for (name, at, verdict) in [
        ("now", At::Now, "policy"),
        ("then", At::SigningTime, "pass"),
        ("given", At::Time(now()), "pass"),
        ("before", At::Time(certificate("alice").not_before() - Duration::from_hours(1)), "policy"),
    ] {
        let verify = Verify::new(&alice, at, later);
        let (ran, _) = run_mbox(folder.path(), name, &signed, &verify);
        assert_eq!(column(&ran, "/verdict"), [Some(verdict)], "{name}");
    }
}
