//! Mail that wants to change what is encrypted to: eleven poisoned messages, none of which does.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the functions beside the tests are part of them"
)]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use agent::harvest::{Filter, Harvested, MAX_OF_ADDRESS, MAX_OF_DOMAIN, Mail, Origin, harvest};
use certcache::{Cache, Chooser, Insertion, Source, Take, TrustState};
use der::asn1::ObjectIdentifier;
use smime::{
    Certificate, MailAddress,
    ber::Tag,
    cms,
    key::{Digest, SignatureInput, Signer},
    message::{AuthResult, verify},
    mime::{Message, encode_base64, single_originator},
    path::{Crl, RevocationMode, Trust},
    store::{Lookup, RecipientCertificates, Waited},
    testing::{
        MemoryKey, Node,
        authority::{Authority, Wanted},
        fixtures::now,
    },
};

const DAY: Duration = Duration::from_hours(24);
const TEXT: &str = "Content-Type: text/plain\r\n\r\nHello, Bob.\r\n";
const PREFERENCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.11");

/// A newer certificate of alice with a key of its own.
fn newer() -> Wanted<'static> {
    Wanted { serial: 2, key: "revoked", from: now() - DAY, ..Wanted::default() }
}

struct Site {
    _folder: tempfile::TempDir,
    root: Authority,
    trust: Trust,
    chooser: Chooser,
    /// What is encrypted to for alice before.
    alice: Certificate,
}

/// A signed message in the making.
struct Letter {
    key: MemoryKey,
    from: &'static str,
    /// What encryptionKeyPreference names; the signer's own certificate if absent.
    preference: Option<Certificate>,
    /// Certificates in the message beside the signer's.
    more: Vec<Certificate>,
    signed_at: SystemTime,
    message_id: Option<&'static str>,
    origin: Origin,
    /// Changed after it was signed.
    is_changed: bool,
}

impl Letter {
    fn by(key: MemoryKey) -> Self {
        Self {
            key,
            from: "alice@example.org",
            preference: None,
            more: Vec::new(),
            signed_at: now(),
            message_id: Some("<1@example.org>"),
            origin: Origin::Outside,
            is_changed: false,
        }
    }

    fn object(&self) -> Vec<u8> {
        let digest = |algorithm| Digest::of(algorithm, TEXT.as_bytes());
        let object = cms::sign(digest, &self.key, &self.more, self.signed_at).unwrap();
        let Some(named) = &self.preference else { return object };
        let mut root = Node::parse(&object);
        let signer = root.at(&[1, 0, 4, 0]).nodes();
        let parts = Node::parse(named.der());
        let name = Node::sequence([parts.get(&[0, 3]).clone(), parts.get(&[0, 1]).clone()]);
        let attributes = signer[3].nodes();
        attributes.retain(|attribute| *attribute.get(&[0]) != Node::oid(PREFERENCE));
        attributes.push(Node::attribute(PREFERENCE, [name.tagged(Tag::context(0))]));
        attributes.sort_by_key(Node::to_der);
        let algorithm = self.key.algorithms()[0];
        let octets = signer[3].tagged(Tag::SET).to_der();
        let signature = self.key.sign(&SignatureInput::of(algorithm, &octets), algorithm).unwrap();
        signer[5] = Node::octet_string(signature.0);
        root.to_der()
    }

    fn mail(&self) -> Vec<u8> {
        let base64 = String::from_utf8(encode_base64(&self.object())).unwrap();
        let text = if self.is_changed { TEXT.replace("Bob", "Eve") } else { TEXT.to_owned() };
        format!(
            "From: {}\r\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\r\n\r\n\
             --b\r\n{text}\r\n--b\r\nContent-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n\
             {base64}\r\n--b--\r\n",
            self.from
        )
        .into_bytes()
    }
}

fn address(text: &str) -> MailAddress {
    MailAddress::parse(text).unwrap()
}

fn empty_site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(&folder.path().join("certcache")).unwrap());
    let root = Authority::root("Root", "bob");
    let revoked = root.issue(&Wanted { serial: 666, ..Wanted::default() });
    let crl = root.crl(&[&revoked], now() - DAY, now() + DAY);
    let trust = Trust {
        anchors: vec![root.certificate().clone()],
        crls: vec![Crl::from_der(&crl).unwrap()],
        revocation: RevocationMode::SoftFail,
        ..Trust::default()
    };
    let chooser = Chooser::new(cache, trust.clone(), Take::Newest);
    let alice = root.issue(&Wanted::default());
    Site { _folder: folder, root, trust, chooser, alice }
}

/// With alice's certificate, which came in a message of hers.
fn site() -> Site {
    let site = empty_site();
    let key = site.root.issue_key(&Wanted::default());
    let letter = Letter { signed_at: now() - DAY, ..Letter::by(key) };
    let kept = site.harvest(&letter);
    let expected =
        Harvested::Kept { fingerprint: *site.alice.fingerprint(), state: TrustState::Trusted, is_new: true };
    assert_eq!(kept, expected);
    site
}

impl Site {
    fn harvest(&self, letter: &Letter) -> Harvested {
        self.harvest_at(letter, now())
    }

    fn harvest_at(&self, letter: &Letter, at: SystemTime) -> Harvested {
        let mail = letter.mail();
        let message = Message::from_stored(&mail);
        let entity = message.entity();
        let sender = single_originator(&entity);
        let (verdict, signers) = verify(&entity, sender.clone(), &self.trust, at);
        let sender = sender.unwrap();
        let mail = Mail {
            verdict: &verdict,
            signers: &signers,
            sender: &sender,
            message_id: letter.message_id,
            origin: letter.origin,
        };
        harvest(&self.chooser, &self.trust, &mail, at).unwrap()
    }

    fn used_for(&self, text: &str) -> Vec<Certificate> {
        match self.chooser.lookup(&address(text), now(), &mut Waited::default()).unwrap() {
            Lookup::Found(found) => found,
            _ => Vec::new(),
        }
    }

    fn cache(&self) -> &Cache {
        self.chooser.cache()
    }

    /// The message is refused by this filter, and alice's certificate is used as before.
    fn assert_refused(&self, letter: &Letter, filter: Filter) {
        assert_eq!(self.used_for("alice@example.org"), std::slice::from_ref(&self.alice));
        assert_eq!(self.harvest(letter), Harvested::Refused(filter));
        assert_eq!(self.used_for("alice@example.org"), std::slice::from_ref(&self.alice));
        let report = self.cache().check().unwrap();
        assert!(report.is_good(), "{report:?}");
    }
}

#[test]
fn poison_1_a_signature_that_is_wrong_or_not_the_senders_changes_nothing() {
    let site = site();
    let key = || site.root.issue_key(&newer());
    site.assert_refused(&Letter { is_changed: true, ..Letter::by(key()) }, Filter::Verdict);
    let mallory = Wanted { addresses: &["mallory@example.org"], ..newer() };
    site.assert_refused(&Letter::by(site.root.issue_key(&mallory)), Filter::Verdict);
    let foreign = Authority::root("Foreign", "mallory");
    site.assert_refused(&Letter::by(foreign.issue_key(&newer())), Filter::Verdict);
}

#[test]
fn poison_2_other_certificates_of_a_message_are_not_taken_even_if_it_asks_for_them() {
    let site = site();
    let mallory = Wanted { addresses: &["mallory@example.org"], serial: 3, ..newer() };
    let other = site.root.issue(&mallory);
    let newest = site.root.issue(&newer());
    // In the bag: alice's newer one, which nobody asks for, and mallory's, which is asked for.
    let key = site.root.issue_key(&mallory);
    let letter = Letter { from: "mallory@example.org", more: vec![newest.clone()], ..Letter::by(key) };
    assert!(matches!(site.harvest(&letter), Harvested::Kept { is_new: true, .. }));
    assert_eq!(site.used_for("alice@example.org"), std::slice::from_ref(&site.alice));
    assert_eq!(site.cache().by_fingerprint(newest.fingerprint()).unwrap().map(|it| it.state), None);
    let key = site.root.issue_key(&Wanted::default());
    let letter = Letter { preference: Some(other.clone()), more: vec![other], ..Letter::by(key) };
    site.assert_refused(&letter, Filter::OtherCertificate);
    // And what is asked for and not in the message.
    let key = site.root.issue_key(&Wanted::default());
    site.assert_refused(&Letter { preference: Some(newest), ..Letter::by(key) }, Filter::OtherCertificate);
}

#[test]
fn poison_3_a_preferred_certificate_needs_a_path_of_its_own_and_must_not_be_revoked() {
    let foreign = Authority::root("Foreign", "mallory");
    let site = site();
    let revoked = site.root.issue(&Wanted { serial: 666, ..Wanted::default() });
    let expired = site.root.issue(&Wanted { until: now() - DAY / 2, ..newer() });
    let server = [const_oid::db::rfc5280::ID_KP_SERVER_AUTH];
    let tls = site.root.issue(&Wanted { purposes: &server, ..newer() });
    let signs = x509_cert::ext::pkix::KeyUsages::DigitalSignature.into();
    let signing = site.root.issue(&Wanted { usage: signs, ..newer() });
    for poison in [foreign.issue(&newer()), revoked, expired, tls, signing] {
        let key = site.root.issue_key(&Wanted::default());
        let letter = Letter { preference: Some(poison.clone()), more: vec![poison], ..Letter::by(key) };
        site.assert_refused(&letter, Filter::Path);
    }
}

#[test]
fn poison_3_what_may_be_revoked_waits_as_a_candidate_until_its_issuer_can_be_asked() {
    for (revocation, has_crl) in [(RevocationMode::SoftFail, false), (RevocationMode::Off, true)] {
        let before = empty_site();
        let crls = if has_crl { before.trust.crls.clone() } else { Vec::new() };
        let trust = Trust { revocation, crls, ..before.trust.clone() };
        let chooser = Chooser::new(Arc::clone(before.chooser.cache()), trust.clone(), Take::Newest);
        let site = Site { trust, chooser, ..before };
        let letter = || Letter::by(site.root.issue_key(&Wanted::default()));
        let candidate = |is_new| Harvested::Kept {
            fingerprint: *site.alice.fingerprint(),
            state: TrustState::Candidate,
            is_new,
        };
        assert_eq!(site.harvest(&letter()), candidate(true));
        assert_eq!(site.harvest(&letter()), candidate(false));
        assert_eq!(site.used_for("alice@example.org"), []);
        let entry = site.cache().by_fingerprint(site.alice.fingerprint()).unwrap().unwrap();
        assert_eq!((entry.preferred, entry.announced), (None, None));
        // Later the issuer says that it is good.
        let trust = Trust {
            revocation: RevocationMode::SoftFail,
            crls: vec![Crl::from_der(&site.root.crl(&[], now() - DAY, now() + DAY)).unwrap()],
            ..site.trust.clone()
        };
        let chooser = Chooser::new(Arc::clone(site.chooser.cache()), trust.clone(), Take::Newest);
        let site = Site { trust, chooser, ..site };
        let letter = Letter::by(site.root.issue_key(&Wanted::default()));
        assert!(matches!(site.harvest(&letter), Harvested::Kept { state: TrustState::Trusted, .. }));
        assert_eq!(site.used_for("alice@example.org"), std::slice::from_ref(&site.alice));
    }
}

#[test]
fn poison_4_a_weak_key_is_not_taken() {
    let site = site();
    let weak = site.root.issue(&Wanted { key: "rsa1024", ..newer() });
    let key = site.root.issue_key(&Wanted::default());
    let letter = Letter { preference: Some(weak.clone()), more: vec![weak], ..Letter::by(key) };
    site.assert_refused(&letter, Filter::Weak);
}

#[test]
fn poison_5_a_new_key_waits_and_never_displaces_what_was_there_pinned_or_not() {
    for state in [TrustState::Trusted, TrustState::Pinned] {
        let site = site();
        site.cache().set_state(site.alice.fingerprint(), state, "", now()).unwrap();
        let newest = site.root.issue(&newer());
        for _ in 0..2 {
            let letter = Letter::by(site.root.issue_key(&newer()));
            let Harvested::Kept { fingerprint, state, .. } = site.harvest(&letter) else { panic!() };
            assert_eq!((fingerprint, state), (*newest.fingerprint(), TrustState::Pending));
            assert_eq!(site.used_for("alice@example.org"), std::slice::from_ref(&site.alice));
        }
        // Until an administrator agrees, or the old one ends.
        site.cache().set_state(site.alice.fingerprint(), TrustState::Distrusted, "lost", now()).unwrap();
        assert_eq!(site.used_for("alice@example.org"), [newest]);
    }
}

#[test]
fn poison_6_old_mail_sent_again_and_mail_from_the_future_changes_nothing() {
    let site = site();
    for signed_at in [now() - DAY * 4, now() + DAY, now() - DAY - Duration::from_secs(1)] {
        let key = site.root.issue_key(&newer());
        site.assert_refused(&Letter { signed_at, ..Letter::by(key) }, Filter::SigningTime);
    }
}

#[test]
fn poison_7_a_certificate_of_several_addresses_is_used_for_the_one_it_came_from_only() {
    let site = site();
    let both = Wanted { addresses: &["mallory@example.org", "alice@example.org"], ..newer() };
    let letter = Letter { from: "mallory@example.org", ..Letter::by(site.root.issue_key(&both)) };
    assert!(matches!(site.harvest(&letter), Harvested::Kept { state: TrustState::Trusted, .. }));
    assert_eq!(site.used_for("alice@example.org"), std::slice::from_ref(&site.alice));
    assert_eq!(site.used_for("mallory@example.org"), [site.root.issue(&both)]);
    // Nor by a second message from the other address.
    site.assert_refused(&Letter::by(site.root.issue_key(&both)), Filter::OtherAddress);
    // Where the other address has none, it is not used before it wrote from there.
    let site = empty_site();
    let letter = Letter { from: "mallory@example.org", ..Letter::by(site.root.issue_key(&both)) };
    site.harvest(&letter);
    assert_eq!(site.used_for("alice@example.org"), []);
    assert!(matches!(site.harvest(&Letter::by(site.root.issue_key(&both))), Harvested::Kept { .. }));
    assert_eq!(site.used_for("alice@example.org").len(), 1);
}

#[test]
fn poison_8_floods_end_at_the_limits_of_an_address_and_of_a_domain() {
    let site = site();
    for serial in 0..20 {
        let wanted = Wanted { serial: 100 + serial, ..newer() };
        let harvested = site.harvest(&Letter::by(site.root.issue_key(&wanted)));
        let is_within = (serial as usize) < MAX_OF_ADDRESS - 1;
        assert_eq!(matches!(harvested, Harvested::Kept { .. }), is_within, "{serial}: {harvested:?}");
    }
    assert_eq!(site.used_for("alice@example.org"), std::slice::from_ref(&site.alice));
    assert_eq!(site.cache().by_address(&address("alice@example.org")).unwrap().len(), MAX_OF_ADDRESS);
    // As many of the domain as it may send, and then one.
    let names: Vec<String> = (0..=MAX_OF_DOMAIN).map(|number| format!("u{number}@EXAMPLE.com")).collect();
    for (number, name) in names.iter().enumerate() {
        let addresses = [name.as_str()];
        let certificate = site.root.issue(&Wanted { addresses: &addresses, serial: 5000, ..newer() });
        let insertion = [Insertion::new(&certificate, Source::Harvested)];
        let put = site.cache().put_capped(&insertion, "example.com", MAX_OF_DOMAIN, now()).unwrap();
        assert_eq!(put.is_some(), number < MAX_OF_DOMAIN as usize, "{number}");
    }
    let wanted = Wanted { addresses: &["carol@example.com"], ..newer() };
    let letter = Letter { from: "carol@example.com", ..Letter::by(site.root.issue_key(&wanted)) };
    site.assert_refused(&letter, Filter::TooMany);
    // The next day it may again.
    let letter = Letter { signed_at: now() + DAY, ..letter };
    assert!(matches!(site.harvest_at(&letter, now() + DAY), Harvested::Kept { .. }));
}

#[test]
fn poison_9_capabilities_are_the_signers_own_and_the_last_ones() {
    let site = site();
    let before = site.cache().by_fingerprint(site.alice.fingerprint()).unwrap().unwrap().announced;
    assert!(before.is_some());
    // Whose own key waits says nothing of the one in use, and prefers nothing.
    let key = site.root.issue_key(&newer());
    let letter =
        Letter { preference: Some(site.alice.clone()), more: vec![site.alice.clone()], ..Letter::by(key) };
    site.harvest(&letter);
    let after = site.cache().by_fingerprint(site.alice.fingerprint()).unwrap().unwrap();
    assert_eq!((after.announced, after.preferred), (before, Some(now() - DAY)));
    assert_eq!(site.used_for("alice@example.org"), std::slice::from_ref(&site.alice));
    // Her own later message does.
    site.harvest(&Letter::by(site.root.issue_key(&Wanted::default())));
    let after = site.cache().by_fingerprint(site.alice.fingerprint()).unwrap().unwrap();
    assert_eq!((after.announced.map(|it| it.at), after.preferred), (Some(now()), Some(now())));
}

#[test]
fn poison_10_lists_automata_our_own_mail_and_mail_without_signature_are_passed_over() {
    let site = site();
    for origin in [Origin::List, Origin::Automatic, Origin::Own] {
        let key = site.root.issue_key(&newer());
        site.assert_refused(&Letter { origin, ..Letter::by(key) }, Filter::Origin);
    }
    let message =
        Message::from_stored(b"From: alice@example.org\r\nContent-Type: text/plain\r\n\r\nopened\r\n");
    let entity = message.entity();
    let sender = single_originator(&entity);
    let (verdict, signers) = verify(&entity, sender.clone(), &site.trust, now());
    assert_eq!(verdict.result(), AuthResult::None);
    let sender = sender.unwrap();
    let (message_id, origin) = (None, Origin::Outside);
    let mail = Mail { verdict: &verdict, signers: &signers, sender: &sender, message_id, origin };
    let harvested = harvest(&site.chooser, &site.trust, &mail, now()).unwrap();
    assert_eq!(harvested, Harvested::Refused(Filter::Verdict));
    assert_eq!(site.used_for("alice@example.org"), std::slice::from_ref(&site.alice));
}

#[test]
fn poison_11_the_log_names_message_and_rule_and_nobody_writes_lines_into_it() {
    let site = site();
    let key = site.root.issue_key(&newer());
    let forged = "<2@example.org>\r\nremove\u{202e} all \u{0}";
    let letter = Letter { message_id: Some(forged), signed_at: now() - DAY * 9, ..Letter::by(key) };
    site.assert_refused(&letter, Filter::SigningTime);
    let event = site.cache().events(1).unwrap().remove(0);
    assert_eq!(event.action, "refuse");
    let newest = site.root.issue(&newer());
    assert_eq!(event.subject, data_encoding::HEXLOWER.encode(newest.fingerprint()));
    assert!(
        event.reason.contains("6: the signing time") && event.reason.contains("<2@example.org>"),
        "{event:?}"
    );
    assert!(event.reason.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{event:?}");
    let letter = Letter { signed_at: now(), ..letter };
    assert!(matches!(site.harvest(&letter), Harvested::Kept { .. }));
    let event = site.cache().events(1).unwrap().remove(0);
    assert!(event.action == "insert" && event.reason.contains("<2@example.org>"), "{event:?}");
    assert!(event.reason.starts_with("harvested, pending"), "{event:?}");
}

#[test]
fn an_intermediate_that_came_with_a_message_is_there_when_the_certificate_is_chosen() {
    let site = empty_site();
    let below = site.root.intermediate("Below", "mallory");
    let mut trust = site.trust.clone();
    trust.crls.push(Crl::from_der(&below.crl(&[], now() - DAY, now() + DAY)).unwrap());
    let site = Site {
        chooser: Chooser::new(Arc::clone(site.chooser.cache()), trust.clone(), Take::Newest),
        trust,
        ..site
    };
    let letter =
        Letter { more: vec![below.certificate().clone()], ..Letter::by(below.issue_key(&Wanted::default())) };
    assert!(matches!(site.harvest(&letter), Harvested::Kept { state: TrustState::Trusted, .. }));
    assert_eq!(site.used_for("alice@example.org"), [below.issue(&Wanted::default())]);
}

#[test]
fn of_a_pair_the_certificate_for_encrypting_is_kept() {
    use x509_cert::ext::pkix::KeyUsages;
    let site = empty_site();
    let signs = Wanted { usage: KeyUsages::DigitalSignature.into(), ..Wanted::default() };
    let encrypts = Wanted { usage: KeyUsages::KeyEncipherment.into(), ..newer() };
    let encrypts = site.root.issue(&encrypts);
    let alone = Letter::by(site.root.issue_key(&signs));
    assert_eq!(site.harvest(&alone), Harvested::Nothing);
    let both = Letter { preference: Some(encrypts.clone()), more: vec![encrypts.clone()], ..alone };
    assert!(matches!(site.harvest(&both), Harvested::Kept { .. }));
    assert_eq!(site.used_for("alice@example.org"), [encrypts]);
}
