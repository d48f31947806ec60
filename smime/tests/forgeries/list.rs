//! The list of forgeries held against the tests: each test that it names is there.

use std::{fs, path::PathBuf};

/// Where the tests of a name in the list are.
fn folder(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join(match name {
        "forgeries" => "smime/tests/forgeries",
        "agent" => "agent/tests",
        "milter" => "milter/tests/it",
        "it" => "tests/it",
        other => unreachable!("{other}"),
    })
}

fn sources(name: &str) -> String {
    let files = fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn every_test_that_the_list_names_is_there_and_every_forgery_is_on_the_list() {
    let list = include_str!("list.md");
    let rows: Vec<_> =
        list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")).collect();
    let mut named = 0;
    for row in rows.iter().skip(1) {
        let tests = row.split('|').nth(3).unwrap();
        for test in tests.split('`').skip(1).step_by(2) {
            let (file, function) = test.split_once(' ').unwrap();
            assert!(sources(file).contains(&format!("#[test]\nfn {function}()")), "{test}");
            named += 1;
        }
    }
    assert!(named >= rows.len() - 1, "{named}");
    let own = ["certificates", "enveloped_data", "recipients", "senders", "signed_data", "wrapping"];
    for module in own {
        let source = fs::read_to_string(folder("forgeries").join(format!("{module}.rs"))).unwrap();
        for function in source.split("#[test]\nfn ").skip(1) {
            let name = function.split('(').next().unwrap();
            assert!(list.contains(&format!("`forgeries {name}`")), "{name} is not on the list");
        }
    }
}
