//! How fast one core encrypts and opens whole messages in memory, from entity to base64 and back, beside what
//! cannot be avoided: one pass of the cipher and one of base64 over the same octets, and the key's operation.
//!
//! ```text
//! cargo run --release -p benches --bin sealed
//! ```

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program: its output is the table, and what cannot be measured ends it"
)]

use std::{hint::black_box, time::Duration};

use smime::{
    cipher::ContentCipher,
    cms::{Keep, Object, Proof, RecipientKey, rekey, seal},
    message,
    mime::{Canonical, decode_base64, encode_base64},
    profile::SealPlan,
    testing::fixtures::{certificate, key},
};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(300);

fn main() {
    println!("{}; median of {ROUNDS} rounds of {} ms; microseconds\n", benches::machine(), ROUND.as_millis());
    println!("| message | cipher | key | object | base64 | seal | open | rekey |");
    println!("| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |");
    for size in [20 << 10, 200 << 10, 20 << 20] {
        for cipher in [ContentCipher::Aes256Cbc, ContentCipher::Aes256Gcm, ContentCipher::ChaCha20Poly1305] {
            row(size, cipher, "bob");
        }
    }
    for name in ["p256", "p384", "p521", "x25519"] {
        row(20 << 10, ContentCipher::Aes256Gcm, name);
    }
}

/// One line: the object alone, its base64 alone, both as a message, and the ways back.
fn row(size: usize, cipher: ContentCipher, name: &str) {
    let text = b"All work and no play makes Jack a dull boy.\r\n";
    let content = [b"Content-Type: text/plain\r\n\r\n", &text.repeat(size / text.len())[..]].concat();
    let canonical = Canonical::from_signed_part(&content);
    let recipient = RecipientKey::new(certificate(name)).unwrap();
    let plan = SealPlan { cipher, recipients: vec![recipient.clone()] };
    let owner = key(name);

    let object = time(|| drop(black_box(seal(&[&content], cipher, &plan.recipients))));
    let octets = seal(&[&content], cipher, &plan.recipients).unwrap();
    let base64 = time(|| drop(black_box(encode_base64(&octets))));
    let sealing = time(|| drop(black_box(message::seal(&canonical, &plan))));
    let sealed = message::seal(&canonical, &plan).unwrap();
    let opening = time(|| {
        let octets = decode_base64(&sealed.body).unwrap();
        let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&octets) else { return };
        let recipient = enveloped.recipient_for(&certificate(name)).unwrap();
        black_box(enveloped.open(recipient, &owner).unwrap());
    });
    let new = [recipient];
    let rekeying = time(|| drop(black_box(rekey(&octets, &owner, &new, Keep::All, Proof::Key))));
    println!(
        "| {} KiB | {} | {name} | {object:.1} | {base64:.1} | {sealing:.1} | {opening:.1} | {rekeying:.1} |",
        size >> 10,
        cipher.name()
    );
}

fn time(call: impl FnMut()) -> f64 {
    benches::median(ROUNDS, ROUND, call).as_secs_f64() * 1e6
}
