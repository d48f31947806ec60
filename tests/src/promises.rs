//! `docs/promises.md` and `docs/attacks.md`, made of the names of tests in `tests/promises/`.
//!
//! A row is a claim or an attack with the tests that fail where it does not hold or succeeds: by their names alone, wherever
//! in the workspace they are, or behind their file where two have the same one. A name without a test, and a row
//! without a name, are errors. Not in here: whether the tests say what the row does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// Both pages by their paths below the project's root.
pub fn pages(root: &Path) -> Result<[(&'static str, String); 2]> {
    let tests = Tests::of(root)?;
    let read = |name: &str| {
        let path = root.join("tests/promises").join(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let promises: Promises = toml::from_str(&read("promises.toml")?)?;
    let attacks: Attacks = toml::from_str(&read("attacks.toml")?)?;
    tests.all_on_the_list(&attacks)?;
    Ok([("docs/promises.md", promises.page(&tests)?), ("docs/attacks.md", attacks.page(&tests)?)])
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promises {
    promise: Vec<Promise>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promise {
    part: String,
    number: usize,
    holds: String,
    claim: Vec<Claim>,
}

/// What a promise says of one thing; without words what it says altogether.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    #[serde(default)]
    holds: String,
    tests: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attacks {
    attack: Vec<Attack>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Attack {
    known_as: String,
    what: String,
    tests: Vec<String>,
}

impl Promises {
    fn page(&self, tests: &Tests) -> Result<String> {
        let mut out = format!(
            "# What must always hold, and what would fail\n\n{MADE}\n\nThrough Postfix: real programs, a token, Postfix on \
             loopback, other S/MIME software as judges (`tests/it`). Closer: beside the code, or a crate through its surface. \
             `ARCHITECTURE.md` says where each promise is kept; [attacks.md](attacks.md) has the known attacks. Of the \
             first 15 one cell there is empty on purpose: whether a random key took the place of one that the token rejected shows \
             through no MTA, or it would be in vain.\n"
        );
        let mut part = "";
        for (promise, number) in self.promise.iter().zip(1..) {
            ensure!(promise.number == number, "promise {} comes in place of {number}", promise.number);
            if promise.part != part {
                part = &promise.part;
                write!(out, "\n## {part}\n\n| promise | through Postfix | closer |\n| --- | --- | --- |\n")?;
            }
            let mut is_whole = false;
            for (claim, at) in promise.claim.iter().zip(0..) {
                let place = format!("{number}. {}", promise.holds);
                let [whole, closer] = tests.links(&claim.tests).with_context(|| place.clone())?;
                is_whole |= !whole.is_empty();
                let words = match (at, claim.holds.as_str()) {
                    (0, "") => format!("**{place}**"),
                    (0, words) => format!("**{place}**: {words}"),
                    (_, words) => format!("{number}. {words}"),
                };
                writeln!(out, "| {words} | {} | {} |", whole.join(", "), closer.join(", "))?;
            }
            ensure!(is_whole || number > WHOLE, "nothing shows promise {number} through Postfix");
        }
        Ok(out)
    }
}

/// So many promises are shown through Postfix, too.
const WHOLE: usize = 15;

impl Attacks {
    fn page(&self, tests: &Tests) -> Result<String> {
        let mut out = format!(
            "# Known attacks, and what would fail\n\n{MADE}\n\nWhat has gone wrong in software of this kind, by the name it is known \
             by, and the tests that make each attack on `hsmime`. OpenSSL 3.0 is mentioned where the same test shows that it \
             falls for it. [promises.md](promises.md) has what must hold whoever attacks.\n\n| known as | what is tried | \
             tests |\n| --- | --- | --- |\n"
        );
        for attack in &self.attack {
            let [whole, closer] = tests.links(&attack.tests).with_context(|| attack.known_as.clone())?;
            let all: Vec<String> = closer.into_iter().chain(whole).collect();
            writeln!(out, "| {} | {} | {} |", references(&attack.known_as), attack.what, all.join(", "))?;
        }
        out.push_str(
            "\n\"Johnny\" is Müller et al., \"Johnny, you are fired!\", USENIX Security 2019; EFAIL is Poddebniak et al., USENIX \
             Security 2018; BERserk is Delignat-Lavaud, 2014, after Bleichenbacher, 2006.\n",
        );
        Ok(out)
    }
}

const MADE: &str = "Made by `cargo run -p testkit --bin promises` of the names of tests in `tests/promises/`: a row without a \
                    test, a test that is gone and a page that is not what they give are errors.";

/// Links in place of identifiers that have a page.
fn references(known_as: &str) -> String {
    let mut out = String::new();
    let mut words = known_as.split(' ').peekable();
    while let Some(word) = words.next() {
        let name = word.trim_matches(['(', ')', ',']);
        let number = words.peek().map(|next| next.trim_end_matches(','));
        let is_number =
            number.is_some_and(|next| !next.is_empty() && next.bytes().all(|octet| octet.is_ascii_digit()));
        let url = match name.split_once('-') {
            Some(("CVE", _)) => format!("https://nvd.nist.gov/vuln/detail/{name}"),
            Some(("RUSTSEC", _)) => format!("https://rustsec.org/advisories/{name}.html"),
            Some(("CWE", number)) => format!("https://cwe.mitre.org/data/definitions/{number}.html"),
            Some(("draft", _)) => format!("https://datatracker.ietf.org/doc/{name}/"),
            _ if name == "RFC" && is_number => {
                let number = number.unwrap_or_default();
                let link = format!("[RFC {number}](https://www.rfc-editor.org/rfc/rfc{number})");
                let next = words.next().unwrap_or_default();
                out.push_str(&next.replacen(number, &link, 1));
                out.push(' ');
                continue;
            }
            _ => String::new(),
        };
        let link = if url.is_empty() { name.to_owned() } else { format!("[{name}]({url})") };
        out.push_str(&word.replacen(name, &link, 1));
        out.push(' ');
    }
    out.trim_end().to_owned()
}

/// The tests of the workspace: the files that have one of a name.
#[derive(Debug)]
struct Tests(BTreeMap<String, BTreeSet<String>>);

impl Tests {
    fn of(root: &Path) -> Result<Self> {
        let mut found = Self(BTreeMap::new());
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let (path, name) = (entry.path(), entry.file_name());
                if entry.file_type()?.is_dir() && name != "target" && name != ".git" {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let place = path.strip_prefix(root)?.display().to_string();
                    for name in names(&fs::read_to_string(&path)?) {
                        found.0.entry(name.to_owned()).or_default().insert(place.clone());
                    }
                }
            }
        }
        Ok(found)
    }

    /// Links to the tests of a row: those through Postfix, and those that are closer to the code.
    fn links(&self, names: &[String]) -> Result<[Vec<String>; 2]> {
        ensure!(!names.is_empty(), "no test");
        let mut links = [Vec::new(), Vec::new()];
        let mut seen = BTreeSet::new();
        for name in names {
            ensure!(seen.insert(name), "{name} is named twice");
            let (file, name) = match name.split_once(' ') {
                Some((file, name)) => (Some(file), name),
                None => (None, name.as_str()),
            };
            let files = self.0.get(name).with_context(|| format!("there is no test {name}"))?;
            let place = match (file, files.len()) {
                (Some(file), _) => {
                    files.get(file).with_context(|| format!("there is no test {name} in {file}"))?
                }
                (None, 1) => files.first().context("no file")?,
                (None, _) => bail!("tests of the name {name} are in {files:?}"),
            };
            let [whole, closer] = &mut links;
            if place.starts_with("tests/it/") { whole } else { closer }
                .push(format!("[`{name}`](../{place})"));
        }
        Ok(links)
    }

    /// Whoever writes a forgery puts it on the list.
    fn all_on_the_list(&self, attacks: &Attacks) -> Result<()> {
        let listed: BTreeSet<&str> = attacks
            .attack
            .iter()
            .flat_map(|attack| &attack.tests)
            .filter_map(|name| name.split(' ').next_back())
            .collect();
        for (name, files) in &self.0 {
            let is_forgery = files
                .iter()
                .any(|file| file.starts_with("smime/tests/forgeries/") && !file.ends_with("/support.rs"));
            ensure!(
                !is_forgery || listed.contains(name.as_str()),
                "{name} is not in tests/promises/attacks.toml"
            );
        }
        Ok(())
    }
}

/// The names of the tests in a source: of those with the attribute, and of what is run with each MTA.
fn names(source: &str) -> Vec<&str> {
    let after = source.split("#[test]").skip(1);
    let lists = source.split("with_every_mta! {\n").skip(1).filter_map(|list| list.split_once('}'));
    let lines = lists.flat_map(|(list, _)| list.lines()).map(str::trim);
    after.filter_map(name).chain(lines.filter(|line| !line.is_empty() && !line.ends_with(';'))).collect()
}

/// The name of the function that these octets begin with, whatever other attributes it has.
fn name(source: &str) -> Option<&str> {
    let mut rest = source.trim_start();
    while let Some(attribute) = rest.strip_prefix("#[") {
        rest = attribute.split_once("]\n")?.1.trim_start();
    }
    rest.strip_prefix("fn ")?.split_once('(').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Tests {
        let place = |file: &str| BTreeSet::from([file.to_owned()]);
        let both = BTreeSet::from(["a/src/x.rs".to_owned(), "b/src/x.rs".to_owned()]);
        Tests(BTreeMap::from([
            ("one".to_owned(), place("a/src/x.rs")),
            ("whole".to_owned(), place("tests/it/x.rs")),
            ("twins".to_owned(), both),
        ]))
    }

    #[test]
    fn tests_are_found_below_other_attributes_and_in_lists_and_other_functions_are_not() {
        let source = "#[test]\nfn one() {}\nfn helper() {}\n    #[test]\n    #[ignore = \"x\"]\n    fn two() {}\n#[test]\nconst X";
        assert_eq!(names(source), ["one", "two"]);
        let source = "with_every_mta! {\n    in \"lab\";\n    one\n    two\n}\nfn helper() {}";
        assert_eq!(names(source), ["one", "two"]);
    }

    #[test]
    fn a_row_has_tests_that_are_there_once_each() {
        let links =
            |names: &[&str]| some().links(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(
            links(&["one", "whole", "b/src/x.rs twins"]).unwrap(),
            [vec!["[`whole`](../tests/it/x.rs)"], vec!["[`one`](../a/src/x.rs)", "[`twins`](../b/src/x.rs)"]]
        );
        for (names, wrong) in [
            (&[][..], "no test"),
            (&["none"], "there is no test none"),
            (&["twins"], "are in"),
            (&["a/src/y.rs one"], "there is no test one in a/src/y.rs"),
            (&["one", "one"], "named twice"),
        ] {
            assert!(format!("{:#}", links(names).unwrap_err()).contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_has_a_page_of_its_own_is_a_link() {
        for (known_as, expected) in [
            ("Johnny C3", "Johnny C3"),
            (
                "CVE-2017-17688 (EFAIL), CWE-93",
                "[CVE-2017-17688](https://nvd.nist.gov/vuln/detail/CVE-2017-17688) (EFAIL), \
                 [CWE-93](https://cwe.mitre.org/data/definitions/93.html)",
            ),
            (
                "RFC 5652, RFC 8551 2.6",
                "[RFC 5652](https://www.rfc-editor.org/rfc/rfc5652), \
              [RFC 8551](https://www.rfc-editor.org/rfc/rfc8551) 2.6",
            ),
        ] {
            assert_eq!(references(known_as), expected);
        }
    }
}
