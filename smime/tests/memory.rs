//! How much memory a large message costs. One test, so that nothing else in the process allocates.

use smime::{
    message::{AuthResult, verify},
    mime::{Canonical, MimeEntity, single_originator},
    testing::{
        fixtures::{now, trust},
        large,
    },
};
use testkit::memory::{self, Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that may be allocated at once beside the message that goes in, in parts of it. The same is measured with
/// 50 MB by `benches --bin messages`.
const LIMIT: f64 = 2.5;

/// … and beside one that is made to take much.
const HOSTILE: usize = 10;

/// Of so many octets: a debug build goes through them in seconds, and what does not grow with a message is about a
/// hundredth of it.
const LEN: usize = 1_500_000;

#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who asks for them by --no-capture")]
fn no_operation_takes_more_than_two_and_a_half_times_the_message() {
    let mut seen = Vec::new();
    large::each(LEN, &mut |what, input, run| {
        let before = memory::mark();
        run();
        let peak = memory::peak() - before;
        let ratio = f64::from(u32::try_from(peak).unwrap()) / f64::from(u32::try_from(input).unwrap());
        seen.push((what.to_owned(), ratio));
    });
    for (what, ratio) in &seen {
        println!("{ratio:.2} {what}");
    }
    assert!(seen.len() >= 23, "{seen:#?}");
    for (what, ratio) in seen {
        // Whatever is made of a message is at least half of it, or the allocator does not count. To verify a
        // signature beside its text takes no copy at all.
        let least = if what == "verify, multipart/signed" { 0.0 } else { 0.5 };
        assert!((least..=LIMIT).contains(&ratio), "{what}: {ratio:.2} times the message");
    }
    for (what, message) in hostile() {
        let before = memory::mark();
        let entity = MimeEntity::parse(&message);
        let (verdict, _) = verify(&entity, single_originator(&entity), &trust(), now());
        assert_ne!(verdict.result(), AuthResult::Pass, "{what}");
        drop((verdict, Canonical::from_entity(&entity)));
        let peak = memory::peak() - before;
        assert!(peak <= HOSTILE * message.len(), "{what}: {peak} octets for {}", message.len());
    }
}

/// Messages of small pieces, of which much would be kept if it were kept of each.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    const FROM: &str = "From: alice@example.org\r\n";
    let header = |line: &str| [FROM, &line.repeat(LEN / 4 / line.len()), "\r\nx\r\n"].concat().into_bytes();
    // SignedData of content in segments of two octets.
    let mut object =
        b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80\x30\x80\x02\x01\x01\x31\x00\
        \x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0\x80\x24\x80"
            .to_vec();
    object.extend(b"\x04\x02ab".repeat(LEN / 8));
    object.extend([0; 6]);
    object.extend([0x31, 0, 0, 0, 0, 0, 0, 0]);
    let head = "Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: binary\r\n\r\n";
    let segments = [FROM.as_bytes(), head.as_bytes(), &object].concat();
    vec![
        ("lines of a header", header("a\r\n")),
        ("fields", header("a:\r\n")),
        ("fields that are signed", header("content-a:\r\n")),
        ("segments", segments),
    ]
}
