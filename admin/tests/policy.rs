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
    /// A certificate of new@partner.example, who is not known.
    new: std::path::PathBuf,
}

impl Desk {
    /// A configuration without a token: none is needed.
    fn new(name: &str) -> Result<Self> {
        let workdir = Workdir::new(name)?;
        let pki = Pki::new(&workdir.directory("pki")?)?;
        let alice = pki.issue(&Profile::new("alice", "alice@example.org", Key::P256))?;
        let erin = pki.issue(&Profile::new("erin", "erin@partner.example", Key::P256))?;
        let new = pki.issue(&Profile::new("new", "new@partner.example", Key::P256))?.certificate;
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
        let desk = Self { workdir, new };
        let imported = desk.run(&format!("cert import {}", erin.certificate.display()))?;
        assert!(imported.success(), "{imported:?}");
        Ok(desk)
    }

    /// Changes the configuration.
    fn replace(&self, from: &str, to: &str) -> Result<()> {
        let text = std::fs::read_to_string(self.workdir.join("hsmime.toml"))?;
        assert!(text.contains(from), "{text}");
        self.workdir.file("hsmime.toml", text.replace(from, to))?;
        Ok(())
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
    let alone = desk.run("explain --from alice@example.org")?;
    assert!(alone.code() == Some(2) && alone.stderr.contains("say --to"), "{alone:?}");
    Ok(())
}

#[test]
fn explain_says_that_mail_waits_why_and_what_to_do() -> Result<()> {
    let desk = Desk::new("explain-waits")?;
    let told = |to: &str, more: &str| {
        let line = format!("explain --from alice@example.org --to {to} {more}");
        let (words, json) = (desk.run(&line).unwrap(), desk.json(&format!("{line} --json")));
        let outcomes = json["recipients"].as_array().unwrap().iter().map(|row| row["outcome"].clone());
        (words.text(), words.code(), json["outcome"].clone(), outcomes.collect::<Vec<_>>())
    };
    let (erin, new, both) =
        ("erin@partner.example", "new@partner.example", "erin@partner.example,new@partner.example");
    let (text, code, outcome, each) = told(erin, "");
    assert!(text.starts_with("outgoing mail leaves\n"), "{text}");
    assert_eq!(
        (code, &outcome["fate"], each),
        (Some(0), &"leaves".into(), vec!["signed and encrypted".into()])
    );
    // Of one of ours it is told that mail is encrypted to the identity.
    let own = desk.run("explain alice@example.org")?.text();
    assert!(
        own.starts_with("alice@example.org is ours: ") && own.contains("/alice.pem; mail to it is"),
        "{own}"
    );
    assert!(!own.contains("cannot be encrypted"), "{own}");
    // Nobody can be asked of the other one: the milter answers 451, for both.
    let (text, code, outcome, each) = told(both, "");
    assert!(
        text.starts_with(
            "outgoing mail waits (451): not encrypted: no certificate of new@partner.example is known"
        ),
        "{text}"
    );
    assert!(text.contains("what to do: import their certificates"), "{text}");
    assert_eq!((code, &outcome["fate"], each), (Some(1), &"waits".into(), vec!["waits".into(); 2]));
    // Where the rule lets it, he gets it in clear; and a copy of his own needs a way back.
    desk.replace("encrypt = \"required\"", "encrypt = \"when-possible\"")?;
    let (text, code, ..) = told(both, "");
    assert!(text.contains("waits (451): its 2 groups") && text.contains("write `reinject`"), "{text}");
    assert_eq!(code, Some(1));
    desk.replace("[milter]\n", "[milter]\nreinject = \"inet:127.0.0.1:10026\"\nstate = \"state\"\n")?;
    let (text, code, _, each) = told(both, "");
    assert!(text.starts_with("outgoing mail leaves in 2 forms"), "{text}");
    assert_eq!((code, each), (Some(0), vec!["signed and encrypted".into(), "signed, in clear".into()]));
    // A source that would be asked decides, and is asked only where that is wanted.
    desk.workdir.directory("files")?;
    desk.replace("[milter]\n", "[[source]]\nkind = \"directory\"\npath = \"files\"\n[milter]\n")?;
    let (text, code, outcome, each) = told(both, "");
    let silent = "where one does not answer, it waits (451): not encrypted";
    for part in ["would ask directory about new@partner.example; so does --ask", silent] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("where none has a certificate, it leaves in 2 forms"), "{text}");
    assert_eq!((code, &outcome["fate"]), (Some(0), &"undecided".into()));
    assert_eq!((&outcome["unasked"][0], &outcome["if_silent"]["fate"]), (&new.into(), &"waits".into()));
    assert_eq!(each, ["signed and encrypted", "what the sources say"]);
    std::fs::copy(&desk.new, desk.workdir.join("files/new.pem"))?;
    let (_, _, outcome, _) = told(both, "");
    assert_eq!(outcome["fate"], "undecided", "nobody was asked");
    let (text, code, _, each) = told(both, "--ask");
    assert!(text.starts_with("outgoing mail leaves\n"), "{text}");
    assert_eq!((code, each), (Some(0), vec!["signed and encrypted".into(); 2]));
    // A source that does not answer.
    let (url, ca) = ("ldaps://127.0.0.1:1", desk.new.display());
    let ldap = format!("kind = \"ldap\"\nurl = \"{url}\"\nbase = \"dc=x\"\nca-file = \"{ca}\"\n");
    desk.replace("kind = \"directory\"\npath = \"files\"\n", &ldap)?;
    let (text, code, ..) = told("other@partner.example", "--ask");
    assert!(
        text.contains("waits (451)") && text.contains("hsmime cert find other@partner.example"),
        "{text}"
    );
    assert_eq!(code, Some(1));
    // And an author without a certificate has to wait, too, where a rule requires one.
    let line = format!("explain --from dave@example.org --to {erin} --json");
    assert_eq!(desk.json(&line)["outcome"]["fate"], "waits");
    Ok(())
}

#[test]
fn explain_reads_the_mail_that_it_is_given() -> Result<()> {
    let desk = Desk::new("explain-file")?;
    let two = "From: alice@example.org, bob@example.org\r\nTo: x@other.example\r\n\r\nhi\r\n";
    desk.workdir.file("two.eml", two)?;
    let refused = desk.run("explain --from alice@example.org --to x@other.example --mail two.eml")?;
    assert!(refused.text().contains("refuse") && refused.code() == Some(1), "{refused:?}");
    desk.workdir.file(
        "one.eml",
        "From: alice@example.org\r\nTo: x@other.example\r\nCc: y@other.example\r\n\r\nhi\r\n",
    )?;
    let named = desk.json("explain --from alice@example.org --mail one.eml --json");
    let recipients = &named["recipients"];
    assert!(
        recipients[0]["recipient"] == "x@other.example" && recipients[1]["recipient"] == "y@other.example",
        "{named}"
    );
    // The same without the option's name, behind --to as well.
    for line in
        ["explain one.eml --from alice@example.org --json", "explain --from alice@example.org one.eml --json"]
    {
        assert_eq!(desk.json(line), named, "{line}");
    }
    let alone = "explain --from alice@example.org --to erin@partner.example --to x@other.example two.eml";
    let refused = desk.run(alone)?;
    assert!(refused.text().contains("refuse") && refused.code() == Some(1), "{refused:?}");
    for (line, words) in [
        ("explain one.eml", "a mail's file needs --from"),
        ("explain one.eml --from alice@example.org --mail two.eml", "cannot be used with"),
    ] {
        let wrong = desk.run(line)?;
        assert!(wrong.stderr.contains(words) && wrong.code() == Some(2), "{line}: {wrong:?}");
    }
    desk.workdir.file("nobody.eml", "From: alice@example.org\r\n\r\nhi\r\n")?;
    let nobody = desk.run("explain --from alice@example.org --mail nobody.eml")?;
    assert!(nobody.stderr.contains("say --to") && nobody.code() == Some(1), "{nobody:?}");
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
        mail("alice@example.org", "new@partner.example"),
        // It claims to be protected, and is not.
        mail("alice@example.org", "x@other.example")
            .replace("\n\nhello", "\nContent-Type: application/pkcs7-mime\n\nhello"),
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
        assert_eq!(told["messages"], 8, "{told}");
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
            ("outgoing", "refuse", "policy", 1),
            ("outgoing", "wait", "no valid identity can sign", 1),
            ("outgoing", "wait", "nothing is known of a certificate", 1),
            ("incoming", "tag", "none", 1),
            ("incoming", "deliver", "none", 1),
        ] {
            assert_eq!(count(direction, action, about), expected, "{action}: {told}");
        }
    }
    // A source that would be asked decides what becomes of the mail to who is not known.
    desk.workdir.directory("files")?;
    desk.replace("[milter]\n", "[[source]]\nkind = \"directory\"\npath = \"files\"\n[milter]\n")?;
    let told = desk.json("replay old.mbox --json");
    let mut asks = told["fates"].as_array().unwrap().iter().filter(|fate| fate["action"] == "ask");
    assert_eq!(asks.next().map(|fate| &fate["messages"]), Some(&1.into()), "{told}");
    assert_eq!(asks.next(), None, "{told}");
    let words = desk.run("replay old.mbox")?;
    assert!(words.text().contains("8 messages\nrules about none of them: line "), "{words:?}");
    assert_eq!(desk.run("replay gone.mbox")?.code(), Some(1));
    Ok(())
}
