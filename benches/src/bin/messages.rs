//! How fast one core signs, verifies and opens whole messages in memory, beside what cannot be avoided: one
//! pass of SHA-256 over the same octets and the key's own operation.
//!
//! ```text
//! cargo run --release -p benches --bin messages
//! ```

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program: its output is the table, and what cannot be measured ends it"
)]

use std::{hint::black_box, time::Duration};

use smime::{
    algorithm::DigestAlgorithm,
    cms::Object,
    key::{Digest, SignatureInput, Signer},
    message::{sign, verify},
    mime::{Canonical, Message, encode_base64, single_originator},
    testing::fixtures::{certificate, data, key, now, trust},
};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(300);

fn main() {
    println!("{}; median of {ROUNDS} rounds of {} ms; microseconds\n", benches::machine(), ROUND.as_millis());
    println!("| message | SHA-256 | key | sign | sign / (SHA-256 + key) | verify | verify / SHA-256 |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let alice = key("alice");
    let algorithm = *alice.algorithms().first().unwrap();
    let private = time(|| drop(black_box(alice.sign(&SignatureInput::of(algorithm, b"x"), algorithm))));
    for size in [4 << 10, 64 << 10, 1 << 20, 10 << 20] {
        let message = message(size);
        let chain = [certificate("ca")];
        let signed = signed(&message, &chain);
        let hash = time(|| {
            black_box(Digest::of(DigestAlgorithm::Sha256, message.octets()));
        });
        let sign_time = time(|| {
            let canonical = Canonical::from_entity(&message.entity()).unwrap();
            black_box(sign(&canonical, &alice, &chain, now()).unwrap());
        });
        let trust = trust();
        let verify_time = time(|| {
            let entity = signed.entity();
            black_box(verify(&entity, single_originator(&entity), &trust, now()));
        });
        println!(
            "| {} KiB | {hash:.1} | {private:.1} | {sign_time:.1} | {:.2} | {verify_time:.1} | {:.2} |",
            size >> 10,
            sign_time / (hash + private),
            verify_time / hash
        );
    }
    let object = data("der.p7m");
    let bob = key("bob");
    let open = time(|| {
        let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&object) else { return };
        let recipient = enveloped.recipient_for(&certificate("bob")).unwrap();
        black_box(enveloped.open(recipient, &bob).unwrap());
    });
    println!("\nopen a short message, RSA-2048 and AES-256-CBC: {open:.1}");
}

fn time(call: impl FnMut()) -> f64 {
    benches::median(ROUNDS, ROUND, call).as_secs_f64() * 1e6
}

/// A message of about `size` octets: text and an attachment in base64.
fn message(size: usize) -> Message {
    let attachment = String::from_utf8(encode_base64(&vec![0x5a; size * 3 / 4])).unwrap();
    let text = format!(
        "From: alice@example.org\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n\
         --b\nContent-Type: text/plain\n\nHello.\n--b\nContent-Type: application/octet-stream\n\
         Content-Transfer-Encoding: base64\n\n{attachment}\n--b--\n"
    );
    Message::from_stored(text.as_bytes())
}

fn signed(message: &Message, chain: &[smime::Certificate]) -> Message {
    let canonical = Canonical::from_entity(&message.entity()).unwrap();
    let signed = sign(&canonical, &key("alice"), chain, now()).unwrap();
    let header = format!("From: alice@example.org\r\nContent-Type: {}\r\n\r\n", signed.content_type);
    Message::from_stored(&[header.as_bytes(), &signed.body].concat())
}
