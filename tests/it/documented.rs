//! What the documentation says of the command line, every command of ours that it names is one, with these options; and
//! of where there is `unsafe`.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use testkit::{command, programs};

mod messages;

const PROGRAMS: [&str; 4] = ["hsmime", "hsmime-milter", "hsmime-batch", "hsmime-keyd"];

/// Started by `hsmime-keyd` alone, and so in no help.
const HIDDEN: &str = "module-host";

/// What `--help` says of a program's commands, each asked once.
#[derive(Default)]
struct Helps(HashMap<Vec<String>, String>);

impl Helps {
    fn of(&mut self, words: &[String]) -> String {
        let asked = self.0.entry(words.to_vec()).or_insert_with(|| {
            let (program, commands) = words.split_first().unwrap();
            let mut command = Command::new(programs::find(program).unwrap());
            command::succeed("help", command.args(commands).arg("--help")).unwrap().text()
        });
        asked.clone()
    }

    fn subcommands(&mut self, words: &[String]) -> BTreeSet<String> {
        let help = self.of(words);
        let listed = help.split_once("\nCommands:\n").map_or("", |(_, behind)| behind);
        let listed = listed.lines().take_while(|line| line.starts_with("  "));
        let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
    }

    /// Whether an option is one of a command, of those that it is under, or of one under it.
    fn know(&mut self, words: &[String], option: &str) -> bool {
        let names = |help: &str| {
            help.match_indices(option).any(|(at, _)| {
                let next = help.get(at + option.len()..).and_then(|rest| rest.chars().next());
                option.ends_with('<') || next.is_none_or(|next| !next.is_ascii_alphanumeric() && next != '-')
            })
        };
        (1..=words.len()).any(|len| names(&self.of(&words[..len]))) || {
            let below = self.subcommands(words);
            below.into_iter().any(|name| self.know(&[words, &[name]].concat(), option))
        }
    }

    /// What is wrong with a command line, given behind its program.
    fn fault(&mut self, program: &str, line: &[&str]) -> Option<String> {
        let mut words = vec![program.to_owned()];
        let mut line = line.iter().peekable();
        while let Some(word) = line.next() {
            let word = word.trim_matches(['[', ']', '(', ')', ',', ';', '"', '\'']);
            if matches!(word, "|" | "&&" | "||" | "&" | "--" | "…")
                || word.starts_with(['#', '>', '<'])
                || word.contains('?')
            {
                break;
            }
            if let Some(option) = word.strip_prefix("--").and_then(|option| option.split('=').next()) {
                let option = format!("--{option}");
                if !self.know(&words, &option) {
                    return Some(format!("{} has no {option}", words.join(" ")));
                }
                // Its value is no command, whatever it looks like.
                if self.know(&words, &format!("{option} <")) {
                    line.next();
                }
                continue;
            }
            let is_name = word.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-');
            let below = self.subcommands(&words);
            if is_name && !word.starts_with('-') && !word.is_empty() && !below.is_empty() {
                if !below.contains(word) && word != HIDDEN {
                    return Some(format!("{} has no command {word}", words.join(" ")));
                }
                words.push(word.to_owned());
            }
        }
        None
    }
}

/// What stands in code: spans, and lines of blocks for a shell.
fn code(page: &str) -> Vec<String> {
    let (mut found, mut prose, mut block) = (Vec::new(), String::new(), None);
    for line in page.lines() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            block = if block.is_some() { None } else { Some(kind.trim().to_owned()) };
        } else if let Some(kind) = &block {
            if matches!(kind.as_str(), "sh" | "shell" | "console") {
                found.push(line.to_owned());
            }
        } else {
            prose.push_str(line);
            prose.push(' ');
        }
    }
    found.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
    found
}

/// Our programs in a line of code, each with what is behind it.
fn ours(line: &str) -> Vec<(&'static str, Vec<&str>)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ours = words.iter().enumerate().filter_map(|(at, word)| {
        let name = word.rsplit('/').next()?.trim_start_matches('(');
        let program = PROGRAMS.into_iter().find(|program| *program == name)?;
        // That is the user's name.
        if at > 0 && words.get(at - 1) == Some(&"-u") {
            return None;
        }
        Some((program, words.get(at + 1..).unwrap_or_default().to_vec()))
    });
    ours.collect()
}

#[test]
fn every_command_that_the_documentation_names_exists_with_its_options() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md"];
    let mut pages: Vec<_> = pages.into_iter().map(|page| root.join(page)).collect();
    pages.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    pages.push(root.join("contrib/hsmime.toml"));
    let mut helps = Helps::default();
    let (mut lines, mut faults) = (BTreeSet::new(), Vec::new());
    for page in pages.into_iter().filter(|page| page.extension().is_some()) {
        let text = fs::read_to_string(&page).unwrap();
        for line in code(&text) {
            for (program, behind) in ours(&line) {
                if let Some(fault) = helps.fault(program, &behind) {
                    faults.push(format!("{}: `{line}`: {fault}", page.display()));
                }
                lines.insert(format!("{program} {}", behind.join(" ")));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(lines.len() > 40, "few are found: {lines:#?}");
}

#[test]
fn what_is_no_command_is_found() {
    let mut helps = Helps::default();
    for (line, is_right) in [
        ("hsmime doctor", true),
        ("hsmime cert import --assign @partner.example x.pem", true),
        ("runuser -u hsmime -- hsmime key list", true),
        ("hsmime-batch --resume", true),
        ("hsmime --json", true),
        ("hsmime-batch --format mboxcl", true),
        ("hsmime-milter --config FILE check-config", true),
        ("hsmime cert imports x.pem", false),
        ("hsmime cert import --asign @partner.example", false),
        ("hsmime-milter relaod", false),
        ("hsmime key list --json", false),
        ("hsmime explain bob@partner.example --as", false),
    ] {
        let [(program, behind)] = <[_; 1]>::try_from(ours(line)).unwrap();
        let fault = helps.fault(program, &behind);
        assert_eq!(fault.is_none(), is_right, "{line}: {fault:?}");
    }
}

/// The sources below `folder` that silence the lint against `unsafe`, but for tests.
fn unsafe_sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            if !entry.ends_with("tests") {
                unsafe_sources(&entry, found);
            }
        } else if fs::read_to_string(&entry).is_ok_and(|text| text.contains("unsafe_code")) {
            found.push(entry);
        }
    }
}

#[test]
fn each_file_with_unsafe_that_ships_is_named_in_security_md() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for entry in fs::read_dir(&root).unwrap().map(|entry| entry.unwrap()) {
        let is_of_tests = ["benches", "fuzz", "tests"].iter().any(|name| *name == entry.file_name());
        let sources = entry.path().join("src");
        if !is_of_tests && sources.is_dir() {
            unsafe_sources(&sources, &mut found);
        }
    }
    let name = |path: PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    let found: BTreeSet<_> = found.into_iter().map(name).collect();
    let page = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let (_, section) = page.split_once("\n## Unsafe code\n").unwrap();
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let named = section.split('`').skip(1).step_by(2).filter(|word| word.contains("/src/"));
    assert_eq!(found, named.map(str::to_owned).collect());
}
