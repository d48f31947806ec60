//! CRLs and OCSP responses fetched from a real server, and from servers that are none.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test helpers"
)]

mod authority;
mod gate;

use std::{
    fs,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use authority::{Authority, run};
use gate::{Rule, get};
use lookup::{FetchSettings, Fetcher, MemoryStore};
use smime::{
    Certificate,
    path::{PathError, Revocation, RevocationMode, Trust, validate},
    revocation::{OcspRequest, RevocationSource, Witness},
};

fn settings() -> FetchSettings {
    FetchSettings {
        allowed: vec!["127.0.0.0/8".parse().unwrap()],
        // Long enough for a busy machine; nothing below waits for it unless it says so.
        budget: Duration::from_secs(30),
        ..FetchSettings::default()
    }
}

fn fetcher(settings: FetchSettings) -> Arc<Fetcher> {
    Arc::new(Fetcher::new(settings, Box::<MemoryStore>::default()).unwrap())
}

/// Trusts the CA itself, so that each path has one certificate that can be revoked.
fn trust(authority: &Authority, fetcher: &Arc<Fetcher>, revocation: RevocationMode) -> Trust {
    let source: Arc<dyn RevocationSource> = Arc::<Fetcher>::clone(fetcher);
    Trust {
        anchors: vec![authority.certificate("ca")],
        revocation,
        revocation_source: Some(source),
        ..Trust::default()
    }
}

/// What is found of a certificate: who told that it is good, `revoked`, or why nothing is known.
fn found(leaf: &Certificate, trust: &Trust) -> String {
    match validate(leaf, &[], trust, SystemTime::now()).map(|path| path.revocation().clone()) {
        Ok(Revocation::Good { by: Some(Witness::Crl), .. }) => "good by CRL".into(),
        Ok(Revocation::Good { by: Some(Witness::Ocsp), .. }) => "good by OCSP".into(),
        Ok(Revocation::Unknown(reason)) => format!("soft: {reason}"),
        Err(PathError::Revoked { .. }) => "revoked".into(),
        Err(PathError::RevocationUnknown { reason, .. }) => format!("hard: {reason}"),
        other => panic!("{other:?}"),
    }
}

/// Says what the certificate of `name` is with this fetcher, in both modes: hard first.
fn judge(authority: &Authority, fetcher: &Arc<Fetcher>, name: &str) -> (String, String) {
    let leaf = authority.certificate(name);
    let [hard, soft] = [RevocationMode::HardFail, RevocationMode::SoftFail]
        .map(|mode| found(&leaf, &trust(authority, fetcher, mode)));
    (hard, soft)
}

#[test]
fn good_revoked_and_unknown_are_told_apart_by_what_a_real_server_says() {
    let authority = Authority::start("revocation-answers").unwrap();
    let fetcher_with_nonce = fetcher(FetchSettings { nonce: true, ..settings() });
    let fetcher = fetcher(settings());
    for (name, expected) in [
        ("alice", "good by CRL"),
        ("bob", "revoked"),
        ("carol", "good by OCSP"),
        ("dave", "revoked"),
        ("grace", "good by OCSP"),
        ("erin", "hard: there is no CRL of its issuer; the OCSP response cannot be used: \"CN=no-eku,C=DE\""),
        (
            "frank",
            "hard: there is no CRL of its issuer; the OCSP response cannot be used: it is not signed by the issuer or whom the issuer appointed",
        ),
    ] {
        let (hard, soft) = judge(&authority, &fetcher, name);
        assert!(hard.starts_with(expected), "{name}: {hard}");
        let is_the_same = match hard.strip_prefix("hard: ") {
            Some(reason) => soft.starts_with("soft: ") && soft.ends_with(reason),
            None => hard == soft,
        };
        assert!(is_the_same, "{name}: {hard} {soft}");
    }
    let reason_of = |name| judge(&authority, &fetcher, name).0;
    assert!(reason_of("erin").contains("extKeyUsage has no OCSPSigning"), "{}", reason_of("erin"));

    // With a nonce, and with the answer to another request.
    let carol = authority.certificate("carol");
    let ca = authority.certificate("ca");
    assert_eq!(judge(&authority, &fetcher_with_nonce, "carol").0, "good by OCSP");
    let other = OcspRequest::new(&carol, &ca, Some(&[7; 32])).unwrap();
    fs::write(authority.folder.join("other.der"), other.der()).unwrap();
    let respond = |request: &str, index: &str| {
        fs::write(authority.folder.join("index.txt"), index).unwrap();
        fs::write(authority.folder.join("ca.crt"), pem(&ca)).unwrap();
        run(Command::new("openssl")
            .args([
                "ocsp",
                "-index",
                "index.txt",
                "-CA",
                "ca.crt",
                "-rsigner",
                "ca.crt",
                "-rkey",
                "ca.pem",
                "-ndays",
                "1",
            ])
            .args(["-reqin", request, "-respout", "response.der"])
            .current_dir(&authority.folder));
        fs::read(authority.folder.join("response.der")).unwrap()
    };
    let serial = carol.serial_hex();
    let serial = if serial.len() % 2 == 1 { format!("0{serial}") } else { serial };
    let replayed = respond("other.der", &format!("V\t460101000000Z\t\t{serial}\tunknown\t/C=DE/CN=carol\n"));
    authority.gate.rule("/before/ocsp", Rule::Body(replayed));
    let again = self::fetcher(FetchSettings { nonce: true, ..settings() });
    let (hard, _) = judge(&authority, &again, "carol");
    assert!(hard.starts_with("hard") && hard.contains("its nonce differs"), "{hard}");
    let without = self::fetcher(settings());
    assert_eq!(judge(&authority, &without, "carol").0, "good by OCSP", "who sends no nonce asks for none");

    // A responder that does not know the certificate: its issuer's index is empty.
    let plain = OcspRequest::new(&carol, &ca, None).unwrap();
    fs::write(authority.folder.join("plain.der"), plain.der()).unwrap();
    authority.gate.rule("/before/ocsp", Rule::Body(respond("plain.der", "")));
    let (hard, soft) = judge(&authority, &self::fetcher(settings()), "carol");
    assert!(hard.starts_with("hard") && hard.contains("responder does not know it"), "{hard}");
    assert!(soft.starts_with("soft"), "{soft}");

    // The CRL of years ago, well signed.
    let old = get(authority.gate.upstream(), "/before/crls/people/archive-0.crl").unwrap();
    authority.gate.rule("/before/crls", Rule::Body(old));
    let (hard, soft) = judge(&authority, &self::fetcher(settings()), "alice");
    assert!(hard.starts_with("hard") && hard.contains("out of date"), "{hard}");
    assert!(soft.starts_with("soft"), "{soft}");
}

#[test]
fn who_answers_late_without_end_or_from_elsewhere_costs_no_more_than_the_budget() {
    let authority = Authority::start("revocation-hostile").unwrap();
    let gate = &authority.gate;
    let budget = Duration::from_secs(2);
    let quick = || FetchSettings { budget, ..settings() };
    let crls = "/before/crls";

    // Nobody answers, and the second mail does not wait for it.
    gate.rule(crls, Rule::Hang);
    let one = fetcher(quick());
    let leaf = authority.certificate("alice");
    let trusted = trust(&authority, &one, RevocationMode::HardFail);
    let started = Instant::now();
    let late = found(&leaf, &trusted);
    assert!(late.contains("no answer in time"), "{late}");
    assert!(started.elapsed() < budget * 3, "{:?}", started.elapsed());
    gate.take_seen();
    let again = found(&leaf, &trusted);
    assert!(again.starts_with("hard") && again.contains("no answer in time"), "{again}");
    assert_eq!(gate.take_seen(), Vec::<String>::new());
    // Not even OCSP's server is there.
    let nobody = fetcher(quick());
    let carol = authority.certificate("carol");
    gate.rule("/before/ocsp", Rule::Hang);
    let late = found(&carol, &trust(&authority, &nobody, RevocationMode::HardFail));
    assert!(late.starts_with("hard") && late.contains("no answer in time"), "{late}");

    // Octets without end stop at the limit, whatever else is there.
    gate.rule(crls, Rule::Endless);
    let small = fetcher(FetchSettings { max_len: 1 << 20, ..settings() });
    let (hard, _) = judge(&authority, &small, "alice");
    assert!(hard.contains("longer than 1048576 octets"), "{hard}");
    thread::sleep(Duration::from_millis(200));
    assert!(gate.sent() < 32 << 20, "{} octets were sent", gate.sent());

    // What leads to addresses of ours, to other schemes, or round and round.
    for (to, reason) in [
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254 is not public"),
        ("http://10.0.0.1/x.crl", "10.0.0.1 is not public"),
        ("http://[::1]/x.crl", "::1 is not public"),
        ("http://[::ffff:127.0.0.1]/x.crl", "is not public"),
        ("https://crl.example.org/x.crl", "not a plain http URL"),
        ("file:///etc/passwd", "not a plain http URL"),
        ("/before/crls/people/latest.crl", "redirected more than 5 times"),
    ] {
        gate.rule(crls, Rule::Redirect(to.to_owned()));
        gate.take_seen();
        let (hard, soft) = judge(&authority, &fetcher(settings()), "alice");
        assert!(hard.starts_with("hard") && hard.contains(reason), "{to}: {hard}");
        assert!(soft.starts_with("soft"), "{to}: {soft}");
        assert!(gate.take_seen().len() <= 6, "{to}");
    }
    // Where the gate itself is at a private address that nobody has allowed, it is not asked at all.
    gate.plain();
    let strict = fetcher(FetchSettings { allowed: Vec::new(), ..settings() });
    let (hard, _) = judge(&authority, &strict, "alice");
    assert!(hard.contains("127.0.0.1 is not public"), "{hard}");
    assert_eq!(gate.take_seen(), Vec::<String>::new());
    // By name it is no better.
    gate.rule(crls, Rule::Redirect("http://localhost:1/x.crl".to_owned()));
    let narrow = fetcher(FetchSettings { allowed: vec!["127.0.0.1/32".parse().unwrap()], ..settings() });
    gate.rule(crls, Rule::Redirect(gate.url("/elsewhere").replace("127.0.0.1", "127.0.0.2")));
    let (hard, _) = judge(&authority, &narrow, "alice");
    assert!(hard.contains("127.0.0.2 is not public"), "{hard}");
    // A path of the same server is a redirect that is followed.
    gate.rule(crls, Rule::Redirect("/moved".to_owned()));
    gate.rule("/moved", Rule::Instead("/before/crls/people/latest.crl"));
    assert_eq!(judge(&authority, &fetcher(settings()), "alice").0, "good by CRL");
}

#[test]
fn what_was_fetched_is_used_until_its_end_and_nobody_is_asked_about_strangers() {
    let authority = Authority::start("revocation-kept").unwrap();
    let gate = &authority.gate;
    let first = fetcher(settings());
    let hard = |name| judge(&authority, &first, name).0;

    // A stranger's certificate leads to no anchor: where it points to is never asked.
    let stranger = Trust {
        anchors: vec![authority.certificate("other")],
        ..trust(&authority, &first, RevocationMode::HardFail)
    };
    for name in ["alice", "carol", "grace"] {
        let (leaf, ca) = (authority.certificate(name), authority.certificate("ca"));
        let error = validate(&leaf, &[ca], &stranger, SystemTime::now()).unwrap_err();
        assert!(matches!(error, PathError::NoPath { .. }), "{error}");
    }
    assert_eq!(gate.take_seen(), Vec::<String>::new());

    // Many who ask at once are one request.
    let (alice, trusted) =
        (authority.certificate("alice"), trust(&authority, &first, RevocationMode::HardFail));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(found(&alice, &trusted), "good by CRL"));
        }
    });
    assert_eq!(gate.take_seen(), ["GET /before/crls/people/latest.crl"]);

    // Revoked between two mails: what was fetched counts until its end, or until it is thrown away.
    assert_eq!(hard("heidi"), "good by OCSP");
    gate.rule("/before/", Rule::Instead("/after/"));
    gate.take_seen();
    assert_eq!(hard("alice"), "good by CRL");
    assert_eq!(gate.take_seen(), Vec::<String>::new());
    let new = fetcher(settings());
    assert_eq!(judge(&authority, &new, "alice").0, "revoked");
    // heidi's answer was good for two seconds.
    thread::sleep(Duration::from_millis(2_500));
    assert_eq!(hard("heidi"), "revoked");
    // A responder is asked by POST where it knows no GET.
    let seen = gate.take_seen();
    assert!(seen.iter().any(|line| line.starts_with("POST /before/ocsp/short")), "{seen:?}");
}

#[test]
fn what_is_known_to_be_revoked_stays_so_when_its_answer_ends_and_nobody_gives_another() {
    let authority = Authority::start("revocation-final").unwrap();
    let gate = &authority.gate;
    let quick = FetchSettings { budget: Duration::from_secs(2), rest: Duration::ZERO, ..settings() };
    let one = fetcher(quick);
    let hard = || judge(&authority, &one, "heidi").0;
    gate.rule("/before/", Rule::Instead("/after/"));
    assert_eq!(hard(), "revoked");
    // Its two seconds are over: a responder that hangs, is gone, sends another's answer, or an older one.
    thread::sleep(Duration::from_millis(2_500));
    let stranger = get(gate.upstream(), "/before/crls/people/latest.crl").unwrap();
    for rule in [Rule::Hang, Rule::Body(stranger), Rule::Redirect("http://10.0.0.1/".to_owned())] {
        gate.rule("/before/ocsp", rule.clone());
        gate.take_seen();
        assert_eq!(hard(), "revoked", "{rule:?}");
        assert_ne!(gate.take_seen(), Vec::<String>::new(), "it is asked for again");
    }
    // Newer information counts.
    gate.plain();
    assert_eq!(hard(), "good by OCSP");
}

fn pem(certificate: &Certificate) -> String {
    let text = data_encoding::BASE64.encode(certificate.der());
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[test]
fn a_forged_list_shuts_out_no_true_one() {
    let authority = Authority::start("revocation-forged").unwrap();
    let gate = &authority.gate;
    let new = || fetcher(FetchSettings { rest: Duration::ZERO, ..settings() });
    let crls = "/before/crls";
    // The true one with other times: thisUpdate far in the future, or out of date, and a signature that is none.
    let forged = |times: [&[u8; 13]; 2]| {
        let mut list = get(gate.upstream(), "/before/crls/people/latest.crl").unwrap();
        let utc = |at: &usize| list[*at..].starts_with(&[0x17, 13]);
        let general = |at: &usize| list[*at..].starts_with(&[0x18, 15, b'2', b'0']);
        // The year without its century is at the same place in both.
        let year = |at: usize| if general(&at) { at + 4 } else { at + 2 };
        let at: Vec<usize> =
            (0..list.len() - 17).filter(|at| utc(at) || general(at)).map(year).take(2).collect();
        assert_eq!(at.len(), 2, "thisUpdate and nextUpdate");
        for (at, time) in at.into_iter().zip(times) {
            list[at..at + 13].copy_from_slice(time);
        }
        list
    };
    for times in [[b"491231235959Z", b"491231235959Z"], [b"260101000000Z", b"491231235959Z"]] {
        let fetcher = new();
        gate.rule(crls, Rule::Body(forged(times)));
        let (hard, _) = judge(&authority, &fetcher, "bob");
        assert!(hard.starts_with("hard"), "{hard}");
        gate.plain();
        assert_eq!(judge(&authority, &fetcher, "bob").0, "revoked");
    }
    // The true one is out of date: bob stays revoked whatever is sent then.
    let old = new();
    let [first, later] = ["archive-10.crl", "latest.crl"]
        .map(|name| get(gate.upstream(), &format!("/before/crls/people/{name}")));
    assert!(first.is_some() && later.is_some());
    gate.rule(crls, Rule::Body(first.unwrap()));
    assert_eq!(judge(&authority, &old, "bob").0, "revoked");
    gate.rule(crls, Rule::Body(forged([b"260101000000Z", b"491231235959Z"])));
    assert_eq!(judge(&authority, &old, "bob").0, "revoked");
}
