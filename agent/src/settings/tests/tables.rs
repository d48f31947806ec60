//! Addresses from files and tables: those that `postmap` made, and what is no such table.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use super::*;
use crate::settings::{AddressList, lmdb};

/// Has Postfix make a table `partners`, as on a machine whose Postfix knows addresses in UTF-8.
fn make_table(folder: &TempDir, text: &str) {
    let main = folder.path().join("main.cf");
    if !main.exists() {
        fs::write(&main, "compatibility_level = 3.6\nsmtputf8_enable = yes\n").unwrap();
        // For one that may still be written Postfix's programs wait.
        let before = SystemTime::now() - Duration::from_mins(1);
        File::options().write(true).open(&main).unwrap().set_modified(before).unwrap();
    }
    fs::write(folder.path().join("partners"), text).unwrap();
    let made = Command::new("/usr/sbin/postmap")
        .arg("-c")
        .arg(folder.path())
        .arg(format!("lmdb:{}", folder.path().join("partners").display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said} (scripts/prepare installs postfix-lmdb)");
}

fn listed(folder: &TempDir, to: &str) -> Result<AddressList, String> {
    let text = format!("[[rule]]\nto = {to}\nsign = \"never\"\n");
    let settings = parse(folder, &text).map_err(|error| {
        let text = error.to_string().replace(&format!("{}/", folder.path().display()), "");
        text.strip_prefix("hsmime.toml: line 2: `to` in [[rule]]: ").unwrap_or(&text).to_owned()
    })?;
    Ok(settings.rules()[0].conditions.to.clone())
}

fn user(number: usize) -> String {
    format!("user{number}@example.org")
}

#[test]
fn a_rule_is_about_the_addresses_of_its_files_and_of_the_tables_that_postmap_made() {
    let folder = folder();
    // A value that has pages of its own.
    let long = format!("carol@elsewhere.example OK\nlong@values.example {}\n", "v".repeat(9000));
    let table = "@Partner.example anything\n@xn--mnchen-3ya.example x\n@xn--strae-oqa.example x\n";
    make_table(&folder, &format!("# partners\n{long}{table}"));
    fs::write(folder.path().join("others"), "Dave@other.example # he alone\n*@whole.example\n").unwrap();
    let list = listed(&folder, "[\"*@direct.example\", \"file:others\", \"lmdb:partners\"]").unwrap();
    for (address, expected) in [
        ("x@direct.example", true),
        ("dave@OTHER.example", true),
        ("x@whole.example", true),
        ("x@other.example", false),
        ("CAROL@elsewhere.example", true),
        ("x@elsewhere.example", false),
        ("long@values.example", true),
        ("X@partner.example", true),
        ("x@sub.partner.example", false),
        ("x@m\u{fc}nchen.example", true),
        ("x@xn--mnchen-3ya.example", true),
        ("x@stra\u{df}e.example", true),
        ("x@strasse.example", false),
        ("x@nobody.example", false),
    ] {
        assert_eq!(list.matches(&MailAddress::parse(address).unwrap()), expected, "{address}");
    }
    let place = folder.path().display();
    assert_eq!(list.to_string(), format!("*@direct.example, file:{place}/others, lmdb:{place}/partners"));
    // An empty one is about nobody, and not about all.
    make_table(&folder, "");
    let list = listed(&folder, "\"lmdb:partners\"").unwrap();
    assert!(!list.is_empty() && !list.matches(&MailAddress::parse("x@partner.example").unwrap()));
}

#[test]
fn a_table_of_many_pages_is_read_as_a_whole_and_anew_with_the_configuration() {
    let folder = folder();
    let text: String = (0..20_000).map(|number| user(number) + " OK\n").collect();
    make_table(&folder, &text);
    let list = listed(&folder, "\"lmdb:partners\"").unwrap();
    let is_in = |list: &AddressList, number| list.matches(&MailAddress::parse(&user(number)).unwrap());
    assert!((0..20_000).all(|number| is_in(&list, number)) && !is_in(&list, 20_000));
    // What was deleted leaves pages behind, and the older state is in the file, too.
    let place = format!("lmdb:{}", folder.path().join("partners").display());
    for number in [7, 19_999] {
        let mut postmap = Command::new("/usr/sbin/postmap");
        let done = postmap.arg("-c").arg(folder.path()).args(["-d", &user(number), &place]).status();
        assert!(done.unwrap().success());
    }
    let list = listed(&folder, "\"lmdb:partners\"").unwrap();
    let gone: Vec<usize> = (0..20_000).filter(|number| !is_in(&list, *number)).collect();
    assert_eq!(gone, [7, 19_999]);
}

const FOLDED: &str = "postmap makes others of letters beyond ASCII, and nobody knows whose they were; write domains as xn--\u{2026}, \
                      and people in a file:";

#[test]
fn letters_of_which_postmap_makes_ascii_are_other_peoples_as_the_sample_says() {
    let folder = folder();
    make_table(&folder, "gro\u{df}@example.org x\n@stra\u{df}e.example x\n");
    let list = listed(&folder, "\"lmdb:partners\"").unwrap();
    for (address, expected) in [
        ("gro\u{df}@example.org", false),
        ("gross@example.org", true),
        ("x@stra\u{df}e.example", false),
        ("x@strasse.example", true),
    ] {
        assert_eq!(list.matches(&MailAddress::parse(address).unwrap()), expected, "{address}");
    }
    assert!(
        include_str!("../../../../contrib/hsmime.toml").contains("ASCII alone: postmap makes ss of \u{df}")
    );
}

#[test]
fn a_table_that_cannot_be_used_as_it_is_is_refused_with_the_reason() {
    let folder = folder();
    let file = folder.path().join("partners.lmdb");
    let refused = || listed(&folder, "\"lmdb:partners\"").unwrap_err();
    assert!(refused().starts_with("partners.lmdb: No such file"), "{}", refused());
    fs::create_dir(&file).unwrap();
    assert_eq!(refused(), "partners.lmdb: this is no file");
    fs::remove_dir(&file).unwrap();
    for (key, reason) in [
        ("partner.example", "keys are whole addresses, and @domain for all of a domain"),
        (".partner.example", "keys are whole addresses, and @domain for all of a domain"),
        ("postmaster@", "a part beside the @ is empty"),
        ("*@partner.example", "keys are whole addresses, and @domain for all of a domain"),
        ("@*.partner.example", "keys are whole addresses, and @domain for all of a domain"),
        ("<a@partner.example>", "it is no plain address"),
        ("m\u{fc}ller@partner.example", FOLDED),
        ("@m\u{fc}nchen.example", FOLDED),
    ] {
        make_table(&folder, &format!("a@b.example x\n{key} x\n"));
        assert_eq!(refused(), format!("partners.lmdb: the key {key:?}: {reason}"));
    }
    make_table(&folder, "a@b.example x\n");
    let everybody = "everybody may write to it, and it decides what is done with mail: chmod o-w";
    fs::set_permissions(&file, fs::Permissions::from_mode(0o646)).unwrap();
    assert_eq!(refused(), format!("partners.lmdb: {everybody}"));
    let others = folder.path().join("others");
    fs::write(&others, "a@b.example\n").unwrap();
    fs::set_permissions(&others, fs::Permissions::from_mode(0o646)).unwrap();
    assert_eq!(listed(&folder, "\"file:others\"").unwrap_err(), format!("others: {everybody}"));
    // What is none of postmap's: text, and a pipe, which nobody must wait for.
    fs::remove_file(&file).unwrap();
    fs::write(&file, "a@b.example\n").unwrap();
    assert!(refused().ends_with("it is no LMDB table of a machine like this; make it with postmap lmdb:"));
    fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    assert_eq!(refused(), "partners.lmdb: this is no file");
}

#[test]
fn no_octet_of_a_table_leads_beyond_it_or_in_a_circle() {
    let folder = folder();
    let text: String = (0..150).map(|number| user(number) + " OK\n").collect();
    make_table(&folder, &text);
    let good = fs::read(folder.path().join("partners.lmdb")).unwrap();
    assert_eq!(lmdb::keys(&good).unwrap().len(), 150);
    let mut refused = 0;
    // By these numbers the newer state is told; the older one has no keys.
    let is_number = |at: usize| (144..152).contains(&(at % 4096));
    let mut bad = good.clone();
    // All headers, and some of what is behind them.
    for at in (0..good.len()).filter(|at| at % 4096 < 200 || at % 53 == 0) {
        for other in [0, 0xff, good[at] ^ 1] {
            bad[at] = other;
            // A letter of a key may be another; there are never more or fewer keys.
            match lmdb::keys(&bad) {
                Ok(keys) => assert!(keys.len() == 150 || is_number(at), "{at} {other}"),
                Err(_) => refused += 1,
            }
        }
        bad[at] = good[at];
    }
    assert!(refused > 500, "{refused}");
    for len in (0..good.len()).step_by(61) {
        lmdb::keys(&good[..len]).unwrap_err();
    }
    // The root names itself below it.
    let branch = (2..good.len() / 4096).map(|page| page * 4096).find(|at| good[at + 10] == 1).unwrap();
    let entry = branch + usize::from(u16::from_ne_bytes([good[branch + 16], good[branch + 17]]));
    let mut twice = good.clone();
    // Two places of one entry.
    let leaf = (2..good.len() / 4096).map(|page| page * 4096).find(|at| good[at + 10] == 2).unwrap();
    twice.copy_within(leaf + 16..leaf + 18, leaf + 18);
    assert_eq!(lmdb::keys(&twice).unwrap_err(), "it is damaged; make it anew with postmap");
    let mut circle = good.clone();
    circle[entry..entry + 2].copy_from_slice(&u16::try_from(branch / 4096).unwrap().to_ne_bytes());
    assert_eq!(lmdb::keys(&circle).unwrap_err(), "it is damaged; make it anew with postmap");
}

#[test]
fn a_table_is_not_read_while_somebody_begins_to_write_it() {
    let folder = folder();
    make_table(&folder, "a@b.example x\n");
    let path = folder.path().join("partners.lmdb");
    let lock = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()";
    let mut writer = Command::new("python3");
    let mut writer =
        writer.arg("-c").arg(lock).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(writer.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let file = File::open(&path).unwrap();
    let error = lmdb::wait_for_writers(&file, Duration::ZERO).unwrap_err();
    assert!(error.contains("another program has locked it"), "{error}");
    drop(writer.stdin.take());
    writer.wait().unwrap();
    lmdb::wait_for_writers(&file, Duration::ZERO).unwrap();
}
