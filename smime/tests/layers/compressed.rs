//! Compression: what shrinks well is read, and bombs are not looked into.

use smime::{
    cms,
    message::{AuthResult, Ciphertext},
    mime::MimeEntity,
    protection::Payload,
    testing::fixtures::data,
};

use super::{clear, compressed, opaque, verdict};

#[test]
fn what_bouncycastle_compresses_is_read() {
    let octets = data("bc.p7z");
    let Ok(cms::Object::CompressedData(compressed)) = cms::Object::parse(&octets).map_err(drop) else {
        unreachable!()
    };
    assert_eq!(compressed.decompress().unwrap(), data("entity.txt"));
}

#[test]
fn bombs_are_not_looked_into_however_they_are_packed() {
    let text = |len: usize| format!("Content-Type: text/plain\r\n\r\n{}", "a".repeat(len));
    // Each layer is harmless by itself, and all of them together are not.
    let padded = |entity: &str| format!("X-Padding: {}\r\n{entity}", "a".repeat(200_000));
    let nested = |layers: &[fn(&str) -> String]| {
        (0..9).fold(compressed(&text(1000)), |entity, at| layers[at % layers.len()](&padded(&entity)))
    };
    for bomb in [
        compressed(&text(4 << 20)),
        nested(&[compressed]),
        nested(&[compressed, opaque]),
        compressed(&nested(&[compressed, clear])),
    ] {
        assert!(bomb.len() < 50_000, "{}", bomb.len());
        let verdict = verdict(&bomb);
        assert_eq!(verdict.result(), AuthResult::Neutral, "{}", verdict.reason());
        assert!(verdict.reason().to_string().contains("more than is taken"), "{}", verdict.reason());
        assert!(Ciphertext::find(&MimeEntity::parse(bomb.as_bytes())).is_none());
        assert!(Payload::find(&MimeEntity::parse(bomb.as_bytes())).is_none());
    }
}

#[test]
fn what_shrinks_well_is_read_though_it_grows() {
    let lines = |count: usize| {
        let line = |at| {
            format!("2026-11-21T09:{:02}:{:02}Z mx postfix/smtpd[{at}]: connect\r\n", at / 60 % 60, at % 60)
        };
        (0..count).map(line).collect::<String>()
    };
    let log = format!("Content-Type: text/plain; name=mail.log\r\n\r\n{}", lines(6000));
    let signed = compressed(&clear(&log));
    assert!(log.len() > 300_000 && signed.len() < log.len() / 6, "{} of {}", signed.len(), log.len());
    assert_eq!(verdict(&signed).result(), AuthResult::Pass, "{}", verdict(&signed).reason());
    assert_eq!(verdict(&compressed(&opaque(&log))).result(), AuthResult::Pass);
    // In both orders, and where mail programs compress again what is compressed.
    assert_eq!(verdict(&clear(&compressed(&log))).result(), AuthResult::Pass);
    assert_eq!(verdict(&compressed(&compressed(&clear(&log)))).result(), AuthResult::Pass);
    // The same lines of LF.
    assert_eq!(verdict(&compressed(&clear(&log).replace("\r\n", "\n"))).result(), AuthResult::Pass);
    let payload = Payload::find(&MimeEntity::parse(signed.as_bytes())).unwrap();
    assert_eq!(payload.entity().octets(), log.as_bytes());
    let empty = format!("Content-Type: text/csv\r\n\r\n{}", ";;;;;;;;\r\n".repeat(30_000));
    let signed = compressed(&clear(&empty));
    assert!(signed.len() < empty.len() / 30);
    assert_eq!(verdict(&signed).result(), AuthResult::Pass, "{}", verdict(&signed).reason());
}
