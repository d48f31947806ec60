//! Other recipients for the same encrypted content: who can open it then, and that nothing else changed.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::sync::atomic::{AtomicUsize, Ordering};

use const_oid::db::rfc5911;
use der::Encode;
use smime::{
    Certificate, Fault,
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::KeyEncryptionAlgorithm,
    ber::{Element, Tag, Tree},
    cipher::ContentCipher,
    cms::{Keep, OpenError, Proof, RecipientKey, RekeyError, RsaTransport, SealError, rekey, seal},
    key::{ContentEncryptionKey, Decryptor, KeyError, Unwrapped},
    testing::{
        MemoryKey, enveloped_data,
        fixtures::{certificate, data, key},
        hostile::wrap,
    },
};

fn open(octets: &[u8], name: &str) -> Option<Vec<u8>> {
    let enveloped = enveloped_data(octets);
    let recipient = enveloped.recipient_for(&certificate(name))?;
    Some(enveloped.open(recipient, &key(name)).unwrap())
}

fn recipient(name: &str) -> RecipientKey {
    RecipientKey::new(certificate(name)).unwrap()
}

/// A key that counts how often it is used.
#[derive(Debug)]
struct Counting(MemoryKey, AtomicUsize);

impl Counting {
    fn new(name: &str) -> Self {
        Self(key(name), AtomicUsize::new(0))
    }

    fn uses(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }
}

impl Decryptor for Counting {
    fn certificate(&self) -> &Certificate {
        Decryptor::certificate(&self.0)
    }

    fn decrypt_key(&self, octets: &[u8], algorithm: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.decrypt_key(octets, algorithm)
    }

    fn agree(&self, originator: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.agree(originator)
    }
}

/// The fields of the EnvelopedData or AuthEnvelopedData, as they stand.
fn fields(octets: &[u8]) -> Vec<Vec<u8>> {
    let tree = Tree::parse(octets).unwrap();
    let explicit = tree.root().children().nth(1).unwrap();
    let fields = explicit.children().next().unwrap().children();
    fields.map(|field: Element<'_, '_>| field.octets().to_vec()).collect()
}

/// A ContentInfo around such fields.
fn object(oid: der::asn1::ObjectIdentifier, fields: &[Vec<u8>]) -> Vec<u8> {
    let content = wrap(Tag::SEQUENCE, fields);
    wrap(Tag::SEQUENCE, &[oid.to_der().unwrap(), wrap(Tag::context(0), &[content])])
}

#[test]
fn new_recipients_open_the_same_octets_and_the_old_ones_as_was_asked() {
    for (file, owner, others) in [
        ("der.p7m", "bob", &[][..]),
        ("ber.p7m", "bob", &[]),
        ("aes192.p7m", "bob", &[]),
        ("oaep256.p7m", "bob", &[]),
        ("two.p7m", "bob", &["alice"]),
        ("gcm.p7m", "bob", &[]),
        ("gcm-ber.p7m", "bob", &[]),
        ("agree-p256.p7m", "p256", &[]),
        ("agree-p384.p7m", "p384", &[]),
        ("agree-three.p7m", "p256", &["bob", "p384"]),
        ("des3-ber.p7m", "bob", &[]),
    ] {
        let octets = data(file);
        let new = [recipient("mallory"), recipient("x25519"), recipient("p521").by_key_identifier().unwrap()];
        for keep in [Keep::All, Keep::Others, Keep::None] {
            for proof in [Proof::Key, Proof::Content] {
                let token = Counting::new(owner);
                let rekeyed = rekey(&octets, &token, &new, keep, proof).unwrap();
                assert_eq!(token.uses(), 1, "{file}");
                for name in ["mallory", "x25519", "p521"] {
                    assert_eq!(
                        open(&rekeyed, name).as_deref(),
                        Some(&data("entity.txt")[..]),
                        "{file} {keep:?}"
                    );
                }
                assert_eq!(open(&rekeyed, owner).is_some(), keep == Keep::All, "{file} {keep:?}");
                for other in others {
                    assert_eq!(
                        open(&rekeyed, other).is_some(),
                        keep != Keep::None,
                        "{file} {keep:?} {other}"
                    );
                }
                // All but version and RecipientInfos is octet by octet what it was.
                assert_eq!(fields(&rekeyed)[2..], fields(&octets)[2..], "{file}");
                let tree = Tree::parse(&rekeyed).unwrap();
                assert!(tree.trailing().is_empty());
            }
        }
    }
}

#[test]
fn rekeying_there_and_back_makes_an_object_of_the_same_shape() {
    for cipher in ContentCipher::ALL {
        let octets = seal(&[b"content"], cipher, &[recipient("bob")]).unwrap();
        let there = rekey(&octets, &key("bob"), &[recipient("p256")], Keep::None, Proof::Key).unwrap();
        let back = rekey(&there, &key("p256"), &[recipient("bob")], Keep::None, Proof::Key).unwrap();
        assert_eq!(back.len(), octets.len());
        let (before, after) = (fields(&octets), fields(&back));
        assert_eq!((&before[0], &before[2..]), (&after[0], &after[2..]), "{cipher:?}");
        assert_eq!(open(&back, "bob").unwrap(), b"content");
    }
}

#[test]
fn a_recipient_who_is_there_already_gets_a_new_info_in_place_of_the_old() {
    let octets = data("two.p7m");
    let oaep =
        recipient("bob").with_rsa_transport(RsaTransport::Oaep(smime::algorithm::DigestAlgorithm::Sha256));
    let rekeyed = rekey(&octets, &key("bob"), &[oaep], Keep::All, Proof::Content).unwrap();
    let parsed = enveloped_data(&rekeyed);
    assert_eq!(parsed.recipients().len(), 2);
    assert_eq!(open(&rekeyed, "bob").unwrap(), data("entity.txt"));
    assert_eq!(open(&rekeyed, "alice").unwrap(), data("entity.txt"));
}

#[test]
fn one_key_of_several_in_a_key_agreement_goes_alone() {
    // A KeyAgreeRecipientInfo with a second key for somebody else: the p384 key's identifier.
    let octets = seal(&[b"content"], ContentCipher::Aes256Gcm, &[recipient("p256")]).unwrap();
    let mut parts = fields(&octets);
    let tree = Tree::parse(&parts[1]).unwrap();
    let info = tree.root().children().next().unwrap();
    let mut inner: Vec<Vec<u8>> = info.children().map(|field| field.octets().to_vec()).collect();
    let keys = inner.pop().unwrap();
    let keys = Tree::parse(&keys).unwrap().root().content().to_vec();
    let rid = wrap(
        Tag::context(0),
        &[wrap(Tag::OCTET_STRING, &[certificate("p384").subject_key_identifier().unwrap()])],
    );
    let other = wrap(Tag::SEQUENCE, &[rid, wrap(Tag::OCTET_STRING, &[vec![7; 40]])]);
    inner.push(wrap(Tag::SEQUENCE, &[keys, other.clone()]));
    parts[1] = wrap(Tag::SET, &[wrap(Tag::context(1), &inner)]);
    let two = object(rfc5911::ID_CT_AUTH_ENVELOPED_DATA, &parts);
    assert_eq!(open(&two, "p256").unwrap(), b"content");

    let rekeyed = rekey(&two, &key("p256"), &[recipient("bob")], Keep::Others, Proof::Key).unwrap();
    let parsed = enveloped_data(&rekeyed);
    assert!(parsed.recipient_for(&certificate("p256")).is_none());
    assert!(parsed.recipient_for(&certificate("p384")).is_some());
    assert_eq!(parsed.recipients().len(), 2);
    assert!(rekeyed.windows(other.len()).any(|window| window == other));
    assert_eq!(open(&rekeyed, "bob").unwrap(), b"content");
}

#[test]
fn what_is_beside_the_infos_is_kept_and_the_version_goes_with_it() {
    let octets = data("der.p7m");
    let parts = fields(&octets);
    let originator = wrap(Tag::context(0), &[wrap(Tag::context(0), &[certificate("ca").der().to_vec()])]);
    let attributes = wrap(
        Tag::context(1),
        &[wrap(Tag::SEQUENCE, &[rfc5911::ID_CONTENT_TYPE.to_der().unwrap(), wrap(Tag::SET, &[])])],
    );
    let password = wrap(Tag::context(3), &[wrap(Tag::INTEGER, &[vec![0]]), vec![0x30, 0], vec![0x04, 0]]);
    let version = |number: u8| wrap(Tag::INTEGER, &[vec![number]]);
    let with = |infos: &[Vec<u8>]| {
        let set = Tree::parse(&parts[1]).unwrap().root().content().to_vec();
        wrap(Tag::SET, &[set, infos.concat()])
    };
    let by_key = recipient("alice").by_key_identifier().unwrap();
    for (what, object_parts, new, keep, expected) in [
        ("plain", vec![version(0), parts[1].clone(), parts[2].clone()], recipient("alice"), Keep::All, 0),
        ("by key", vec![version(0), parts[1].clone(), parts[2].clone()], by_key.clone(), Keep::All, 2),
        (
            "again plain",
            vec![version(2), parts[1].clone(), parts[2].clone()],
            recipient("alice"),
            Keep::None,
            0,
        ),
        (
            "attributes",
            vec![version(2), parts[1].clone(), parts[2].clone(), attributes.clone()],
            recipient("alice"),
            Keep::None,
            2,
        ),
        (
            "originator",
            vec![version(2), originator.clone(), parts[1].clone(), parts[2].clone()],
            recipient("alice"),
            Keep::None,
            2,
        ),
        (
            "originator with what needs version 4",
            vec![version(4), originator.clone(), parts[1].clone(), parts[2].clone(), attributes.clone()],
            recipient("alice"),
            Keep::None,
            4,
        ),
        (
            "a password that stays",
            vec![version(3), with(std::slice::from_ref(&password)), parts[2].clone()],
            recipient("alice"),
            Keep::All,
            3,
        ),
        (
            "a password that goes",
            vec![version(3), with(std::slice::from_ref(&password)), parts[2].clone()],
            recipient("alice"),
            Keep::None,
            0,
        ),
    ] {
        let before = object(rfc5911::ID_ENVELOPED_DATA, &object_parts);
        let rekeyed = rekey(&before, &key("bob"), &[new], keep, Proof::Content).unwrap();
        let after = fields(&rekeyed);
        assert_eq!(after[0], version(expected), "{what}");
        let unchanged = |fields: &[Vec<u8>]| -> Vec<Vec<u8>> {
            fields[1..].iter().filter(|field| field[0] != Tag::SET.0).cloned().collect()
        };
        assert_eq!(unchanged(&after), unchanged(&object_parts), "{what}");
        assert_eq!(open(&rekeyed, "alice").unwrap(), data("entity.txt"), "{what}");
        let has_password = rekeyed.windows(password.len()).any(|window| window == password);
        assert_eq!(has_password, keep == Keep::All && what.contains("password"), "{what}");
    }
}

#[test]
fn authenticated_attributes_and_tags_stay_octet_by_octet() {
    let octets = data("gcm-ber.p7m");
    let mut parts = fields(&octets);
    let attribute = wrap(
        Tag::SEQUENCE,
        &[rfc5911::ID_CONTENT_TYPE.to_der().unwrap(), wrap(Tag::SET, &[rfc5911::ID_DATA.to_der().unwrap()])],
    );
    parts.insert(3, wrap(Tag::context(1), std::slice::from_ref(&attribute)));
    parts.push(wrap(Tag::context(2), &[attribute]));
    let changed = object(rfc5911::ID_CT_AUTH_ENVELOPED_DATA, &parts);
    let new = [recipient("p384")];
    let rekeyed = rekey(&changed, &key("bob"), &new, Keep::None, Proof::Key).unwrap();
    assert_eq!((&fields(&rekeyed)[0], &fields(&rekeyed)[2..]), (&parts[0], &parts[2..]));
    // The tag is not over these attributes, which only a look at the content tells.
    let error = rekey(&changed, &key("bob"), &new, Keep::None, Proof::Content).unwrap_err();
    assert!(matches!(error, RekeyError::Open(OpenError::Undecryptable)), "{error}");
}

/// A token that gives this key, or rejects, whatever it is asked.
#[derive(Debug)]
struct Gives(Certificate, Option<Vec<u8>>);

impl Decryptor for Gives {
    fn certificate(&self) -> &Certificate {
        &self.0
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        let key = self.1.clone().map(ContentEncryptionKey::new);
        Ok(key.map_or(Unwrapped::Rejected, Unwrapped::Key))
    }
}

#[test]
fn a_key_that_is_none_never_replaces_one_that_is() {
    let new = [recipient("alice")];
    for (given, proof) in [
        (None, Proof::Key),
        (Some(Vec::new()), Proof::Key),
        (Some(vec![7; 16]), Proof::Key),
        (Some(vec![7; 32]), Proof::Content),
        (None, Proof::Content),
    ] {
        let token = Gives(certificate("bob"), given.clone());
        let error = rekey(&data("gcm.p7m"), &token, &new, Keep::None, proof).unwrap_err();
        assert!(matches!(error, RekeyError::Open(OpenError::Undecryptable)), "{given:?}: {error}");
        assert_eq!(error.fault(), Fault::Message);
    }
}

#[test]
fn what_cannot_be_rekeyed_is_named() {
    let new = [recipient("alice")];
    let error = |octets: &[u8], owner: &str, new: &[RecipientKey]| {
        rekey(octets, &key(owner), new, Keep::All, Proof::Key).unwrap_err()
    };
    assert!(matches!(error(&data("detached.p7s"), "bob", &new), RekeyError::NotEncrypted));
    assert!(matches!(error(b"0", "bob", &new), RekeyError::Object(_)));
    let not_named = error(&data("der.p7m"), "alice", &new);
    assert!(not_named.to_string().contains("not encrypted to \"CN=Alice\""), "{not_named}");
    assert!(matches!(error(&data("der.p7m"), "bob", &[]), RekeyError::Seal(SealError::NoRecipients)));
    // DES has keys of 8 octets, which AES Key Wrap does not take.
    let too_short = error(&data("des.p7m"), "bob", &[recipient("p256")]);
    assert!(
        too_short.to_string().contains("a content-encryption key of 8 octets cannot be wrapped"),
        "{too_short}"
    );
    assert!(rekey(&data("des.p7m"), &key("bob"), &new, Keep::All, Proof::Content).is_ok());
}

#[test]
fn damaged_objects_never_panic() {
    let octets = data("agree-three.p7m");
    let (owner, other, new) = (key("p256"), key("x25519"), [recipient("x25519")]);
    for at in 0..octets.len() {
        for value in [0, 0x30, 0xA1] {
            let mut damaged = octets.clone();
            damaged[at] = value;
            let Ok(rekeyed) = rekey(&damaged, &owner, &new, Keep::Others, Proof::Content) else { continue };
            let parsed = enveloped_data(&rekeyed);
            let recipient = parsed.recipient_for(&certificate("x25519")).unwrap();
            match parsed.open(recipient, &other) {
                Ok(content) => assert_eq!(content, data("entity.txt"), "octet {at} is {value}"),
                // The content type, which no tag covers.
                Err(error) => assert!(matches!(error, OpenError::Unsupported { .. }), "{error}"),
            }
        }
    }
}
