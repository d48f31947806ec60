//! The targets: each takes octets that a stranger may send, and fails where what must always hold does not.

use std::{
    io,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use mbox::{Found, Part, Probe, Quoting, Splitter, quote, unquote};
use smime::{
    Certificate, MailAddress, Room,
    algorithm::KeyEncryptionAlgorithm,
    ber::{Tag, Tree},
    cms::{self, Keep, Object, Proof, RecipientKey},
    key::{ContentEncryptionKey, Decryptor, KeyError, Unwrapped},
    message::{AuthResult, Ciphertext, Wrapped, verify},
    mime::{Canonical, Message, MimeEntity, single_originator, special},
    path::{RevocationMode, Trust, validate},
    protection::{
        ConfidentialityPolicy, FieldProtection, Payload, ProtectedHeader, Scheme, protect_encrypted,
        protect_signed, without_legacy_display,
    },
    revocation::{Crl, OcspResponse},
    testing::{
        draft::at,
        fixtures::{certificate as fixture, now as valid_time, trust_with_crls},
    },
};

use crate::seeds;

/// A target by name.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of its function.
    pub name: &'static str,
    /// Runs it; it panics where something does not hold.
    pub run: fn(&[u8]),
    /// Whether its input is ASN.1, and else is text.
    pub is_asn1: bool,
}

/// All of them.
pub const TARGETS: [Target; 13] = [
    Target { name: "mime", run: mime, is_asn1: false },
    Target { name: "multipart_signed", run: multipart_signed, is_asn1: false },
    Target { name: "protection", run: protection, is_asn1: false },
    Target { name: "cms", run: cms, is_asn1: true },
    Target { name: "open", run: open, is_asn1: true },
    Target { name: "rekey", run: rekey, is_asn1: true },
    Target { name: "verify", run: verify_object, is_asn1: true },
    Target { name: "compressed", run: compressed, is_asn1: true },
    Target { name: "certificate", run: certificate, is_asn1: true },
    Target { name: "crl", run: crl, is_asn1: true },
    Target { name: "ocsp", run: ocsp, is_asn1: true },
    Target { name: "path", run: path, is_asn1: true },
    Target { name: "mbox", run: mbox, is_asn1: false },
];

/// Entities: read, walked, made ready to be signed.
pub fn mime(octets: &[u8]) {
    let message = Message::from_stored(octets);
    let entity = message.entity();
    let _ = (single_originator(&entity), special(&entity), Wrapped::read(&entity).is_ok());
    let _ = Ciphertext::find(&entity);
    walk(&entity, 10);
    if let Ok(canonical) = Canonical::from_entity(&entity) {
        let octets = canonical.octets();
        assert!(octets.is_ascii(), "8-bit octets are signed");
        assert!(octets.split(|octet| *octet == b'\n').all(|line| line.len() <= 999), "a long line is signed");
        let again = Canonical::from_entity(&MimeEntity::parse(octets));
        assert!(again.is_ok_and(|again| again.octets() == octets), "what is canonical changes");
    }
}

/// Header protection: read, and written so that it can be read.
pub fn protection(octets: &[u8]) {
    let message = Message::from_stored(octets);
    let entity = message.entity();
    let outer = entity.header();
    let payload = Payload::find(&entity);
    let inner = payload.as_ref().map_or(message.entity(), Payload::entity);
    if let Ok(Some(header)) = ProtectedHeader::read(&inner, &outer) {
        let _ = (header.differences(&outer), header.confidential().count());
        for field in header.fields() {
            assert_eq!(header.protection(field, false, false), FieldProtection::Unprotected);
            let hidden = header.protection(field, true, true) == FieldProtection::SignedAndEncrypted;
            assert!(!hidden || header.scheme() == Scheme::Cipher, "hidden, and nobody says so");
        }
    }
    let _ = without_legacy_display(&inner);
    if let Ok(canonical) = protect_signed(&entity) {
        let written = MimeEntity::parse(canonical.octets());
        let read = ProtectedHeader::read(&written, &outer);
        assert!(matches!(read, Ok(Some(read)) if read.scheme() == Scheme::Clear), "written and not read");
    }
    if let Ok(protected) = protect_encrypted(&entity, ConfidentialityPolicy::Baseline) {
        let written = MimeEntity::parse(protected.payload.octets());
        let Ok(Some(read)) = ProtectedHeader::read(&written, &outer) else { panic!("written and not read") };
        let obscured =
            |name: &str| protected.outer.iter().any(|change| change.name.eq_ignore_ascii_case(name));
        assert!(read.confidential().all(obscured), "hidden inside and shown outside");
    }
}

fn walk(entity: &MimeEntity<'_>, depth: usize) {
    let _ = (entity.content_type(), entity.file_name());
    if depth == 0 {
        return;
    }
    match entity.parts() {
        Ok(parts) => parts.iter().for_each(|part| walk(part, depth - 1)),
        Err(_) => drop(entity.decoded_body()),
    }
}

/// Whole messages verified. The seeds are signed by alice, and the sender is not: nothing may pass.
pub fn multipart_signed(octets: &[u8]) {
    let message = Message::from_stored(octets);
    let entity = message.entity();
    let Ok(sender) = MailAddress::parse("nobody@example.com") else { return };
    let (verdict, _) = verify(&entity, Ok(sender), trust(), now());
    assert_ne!(verdict.result(), AuthResult::Pass, "for a sender who signed nothing");
}

/// CMS objects read in BER, and what is in them.
pub fn cms(octets: &[u8]) {
    if let Ok(tree) = Tree::parse(octets)
        && let Ok(der) = tree.root().to_der()
    {
        // What was made DER is DER.
        let again = Tree::parse(&der).map(|tree| tree.root().to_der());
        assert!(matches!(again, Ok(Ok(again)) if again == der), "DER changes");
    }
    match Object::parse(octets) {
        Ok(Object::SignedData(signed)) => drop((signed.certificates(), signed.crls().len())),
        Ok(Object::EnvelopedData(enveloped)) => drop(enveloped.algorithm()),
        _ => {}
    }
}

/// A token that answers with a key that it drew.
#[derive(Debug)]
struct Drawn(Certificate);

impl Decryptor for Drawn {
    fn certificate(&self) -> &Certificate {
        &self.0
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        Ok(Unwrapped::Key(ContentEncryptionKey::new(vec![7; 32])))
    }
}

/// Ciphertext opened with a key that is not its: of an authenticated one nothing comes out.
pub fn open(octets: &[u8]) {
    static BOB: OnceLock<Drawn> = OnceLock::new();
    let bob = BOB.get_or_init(|| Drawn(fixture("bob")));
    let Ok(Object::EnvelopedData(enveloped)) = Object::parse(octets) else { return };
    let Some(recipient) = enveloped.recipient_for(&bob.0) else { return };
    let opened = enveloped.open(recipient, bob);
    if enveloped.algorithm().is_ok_and(|cipher| cipher.is_authenticated()) {
        assert!(opened.is_err(), "content without its tag");
    }
}

/// Ciphertext given to alice in place of bob: it stays readable, for her and not for him, and all but version
/// and RecipientInfos is as it was.
pub fn rekey(octets: &[u8]) {
    static BOB_AND_ALICE: OnceLock<(Drawn, Option<RecipientKey>)> = OnceLock::new();
    let (bob, alice) =
        BOB_AND_ALICE.get_or_init(|| (Drawn(fixture("bob")), RecipientKey::new(fixture("alice")).ok()));
    let alice = alice.as_slice();
    let Ok(made) = cms::rekey(octets, bob, alice, Keep::Others, Proof::Key) else { return };
    let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&made) else {
        panic!("what is made is unreadable")
    };
    assert!(
        alice.iter().all(|alice| enveloped.recipient_for(alice.certificate()).is_some()),
        "not for alice"
    );
    assert!(enveloped.recipient_for(&bob.0).is_none(), "still for bob");
    assert!(behind_infos(octets) == behind_infos(&made), "the content changes");
}

/// What stands behind the RecipientInfos, octet by octet.
fn behind_infos(octets: &[u8]) -> Option<Vec<Vec<u8>>> {
    let tree = Tree::parse(octets).ok()?;
    let fields = tree.root().children().nth(1)?.children().next()?.children();
    let behind = fields.skip_while(|field| field.tag() != Tag::SET).skip(1);
    Some(behind.map(|field| field.octets().to_vec()).collect())
}

/// Signatures under another text than they were made for: none passes.
pub fn verify_object(octets: &[u8]) {
    // Base64 would be a third of the memory, and nothing of what is looked for here.
    let clear = [
        b"From: alice@example.org\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=\"b, of this mail\"\r\n\r\n\
         --b, of this mail\r\nContent-Type: text/plain\r\n\r\nPay Mallory.\r\n\r\n--b, of this mail\r\n\
         Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: binary\r\n\r\n",
        octets,
        b"\r\n--b, of this mail--\r\n",
    ]
    .concat();
    let entity = MimeEntity::parse(&clear);
    let (verdict, _) = verify(&entity, single_originator(&entity), trust(), now());
    assert_ne!(verdict.result(), AuthResult::Pass, "other text passes");
    drop(clear);
    let mail = opaque("signed-data", octets);
    let entity = MimeEntity::parse(&mail);
    let (verdict, _) = verify(&entity, single_originator(&entity), trust(), now());
    assert_ne!(verdict.result(), AuthResult::Pass, "for a sender who signed nothing");
}

/// Compressed content, and what is compressed, signed or encrypted in it: never beyond the room of the whole.
pub fn compressed(octets: &[u8]) {
    let room = Room::of(octets.len());
    let mut left = room;
    if let Ok(Object::CompressedData(compressed)) = Object::parse_within(octets, room)
        && let Ok(content) = compressed.decompress_within(&mut left)
    {
        assert!(left.left() + content.len() <= room.left(), "more than is taken");
    }
    let mail = opaque("compressed-data", octets);
    let entity = MimeEntity::parse(&mail);
    let _ = (Ciphertext::find(&entity), Payload::find(&entity));
    let (verdict, _) = verify(&entity, single_originator(&entity), trust(), now());
    assert_ne!(verdict.result(), AuthResult::Pass, "for a sender who signed nothing");
}

/// A message with an object as it is, from a sender who signed nothing.
fn opaque(smime_type: &str, object: &[u8]) -> Vec<u8> {
    let header = format!(
        "From: nobody@example.com\r\nContent-Type: application/pkcs7-mime; smime-type={smime_type}\r\n\
         Content-Transfer-Encoding: binary\r\n\r\n"
    );
    [header.as_bytes(), object].concat()
}

/// Certificates, and everything that is asked of one.
pub fn certificate(octets: &[u8]) {
    let Ok(certificate) = Certificate::from_der(octets) else { return };
    assert_eq!(certificate.der(), octets);
    let _ = (certificate.to_string(), certificate.addresses(), certificate.subject_key_identifier());
    let _ = (certificate.may_sign(), certificate.rsa_modulus_bits(), certificate.curve());
    let _ = validate(&certificate, &[], trust(), now());
}

/// CRLs, used for the certificate they list.
pub fn crl(octets: &[u8]) {
    static REVOKED: OnceLock<[Certificate; 2]> = OnceLock::new();
    let [revoked, ca] = REVOKED.get_or_init(|| ["revoked", "ca"].map(fixture));
    let Ok(crl) = Crl::from_der(octets) else { return };
    let trust = Trust { crls: vec![crl], ..trust().clone() };
    let _ = validate(revoked, std::slice::from_ref(ca), &trust, now());
}

/// OCSP responses, used for the certificate they are about. Not one of the seeds says good of it with the key of who may,
/// so that none of their mutants does.
pub fn ocsp(octets: &[u8]) {
    static CERTIFICATES: OnceLock<[Certificate; 2]> = OnceLock::new();
    let [ca, leaf] = CERTIFICATES.get_or_init(seeds::ocsp_certificates);
    let Ok(response) = OcspResponse::from_der(octets) else { return };
    assert_eq!(response.der(), octets);
    let _ = (response.nonce(), response.produced_at(), response.validity_for(leaf, ca));
    let _ = response.check_responder(leaf, ca, at());
    let trust = Trust {
        anchors: vec![ca.clone()],
        ocsp: vec![response],
        revocation: RevocationMode::HardFail,
        ..Trust::default()
    };
    assert!(validate(leaf, &[], &trust, at()).is_err(), "good, and nobody has said so");
}

/// Certificates one after the other: the first is validated with the help of the others.
pub fn path(octets: &[u8]) {
    let mut certificates = Vec::new();
    let mut rest = octets;
    while let Ok(tree) = Tree::parse(rest)
        && certificates.len() < 100
    {
        let after = tree.trailing();
        let end = rest.len() - after.len();
        certificates.extend(rest.get(..end).and_then(|octets| Certificate::from_der(octets).ok()));
        rest = after;
    }
    let Some((leaf, others)) = certificates.split_first() else { return };
    if let Ok(path) = validate(leaf, others, trust(), now()) {
        let anchor = path.chain().last();
        assert!(anchor.is_some_and(|anchor| trust().anchors.contains(anchor)), "a path to nowhere");
    }
}

/// An mbox: its messages and what is before them are all of it, in order, however it is read and whatever is kept in
/// memory; what each has around it is where it is said to be, and lines that are quoted come back.
pub fn mbox(octets: &[u8]) {
    let mut whole = Splitter::new(octets, octets, usize::MAX);
    let mut others = [0, 100].map(|limit| {
        let input = io::BufReader::with_capacity(7, octets);
        (limit, Splitter::new(input, octets, limit))
    });
    let mut at = 0;
    while let Some(mut part) = next(&mut whole) {
        let mut kept = None;
        at += match &mut part {
            Part::Preamble { len, .. } => *len as usize,
            Part::Message(found) => {
                check(found, octets, at);
                kept = found.octets.take();
                found.len as usize
            }
        };
        for (limit, splitter) in &mut others {
            if let Part::Message(found) = &mut part {
                found.octets = kept.clone().filter(|octets| octets.len() <= *limit);
            }
            assert!(next(splitter).as_ref() == Some(&part), "what the messages are depends on the memory");
        }
    }
    assert_eq!(at, octets.len(), "the end is missing");
    assert!(others.iter_mut().all(|(_, splitter)| next(splitter).is_none()), "more than there is");
}

fn next<P: Probe>(splitter: &mut Splitter<impl io::BufRead, P>) -> Option<Part> {
    splitter.next_part().unwrap_or_else(|error| panic!("octets in memory cannot be read: {error}"))
}

/// A message that begins at this offset.
fn check(found: &Found, octets: &[u8], at: usize) {
    assert_eq!(found.offset, at as u64, "octets are left out, or twice there");
    let here = octets.get(at..).and_then(|rest| rest.get(..found.len as usize)).unwrap_or_default();
    assert!(!here.is_empty() && found.octets.as_deref() == Some(here), "not the octets that are there");
    let Some((from_line, rest)) = here.split_at_checked(found.from_line) else { panic!("no room for it") };
    assert!(from_line == found.first_line && from_line.starts_with(b"From "), "another From_ line");
    let Some(end) = rest.len().checked_sub(found.separator) else { panic!("no room for the empty line") };
    let (content, separator) = rest.split_at(end);
    assert!(matches!(separator, b"" | b"\n" | b"\r\n"), "no empty line after it");
    let quoted = quote(content, Quoting::Mboxrd);
    assert!(!quoted.split(|octet| *octet == b'\n').any(|line| line.starts_with(b"From ")), "not quoted");
    assert!(unquote(&quoted, Quoting::Mboxrd) == content, "quoted and not the same again");
}

fn trust() -> &'static Trust {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    TRUST.get_or_init(|| trust_with_crls(RevocationMode::HardFail))
}

fn now() -> SystemTime {
    static NOW: OnceLock<SystemTime> = OnceLock::new();
    *NOW.get_or_init(|| valid_time() + Duration::from_secs(1))
}
