//! `docs/promises.md` and `SECURITY.md`: every promise has tests here, and every test that is named exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_promise_has_whole_system_tests_that_exist() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    for entry in fs::read_dir(package.join("it")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let after = source.split("#[test]\nfn ").skip(1);
        tests.extend(after.filter_map(|rest| rest.split_once('(')).map(|(name, _)| name.to_owned()));
    }
    let page = fs::read_to_string(package.join("../docs/promises.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise"));
    let rows: Vec<&str> = rows.filter(|line| !line.starts_with("| ---")).collect();
    assert_eq!(rows.len(), 15, "{rows:#?}");
    for (row, number) in rows.into_iter().zip(1..) {
        assert!(row.starts_with(&format!("| {number}. ")), "{row}");
        let named: Vec<&str> = row.rsplit_once("| `").unwrap().1.split('`').step_by(2).collect();
        let named: Vec<&str> = named.into_iter().filter(|name| name.contains('_')).collect();
        assert!(!named.is_empty(), "{row}");
        for name in named {
            assert!(tests.contains(name), "there is no test {name}: {row}");
        }
    }
}

#[test]
fn every_test_that_the_security_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = String::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type().unwrap().is_dir() && name != "target" && name != ".git" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let page = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let quoted = page.split('`').skip(1).step_by(2);
    let names: Vec<&str> =
        quoted.filter(|word| word.matches('_').count() > 2 && !word.contains(['/', '.', ' '])).collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(
            sources.contains(&format!("#[test]\nfn {name}()"))
                || sources.contains(&format!("#[test]\n    fn {name}()")),
            "there is no test {name}"
        );
    }
}
