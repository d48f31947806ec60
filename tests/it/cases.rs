//! The special cases of `docs/special-cases.md`: one mail file each, through Postfix, and the page held against what happens.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use testkit::lab::Running;
use testkit::pki::{Key, Profile};
use testkit::sink::{Delivered, Offer};
use testkit::smtp::Origin;
use testkit::{Lab, config::Identity, mime, wait};

use crate::common::our_results;

/// Who hands the mail in.
#[derive(Clone, Copy, Debug)]
enum By {
    Login(&'static str),
    Host,
    Outside,
}

/// A mail's file, who hands it in, its envelope, and what happens; in the order of the page.
type Case = (&'static str, By, &'static str, &'static str, &'static str);

const ERIN: &str = "erin@partner.example";
const OTHER: &str = "x@other.example";
const ALICE: &str = "alice@example.org";
const BOB: &str = "bob@example.org";

#[rustfmt::skip]
const CASES: [Case; 39] = [
    ("dsn", By::Host, "", ERIN, "passes as it is"),
    ("dsn-with-the-mail", By::Host, "", ERIN, "encrypted"),
    ("dsn-from-outside", By::Outside, "", ALICE, "verified none"),
    ("mdn", By::Host, "", ERIN, "passes as it is"),
    ("null-sender", By::Host, "", OTHER, "passes as it is"),
    ("auto-reply", By::Login("alice"), "", ERIN, "encrypted"),
    ("list-when-possible", By::Login("bob"), BOB, "list@lists.example", "passes as it is"),
    ("list-required", By::Login("alice"), ALICE, "list@lists.example", "signed"),
    ("calendar-when-possible", By::Login("bob"), BOB, OTHER, "passes as it is"),
    ("calendar-required", By::Login("alice"), ALICE, OTHER, "signed"),
    ("tnef-when-possible", By::Login("bob"), BOB, OTHER, "passes as it is"),
    ("tnef-required", By::Login("alice"), ALICE, OTHER, "signed"),
    ("signed-by-smime", By::Login("alice"), ALICE, OTHER, "passes as it is"),
    ("encrypted-by-smime", By::Login("alice"), ALICE, ERIN, "passes as it is"),
    ("encrypted-as-octet-stream", By::Login("alice"), ALICE, ERIN, "passes as it is"),
    ("claims-smime", By::Login("alice"), ALICE, OTHER, "refused 550"),
    ("encrypted-from-outside", By::Outside, ERIN, BOB, "verified none"),
    ("signed-by-pgp", By::Login("alice"), ALICE, OTHER, "passes as it is"),
    ("encrypted-by-pgp", By::Login("alice"), ALICE, ERIN, "passes as it is"),
    ("inline-pgp", By::Login("alice"), ALICE, ERIN, "passes as it is"),
    ("pgp-from-outside", By::Outside, ERIN, BOB, "verified none"),
    ("several-from", By::Login("alice"), ALICE, OTHER, "refused 550"),
    ("sender", By::Login("alice"), "secretary@example.org", OTHER, "signed"),
    ("resent", By::Login("bob"), BOB, OTHER, "refused 550"),
    ("subaddress-from", By::Login("alice"), "alice+news@example.org", OTHER, "refused 451"),
    ("encrypted-from-outside", By::Outside, ERIN, "alice+tag@example.org", "verified none"),
    ("srs", By::Login("alice"), "SRS0=HHH=TT=partner.example=erin@example.org", OTHER, "signed"),
    ("batv", By::Login("alice"), "prvs=0123456789=alice@example.org", OTHER, "signed"),
    ("verp", By::Login("alice"), "bounces+x=other.example@example.org", OTHER, "signed"),
    ("utf8-subject", By::Login("alice"), ALICE, "j\u{f6}rg@other.example", "signed"),
    ("utf8-from", By::Login("alice"), "j\u{f6}rg@example.org", OTHER, "refused 451"),
    ("expired-identity", By::Login("fred"), "fred@example.org", OTHER, "refused 451"),
    ("identity-not-yet-valid", By::Login("gina"), "gina@example.org", OTHER, "refused 451"),
    ("expired-recipient", By::Login("alice"), ALICE, "ivan@partner.example", "refused 550"),
    ("encrypted", By::Login("alice"), ALICE, ERIN, "signed and encrypted"),
    ("eight-bit", By::Login("alice"), ALICE, OTHER, "signed"),
    ("grows", By::Login("alice"), ALICE, ERIN, "refused 552"),
    ("attached-signed", By::Login("alice"), ALICE, OTHER, "signed"),
    ("attached-from-outside", By::Outside, ERIN, BOB, "verified none"),
];

/// The case of a next hop that offers less than the others'.
const NEEDS_SEVEN_BIT: &str = "eight-bit";
/// The case that needs less room in the MTA than the others.
const GROWS: &str = "grows";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/cases")
}

fn mail(file: &str) -> Vec<u8> {
    let path = folder().join(format!("{file}.eml"));
    mime::crlf(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn start(name: &str, offer: Offer) -> Running {
    let mut lab = Lab::new(name).unwrap();
    let profile = |name: &str, domain: &str| Profile::new(name, &format!("{name}@{domain}"), Key::P256);
    let fred = lab.pki.issue(&profile("fred", "example.org").expired()).unwrap();
    let future = Profile { not_before: "20380101000000Z".to_owned(), ..profile("gina", "example.org") };
    let gina = lab.pki.issue(&future).unwrap();
    let ivan = lab.pki.issue(&profile("ivan", "partner.example").expired()).unwrap();
    for (person, id) in [(&fred, "f2ed00"), (&gina, "614a00")] {
        lab.token.import(&person.key, &person.name, id).unwrap();
        lab.config.identities.push(Identity::of(person, lab.pki.issuing()));
    }
    lab.config.anchors = vec![lab.pki.root(), lab.pki.issuing()];
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    lab.config.first_rules =
        "\n[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"required\"\n\
         [[rule]]\nfrom = \"bob@example.org\"\nsign = \"when-possible\"\n"
            .to_owned();
    let files = [&lab.erin, &ivan].map(|person| person.certificate.to_str().unwrap());
    lab.admin(&[&["cert", "import"], &files[..]].concat()).unwrap();
    lab.start_with(offer).unwrap()
}

/// What happens, in the words of the page.
fn outcome(running: &Running, (file, by, from, to, _): Case) -> String {
    let sent = mail(file);
    let origin = match by {
        By::Login(name) => Origin::login(name),
        By::Host => Origin::host([192, 0, 2, 7]),
        By::Outside => Origin::remote(),
    };
    let before = running.sink.mails().len();
    let is_international = !from.is_ascii() || !to.is_ascii() || !sent.is_ascii();
    let parameters = if is_international { "BODY=8BITMIME SMTPUTF8" } else { "BODY=8BITMIME" };
    let mut client = running.postfix.connect(&origin).unwrap();
    let reply = client.send_with(
        from,
        if file == NEEDS_SEVEN_BIT { "BODY=8BITMIME" } else { parameters },
        &[to],
        &sent,
    );
    let reply = reply.unwrap();
    client.quit().unwrap();
    if reply.code != 250 {
        return format!("refused {}", reply.code);
    }
    let mails = running.sink.wait_for(before + 1, PATIENCE).unwrap_or_else(|error| {
        panic!("{file}: {error:#}\n{}\n{}", running.postfix.log(), running.milter.log())
    });
    let [mail] = mails.get(before..).unwrap_or_default() else { panic!("{file}: {mails:?}") };
    assert_eq!(mail.to, [to], "{file}");
    judged(running, file, &sent, mail)
}

fn judged(running: &Running, file: &str, sent: &[u8], mail: &Delivered) -> String {
    let openssl = running.lab.openssl().unwrap();
    let body = |octets: &[u8]| {
        let end = octets.windows(4).position(|window| window == b"\r\n\r\n").expect("a header");
        octets[end..].to_vec()
    };
    let is_untouched = body(&mail.octets) == body(sent);
    if let [result] = &our_results(mail)[..] {
        assert!(is_untouched, "{file}: nothing here can be opened: {mail:?}");
        let word = result.split_once("smime=").unwrap().1;
        return format!(
            "verified {}",
            word.chars().take_while(char::is_ascii_alphabetic).collect::<String>()
        );
    }
    if is_untouched {
        return "passes as it is".to_owned();
    }
    let is_signed = |octets: &[u8]| openssl.verify(octets).is_ok();
    if is_signed(&mail.octets) {
        return "signed".to_owned();
    }
    let opened =
        openssl.decrypt(&mail.octets, &running.lab.erin).unwrap_or_else(|error| panic!("{file}: {error:#}"));
    if is_signed(&opened) { "signed and encrypted" } else { "encrypted" }.to_owned()
}

fn assert_all(running: &Running, cases: impl Iterator<Item = Case>) {
    let wrong: Vec<String> = cases
        .filter_map(|case| {
            let found = outcome(running, case);
            (found != case.4).then(|| format!("{} to {}: {found}, not {}", case.0, case.3, case.4))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", running.milter.log());
}

#[test]
fn every_special_case_is_treated_as_the_page_says() {
    let running = start("cases", Offer::EightBit);
    let (small, others): (Vec<Case>, Vec<Case>) =
        CASES.into_iter().filter(|case| case.0 != NEEDS_SEVEN_BIT).partition(|case| case.0 == GROWS);
    assert_all(&running, others.into_iter());
    running.postfix.set("message_size_limit = 45000").unwrap();
    // The same mail fits where it grows less.
    assert_all(&running, [(GROWS, By::Login("alice"), ALICE, OTHER, "signed")].into_iter());
    assert_all(&running, small.into_iter());
}

#[test]
fn a_signature_survives_the_downgrade_to_seven_bits() {
    let running = start("cases7", Offer::SevenBit);
    assert_all(&running, CASES.into_iter().filter(|case| case.0 == NEEDS_SEVEN_BIT));
}

#[test]
fn the_page_on_special_cases_says_what_is_tested() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/special-cases.md")).unwrap();
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter(|line| line.contains(".eml`"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells[2].trim_matches('`').trim_end_matches(".eml"), cells[3])
        })
        .collect();
    assert_eq!(rows, CASES.map(|case| (case.0, case.4)));
    let files: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, CASES.iter().map(|case| case.0.to_owned()).collect(), "each file has its row");
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
