//! Captured mail with blocks of whoever sends it beside what is signed, in ciphertext that anybody can change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use agent::{Disposition, Entitled, Received, ReceivingAgent};
use smime::{
    Certificate, MailAddress,
    cipher::ContentCipher,
    cms::{self, RecipientKey},
    message::{self, Reason},
    mime::{Canonical, Message, encode_base64},
    path::Trust,
    revocation::{Evidence, RevocationSource},
    testing::fixtures::{certificate, data, key, now},
};

use super::{HEADER, TEXT, agent, around::signed_around, ciphertext, treat_whole};

/// Content encrypted to bob, in CBC.
fn mail(content: &[u8]) -> Message {
    sealed(ContentCipher::Aes128Cbc, content)
}

fn sealed(cipher: ContentCipher, content: &[u8]) -> Message {
    let to = RecipientKey::new(certificate("bob")).unwrap();
    let object = cms::seal(&[content], cipher, &[to]).unwrap();
    let base64 = String::from_utf8(encode_base64(&object)).unwrap();
    let header = "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n";
    let text = format!("{HEADER}{header}Content-Transfer-Encoding: base64\r\n\r\n{base64}");
    Message::from_owned(text.into_bytes())
}

const TWO_SENTENCES: &str = "This message is in MIME format. Since your mail reader does not understand\r\n\
     this format, some or all of this message may not be legible.\r\n\r\n";

fn bob() -> [Option<MailAddress>; 1] {
    [Some(MailAddress::parse("bob@example.org").unwrap())]
}

/// Who captured mail in CBC appends a block that he changed, and one that he asks about: it opens where the padding of that is good.
#[test]
fn what_is_beside_a_signature_passes_below_no_cipher_that_lets_anybody_put_it_there() {
    let agent = agent("[[incoming]]\nrequire-signed = true\n");
    let text = Canonical::from_signed_part(b"Content-Type: text/plain\r\n\r\nSigned.\r\n");
    let (alice, ca) = (key("alice"), [certificate("ca")]);
    let clear = message::sign(&text, &alice, &ca, now()).unwrap();
    let boundary = clear.content_type.split("boundary=\"").nth(1).unwrap().trim_end_matches('"');
    let header = format!("Content-Type: {}\r\n", clear.content_type);
    let body = String::from_utf8(clear.body.clone()).unwrap();
    let body = body.trim_end();
    assert!(body.ends_with(&format!("--{boundary}--")));
    let opaque = message::sign_opaque(&text, &alice, &ca, now()).unwrap();
    let others = [certificate("ca"), certificate("bob")];
    let object = cms::sign_opaque(text.octets(), &alice, &others, now()).unwrap();
    // Of one that no path needs nothing but the length can still be read.
    let garbled = {
        let bob = certificate("bob");
        let at = object.windows(bob.der().len()).position(|octets| octets == bob.der()).unwrap();
        let mut garbled = object.clone();
        garbled[at] = 0x04;
        garbled
    };
    let opaque_header =
        format!("Content-Type: {}\r\nContent-Transfer-Encoding: base64\r\n\r\n", opaque.content_type);
    let opaque_body = opaque.body.as_slice();
    let binary = opaque_header.replace("base64", "binary");
    let noise = [&b"\x04\x04\x04\x04\x9e\xf1\x8ac\xd0\x01\x7f\xe8J\xb4\xc5\xdd"[..], b"three"].concat();
    let whole = |before: &[u8], behind: &[u8]| [before, body.as_bytes(), behind].concat();
    let clear = |before: &str, behind: &[u8]| whole(format!("{header}\r\n{before}").as_bytes(), behind);
    let odd = format!("{header}Content-Description: \u{2}\u{9e}\r\n\r\n");
    let compressed = |content: &[u8]| {
        let compressed = message::compress(&Canonical::from_signed_part(content)).unwrap();
        let field = format!("Content-Type: {}\r\nContent-Transfer-Encoding: base64", compressed.content_type);
        format!("{field}\r\n\r\n{}", String::from_utf8(compressed.body).unwrap()).into_bytes()
    };
    let (delivered, held) = (Disposition::Deliver, Disposition::Quarantine);
    for (what, content, expected) in [
        ("nothing beside it", clear("", b""), delivered),
        ("a line end", clear("", b"\r\n"), delivered),
        ("an empty line, as OpenSSL has it", clear("", b"\r\n\r\n"), delivered),
        (
            "a preamble, as OpenSSL has it",
            clear("This is an S/MIME signed message\r\n\r\n", b"\r\n"),
            delivered,
        ),
        ("an epilogue of blocks", clear("", &[b"\r\n", &noise[..]].concat()), held),
        ("an epilogue of text", clear("", b"\r\nthree"), held),
        ("many lines", clear("", &b"\r\n".repeat(9)), delivered),
        ("blanks behind the delimiter", clear("", b"   \r\n"), delivered),
        (
            "blocks behind the delimiter, and one as before",
            { clear("", &[&noise[..], b"--", boundary.as_bytes(), b"--\r\n"].concat()) },
            held,
        ),
        (
            "one on two lines",
            clear("\r\nThis is a cryptographically signed\r\n message in MIME format.\r\n\r\n", b"\r\n"),
            delivered,
        ),
        ("two sentences, as Exchange had them", clear(TWO_SENTENCES, b"\r\n"), delivered),
        ("as Outlook for Mac has them", clear(&format!("> {TWO_SENTENCES}"), b"\r\n"), delivered),
        (
            "three dots, as MIME-tools has it",
            clear("This is a multi-part message in MIME format...\r\n\r\n", b"\r\n"),
            delivered,
        ),
        ("the first of two", clear("> This message is in MIME format.\r\n\r\n", b"\r\n"), held),
        // Of two captured blocks whose text is known, what comes out where they are joined is known, too.
        ("a preamble of text", clear("Transfer 10 to Bob, as agreed on the phone.\r\n\r\n", b"\r\n"), held),
        ("one of them, and a word", clear("This is an S/MIME signed message of mine\r\n\r\n", b"\r\n"), held),
        ("a preamble with a control character", clear("This is \u{85}\u{1}\r\n\r\n", b"\r\n"), held),
        ("a preamble of blocks", whole(&[header.as_bytes(), b"\r\n", &noise, b"\r\n"].concat(), b""), held),
        ("a header of blocks", whole(odd.as_bytes(), b""), held),
        ("opaque", [opaque_header.as_bytes(), opaque_body].concat(), delivered),
        ("opaque, and blocks", [opaque_header.as_bytes(), opaque_body, &noise].concat(), held),
        ("opaque in no base64", [binary.as_bytes(), &object].concat(), delivered),
        ("the same, and a certificate that cannot be read", [binary.as_bytes(), &garbled].concat(), held),
        ("the same, and blocks", [binary.as_bytes(), &object, &noise].concat(), held),
        ("compressed", compressed(&clear("", b"\r\n")), delivered),
        ("compressed, and text in it", compressed(&clear("", b"\r\nthree")), held),
    ] {
        let outcome = treat_whole("alice@example.org", &agent, &["bob"], &mail(&content)).unwrap();
        assert_eq!(outcome.disposition, expected, "{what}: {}", outcome.reason);
        // The owner of an archive tells nobody, and what nobody can change is what was sent.
        let passes = |received: Received| received.verdict.result().as_str() == "pass";
        let of_owner = agent.receiving().receive(&mail(&content), Entitled::Owner, now()).unwrap();
        let firm = sealed(ContentCipher::Aes128Gcm, &content);
        let firm = agent.receiving().receive(&firm, Entitled::Recipients(&bob()), now()).unwrap();
        assert_eq!(passes(of_owner), passes(firm), "{what}");
    }
}

/// Of blocks of eight octets one in two thousand is text that is unsigned in any form, so nothing below them passes.
#[test]
fn nothing_passes_below_a_cipher_with_short_blocks_whatever_is_in_it() {
    let agent = agent("[[incoming]]\nrequire-signed = true\n");
    let short = Message::from_owned(ciphertext(&data("des3-signed.p7m")).into_bytes());
    let outcome = treat_whole("alice@example.org", &agent, &["bob"], &short).unwrap();
    assert_eq!(outcome.disposition, Disposition::Quarantine, "{}", outcome.reason);
    let received = |to| agent.receiving().receive(&short, to, now()).unwrap().verdict;
    let to = bob();
    let of_bob = received(Entitled::Recipients(&to));
    assert_eq!((of_bob.result().as_str(), of_bob.reason()), ("policy", &Reason::ShortBlocks));
    assert_eq!(received(Entitled::Owner).result().as_str(), "pass");
    // What is not signed is called that.
    let plain = Message::from_owned(ciphertext(&data("des3.p7m")).into_bytes());
    let plain = agent.receiving().receive(&plain, Entitled::Recipients(&bob()), now()).unwrap();
    assert_eq!(plain.verdict.result().as_str(), "none");
}

/// Counts how often it is asked, and knows nothing.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl RevocationSource for Counting {
    fn evidence(&self, _: &Certificate, _: &Certificate, _: &mut Duration) -> Evidence {
        self.0.fetch_add(1, Ordering::Relaxed);
        Evidence::default()
    }
}

#[test]
fn nor_is_anybody_asked_about_its_certificates() {
    let agent = agent("");
    let inner = cms::seal(
        &[TEXT.as_bytes()],
        ContentCipher::Aes128Gcm,
        &[RecipientKey::new(certificate("bob")).unwrap()],
    );
    let signed = |entity: &str| signed_around(&format!("{HEADER}{entity}"));
    let inner = ciphertext(&inner.unwrap());
    // What is signed is a text, or one layer of ciphertext more.
    for content in [signed(TEXT), signed_around(&inner)] {
        let content = content.strip_prefix(HEADER).unwrap();
        for (behind, is_asked) in [("", true), ("\u{4}noise", false)] {
            let source = Arc::new(Counting::default());
            let trust = Trust {
                anchors: vec![certificate("root")],
                revocation_source: Some(Arc::<Counting>::clone(&source)),
                ..Trust::default()
            };
            let receiving = ReceivingAgent { trust: &trust, ..agent.receiving() };
            let mail = mail(format!("{content}{behind}").as_bytes());
            let received = receiving.receive(&mail, Entitled::Recipients(&bob()), now()).unwrap();
            assert_eq!(source.0.load(Ordering::Relaxed) > 0, is_asked, "{behind:?}: {:?}", received.verdict);
        }
    }
}
