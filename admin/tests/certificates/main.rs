//! `hsmime cert` and `hsmime cache` as an administrator and a monitoring system run them.

mod effect;
mod owner;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use testkit::{
    Pki, Result, Workdir, command,
    command::Finished,
    ensure,
    pki::{Key, Profile},
    slapd::{BASE, Slapd},
};

/// A folder with a configuration, a cache and a CA; no token, because none is needed.
struct Desk {
    workdir: Workdir,
    pki: Pki,
}

impl Desk {
    fn new(name: &str, more: &str) -> Result<Self> {
        let workdir = Workdir::new(name)?;
        let pki = Pki::new(&workdir.directory("pki")?)?;
        let root = pki.root().display().to_string();
        let config = format!(
            "[cache]\npath = \"cache\"\n[trust]\nanchors = [\"{root}\"]\nrevocation = \"off\"\n{more}"
        );
        workdir.file("hsmime.toml", config)?;
        Ok(Self { workdir, pki })
    }

    fn run(&self, line: &str) -> Result<Finished> {
        self.run_with_input(line, b"")
    }

    fn run_with_input(&self, line: &str, input: &[u8]) -> Result<Finished> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hsmime"));
        command.arg("--config").arg(self.workdir.join("hsmime.toml")).current_dir(self.workdir.path());
        command::finish_with_input("hsmime", command.args(line.split_whitespace()), input)
    }

    fn json(&self, line: &str) -> Result<Value> {
        let finished = self.run(line)?;
        serde_json::from_slice(&finished.stdout).map_err(|error| error_of(&format!("{error}: {finished:?}")))
    }

    /// A certificate with the issuing CA's behind it, as a file.
    fn issue(&self, profile: &Profile) -> Result<PathBuf> {
        let person = self.pki.issue(profile)?;
        let chain = fs::read_to_string(&person.certificate)? + &fs::read_to_string(self.pki.issuing())?;
        self.workdir.file(&format!("{}.pem", profile.name), chain)
    }
}

fn error_of(text: &str) -> testkit::Error {
    testkit::Error::msg(text.to_owned())
}

fn openssl(folder: &Path, line: &str) -> Result<()> {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(line.split_whitespace());
    command::succeed("openssl", &mut command).map(drop)
}

fn bob() -> Profile {
    Profile::new("bob", "bob@partner.example", Key::P256)
}

/// The fingerprint of the first certificate with an address.
fn fingerprint(list: &Value, address: &str) -> Result<String> {
    let rows = list["certificates"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row =
        rows.iter().find(|row| row["addresses"].as_array().is_some_and(|a| a.contains(&address.into())));
    let text = row.and_then(|row| row["fingerprint"].as_str()).map(str::to_owned);
    text.ok_or_else(|| error_of(&format!("no certificate of {address} in {list}")))
}

#[test]
fn certificates_are_imported_from_every_form_and_what_came_of_each_is_told() -> Result<()> {
    let desk = Desk::new("forms", "")?;
    let folder = desk.workdir.path();
    desk.issue(&bob())?;
    let key = desk.pki.issue(&Profile::new("carol", "carol@partner.example", Key::Rsa2048))?;
    let (carol, carol_key) = (key.certificate.display().to_string(), key.key.display().to_string());
    openssl(folder, "crl2pkcs7 -nocrl -certfile bob.pem -outform DER -out bob.p7b")?;
    openssl(folder, "x509 -in bob.pem -outform DER -out bob.der")?;
    fs::write(folder.join("password"), "secret\n")?;
    let export = format!("-in {carol} -inkey {carol_key} -passout file:password");
    openssl(folder, &format!("pkcs12 -export -legacy -out old.p12 {export}"))?;
    openssl(folder, &format!("pkcs12 -export -out new.p12 {export}"))?;
    let der = fs::read(folder.join("bob.der"))?;
    let ldif = format!("dn: cn=bob\nuserCertificate;binary:: {}\n", data_encoding::BASE64.encode(&der));
    fs::write(folder.join("export.ldif"), ldif)?;
    for (file, words) in [
        ("bob.pem", "new"),
        ("bob.p7b", "known already"),
        ("bob.der", "known already"),
        ("export.ldif", "known already"),
        ("old.p12 --password-file password", "new"),
        ("new.p12 --password-file password", "known already"),
    ] {
        let done = desk.run(&format!("cert import {file}"))?;
        ensure!(done.success(), "{file}: {done:?}");
        let shown = done.text();
        let found = shown.lines().any(|line| line.contains("@partner.example") && line.contains(words));
        ensure!(found, "{file}: {words:?} is not in {shown}");
    }
    let from_stdin = desk.run_with_input("cert import -", &der)?;
    ensure!(from_stdin.success() && from_stdin.text().contains("known already"), "{from_stdin:?}");
    let password = desk.run_with_input("cert import old.p12 --password-file -", b"secret\n")?;
    ensure!(
        password.success() && password.text().contains("a private key, which was not read"),
        "{password:?}"
    );
    let none = desk.run("cert import old.p12")?;
    ensure!(none.code() == Some(1) && none.text().contains("say --password-file"), "{none:?}");
    fs::write(folder.join("wrong"), "wrong\n")?;
    let wrong = desk.run("cert import old.p12 --password-file wrong")?;
    ensure!(wrong.code() == Some(1) && wrong.text().contains("the password is wrong"), "{wrong:?}");
    let listed = desk.json("cert list --json")?;
    // The CA of the chain is there too, once.
    ensure!(listed["certificates"].as_array().map(Vec::len) == Some(3), "{listed}");
    Ok(())
}

#[test]
fn what_is_no_certificate_is_told_in_a_line_and_harms_no_other() -> Result<()> {
    let desk = Desk::new("junk", "")?;
    let folder = desk.workdir.path();
    desk.issue(&bob())?;
    fs::write(folder.join("empty"), "")?;
    fs::write(folder.join("words"), "hello\n")?;
    fs::write(folder.join("nested"), vec![0x30; 200_000])?;
    let random: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(folder.join("random"), random)?;
    fs::write(folder.join("cut.pem"), &fs::read(folder.join("bob.pem"))?[..300])?;
    fs::create_dir(folder.join("folder"))?;
    let files = "empty words nested random cut.pem folder missing.pem /dev/zero bob.pem";
    let done = desk.run(&format!("cert import {files}"))?;
    let shown = done.text();
    ensure!(done.code() == Some(1) && done.stderr.is_empty(), "{done:?}");
    for (file, words) in [
        ("empty", "the file is empty"),
        ("words", "it is neither PEM, DER"),
        ("nested", "FAILED"),
        ("random", "FAILED"),
        ("cut.pem", "line 1: a -----BEGIN without its -----END"),
        ("folder", "Is a directory"),
        ("missing.pem", "No such file or directory"),
        ("/dev/zero", "longer than 64 MiB"),
    ] {
        let found = shown.lines().any(|line| line.starts_with(&format!("{file} ")) && line.contains(words));
        ensure!(found, "{file}: {words:?} is not in {shown}");
    }
    ensure!(
        shown.lines().any(|line| line.contains("bob@partner.example") && line.ends_with("  new")),
        "{shown}"
    );
    let json = desk.run("cert import words bob.pem --json")?;
    let value: Value = serde_json::from_slice(&json.stdout)?;
    ensure!(
        value["imported"][0]["result"] == "failed" && value["imported"][1]["result"] == "known",
        "{value}"
    );
    Ok(())
}

#[test]
fn decisions_are_carried_out_remembered_and_taken_back() -> Result<()> {
    let desk = Desk::new("decisions", "")?;
    desk.issue(&bob())?;
    ensure!(desk.run("cert import bob.pem --reason signed-by-mail")?.success(), "no import");
    let bob = fingerprint(&desk.json("cert list --json")?, "bob@partner.example")?;
    let short: String = bob.chars().take(16).collect();
    let state = |expected: &str| {
        let shown = desk.json(&format!("cert show {bob} --json"))?;
        ensure!(shown["state"] == expected, "{expected}: {shown}");
        Ok(())
    };
    state("trusted")?;
    let pinned =
        desk.run(&format!("cert trust --pin --assign @partner.example --reason by-phone {short}"))?;
    ensure!(pinned.success() && pinned.text().contains("is pinned (was accepted)"), "{pinned:?}");
    state("pinned")?;
    // For the whole domain now.
    let listed = desk.json("cert list --json --address anybody@partner.example")?;
    ensure!(listed["certificates"][0]["assigned"][0] == "@partner.example", "{listed}");
    ensure!(desk.run(&format!("cert distrust --reason lost {short}"))?.success(), "no distrust");
    state("distrusted")?;
    // It does not come back by being imported.
    ensure!(desk.run("cert import bob.pem")?.success(), "no import");
    state("distrusted")?;
    ensure!(desk.run(&format!("cert trust {short}"))?.success(), "no trust");
    state("trusted")?;
    let pem = desk.run(&format!("cert show {short} --pem"))?;
    ensure!(fs::read_to_string(desk.workdir.join("bob.pem"))?.contains(pem.text().trim_end()), "{pem:?}");

    let issuing = desk.pki.issuing().display().to_string();
    let rule = desk.run(&format!("cert distrust --issuer {issuing} --after 2024-12-31 --reason breach"))?;
    let shown = rule.text();
    ensure!(
        rule.success() && shown.contains("begin after 2024-12-31") && shown.contains("1 is in the cache"),
        "{rule:?}"
    );
    let rules = desk.json("cert rules --json")?;
    ensure!(
        rules["rules"][0]["after"] == "2024-12-31T23:59:59Z" && rules["rules"][0]["comment"] == "breach",
        "{rules}"
    );
    ensure!(desk.run("cert rules --remove 1 --reason mistake")?.success(), "not taken back");
    ensure!(desk.json("cert rules --json")?["rules"].as_array().is_some_and(Vec::is_empty), "a rule is left");
    ensure!(desk.run(&format!("cert remove {short}"))?.success(), "not removed");
    ensure!(desk.run(&format!("cert show {short}"))?.code() == Some(1), "it is still there");
    let log = desk.run("cache log")?.text();
    for reason in ["signed-by-mail", "by-phone", "lost", "breach", "removed: mistake"] {
        ensure!(log.contains(reason), "{reason:?} is not in {log}");
    }
    Ok(())
}

#[test]
fn a_new_user_is_told_what_to_do() -> Result<()> {
    let desk = Desk::new("errors", "")?;
    desk.issue(&bob())?;
    ensure!(desk.run("cert import bob.pem")?.success(), "no import");
    let no_cache = Desk::new("no-cache", "")?;
    no_cache.workdir.file("hsmime.toml", "")?;
    let closed = Desk::new("closed", "")?;
    closed.workdir.file("hsmime.toml", "[cache]\npath = \"nowhere/cache\"\n")?;
    for (desk, line, code, expected) in [
        (
            &desk,
            "cert show deadbeef",
            1,
            "no certificate in the cache begins with deadbeef; see `hsmime cert list`",
        ),
        (&desk, "cert show bob", 1, "is no fingerprint: give at least 8 digits"),
        (&desk, "cert trust --assign nonsense 00000000", 1, "no certificate in the cache begins with"),
        (&desk, "cert distrust", 2, "required"),
        (&desk, "cert distrust --issuer ./missing.pem", 1, "there is no such file"),
        (&desk, "cert distrust --issuer CN=Nobody", 1, "or the file of the issuer's certificate"),
        (&desk, "cert distrust --issuer bob.pem", 1, "give a file with the issuer's alone"),
        (&desk, "cert distrust --issuer CN=x --after 2026-02-30", 2, "there is no such day"),
        (&desk, "cert list --address bob", 2, "there is no @"),
        (&desk, "cert list --state good", 2, "distrusted, candidate, pending, accepted or pinned"),
        (&desk, "cert rules --remove 7", 1, "there is no rule 7; see `hsmime cert rules`"),
        (&desk, "cert check --expires-within soon", 2, "like 30d or 4w"),
        (&desk, "cert find bob@partner.example", 1, "there is no [[source]] in"),
        (&desk, "cache import missing.jsonl", 1, "missing.jsonl: No such file"),
        (&desk, "cache export --out bob.pem", 1, "bob.pem: File exists"),
        (&desk, "cert lst", 2, "similar"),
        (&no_cache, "cert list", 1, "there is no [cache] in"),
        (&closed, "cert list", 2, "the folder it would be made in is not there"),
    ] {
        let finished = desk.run(line)?;
        ensure!(finished.code() == Some(code), "{line}: {finished:?}");
        ensure!(finished.stderr.contains(expected), "{line}: {expected:?} is not in {}", finished.stderr);
        ensure!(finished.stdout.is_empty(), "{line}: {finished:?}");
    }
    for line in ["--help", "cert --help", "cert import --help", "cert distrust --help", "cache --help"] {
        let help = desk.run(line)?;
        ensure!(help.success() && help.text().lines().count() > 8, "{line}: {help:?}");
    }
    let wild = desk.workdir.join("cache");
    fs::set_permissions(&wild, fs::Permissions::from_mode(0o777))?;
    let finished = desk.run("cert list")?;
    ensure!(finished.code() == Some(1) && finished.stderr.contains("everybody may write"), "{finished:?}");
    Ok(())
}

#[test]
fn monitoring_is_told_of_ends_without_a_successor_by_the_exit_code() -> Result<()> {
    let desk = Desk::new("expiry", "")?;
    let ends = |mut profile: Profile, name: &str, day: &str| {
        profile.name = name.to_owned();
        profile.not_after = format!("{day}120000Z");
        profile
    };
    let now = Command::new("date").args(["-u", "-d", "+10 days", "+%Y%m%d"]).output()?;
    let soon = String::from_utf8(now.stdout)?;
    desk.issue(&ends(bob(), "soon", soon.trim()))?;
    ensure!(desk.run("cert import soon.pem")?.success(), "no import");
    let check = desk.run("cert check")?;
    ensure!(check.code() == Some(1) && check.text().contains("recipient"), "{check:?}");
    let value = desk.json("cert check --json")?;
    let days = value["expiring"][0]["days"].as_i64();
    ensure!(days.is_some_and(|days| (9..=10).contains(&days)), "{value}");
    let early = desk.run("cert check --expires-within 1d")?;
    ensure!(early.success() && early.text().starts_with("nothing ends before"), "{early:?}");
    // A successor is there, and nobody has to act.
    desk.issue(&ends(bob(), "later", "20391231"))?;
    ensure!(desk.run("cert import later.pem")?.success(), "no import");
    let check = desk.run("cert check")?;
    ensure!(check.success(), "{check:?}");
    Ok(())
}

#[test]
fn a_cache_is_exported_imported_copied_checked_and_mended() -> Result<()> {
    let desk = Desk::new("cache", "")?;
    desk.issue(&bob())?;
    ensure!(desk.run("cert import bob.pem --pin")?.success(), "no import");
    let before = desk.json("cert list --json")?;
    let exported = desk.run("cache export --out all.jsonl")?;
    ensure!(exported.success() && exported.text().starts_with("2 lines in "), "{exported:?}");
    ensure!(desk.run("cache backup copy")?.success(), "no backup");
    let again = desk.run("cache backup copy")?;
    ensure!(again.code() == Some(1), "a copy was written over: {again:?}");
    let check = desk.json("cache check --json")?;
    ensure!(check["faults"] == 0 && check["certificates"] == 2, "{check}");
    let stat = desk.json("cache stat --json")?;
    ensure!(stat["certificates"] == 2 && stat["absent"] == 0, "{stat}");
    ensure!(desk.run("cache sweep")?.success(), "no sweep");
    for source in ["cache import all.jsonl", ""] {
        fs::remove_dir_all(desk.workdir.join("cache"))?;
        if source.is_empty() {
            fs::rename(desk.workdir.join("copy"), desk.workdir.join("cache"))?;
        } else {
            let imported = desk.run(source)?;
            ensure!(imported.success() && imported.text() == "2 new, 0 known already\n", "{imported:?}");
        }
        let after = desk.json("cert list --json")?;
        let names = |list: &Value| fingerprint(list, "bob@partner.example");
        ensure!(names(&after)? == names(&before)?, "{after}");
        ensure!(after.to_string().contains("\"pinned\""), "{after}");
    }
    fs::write(desk.workdir.join("bad.jsonl"), "{\"type\":\"hsmime-certcache\",\"version\":1}\nnonsense\n")?;
    let bad = desk.run("cache import bad.jsonl")?;
    ensure!(bad.code() == Some(1) && bad.stderr.contains("line 2 of the export: no JSON"), "{bad:?}");
    Ok(())
}

#[test]
fn find_asks_the_sources_and_stores_what_they_have_if_asked_to() -> Result<()> {
    let workdir = Workdir::new("find-servers")?;
    let files = workdir.directory("partners")?;
    let slapd = Slapd::start(&workdir, "")?;
    let gone = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let more = format!(
        "[[source]]\nkind = \"ldap\"\nname = \"staff\"\nurl = \"{}\"\nbase = \"{BASE}\"\n\
         [[source]]\nkind = \"directory\"\nname = \"partners\"\npath = \"{}\"\n[lookup]\nbudget-ms = 3000\n",
        slapd.ldap(),
        files.display()
    );
    let desk = Desk::new("find", &more)?;
    let absent = desk.run("cert find bob@partner.example")?;
    ensure!(
        absent.success() && absent.text().lines().filter(|l| l.ends_with("absent")).count() == 2,
        "{absent:?}"
    );
    fs::copy(desk.issue(&bob())?, files.join("bob.pem"))?;
    let found = desk.json("cert find bob@partner.example --json")?;
    ensure!(found["answers"][0]["answer"] == "absent" && found["answers"][1]["answer"] == "found", "{found}");
    let first = &found["certificates"][0];
    // Its issuer is in the same file.
    ensure!(first["kind"] == "directory" && first["refused"].is_null(), "{found}");
    ensure!(
        desk.json("cert list --json")?["certificates"].as_array().is_some_and(Vec::is_empty),
        "it was stored"
    );
    let stored = desk.run("cert find bob@partner.example --store")?;
    ensure!(stored.success() && stored.text().contains("1 new certificate put into the cache"), "{stored:?}");
    let listed = desk.json("cert list --json --address bob@partner.example")?;
    ensure!(listed["certificates"][0]["sources"][0] == "directory", "{listed}");
    let chosen = desk.run("explain bob@partner.example")?.text();
    ensure!(chosen.ends_with("is encrypted to 1 certificate\n"), "{chosen}");
    // A server that is down is named, and the exit code says so.
    let down = more.replace(&slapd.ldap(), &format!("ldap://{gone}"));
    let desk = Desk::new("find-down", &down)?;
    let unknown = desk.run("cert find carol@partner.example")?;
    ensure!(unknown.code() == Some(1) && unknown.text().contains("UNKNOWN: ldap://127.0.0.1"), "{unknown:?}");
    Ok(())
}
