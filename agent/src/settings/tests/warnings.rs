//! What is warned of: what ends, what is missing, what looks odd.

use std::time::{Duration, SystemTime};

use super::*;

#[test]
fn certificates_that_end_and_that_are_many_are_warned_of() {
    let identity = |names: &[&str]| -> String {
        let one = |name: &&str| format!("[[identity]]\ncertificate = \"{name}.pem\"\n");
        TOKEN.to_owned() + &names.iter().map(one).collect::<String>()
    };
    let now = year(2026);
    let eve = certificate("alice-2024").not_after() - Duration::from_hours(5 * 24 + 1);
    let shown = |name: &str| certificate(name).to_string();
    for (text, at, expected) in [
        (identity(&["alice-2025"]), now, vec![]),
        (identity(&["alice-2015", "alice-2025", "alice-2110", "alice-encrypts"]), now, vec![]),
        (
            identity(&["alice-2015"]),
            now,
            vec![format!(
                "nothing can be signed for alice@example.org: its certificate {} is expired",
                shown("alice-2015")
            )],
        ),
        (
            identity(&["alice-2015", "alice-2110"]),
            now,
            vec![format!(
                "nothing can be signed for alice@example.org: its certificate {} is not valid yet",
                shown("alice-2110")
            )],
        ),
        (
            identity(&["alice-2024"]),
            eve,
            vec![format!(
                "{}, the last that can sign for alice@example.org, expires in 5 days",
                shown("alice-2024")
            )],
        ),
        (
            identity(&["alice-2024"]),
            certificate("alice-2024").not_after() - Duration::from_hours(25),
            vec![format!(
                "{}, the last that can sign for alice@example.org, expires in a day",
                shown("alice-2024")
            )],
        ),
        (
            identity(&["alice-2024"]),
            certificate("alice-2024").not_after() - Duration::from_hours(23),
            vec![format!(
                "{}, the last that can sign for alice@example.org, expires in less than a day",
                shown("alice-2024")
            )],
        ),
        (identity(&["alice-2025", "alice-2024"]), now, Vec::new()),
    ] {
        assert_eq!(warned(&text, at), expected, "{text}");
    }
}

#[test]
fn of_certificates_that_could_sign_the_newest_does_whatever_their_order() {
    let at = year(2026);
    for (names, others) in [
        (&["alice-2025"][..], 0),
        (&["alice-2025", "alice-2024"], 1),
        (&["alice-2024", "alice-2025"], 1),
        (&["alice-2015", "alice-2024", "alice-2025", "alice-2110", "alice-encrypts"], 1),
    ] {
        let one = |name: &&str| format!("[[identity]]\ncertificate = \"{name}.pem\"\n");
        let text = TOKEN.to_owned() + &names.iter().map(one).collect::<String>();
        let settings = parse(&folder(), &text).unwrap();
        let [alice] = settings.signers(at).try_into().unwrap();
        assert_eq!((alice.address.as_str(), alice.others), ("alice@example.org", others), "{names:?}");
        assert_eq!(*alice.used, certificate("alice-2025"), "{names:?}");
    }
    let settings =
        parse(&folder(), &format!("{TOKEN}[[identity]]\ncertificate = \"alice-2015.pem\"\n")).unwrap();
    assert_eq!(settings.signers(at), []);
}

/// What a configuration is warned of at a time.
fn warned(text: &str, at: SystemTime) -> Vec<String> {
    let settings = parse(&folder(), &with_anchors(text)).unwrap();
    settings.warnings(at).iter().map(ToString::to_string).collect()
}

#[test]
fn what_looks_odd_is_a_warning_and_not_an_error() {
    let rule = |from: &str, sign: &str| format!("[[rule]]\nfrom = \"{from}\"\nsign = \"{sign}\"\n");
    for (text, expected) in [
        (
            rule("*@example.net", "required") + &rule("*", "never") + &rule("bob@example.org", "when-possible"),
            vec![
                "the [[rule]] of line 1 requires signatures for *@example.net, but no [[identity]] has such an address"
                    .to_owned(),
                "the [[rule]] of line 7 is never reached: the one of line 4 takes all its mail".to_owned(),
            ],
        ),
        (
            "[[rule]]\nto = \"*@a.example\"\nsign = \"never\"\nencrypt = \"required\"\n\
             [[rule]]\nlogin = \"x\"\nto = \"*@a.example\"\nsign = \"never\"\n\
             [[rule]]\nfrom = \"*@b.example\"\nsign = \"never\"\n"
                .to_owned(),
            vec![
                "the [[rule]] of line 1 encrypts, but without a [cache] to our own people only".to_owned(),
                "the [[rule]] of line 5 is never reached: the one of line 1 takes all its mail".to_owned(),
            ],
        ),
        (
            "[[incoming]]\nfrom = \"*@a.example\"\n[[incoming]]\nfrom = \"x@a.example\"\non-unsigned = \"tag\"\n\
             [[incoming]]\nsender = \"y@c.example\"\n[[incoming]]\n[[incoming]]\nfrom = \"z@z.example\"\n"
                .to_owned(),
            vec![
                "the [[incoming]] of line 3 is reached only by mail without one clear From: the one of line 1 takes \
                 all its other mail"
                    .to_owned(),
                "the [[incoming]] of line 9 is never reached: the one of line 8 takes all its mail".to_owned(),
            ],
        ),
        (
            "[cache]\npath = \"cache\"\nharvest = true\n[trust]\nrevocation = \"off\"\n".to_owned(),
            vec![
                "[cache] harvests, but `revocation` in [trust] is off: what is harvested is never used".to_owned(),
            ],
        ),
        (
            milter("") + "[cache]\npath = \"cache\"\n[[rule]]\nsign = \"never\"\nencrypt = \"required\"\n",
            vec![
                "the [[rule]] of line 6 splits mail, but [milter] has no `reinject`: what needs copies is deferred"
                    .to_owned(),
            ],
        ),
        (
            ["ldap://dir.example.org", "ldap://127.0.0.1", "ldap://localhost"]
                .map(|url| format!("[[source]]\nkind = \"ldap\"\nname = \"{url}\"\nurl = \"{url}\"\nbase = \"dc=x\"\n"))
                .concat()
                + "[cache]\npath = \"cache\"\n",
            vec![
                "the [[source]] \"ldap://dir.example.org\" asks ldap://dir.example.org:389 in clear: anybody on the way \
                 could say that it has no certificate, so mail to whom it has none waits; use ldaps:// or start-tls = true"
                    .to_owned(),
            ],
        ),
        (
            milter("trusted-networks = [\"0.0.0.0/0\"]\nlisten = \"inet:0.0.0.0:8890\"\n"),
            vec![
                "inet:0.0.0.0:8890 can be reached from other machines, and whoever reaches it can have mail signed \
                 and decrypted"
                    .to_owned(),
                "trusted-networks holds 0.0.0.0/0: everybody may have mail signed".to_owned(),
            ],
        ),
    ] {
        assert_eq!(warned(&text, year(2026)), expected, "{text}");
    }
}

#[test]
fn who_has_no_identity_in_a_domain_that_must_be_signed_is_hinted_at() {
    let identity = "[[identity]]\ncertificate = \"alice-2025.pem\"\n";
    let hints = |rule: &str| {
        let settings =
            parse(&folder(), &with_anchors(&format!("{TOKEN}{identity}[[rule]]\n{rule}"))).unwrap();
        settings.hints().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let line = TOKEN.lines().count() + 3;
    let hint = |domains: &str| {
        let beginning =
            format!("the [[rule]] of line {line} requires signatures for {domains}; only alice@example.org");
        vec![format!("{beginning} there has an [[identity]]: the mail of all others waits (451)")]
    };
    for (rule, expected) in [
        ("from = \"*@example.org\"\nsign = \"required\"\n", hint("*@example.org")),
        ("sign = \"required\"\n", hint("*")),
        ("from = [\"x@example.net\", \"*@*.org\"]\nsign = \"required\"\n", hint("*@*.org")),
        ("from = \"*@example.org\"\nsign = \"when-possible\"\n", vec![]),
        ("from = \"alice@example.org\"\nsign = \"required\"\n", vec![]),
        // Nobody there has one, which is a warning.
        ("from = \"*@example.net\"\nsign = \"required\"\n", vec![]),
    ] {
        assert_eq!(hints(rule), expected, "{rule}");
    }
}

#[test]
fn a_limit_that_nobody_knows_is_hinted_at_where_mail_is_decrypted() {
    let identity = "[[identity]]\ncertificate = \"alice-2025.pem\"\n";
    let milter = "[milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx\"\n";
    let known = format!("{milter}mta-message-bytes = 10240000\n");
    let closed = "[[incoming]]\ndecrypt = false\n";
    let some = "[[incoming]]\nfrom = \"*@example.org\"\ndecrypt = false\n";
    let opened = "[[incoming]]\nfrom = \"alice@example.org\"\n";
    for (parts, is_hint) in [
        (&[identity, milter][..], true),
        (&[identity, milter, some], true),
        (&[identity, milter, opened, closed], true),
        // It is known, nobody decrypts, or nobody's answer tells.
        (&[identity, &known], false),
        (&[identity, milter, closed], false),
        (&[identity, milter, some, closed, opened], false),
        (&[milter], false),
        (&[identity], false),
    ] {
        let settings = parse(&folder(), &with_anchors(&format!("{TOKEN}{}", parts.concat()))).unwrap();
        assert_eq!(settings.hints().contains(&Warning::UnknownSize), is_hint, "{parts:?}");
    }
}

fn with_anchors(text: &str) -> String {
    let anchors = "[trust]\nanchors = [\"root.pem\"]\n";
    if text.contains("[trust]\n") { text.replace("[trust]\n", anchors) } else { format!("{text}{anchors}") }
}

#[test]
fn missing_anchors_are_warned_of() {
    let folder = folder();
    let settings = parse(&folder, TOKEN).unwrap();
    assert_eq!(settings.warnings(SystemTime::now()), [Warning::NoAnchors]);
}

#[test]
fn networks_that_copies_come_back_from_are_warned_of() {
    for (reinject, networks, expected) in [
        ("inet:127.0.0.1:10025", "127.0.0.0/8", vec!["127.0.0.0/8"]),
        ("inet:127.0.0.2:10025", "127.0.0.1", vec!["127.0.0.1/32"]),
        ("inet:localhost:10025", "::1", vec!["::1/128"]),
        ("unix:/run/x", "127.0.0.1", vec!["127.0.0.1/32"]),
        ("inet:192.0.2.1:25", "192.0.2.0/24", vec!["192.0.2.0/24"]),
        ("inet6:[::1]:10025", "127.0.0.0/8", vec![]),
        ("unix:/run/x", "192.0.2.0/24", vec![]),
    ] {
        let text = format!(
            "[milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx\"\nstate = \"state\"\n\
             reinject = \"{reinject}\"\ntrusted-networks = [\"{networks}\"]\n"
        );
        let settings = parse(&folder(), &with_anchors(&text)).unwrap();
        let all = settings.warnings(year(2026));
        let of_copies = all.iter().filter_map(|warning| match warning {
            Warning::TrustsCopies { network } => Some(network.to_string()),
            _ => None,
        });
        assert_eq!(of_copies.collect::<Vec<_>>(), expected, "{reinject} {networks}");
    }
}

#[test]
fn who_runs_for_a_year_is_told_of_an_end_at_each_mark_and_then_every_day() {
    let identity = |name: &str| format!("[[identity]]\ncertificate = \"{name}.pem\"\n");
    let settings = |names: &[&str]| {
        let text = TOKEN.to_owned() + &names.iter().map(|name| identity(name)).collect::<String>();
        parse(&folder(), &text).unwrap()
    };
    let day = Duration::from_hours(24);
    let [ending] = settings(&["alice-2015", "alice-2024", "alice-encrypts"]).endings().try_into().unwrap();
    let end = certificate("alice-2024").not_after();
    assert_eq!((ending.left(end), ending.left(end + Duration::from_secs(1))), (Some(Duration::ZERO), None));
    // Once an hour, from 40 days before to 10 days behind.
    let mut told = Vec::new();
    let mut before = end - day * 40;
    while before < end + day * 10 {
        let now = before + Duration::from_hours(1);
        told.extend(ending.warning(before, now).map(|warning| {
            let text = warning.to_string();
            let left = (end + day).duration_since(now).map_or(0, |left| left.as_secs() / 86_400);
            (left, text.split_once(&certificate("alice-2024").to_string()).unwrap().1.to_owned())
        }));
        before = now;
    }
    let soon = |when: &str| format!(", the last that can sign for alice@example.org, expires {when}");
    assert_eq!(
        told,
        [
            (30, soon("in 29 days")),
            (14, soon("in 13 days")),
            (3, soon("in 2 days")),
            (2, soon("in a day")),
            (1, soon("in less than a day")),
            (0, " is expired".to_owned()),
        ]
    );
    // Nothing is missed by who slept; and a clock that goes back tells nothing.
    assert!(ending.warning(end - day * 20, end + day).unwrap().to_string().contains("is expired"));
    assert_eq!(ending.warning(end + day, end - day * 20), None);
    // Only the last that can sign counts, and who never could has no end.
    let [longest] = settings(&["alice-2024", "alice-2025"]).endings().try_into().unwrap();
    let at = year(2026);
    assert_eq!(longest.left(at), certificate("alice-2025").not_after().duration_since(at).ok());
    // What begins only after a gap is no successor before it begins.
    let gap = settings(&["alice-2015", "alice-2025"]);
    let [gaps] = gap.endings().try_into().unwrap();
    let end = certificate("alice-2015").not_after();
    assert!(end + day < certificate("alice-2025").not_before());
    assert_eq!((gaps.left(end), gaps.left(end + day)), (Some(Duration::ZERO), None));
    assert!(gaps.left(certificate("alice-2025").not_before()).is_some());
    assert!(gaps.warning(end - day * 31, end - day * 20).is_some());
    assert!(matches!(gap.warnings(end - day * 20).as_slice(), [.., Warning::ExpiresSoon { days: 20, .. }]));
    assert_eq!(settings(&["alice-encrypts"]).endings(), []);
}
