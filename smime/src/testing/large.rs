//! Large messages through all operations, for those who measure what they take.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "an operation that fails ends the measurement, as it should"
)]

use super::fixtures::{certificate, key, now, trust};
use crate::{
    ber::{Tag, write_header},
    cipher::ContentCipher,
    cms::{Keep, Object, Proof, RecipientKey, rekey},
    message::{self, AuthResult, SealedMessage, SignedMessage, Wrapped},
    mime::{Canonical, MimeEntity, encode_base64, single_originator},
    profile::SealPlan,
};

/// What is done to a message, the octets that go in, and the doing of it.
pub type Measure<'m> = dyn FnMut(&str, usize, &mut dyn FnMut()) + 'm;

/// Gives `measure` every operation, one after the other, on messages of about `len` octets. What goes in is there
/// before; nothing else of that length is.
pub fn each(len: usize, measure: &mut Measure<'_>) {
    for (kind, line) in [
        ("", ASCII),
        (", 8-bit text that goes into quoted-printable", GERMAN),
        (", 8-bit text that goes into base64", BULGARIAN),
    ] {
        let entity = entity(line, len);
        let mut measure = |what: &str, run: &mut dyn FnMut()| {
            measure(&format!("{what}{kind}"), entity.len(), run);
        };
        measure("sign, multipart/signed", &mut || drop(sign(&entity)));
        measure("sign, opaque", &mut || drop(sign_opaque(&entity)));
        for cipher in [ContentCipher::Aes256Cbc, ContentCipher::Aes256Gcm] {
            measure(&format!("encrypt, {}", cipher.name()), &mut || drop(seal(&entity, cipher)));
        }
        measure("sign and encrypt, AES-256-GCM", &mut || drop(sign_and_seal(&entity)));
    }

    let entity = entity(ASCII, len);
    let message = with_header(sign(&entity));
    measure("verify, multipart/signed", message.len(), &mut || verify(&message));
    let message = pkcs7(&sign_opaque(&entity), "signed-data");
    measure("verify, opaque", message.len(), &mut || verify(&message));
    let message = pkcs7(&encode_base64(&in_segments(&object_of(&message))), "signed-data");
    measure("verify, opaque in BER", message.len(), &mut || verify(&message));

    for cipher in [ContentCipher::Aes256Cbc, ContentCipher::Aes256Gcm] {
        let message = pkcs7(&seal(&entity, cipher).body, "enveloped-data");
        measure(&format!("decrypt, {}", cipher.name()), message.len(), &mut || drop(open(&message)));
        let message = pkcs7(&encode_base64(&in_segments(&object_of(&message))), "enveloped-data");
        let what = format!("decrypt, {} in BER", cipher.name());
        measure(&what, message.len(), &mut || drop(open(&message)));
    }
    let message = pkcs7(&sign_and_seal(&entity).body, "enveloped-data");
    drop(entity);
    measure("decrypt and verify, AES-256-GCM", message.len(), &mut || verify(&open(&message)));
    let object = object_of(&message);
    drop(message);
    let recipients = [RecipientKey::new(certificate("p256")).unwrap()];
    measure("rekey, the object alone", object.len(), &mut || {
        drop(rekey(&object, &key("bob"), &recipients, Keep::None, Proof::Key).unwrap());
    });
}

const ASCII: &str = "All work and no play makes Jack a dull boy.\r\n";
const GERMAN: &str = "Arbeit und kein Spiel, das macht den Hans zu einem trüben Jungen, heißt es.\r\n";
const BULGARIAN: &str = "Само работа без игра прави Иван скучно момче.\r\n";

fn entity(line: &str, len: usize) -> Vec<u8> {
    let header = "Content-Type: text/plain; charset=utf-8\r\n\r\n";
    [header, line.repeat(len / line.len()).as_str()].concat().into_bytes()
}

fn sign(entity: &[u8]) -> SignedMessage {
    let canonical = Canonical::from_entity(&MimeEntity::parse(entity)).unwrap();
    message::sign_in_place(canonical, &key("alice"), &[certificate("ca")], now()).unwrap()
}

/// As what is encrypted, or becomes an object in another way.
fn enclosed(entity: &[u8]) -> Canonical {
    Canonical::to_be_enclosed(&MimeEntity::parse(entity)).unwrap()
}

fn sign_opaque(entity: &[u8]) -> Vec<u8> {
    message::sign_opaque_in_place(enclosed(entity), &key("alice"), &[certificate("ca")], now()).unwrap().body
}

fn plan(cipher: ContentCipher) -> SealPlan {
    SealPlan { cipher, recipients: vec![RecipientKey::new(certificate("bob")).unwrap()] }
}

fn seal(entity: &[u8], cipher: ContentCipher) -> SealedMessage {
    message::seal_in_place(enclosed(entity), &plan(cipher)).unwrap()
}

fn sign_and_seal(entity: &[u8]) -> SealedMessage {
    let signed =
        message::sign_in_place(enclosed(entity), &key("alice"), &[certificate("ca")], now()).unwrap();
    message::seal_signed_in_place(signed, &plan(ContentCipher::Aes256Gcm)).unwrap()
}

const FROM: &str = "From: alice@example.org\r\n";

fn with_header(signed: SignedMessage) -> Vec<u8> {
    let header = format!("{FROM}Content-Type: {}\r\n\r\n", signed.content_type);
    let mut message = signed.body;
    message.splice(0..0, header.into_bytes());
    message
}

fn pkcs7(body: &[u8], smime_type: &str) -> Vec<u8> {
    let header = format!(
        "{FROM}Content-Type: application/pkcs7-mime; smime-type={smime_type}\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n"
    );
    [header.as_bytes(), body].concat()
}

fn object_of(message: &[u8]) -> Vec<u8> {
    let Some(Wrapped::Opaque(object)) = Wrapped::read(&MimeEntity::parse(message)).unwrap() else {
        unreachable!("it was made so")
    };
    object
}

fn open(message: &[u8]) -> Vec<u8> {
    let object = object_of(message);
    let Object::EnvelopedData(enveloped) = Object::parse(&object).unwrap() else {
        unreachable!("it was made so")
    };
    enveloped.open(enveloped.recipient_for(&certificate("bob")).unwrap(), &key("bob")).unwrap()
}

fn verify(octets: &[u8]) {
    // Inside an encrypted message there is no From: there the one around it counts.
    let entity = MimeEntity::parse(octets);
    let sender = single_originator(&entity)
        .or_else(|_| single_originator(&MimeEntity::parse(format!("{FROM}\r\n").as_bytes())));
    let (verdict, _) = message::verify(&entity, sender, &trust(), now());
    assert!(verdict.result() == AuthResult::Pass, "{verdict:?}");
}

/// Cuts the long string of an object in DER into segments of 4096 octets, and gives indefinite lengths to all that is
/// around it, as `openssl cms -stream` does.
fn in_segments(object: &[u8]) -> Vec<u8> {
    const SEGMENT: usize = 4096;
    let mut out = Vec::with_capacity(object.len() + object.len() / SEGMENT * 4 + 1024);
    rewrite(object, &mut out, SEGMENT);
    out
}

fn rewrite(octets: &[u8], out: &mut Vec<u8>, segment: usize) {
    let mut rest = octets;
    while let Some((tag, len, header)) = header(rest) {
        let (element, after) = rest.split_at((header + len).min(rest.len()));
        let content = element.get(header..).unwrap_or_default();
        if len <= 2 * segment {
            out.extend_from_slice(element);
        } else if tag & 0x20 != 0 {
            out.extend_from_slice(&[tag, 0x80]);
            rewrite(content, out, segment);
            out.extend_from_slice(&[0, 0]);
        } else {
            out.extend_from_slice(&[tag | 0x20, 0x80]);
            for piece in content.chunks(segment) {
                write_header(Tag::OCTET_STRING, piece.len(), out);
                out.extend_from_slice(piece);
            }
            out.extend_from_slice(&[0, 0]);
        }
        rest = after;
    }
}

/// Tag, length and the length of both, in DER.
fn header(octets: &[u8]) -> Option<(u8, usize, usize)> {
    let (tag, first) = (*octets.first()?, usize::from(*octets.get(1)?));
    if first < 0x80 {
        return Some((tag, first, 2));
    }
    let digits = octets.get(2..2 + (first & 0x7F))?;
    let len = digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit));
    Some((tag, len, 2 + digits.len()))
}
