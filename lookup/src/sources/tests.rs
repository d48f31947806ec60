//! Sources that do as they are told, together.

use smime::{algorithm::DigestAlgorithm, key::Digest, testing::fixtures};

use super::*;
use crate::Selector;

#[derive(Debug)]
struct Scripted {
    name: &'static str,
    kind: Kind,
    asked: AtomicUsize,
    does: Does,
}

#[derive(Debug)]
enum Does {
    Find(Vec<&'static str>),
    Pin(&'static str),
    HaveNone,
    BeDown,
    BeBogus,
    Sleep(Duration),
    Panic,
}

impl CertificateSource for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn find(&self, _: &MailAddress, _: Instant) -> Answer {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let server = || self.name.to_owned();
        match &self.does {
            Does::Find(names) => {
                let certificates = names.iter().map(|name| fixtures::certificate(name)).collect();
                Answer::Found(Finding { certificates, ..Finding::default() })
            }
            Does::Pin(name) => {
                let digest = Digest::of(DigestAlgorithm::Sha256, fixtures::certificate(name).der());
                let pin = Pin {
                    selector: Selector::Certificate,
                    digest: Some(DigestAlgorithm::Sha256),
                    data: digest.as_bytes().to_vec(),
                };
                Answer::Found(Finding { pins: vec![pin], ..Finding::default() })
            }
            Does::HaveNone => Answer::Absent,
            Does::BeDown => {
                Answer::Unknown(LookupError::Unreachable { server: server(), reason: "down".to_owned() })
            }
            Does::BeBogus => Answer::Unknown(LookupError::NotSecure { name: server(), state: "bogus" }),
            Does::Sleep(time) => {
                thread::sleep(*time);
                Answer::Absent
            }
            Does::Panic => panic!("on purpose"),
        }
    }
}

fn scripted(kind: Kind, does: Does) -> Arc<Scripted> {
    Arc::new(Scripted { name: kind.as_str(), kind, asked: AtomicUsize::new(0), does })
}

fn sources(budget: Duration, scripted: &[&Arc<Scripted>]) -> Sources {
    let sources = scripted.iter().map(|source| Arc::clone(source) as Arc<dyn CertificateSource>);
    Sources::new(sources.collect(), budget)
}

fn alice() -> MailAddress {
    MailAddress::parse("alice@example.org").unwrap()
}

const BUDGET: Duration = Duration::from_secs(20);

fn words(search: &Search) -> String {
    let words = search.answers.iter().map(|asked| match &asked.answer {
        Answer::Found(_) => "found".to_owned(),
        Answer::Absent => "absent".to_owned(),
        Answer::Unknown(error) => format!("unknown: {error}"),
    });
    words.collect::<Vec<_>>().join("; ")
}

#[test]
fn the_first_that_has_a_usable_certificate_ends_the_search() {
    use Does::{BeDown, Find, HaveNone};
    let now = fixtures::now();
    for (first, second, expected, found, second_asked) in [
        (Find(vec!["alice"]), Find(vec!["alice-twin"]), "found", 1, 0),
        (HaveNone, Find(vec!["alice"]), "absent; found", 1, 1),
        (BeDown, Find(vec!["alice"]), "unknown: ldap: down; found", 1, 1),
        // For signatures only: a reason to ask on.
        (Find(vec!["ed25519"]), Find(vec!["alice", "ed25519"]), "found; found", 2, 1),
        (HaveNone, HaveNone, "absent; absent", 0, 1),
    ] {
        let [one, two] = [scripted(Kind::Ldap, first), scripted(Kind::Directory, second)];
        let search = sources(BUDGET, &[&one, &two]).find(&alice(), now);
        assert_eq!(words(&search), expected);
        assert_eq!(search.certificates().len(), found, "{expected}");
        assert_eq!(two.asked.load(Ordering::SeqCst), second_asked, "{expected}");
    }
}

#[test]
fn unknown_is_not_absent_as_long_as_one_does_not_know() {
    let one = scripted(Kind::Ldap, Does::HaveNone);
    let two = scripted(Kind::Smimea, Does::BeBogus);
    let search = sources(BUDGET, &[&one, &two]).find(&alice(), fixtures::now());
    assert!(matches!(search.lookup(), Lookup::Unknown), "{search:?}");
    let search = sources(BUDGET, &[&one]).find(&alice(), fixtures::now());
    assert!(matches!(search.lookup(), Lookup::Absent), "{search:?}");
    let search = sources(BUDGET, &[&scripted(Kind::Ldap, Does::Panic)]).find(&alice(), fixtures::now());
    assert_eq!(words(&search), "unknown: ldap: the look-up broke off");
}

#[test]
fn where_dns_has_pins_other_certificates_do_not_count() {
    let pin = scripted(Kind::Smimea, Does::Pin("alice"));
    let directory = scripted(Kind::Directory, Does::Find(vec!["alice-twin", "alice"]));
    let search = sources(BUDGET, &[&pin, &directory]).find(&alice(), fixtures::now());
    assert_eq!(search.certificates(), [(&fixtures::certificate("alice"), Kind::Directory)]);
    assert_eq!(search.refused(), [(&fixtures::certificate("alice-twin"), Kind::Directory)]);
    let other = scripted(Kind::Directory, Does::Find(vec!["alice-twin"]));
    let search = sources(BUDGET, &[&pin, &other]).find(&alice(), fixtures::now());
    assert!(matches!(search.lookup(), Lookup::Absent), "{search:?}");
}

#[test]
fn nobody_gets_past_pins_by_stopping_the_dns() {
    let other = scripted(Kind::Directory, Does::Find(vec!["alice-twin"]));
    for does in [Does::BeBogus, Does::BeDown, Does::Sleep(Duration::from_secs(30))] {
        let pins = scripted(Kind::Smimea, does);
        let search = sources(Duration::from_millis(200), &[&pins, &other]).find(&alice(), fixtures::now());
        assert!(matches!(search.lookup(), Lookup::Unknown), "{search:?}");
        assert_eq!(search.certificates(), []);
    }
    assert_eq!(other.asked.load(Ordering::SeqCst), 0);
    // Where DNS proves that there are none, as in a zone that is not signed, the others are asked.
    let none = scripted(Kind::Smimea, Does::HaveNone);
    let search = sources(BUDGET, &[&none, &other]).find(&alice(), fixtures::now());
    assert_eq!(search.certificates().len(), 1);
}

#[test]
fn a_source_that_hangs_costs_its_share_and_the_budget_holds() {
    let hangs = scripted(Kind::Ldap, Does::Sleep(Duration::from_secs(30)));
    let good = scripted(Kind::Directory, Does::Find(vec!["alice"]));
    let together = sources(Duration::from_millis(400), &[&hangs, &good]);
    let started = Instant::now();
    let search = together.find(&alice(), fixtures::now());
    assert!(words(&search).starts_with("unknown: no answer within"), "{search:?}");
    assert_eq!(search.certificates().len(), 1);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn a_source_that_is_down_is_left_alone_for_a_while_and_one_bad_name_is_not_that() {
    let down = scripted(Kind::Ldap, Does::BeDown);
    let together = sources(BUDGET, &[&down]).with_rest(Duration::from_mins(1));
    let now = fixtures::now();
    assert_eq!(words(&together.find(&alice(), now)), "unknown: ldap: down");
    let again = words(&together.find(&MailAddress::parse("bob@example.org").unwrap(), now));
    assert!(again.contains("not asked again for another") && again.ends_with("ldap: down"), "{again}");
    assert_eq!(down.asked.load(Ordering::SeqCst), 1);
    let together = sources(BUDGET, &[&down]).with_rest(Duration::ZERO);
    let _ = (together.find(&alice(), now), together.find(&alice(), now));
    assert_eq!(down.asked.load(Ordering::SeqCst), 3);
    // Whoever owns a bogus domain must not turn DNS off for the others.
    let bogus = scripted(Kind::Smimea, Does::BeBogus);
    let together = sources(BUDGET, &[&bogus]);
    let _ = (together.find(&alice(), now), together.find(&alice(), now));
    assert_eq!(bogus.asked.load(Ordering::SeqCst), 2);
}

#[test]
fn threads_that_hang_are_not_without_number() {
    let hangs = scripted(Kind::Smimea, Does::Sleep(Duration::from_mins(1)));
    let together = sources(Duration::from_millis(1), &[&hangs]);
    let address = |n: usize| MailAddress::parse(&format!("a{n}@example.org")).unwrap();
    let answers: Vec<String> =
        (0..MAX_ASKING + 2).map(|n| words(&together.find(&address(n), fixtures::now()))).collect();
    assert!(answers[0].contains("no answer within"), "{answers:?}");
    assert!(answers[MAX_ASKING].contains("too many look-ups"), "{answers:?}");
    assert_eq!(hangs.asked.load(Ordering::SeqCst), MAX_ASKING);
}
