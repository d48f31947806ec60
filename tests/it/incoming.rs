//! Mail encrypted by others is opened for those who own the key, and for nobody else.

use std::time::Duration;

use testkit::lab::Running;
use testkit::mail::{Letter, ugly_entity};
use testkit::mta::Mta;
use testkit::peers::{Recipient, pkcs7_mime};
use testkit::sink::Offer;
use testkit::smtp::Origin;
use testkit::{Lab, mime, wait};

use crate::common::{assert_same_content, assert_untouched, our_results, verdict, with_every_mta};

with_every_mta! {
    in "incoming";
    mail_encrypted_by_openssl_or_gpgsm_arrives_decrypted
    one_mail_for_several_owners_is_opened_for_all_of_them
    mail_for_somebody_who_does_not_own_the_key_arrives_untouched
    ciphertext_inside_another_entity_stays_closed
    signed_then_encrypted_mail_is_opened_and_its_signature_judged
    unsigned_cbc_plaintext_is_marked_as_unauthenticated
    every_bad_ciphertext_gets_the_reply_and_the_mail_of_every_other
    how_large_mail_may_be_does_not_tell_what_opens
}

with_every_mta! {
    a_name_that_somebody_wrote_into_captured_ciphertext_opens_it_for_nobody
}

const TEXT: &[u8] = b"Content-Type: text/plain\r\n\r\nfor bob only\r\n";
const PATIENCE: Duration = Duration::from_mins(1);

fn letter<'a>(lab: &'a Lab, to: &'a str) -> Letter<'a> {
    Letter { from: &lab.erin.address, to, subject: "Encrypted" }
}

fn mail_encrypted_by_openssl_or_gpgsm_arrives_decrypted<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let (openssl, gpgsm) = (lab.openssl().unwrap(), lab.gpgsm().unwrap());
    gpgsm.know(&lab.bob).unwrap();
    let content = mime::crlf(&ugly_entity(300_000));
    let by_openssl = |to: Recipient<'_>, options: &[&str]| openssl.encrypt(&content, &[to], options).unwrap();
    let entities = [
        ("PKCS #1 v1.5", by_openssl(Recipient::pkcs1(&lab.bob), &[])),
        ("OAEP", by_openssl(Recipient::oaep(&lab.bob), &[])),
        ("indefinite length", by_openssl(Recipient::pkcs1(&lab.bob), &["-stream"])),
        ("AES-128", by_openssl(Recipient::pkcs1(&lab.bob), &["-aes-128-cbc"])),
        ("AES-GCM", by_openssl(Recipient::pkcs1(&lab.bob), &["-aes-256-gcm"])),
        ("by key identifier", by_openssl(Recipient::pkcs1(&lab.bob), &["-keyid"])),
        ("gpgsm", pkcs7_mime("enveloped-data", &gpgsm.encrypt(&content, &[&lab.bob]).unwrap())),
    ];
    for (how, entity) in entities {
        let sent = letter(lab, &lab.bob.address).carrying(&entity);
        let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
        let types = mime::values(&mail.octets, "content-type");
        assert_eq!(types, ["multipart/mixed; boundary=\"outer\""], "{how}");
        assert_eq!(mime::values(&mail.octets, "mime-version").len(), 1, "{how}");
        assert_same_content(&mail.octets, &content);
        assert!(mime::find(&mail.octets, b"smime.p7m").is_none(), "{how}: {mail:?}");
        for name in ["from", "to", "subject", "date", "message-id"] {
            assert_eq!(mime::values(&mail.octets, name), mime::values(&sent, name), "{how}: {name}");
        }
    }
}

fn one_mail_for_several_owners_is_opened_for_all_of_them<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let to = [Recipient::pkcs1(&lab.erin), Recipient::pkcs1(&lab.alice), Recipient::pkcs1(&lab.bob)];
    let entity = lab.openssl().unwrap().encrypt(TEXT, &to, &[]).unwrap();
    let sent = letter(lab, &lab.bob.address).carrying(&entity);
    let mail = running.incoming(&[&lab.bob.address, &lab.alice.address], &sent).unwrap();
    assert_same_content(&mail.octets, TEXT);
}

fn mail_for_somebody_who_does_not_own_the_key_arrives_untouched<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let entity = lab.openssl().unwrap().encrypt(TEXT, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let sent = letter(lab, &lab.bob.address).carrying(&entity);
    let [alice, bob] = [lab.alice.address.as_str(), lab.bob.address.as_str()];
    for recipients in [
        // Owns another key of ours.
        &[alice][..],
        // Owns none.
        &["dora@example.org"],
        // One body goes to both, and one of them must not read it.
        &[bob, alice],
        &[bob, "dora@example.org"],
    ] {
        let mail = running.incoming(recipients, &sent).unwrap();
        assert_untouched(&mail, &sent);
        assert!(!our_results(&mail).iter().any(|result| result.contains("smime=pass")), "{mail:?}");
    }
}

/// What somebody makes of captured ciphertext to two people of ours: of the RecipientInfos one, by its place, gets another key.
fn forged(lab: &Lab, to: &[Recipient<'_>], place: usize) -> Vec<u8> {
    let entity = lab.openssl().unwrap().encrypt(TEXT, to, &["-aes-256-gcm"]).unwrap();
    let mut object = mime::leaves(&letter(lab, "x").carrying(&entity)).unwrap().remove(0).octets;
    let keys: Vec<_> = (0..object.len()).filter(|at| object[*at..].starts_with(&[4, 0x82, 1, 0])).collect();
    object[keys[place] + 4..][..256].fill(0x5a);
    letter(lab, &lab.bob.address).carrying(&pkcs7_mime("authEnveloped-data", &object))
}

fn a_name_that_somebody_wrote_into_captured_ciphertext_opens_it_for_nobody<M: Mta>() {
    for (name, has_copies) in [("forged-names", false), ("forged-names-copies", true)] {
        let mut lab = Lab::new(name).unwrap();
        if has_copies {
            lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
        }
        let running = M::start(lab, Offer::EightBit).unwrap();
        let lab = &running.lab;
        let to = [Recipient::pkcs1(&lab.alice), Recipient::oaep(&lab.bob)];
        for (place, is_turned) in [(0, false), (0, true), (1, false), (1, true)] {
            let sent = forged(lab, &to, place);
            // Who has the key says a judge that asks keys only.
            let openssl = lab.openssl().unwrap();
            let can = |person| openssl.decrypt(&sent, person).is_ok_and(|text| text == TEXT);
            let (owner, other) =
                if can(&lab.alice) { (&lab.alice, &lab.bob) } else { (&lab.bob, &lab.alice) };
            assert!(can(owner) && !can(other));
            let (owner, other) = (owner.address.as_str(), other.address.as_str());
            let recipients = if is_turned { [owner, other] } else { [other, owner] };
            let (before, count) = (running.sink.mails().len(), if has_copies { 2 } else { 1 });
            let reply = running.send(&Origin::remote(), &lab.erin.address, &recipients, &sent).unwrap();
            assert_eq!(reply.code, 250, "{reply:?} {}", running.milter.log());
            let mails = running.sink.wait_for(before + count, PATIENCE).unwrap();
            assert_eq!(mails.len(), before + count, "{mails:?}");
            for mail in &mails[before..] {
                let is_open = mime::find(&mail.octets, b"for bob only").is_some();
                assert_eq!(is_open, mail.to == [owner], "{recipients:?} {mail:?}");
                let word = our_results(mail).concat();
                let stays = "not decrypted: the content cannot be decrypted";
                assert_eq!(word.contains(stays), !is_open, "{word}");
            }
        }
    }
}

fn ciphertext_inside_another_entity_stays_closed<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let entity = lab.openssl().unwrap().encrypt(TEXT, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let around = [
        &b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n\
           <img src=\"http://evil.example/\r\n--b\r\n"[..],
        &mime::crlf(&entity),
        b"\r\n--b\r\nContent-Type: text/html\r\n\r\n\">\r\n--b--\r\n",
    ]
    .concat();
    let sent = letter(lab, &lab.bob.address).carrying(&around);
    let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
    assert_untouched(&mail, &sent);
}

fn signed_then_encrypted_mail_is_opened_and_its_signature_judged<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let openssl = lab.openssl().unwrap();
    for options in [&[][..], &["-nodetach"]] {
        let signed = openssl.sign_with(TEXT, &lab.erin, options).unwrap();
        let entity =
            openssl.encrypt(&mime::crlf(&signed), &[Recipient::pkcs1(&lab.bob)], &["-stream"]).unwrap();
        let sent = letter(lab, &lab.bob.address).carrying(&entity);
        let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
        assert_eq!(verdict(&mail), "pass", "{mail:?}");
        assert!(mime::find(&mail.octets, b"enveloped-data").is_none(), "{mail:?}");
    }
}

fn unsigned_cbc_plaintext_is_marked_as_unauthenticated<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let entity = lab.openssl().unwrap().encrypt(TEXT, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let sent = letter(lab, &lab.bob.address).carrying(&entity);
    let mail = running.incoming(&[&lab.bob.address], &sent).unwrap();
    assert_same_content(&mail.octets, TEXT);
    assert_ne!(verdict(&mail), "pass");
    assert!(our_results(&mail)[0].contains("not authenticated"), "{mail:?}");
}

fn every_bad_ciphertext_gets_the_reply_and_the_mail_of_every_other<M: Mta>(running: &mut Running<M>) {
    let lab = &running.lab;
    let openssl = lab.openssl().unwrap();
    let der = |sent: &[u8]| mime::leaves(sent).unwrap().remove(0).octets;
    let good = openssl.encrypt(TEXT, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let good = der(&letter(lab, &lab.bob.address).carrying(&good));
    let flipped = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        bad
    };
    // The wrapped key is the one OCTET STRING of 256 octets; the content ends the object. By chance, one wrong
    // key or last block in 256 leaves padding that looks right; then the next octet is tried.
    let key = mime::find(&good, &[0x04, 0x82, 0x01, 0x00]).unwrap() + 4;
    let end = good.len();
    let classes =
        [[key + 10, key + 11, key + 12], [key + 255, key + 254, key + 253], [end - 1, end - 2, end - 3]];
    let before = running.milter.log().len();
    let mut replies = Vec::new();
    for class in classes {
        let reply = class.into_iter().find_map(|at| {
            let sent = letter(lab, &lab.bob.address).carrying(&pkcs7_mime("enveloped-data", &flipped(at)));
            let origin = Origin::remote();
            let attempt = running.attempt(&origin, &lab.erin.address, &[&lab.bob.address], &sent).unwrap();
            let (reply, Some(mail)) = attempt else { panic!("refused: {attempt:?}") };
            let untouched = mail.octets.ends_with(&sent);
            untouched.then(|| {
                assert_untouched(&mail, &sent);
                (reply.text.split(' ').next().map(str::to_owned), our_results(&mail))
            })
        });
        replies.push(reply.expect("three of them by chance"));
    }
    assert!(replies.iter().all(|reply| *reply == replies[0]), "they differ: {replies:?}");

    let log = running.milter.log().split_off(before);
    let outcomes =
        log.lines().filter_map(|line| Some(line.split_once(" action=")?.1.split_once(" octets=")?.0));
    let outcomes: Vec<&str> = outcomes.filter(|outcome| !outcome.starts_with("\"opened\"")).collect();
    assert_eq!(outcomes.len(), replies.len(), "{log}");
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "the log tells them apart: {log}");
}

fn how_large_mail_may_be_does_not_tell_what_opens<M: Mta>(running: &mut Running<M>) {
    let Running { postfix, milter, lab, .. } = running;
    let bob = lab.bob.address.as_str();
    // Transport would damage it, so it is base64 once opened; and larger than its ciphertext in lines as long as they may be.
    let mut content =
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n".to_vec();
    content.extend((0..300_000_u64).map(|at| u8::try_from(at * at / 7 % 256).unwrap()));
    let entity = lab.openssl().unwrap().encrypt(&content, &[Recipient::pkcs1(&lab.bob)], &[]).unwrap();
    let entity = mime::crlf(&entity);
    let body = entity.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap() + 4;
    let base64: Vec<u8> = entity[body..].iter().copied().filter(u8::is_ascii_graphic).collect();
    let object = data_encoding::BASE64.decode(&base64).unwrap();
    let mail = |object: &[u8]| {
        let base64 = data_encoding::BASE64.encode(object);
        let lines = base64.as_bytes().chunks(900).map(|line| [line, b"\r\n"].concat());
        letter(lab, bob).carrying(&[&entity[..body], &lines.collect::<Vec<_>>().concat()].concat())
    };
    let mut wrong = object.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let right = mail(&object);
    // The last of them: it stays so.
    postfix.limit_size(right.len() + 6_000).unwrap();
    for (octets, is_large) in
        [(&right, false), (&mail(&wrong), false), (&[&right[..], &[b'x'; 7_000]].concat(), true)]
    {
        let mut client = postfix.connect(&Origin::remote()).unwrap();
        let reply = client.send_with(&lab.erin.address, "BODY=8BITMIME", &[bob], octets).unwrap();
        assert_eq!(reply.code, if is_large { 552 } else { 250 }, "{reply:?}\n{}", milter.log());
    }
    assert!(milter.log().contains("it would be larger"), "{}", milter.log());
}
