//! The special cases of `docs/special-cases.md`: one mail file each, through each MTA, and the page held against what happens.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use testkit::lab::Running;
use testkit::mta::Mta;
use testkit::peers::Recipient;
use testkit::pki::{Key, Person, Profile};
use testkit::sink::{Delivered, Offer};
use testkit::smtp::Origin;
use testkit::{Lab, config::Identity, mime, wait};

use crate::common::{assert_same_content, assert_untouched, our_results, with_every_mta};

with_every_mta! {
    every_special_case_is_treated_as_the_page_says
    a_signature_survives_the_downgrade_to_seven_bits
}

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
const CASES: [Case; 57] = [
    ("dsn", By::Host, "", ERIN, "passes as it is"),
    ("dsn-with-the-mail", By::Host, "", ERIN, "encrypted"),
    ("dsn-from-outside", By::Outside, "", ALICE, "verified none"),
    ("mdn", By::Host, "", ERIN, "passes as it is"),
    ("null-sender", By::Host, "", OTHER, "passes as it is"),
    ("auto-reply", By::Login("alice"), "", ERIN, "encrypted"),
    ("auto-reply", By::Login("alice"), ALICE, ERIN, "signed and encrypted"),
    ("list-when-possible", By::Login("bob"), BOB, "list@lists.example", "passes as it is"),
    ("list-required", By::Login("alice"), ALICE, "list@lists.example", "signed"),
    ("list-when-possible", By::Login("bob"), BOB, ERIN, "passes as it is"),
    ("list-required", By::Login("alice"), ALICE, ERIN, "signed and encrypted"),
    ("calendar-when-possible", By::Login("bob"), BOB, OTHER, "passes as it is"),
    ("calendar-required", By::Login("alice"), ALICE, OTHER, "signed"),
    ("calendar-when-possible", By::Login("bob"), BOB, ERIN, "passes as it is"),
    ("calendar-required", By::Login("alice"), ALICE, ERIN, "signed and encrypted"),
    ("tnef-when-possible", By::Login("bob"), BOB, OTHER, "passes as it is"),
    ("tnef-required", By::Login("alice"), ALICE, OTHER, "signed"),
    ("tnef-when-possible", By::Login("bob"), BOB, ERIN, "passes as it is"),
    ("tnef-required", By::Login("alice"), ALICE, ERIN, "signed and encrypted"),
    ("encrypted-when-possible", By::Login("bob"), BOB, ERIN, "signed and encrypted"),
    ("signed-by-smime", By::Login("alice"), ALICE, OTHER, "passes as it is"),
    ("encrypted-by-smime", By::Login("alice"), ALICE, ERIN, "passes as it is"),
    ("encrypted-as-octet-stream", By::Login("alice"), ALICE, ERIN, "passes as it is"),
    ("signature-as-octet-stream", By::Login("alice"), ALICE, OTHER, "signed"),
    ("certificates-as-octet-stream", By::Login("alice"), ALICE, OTHER, "signed"),
    ("compressed-as-octet-stream", By::Login("alice"), ALICE, OTHER, "signed"),
    ("claims-smime", By::Login("alice"), ALICE, OTHER, "refused 550"),
    ("encrypted-from-outside", By::Outside, ERIN, BOB, "verified none"),
    ("signed-with-list-footer", By::Outside, "list-bounces@lists.example", BOB, "verified none"),
    ("signed-by-pgp", By::Login("alice"), ALICE, OTHER, "passes as it is"),
    ("encrypted-by-pgp", By::Login("alice"), ALICE, ERIN, "passes as it is"),
    ("inline-pgp", By::Login("alice"), ALICE, ERIN, "passes as it is"),
    ("pgp-from-outside", By::Outside, ERIN, BOB, "verified none"),
    ("several-from", By::Login("alice"), ALICE, OTHER, "refused 550"),
    ("group-from", By::Login("alice"), ALICE, OTHER, "refused 550"),
    ("sender", By::Login("alice"), "secretary@example.org", OTHER, "signed"),
    ("sender", By::Login("secretary"), "secretary@example.org", OTHER, "refused 550"),
    ("resent", By::Login("bob"), BOB, OTHER, "refused 550"),
    ("resent-by-its-author", By::Login("alice"), ALICE, OTHER, "signed"),
    ("resent-strangers", By::Login("alice"), ALICE, OTHER, "passes as it is"),
    ("subaddress-from", By::Login("alice"), "alice+news@example.org", OTHER, "refused 451"),
    ("alias-from", By::Login("hana"), "hana@example.org", OTHER, "signed"),
    ("encrypted-to-alice", By::Outside, ERIN, "alice+tag@example.org", "opened none"),
    ("encrypted-to-ended", By::Outside, ERIN, "fred@example.org", "opened none"),
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

/// A mail's file, and what happens to it with Postfix and otherwise with Sendmail; why is on the page.
const WITH_SENDMAIL: [(&str, &str, &str); 3] = [
    ("utf8-subject", "signed", "refused 555"),
    ("utf8-from", "refused 451", "refused 555"),
    (GROWS, "refused 552", "signed and encrypted"),
];

/// The case of a next hop that offers less than the others'.
const NEEDS_SEVEN_BIT: &str = "eight-bit";
/// The cases of a text that is encrypted before it is sent to the key of whom it names, which is made anew for each run.
const SEALED: [&str; 2] = ["encrypted-to-alice", ENDED];
/// … to fred, whose certificate has ended.
const ENDED: &str = "encrypted-to-ended";
/// The case that needs less room in the MTA than the others.
const GROWS: &str = "grows";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/cases")
}

fn written(file: &str) -> Vec<u8> {
    let path = folder().join(format!("{file}.eml"));
    mime::crlf(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// A lab that runs, hana, whose certificate has two addresses, and fred, whose certificate has ended.
fn start<M: Mta>(name: &str, offer: Offer) -> (Running<M>, [Person; 2]) {
    let mut lab = Lab::new(name).unwrap();
    let profile = |name: &str, domain: &str| Profile::new(name, &format!("{name}@{domain}"), Key::P256);
    let fred = lab.pki.issue(&profile("fred", "example.org").expired()).unwrap();
    let future = Profile { not_before: "20380101000000Z".to_owned(), ..profile("gina", "example.org") };
    let gina = lab.pki.issue(&future).unwrap();
    let ivan = lab.pki.issue(&profile("ivan", "partner.example").expired()).unwrap();
    let two =
        Profile { address: "hana@example.org,email:info@example.org".to_owned(), ..profile("hana", "") };
    let hana = lab.pki.issue(&two).unwrap();
    for (person, id) in [(&fred, "f2ed00"), (&gina, "614a00"), (&hana, "4a0a00")] {
        lab.token.import(&person.key, &person.name, id).unwrap();
        let logins = vec![person.name.clone()];
        lab.config.identities.push(Identity { logins, ..Identity::of(person, lab.pki.issuing()) });
    }
    lab.config.anchors = vec![lab.pki.root(), lab.pki.issuing()];
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    lab.config.milter = "recipient-delimiter = \"+\"\n".to_owned();
    lab.config.first_rules =
        "\n[[rule]]\nfrom = \"bob@example.org\"\nto = \"*@partner.example\"\nsign = \"when-possible\"\n\
         encrypt = \"when-possible\"\n[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"required\"\n\
         [[rule]]\nfrom = \"bob@example.org\"\nsign = \"when-possible\"\n"
            .to_owned();
    let files = [&lab.erin, &ivan].map(|person| person.certificate.to_str().unwrap());
    lab.admin(&[&["cert", "import"], &files[..]].concat()).unwrap();
    (M::start(lab, offer).unwrap(), [hana, fred])
}

/// The mail that is sent.
fn mail(lab: &Lab, fred: &Person, file: &str) -> Vec<u8> {
    let written = written(file);
    if !SEALED.contains(&file) {
        return written;
    }
    let to = if file == ENDED { fred } else { &lab.alice };
    let (header, text) = mime::split(&written);
    let entity = [b"Content-Type: text/plain\r\n\r\n", text].concat();
    let sealed = lab.openssl().unwrap().encrypt(&entity, &[Recipient::pkcs1(to)], &[]).unwrap();
    let header = String::from_utf8_lossy(header);
    let kept =
        header.lines().filter(|line| !line.starts_with("MIME-Version") && !line.starts_with("Content-"));
    let kept: Vec<String> = kept.map(|line| format!("{line}\r\n")).collect();
    [kept.concat().as_bytes(), &mime::crlf(&sealed)].concat()
}

/// What happens, in the words of the page.
fn outcome<M: Mta>(
    (running, [hana, fred]): &(Running<M>, [Person; 2]),
    (file, by, from, to, _): Case,
) -> String {
    let sent = mail(&running.lab, fred, file);
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
    judged(&running.lab, hana, file, &sent, mail)
}

fn judged(lab: &Lab, hana: &Person, file: &str, sent: &[u8], mail: &Delivered) -> String {
    let openssl = lab.openssl().unwrap();
    if let [result] = &our_results(mail)[..] {
        let word = result.split_once("smime=").unwrap().1;
        let word: String = word.chars().take_while(char::is_ascii_alphabetic).collect();
        if SEALED.contains(&file) {
            assert_same_content(&mail.octets, &written(file));
            return format!("opened {word}");
        }
        assert_untouched(mail, sent);
        return format!("verified {word}");
    }
    if mail.octets.ends_with(mime::split(sent).1) {
        assert_untouched(mail, sent);
        return "passes as it is".to_owned();
    }
    let from = mime::values(sent, "from").concat();
    let people = [(ALICE, &lab.alice), (BOB, &lab.bob), ("info@example.org", hana)];
    let author = people.iter().find(|(address, _)| from.contains(address)).map(|(_, author)| *author);
    let is_signed = |octets: &[u8]| {
        let content = author.and_then(|author| openssl.verify_by(octets, author).ok());
        content.inspect(|content| assert_same_content(content, sent)).is_some()
    };
    if is_signed(&mail.octets) {
        return "signed".to_owned();
    }
    let opened = openssl.decrypt(&mail.octets, &lab.erin).unwrap_or_else(|error| panic!("{file}: {error:#}"));
    if is_signed(&opened) {
        return "signed and encrypted".to_owned();
    }
    assert_same_content(&opened, sent);
    "encrypted".to_owned()
}

fn assert_all<M: Mta>(running: &(Running<M>, [Person; 2]), cases: impl Iterator<Item = Case>) {
    let wrong: Vec<String> = cases
        .filter_map(|case| {
            let found = outcome(running, case);
            let is_of = |row: &&(&str, &str, &str)| M::IS_SENDMAIL && (row.0, row.1) == (case.0, case.4);
            let expected = WITH_SENDMAIL.iter().find(is_of).map_or(case.4, |row| row.2);
            (found != expected).then(|| format!("{} to {}: {found}, not {expected}", case.0, case.3))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", running.0.milter.log());
}

fn every_special_case_is_treated_as_the_page_says<M: Mta>() {
    let mut running = start::<M>("cases", Offer::EightBit);
    let (small, others): (Vec<Case>, Vec<Case>) =
        CASES.into_iter().filter(|case| case.0 != NEEDS_SEVEN_BIT).partition(|case| case.0 == GROWS);
    assert_all(&running, others.into_iter());
    running.0.postfix.limit_size(45_000).unwrap();
    // The same mail fits where it grows less.
    assert_all(&running, [(GROWS, By::Login("alice"), ALICE, OTHER, "signed")].into_iter());
    assert_all(&running, small.into_iter());
}

fn a_signature_survives_the_downgrade_to_seven_bits<M: Mta>() {
    let running = start::<M>("cases7", Offer::SevenBit);
    assert_all(&running, CASES.into_iter().filter(|case| case.0 == NEEDS_SEVEN_BIT));
}

#[test]
fn the_page_on_special_cases_says_what_is_tested() {
    let page = include_str!("../../docs/special-cases.md");
    let cells = |line: &'static str| line.split('|').map(str::trim).collect::<Vec<_>>();
    let rows = page.lines().filter(|line| line.contains(".eml`")).map(cells);
    let file = |cell: &'static str| cell.trim_matches('`').trim_end_matches(".eml");
    let (otherwise, rows): (Vec<_>, Vec<_>) = rows.partition(|row| row[1].contains(".eml`"));
    let rows: Vec<_> = rows.iter().map(|row| (file(row[2]), row[3])).collect();
    assert_eq!(rows, CASES.map(|case| (case.0, case.4)));
    let otherwise: Vec<_> = otherwise.iter().map(|row| (file(row[1]), row[2], row[3])).collect();
    assert_eq!(otherwise, WITH_SENDMAIL);
    let files: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, CASES.iter().map(|case| case.0.to_owned()).collect(), "each file has its row");
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
