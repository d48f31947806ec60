//! `hsmime explain --from … --to …` and `hsmime replay`, as an administrator runs them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the functions beside the tests are part of them")]

use std::process::Command;

use serde_json::Value;
use testkit::{
    Pki, Result, Workdir, command,
    command::Finished,
    pki::{Key, Profile},
};

const RULES: &str = "[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"required\"\n\
                     [[rule]]\nfrom = \"*@example.org\"\nsign = \"required\"\n\
                     [[rule]]\nfrom = \"nobody@example.net\"\nsign = \"never\"\n\
                     [[incoming]]\nfrom = \"*@partner.example\"\non-unsigned = \"tag\"\n";

struct Desk {
    workdir: Workdir,
}

impl Desk {
    /// A configuration without a token: none is needed.
    fn new(name: &str) -> Result<Self> {
        let workdir = Workdir::new(name)?;
        let pki = Pki::new(&workdir.directory("pki")?)?;
        let alice = pki.issue(&Profile::new("alice", "alice@example.org", Key::P256))?;
        let erin = pki.issue(&Profile::new("erin", "erin@partner.example", Key::P256))?;
        let root = pki.root().display().to_string();
        let issuing = pki.issuing().display().to_string();
        let config = format!(
            "[pool]\nsocket = \"keyd.sock\"\n[cache]\npath = \"cache\"\n\
             [trust]\nanchors = [\"{root}\", \"{issuing}\"]\nrevocation = \"off\"\n\
             [milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n\
             [[identity]]\ncertificate = \"{}\"\n{RULES}",
            alice.certificate.display()
        );
        workdir.file("hsmime.toml", config)?;
        let desk = Self { workdir };
        let imported = desk.run(&format!("cert import {}", erin.certificate.display()))?;
        assert!(imported.success(), "{imported:?}");
        Ok(desk)
    }

    fn run(&self, line: &str) -> Result<Finished> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hsmime"));
        command.arg("--config").arg(self.workdir.join("hsmime.toml")).current_dir(self.workdir.path());
        command::finish("hsmime", command.args(line.split_whitespace()))
    }

    fn json(&self, line: &str) -> Value {
        let finished = self.run(line).unwrap();
        serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    }
}

#[test]
fn explain_tells_rule_plan_and_certificates_of_each_recipient() -> Result<()> {
    let desk = Desk::new("explain-mail")?;
    let told = desk.json(
        "explain --from alice@example.org --to erin@partner.example,x@other.example,new@partner.example --json",
    );
    assert_eq!((&told["direction"], &told["plan"]), (&"outgoing".into(), &"split".into()), "{told}");
    let rows = told["recipients"].as_array().unwrap();
    let lines: Vec<bool> = rows.iter().map(|row| row["rule"]["line"].is_u64()).collect();
    assert_eq!(lines, [true; 3]);
    assert_ne!(rows[0]["rule"]["line"], rows[1]["rule"]["line"]);
    for (row, plan, certificates) in
        [(&rows[0], "sign and encrypt", 1), (&rows[1], "sign", 0), (&rows[2], "sign and encrypt", 0)]
    {
        assert_eq!(row["plan"], plan, "{row}");
        assert_eq!(row["certificates"].as_array().unwrap().len(), certificates, "{row}");
        assert_eq!(row["signer"]["addresses"][0], "alice@example.org", "{row}");
    }
    assert_eq!(rows[0]["certificates"][0]["taken"], true);
    let words = desk.run("explain --from alice@example.org --to erin@partner.example")?;
    let assumed = "a client that has logged in as alice@example.org";
    for part in ["sign and encrypt", "the rule of line ", "signed with ", "cache", "yes", assumed] {
        assert!(words.text().contains(part), "{part}: {words:?}");
    }
    // Nobody is alice who logged in as bob; and who has no login at all is from elsewhere.
    let refused = desk.run("explain --from alice@example.org --to x@other.example --login bob")?;
    assert!(!refused.text().contains("logged in as"), "{refused:?}");
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert!(refused.text().contains("may not sign"), "{refused:?}");
    let incoming =
        desk.json("explain --from erin@partner.example --to alice@example.org --client 203.0.113.9 --json");
    assert_eq!(incoming["direction"], "incoming");
    assert!(
        incoming["recipients"][0]["rule"]["text"].as_str().unwrap().contains("tag unsigned"),
        "{incoming}"
    );
    assert_eq!(desk.run("explain")?.code(), Some(2));
    Ok(())
}

#[test]
fn explain_reads_the_mail_that_it_is_given() -> Result<()> {
    let desk = Desk::new("explain-file")?;
    let two = "From: alice@example.org, bob@example.org\r\nTo: x@other.example\r\n\r\nhi\r\n";
    desk.workdir.file("two.eml", two)?;
    let refused = desk.run("explain --from alice@example.org --to x@other.example --mail two.eml")?;
    assert!(refused.text().contains("refuse") && refused.code() == Some(1), "{refused:?}");
    let missing = desk.run("explain --from alice@example.org --to x@other.example --mail gone.eml")?;
    assert!(missing.stderr.contains("gone.eml") && missing.code() == Some(1), "{missing:?}");
    Ok(())
}

#[test]
fn replay_counts_what_would_happen_and_needs_no_key() -> Result<()> {
    let desk = Desk::new("replay")?;
    let mail = |from: &str, to: &str| {
        format!("From x Mon Nov 20 12:00:00 2026\nFrom: {from}\nTo: {to}\n\nhello\n\n")
    };
    let archive = [
        mail("alice@example.org", "erin@partner.example"),
        mail("alice@example.org", "x@other.example"),
        mail("alice@example.org", "y@other.example"),
        mail("bob@example.org", "x@other.example"),
        mail("erin@partner.example", "alice@example.org"),
        mail("x@other.example", "alice@example.org"),
    ]
    .concat();
    desk.workdir.file("old.mbox", &archive)?;
    let maildir = desk.workdir.directory("Maildir")?;
    std::fs::create_dir(maildir.join("cur"))?;
    std::fs::create_dir(maildir.join("tmp"))?;
    for (number, mail) in archive.split("From x Mon Nov 20 12:00:00 2026\n").skip(1).enumerate() {
        std::fs::write(maildir.join(format!("cur/{number}:2,S")), mail)?;
    }
    for archive in ["old.mbox", "Maildir"] {
        let told = desk.json(&format!("replay {archive} --json"));
        assert_eq!(told["messages"], 6, "{told}");
        let fates = told["fates"].as_array().unwrap();
        let count = |direction: &str, action: &str, about: &str| {
            let mut of = fates.iter().filter(|fate| {
                fate["direction"] == direction && fate["action"] == action && fate["about"] == about
            });
            of.next().map_or(0, |fate| fate["messages"].as_u64().unwrap())
        };
        for (direction, action, about, expected) in [
            ("outgoing", "sign and encrypt", "encryption required", 1),
            ("outgoing", "sign", "signature", 2),
            ("outgoing", "refuse", "policy or a missing identity", 1),
            ("incoming", "tag", "none", 1),
            ("incoming", "deliver", "none", 1),
        ] {
            assert_eq!(count(direction, action, about), expected, "{action}: {told}");
        }
    }
    let words = desk.run("replay old.mbox")?;
    assert!(words.text().contains("6 messages\nrules about none of them: line "), "{words:?}");
    assert_eq!(desk.run("replay gone.mbox")?.code(), Some(1));
    Ok(())
}
