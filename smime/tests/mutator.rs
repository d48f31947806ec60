//! Every element of small objects left out, doubled, emptied, moved and re-tagged, with right lengths around it, and
//! every octet changed: nothing panics, no other text passes, no other plaintext comes out.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use smime::{
    ber::{Element, Tag, Tree},
    cipher::ContentCipher,
    cms::{Object, Recipient, RecipientKey, compress, seal},
    key::{ContentEncryptionKey, Decryptor, KeyError, Unwrapped},
    message::{AuthResult, verify},
    mime::{Message, encode_base64, single_originator},
    testing::{
        enveloped_data,
        fixtures::{certificate, data, key, now, trust},
        hostile::wrap,
        signed_data,
    },
};

/// What is done with one element.
const CHANGES: [fn(Element<'_, '_>, &mut Vec<u8>); 7] = [
    |_, _| {},
    |element, out| out.extend([element.octets(), element.octets()].concat()),
    |element, out| out.extend(wrap(element.tag(), &[])),
    |element, out| out.extend(wrap(element.tag(), &[element.octets().to_vec()])),
    |element, out| out.extend(wrap(Tag(element.tag().0 ^ 0x20), &[element.content().to_vec()])),
    |element, out| out.extend(wrap(Tag(element.tag().0 ^ 0x01), &[element.content().to_vec()])),
    // A NULL where something else is expected.
    |_, out| out.extend([5, 0]),
];

/// All objects with one element changed.
fn structural(octets: &[u8]) -> Vec<Vec<u8>> {
    let tree = Tree::parse(octets).unwrap();
    let mut mutants = Vec::new();
    for change in CHANGES {
        for chosen in 0..count(tree.root()) {
            let (mut index, mut out) = (0, Vec::new());
            write(tree.root(), &mut index, chosen, change, &mut out);
            mutants.push(out);
        }
    }
    mutants
}

fn count(element: Element<'_, '_>) -> usize {
    1 + element.children().map(count).sum::<usize>()
}

fn write(
    element: Element<'_, '_>,
    index: &mut usize,
    chosen: usize,
    change: fn(Element<'_, '_>, &mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    let number = *index;
    *index += 1;
    if number == chosen {
        *index += count(element) - 1;
        change(element, out);
    } else if element.tag().0 & 0x20 != 0 {
        let mut content = Vec::new();
        element.children().for_each(|child| write(child, index, chosen, change, &mut content));
        out.extend(wrap(element.tag(), &[content]));
    } else {
        out.extend_from_slice(element.octets());
    }
}

/// All objects with one octet changed.
fn flipped(octets: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..octets.len()).flat_map(move |at| {
        [0x01, 0x20, 0x80].map(|mask| {
            let mut changed = octets.to_vec();
            if let Some(octet) = changed.get_mut(at) {
                *octet ^= mask;
            }
            changed
        })
    })
}

fn result(content: &str, object: &[u8]) -> AuthResult {
    let message = format!(
        "From: alice@example.org\r\nContent-Type: multipart/signed; \
         protocol=\"application/pkcs7-signature\"; boundary=b\r\n\r\n--b\r\n{content}\r\n--b\r\n\
         Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
        String::from_utf8(encode_base64(object)).unwrap()
    );
    let message = Message::from_stored(message.as_bytes());
    let entity = message.entity();
    verify(&entity, single_originator(&entity), &trust(), now()).0.result()
}

#[test]
fn no_changed_signature_passes_for_other_text_and_no_changed_attribute_for_its_own() {
    let entity = String::from_utf8(data("entity.txt")).unwrap();
    let other = entity.replace("Bob", "Eve");
    let object = data("detached.p7s");
    assert_eq!((result(&entity, &object), result(&other, &object)), (AuthResult::Pass, AuthResult::Fail));
    let parsed = signed_data(&object);
    let original = parsed.signer_infos().first().unwrap();
    let mut passes = 0;
    for mutant in structural(&object) {
        assert_ne!(result(&other, &mutant), AuthResult::Pass);
        if result(&entity, &mutant) == AuthResult::Pass {
            // Versions, digestAlgorithms and the like are no part of what is signed; everything else is.
            for info in signed_data(&mutant).signer_infos() {
                assert_eq!(info.signed_attributes, original.signed_attributes);
                assert_eq!(info.signature, original.signature);
            }
            passes += 1;
        }
    }
    assert!(passes > 0, "what is not signed may be written otherwise");
    for mutant in each_octet_flipped(&object) {
        assert_ne!(result(&other, &mutant), AuthResult::Pass);
        if result(&entity, &mutant) == AuthResult::Pass {
            for info in signed_data(&mutant).signer_infos() {
                assert_eq!(info.signed_attributes, original.signed_attributes);
                assert_eq!(info.signature, original.signature);
            }
        }
    }
}

/// All objects with one octet changed once.
fn each_octet_flipped(octets: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    flipped(octets).enumerate().filter(|(number, _)| number % 3 == number / 3 % 3).map(|(_, mutant)| mutant)
}

fn opaque_result(object: &[u8]) -> AuthResult {
    let message = format!(
        "From: alice@example.org\r\nContent-Type: application/pkcs7-mime; smime-type=signed-data\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        String::from_utf8(encode_base64(object)).unwrap()
    );
    let message = Message::from_stored(message.as_bytes());
    let entity = message.entity();
    verify(&entity, single_originator(&entity), &trust(), now()).0.result()
}

#[test]
fn no_changed_opaque_signature_passes_with_other_text() {
    for name in ["opaque.p7m", "opaque-ber.p7m"] {
        let object = data(name);
        assert_eq!(opaque_result(&object), AuthResult::Pass, "{name}");
        let mut passes = 0;
        // The octets of BER are those of DER with other lengths.
        let flipped = each_octet_flipped(&object).filter(|_| name == "opaque.p7m");
        for mutant in structural(&object).into_iter().chain(flipped) {
            if opaque_result(&mutant) == AuthResult::Pass {
                let content = signed_data(&mutant).content().map(<[&[u8]]>::concat);
                assert_eq!(content, Some(data("entity.txt")), "{name}: {mutant:02x?}");
                passes += 1;
            }
        }
        assert!(passes > 0, "{name}");
    }
}

/// A token that knows the key and is not asked to calculate.
#[derive(Debug)]
struct Knows(smime::Certificate, Vec<u8>);

impl Decryptor for Knows {
    fn certificate(&self) -> &smime::Certificate {
        &self.0
    }

    fn decrypt_key(
        &self,
        encrypted: &[u8],
        _: &smime::algorithm::KeyEncryptionAlgorithm,
    ) -> Result<Unwrapped, KeyError> {
        Ok(if encrypted.len() == 256 {
            Unwrapped::Key(ContentEncryptionKey::new(self.1.clone()))
        } else {
            Unwrapped::Rejected
        })
    }
}

/// The content-encryption key of an object for bob, so that it need not be decrypted for every mutant.
fn content_key(object: &[u8]) -> Vec<u8> {
    let enveloped = enveloped_data(object);
    let Recipient::KeyTransport(info) = enveloped.recipients().first().unwrap() else { unreachable!() };
    match key("bob").decrypt_key(info.encrypted_key(), info.algorithm().unwrap()).unwrap() {
        Unwrapped::Key(key) => key.expose().to_vec(),
        Unwrapped::Rejected => unreachable!(),
    }
}

/// What comes out of each mutant that anything comes out of.
fn opened(mutants: impl IntoIterator<Item = Vec<u8>>, token: &dyn Decryptor) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for mutant in mutants {
        let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&mutant).map_err(drop) else { continue };
        let Some(recipient) = enveloped.recipient_for(token.certificate()) else { continue };
        if let Ok(content) = enveloped.open(recipient, token) {
            all.push((mutant, content));
        }
    }
    all
}

/// Small objects for one recipient: of others, and our own with every cipher.
fn small(recipient: &str, ciphers: impl Fn(ContentCipher) -> bool) -> Vec<(String, Vec<u8>)> {
    let to = RecipientKey::new(certificate(recipient)).unwrap();
    let ours = ContentCipher::ALL.into_iter().filter(|cipher| ciphers(*cipher)).map(|cipher| {
        let object = seal(&[&data("entity.txt")], cipher, std::slice::from_ref(&to)).unwrap();
        (format!("{} for {recipient}", cipher.name()), object)
    });
    ours.collect()
}

#[test]
fn nothing_but_the_plaintext_comes_out_of_changed_authenticated_content() {
    let others = ["gcm.p7m", "bc-gcm-ber.p7m", "pkijs-gcm.p7m"].map(|name| (name.to_owned(), data(name)));
    for (name, object) in others.into_iter().chain(small("bob", ContentCipher::is_authenticated)) {
        let token = Knows(certificate("bob"), content_key(&object));
        let opened = opened(structural(&object).into_iter().chain(flipped(&object)), &token);
        for (mutant, content) in &opened {
            assert_eq!(content, &data("entity.txt"), "{name}: {mutant:02x?}");
        }
        assert!(!opened.is_empty(), "{name}: the mutants that change nothing of weight open");
    }
    // With key agreement every part of the recipient's structure goes into the key.
    for (name, object) in small("p256", ContentCipher::is_authenticated) {
        for (mutant, content) in opened(structural(&object).into_iter().chain(flipped(&object)), &key("p256"))
        {
            assert_eq!(content, data("entity.txt"), "{name}: {mutant:02x?}");
        }
    }
}

#[test]
fn no_change_of_content_without_a_tag_or_of_compressed_content_panics() {
    for (_, object) in small("bob", |cipher| !cipher.is_authenticated()) {
        let token = Knows(certificate("bob"), content_key(&object));
        // Without a tag other text may come out; it is never said to be authenticated.
        for (mutant, _) in opened(structural(&object).into_iter().chain(flipped(&object)), &token) {
            let enveloped = enveloped_data(&mutant);
            assert!(!enveloped.algorithm().unwrap().is_authenticated());
        }
    }
    for object in [compress(&data("entity.txt")).unwrap(), data("bc.p7z")] {
        let mut same = 0;
        for mutant in structural(&object).into_iter().chain(flipped(&object)) {
            let Ok(Object::CompressedData(compressed)) = Object::parse(&mutant).map_err(drop) else {
                continue;
            };
            // Checked by the sum at the end of the stream (RFC 1950 2.2): by chance once in four thousand million.
            if let Ok(content) = compressed.decompress() {
                assert_eq!(content, data("entity.txt"), "{mutant:02x?}");
                same += 1;
            }
        }
        assert!(same > 0);
    }
}
