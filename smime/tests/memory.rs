//! How much memory a large message costs. One test, so that nothing else in the process allocates.

use smime::testing::large;
use testkit::memory::{self, Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that may be allocated at once beside the message that goes in, in parts of it. The same is measured with
/// 50 MB by `benches --bin messages`.
const LIMIT: f64 = 2.5;

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
    assert!(seen.len() >= 13, "{seen:#?}");
    for (what, ratio) in seen {
        // Whatever is made of a message is at least half of it, or the allocator does not count. To verify a
        // signature beside its text takes no copy at all.
        let least = if what == "verify, multipart/signed" { 0.0 } else { 0.5 };
        assert!((least..=LIMIT).contains(&ratio), "{what}: {ratio:.2} times the message");
    }
}
