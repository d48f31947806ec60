//! `docs/promises.md` and `docs/attacks.md` are what the names of tests in `tests/promises/` give.

use std::{fs, path::Path};

use testkit::promises;

#[test]
fn every_promise_and_every_attack_has_tests_that_exist_and_the_pages_say_so() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (page, expected) in promises::pages(&root).unwrap() {
        let written = fs::read_to_string(root.join(page)).unwrap();
        assert!(written == expected, "{page} is not what it should be: cargo run -p testkit --bin promises");
    }
}
