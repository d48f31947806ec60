//! Which rule decides for whom, and what each of its conditions means.

use super::*;

#[test]
fn the_first_rule_for_the_address_in_from_decides() {
    let policy = policy(CONFIG);
    for (from, expected) in [
        ("noreply@example.org", "pass: the rule of line 2 wants no signature"),
        ("dave@example.org", "pass: no certificate can sign for dave@example.org now"),
        (
            "carol@example.org",
            "refuse (operator): a signature is required, but no certificate can sign for carol@example.org now",
        ),
        (
            "alice+tag@example.org",
            "refuse (operator): a signature is required, but no certificate can sign for alice+tag@example.org now",
        ),
        ("alice@example.net", "pass: no rule is about alice@example.net"),
        ("alice@sub.example.org", "pass: no rule is about alice@sub.example.org"),
    ] {
        let envelope = envelope("@192.0.2.7", "alice@example.org", &["x@example.com"]);
        assert_eq!(plan(&policy, &envelope, &format!("From: {from}")), expected, "{from}");
    }
}

/// For each recipient of `TO`, by the conditions of one rule: whether the rule decides.
#[test]
fn every_condition_of_a_rule_must_hold() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let header = "X-Class: Secret\nSubject: [sign] it\nFrom: alice@example.org";
    for (conditions, holds) in [
        ("", true),
        ("listener = \"submission\"", true),
        ("listener = [\"smtps\", \"submission\"]", true),
        ("listener = \"smtps\"", false),
        ("network = \"192.0.2.0/28\"", true),
        ("network = \"192.0.2.16/28\"", false),
        ("login = \"ALICE\"", true),
        ("login = \"*\"", true),
        ("login = [\"bob\", \"erp\"]", false),
        ("sender = \"*@bounces.example\"", true),
        ("sender = [\"<>\", \"*@example.org\"]", false),
        ("sender = \"<>\"", false),
        ("from = [\"bob@example.org\", \"alice@example.org\"]", true),
        ("from = \"bob@example.org\"", false),
        ("to = \"x@example.com\"", true),
        ("to = \"*@*.com\"", true),
        ("to = \"*@example.net\"", false),
        ("header = \"x-class: secret\"", true),
        ("header = [\"X-Class: open\", \"Subject: [sign]*\"]", true),
        ("header = \"X-Class: secrets\"", false),
        ("larger-than = 50", true),
        ("larger-than = 5000", false),
        ("smaller-than = 5000", true),
        ("smaller-than = 50", false),
        ("larger-than = 50\nsmaller-than = 60", false),
        ("to = \"*@example.com\"\nlogin = \"alice\"\nfrom = \"*@example.net\"", false),
    ] {
        let policy = policy(&format!("[[rule]]\n{conditions}\nsign = \"required\"\n[milter]{base}"));
        let envelope = Envelope {
            listener: Some("submission".to_owned()),
            ..envelope("alice@192.0.2.7", "x+1@bounces.example", &["x@example.com"])
        };
        let expected = if holds {
            "sign: the rule of line 1 requires a signature for alice@example.org"
        } else {
            "pass: no rule is about alice@example.org"
        };
        assert_eq!(plan(&policy, &envelope, header), expected, "{conditions}");
        // Whoever we do not know cannot pull a trigger.
        let stranger = Envelope { login: None, client: "203.0.113.1".parse().ok(), ..envelope };
        assert_eq!(plan(&policy, &stranger, header), RECEIVE, "{conditions}");
    }
}

#[test]
fn the_null_sender_is_a_sender_of_its_own() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let rules =
        "[[rule]]\nsender = \"<>\"\nsign = \"never\"\n[[rule]]\nsign = \"never\"\nencrypt = \"required\"\n";
    let policy = policy(&format!("{rules}[milter]{base}"));
    let sealed = "encrypt: the rule of line 4 requires encryption of alice@example.org's mail";
    for (origin, sender, expected) in [
        ("@192.0.2.7", "", "pass: it is a notice from the null sender"),
        ("@192.0.2.7", "alice@example.org", sealed),
    ] {
        let message = format!("From: alice@example.org\n{}", report(""));
        assert_eq!(plan_for(&policy, &envelope(origin, sender, &["x@example.com"]), &message), expected);
    }
}

#[test]
fn each_recipient_has_the_first_rule_that_is_about_it() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let rules = "[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"required\"\n\
                 [[rule]]\nto = \"*@broken.example\"\nsign = \"never\"\n\
                 [[rule]]\nto = \"*@other.example\"\nsign = \"required\"\n\
                 [[rule]]\nfrom = \"alice@example.org\"\nsign = \"required\"\n";
    let policy = policy(&format!("{rules}[milter]{base}"));
    let signed = "the rule of line 8 requires a signature for alice@example.org";
    let sealed = "the rule of line 1 requires a signature for alice@example.org and requires encryption";
    let broken = "the rule of line 5 wants no signature";
    for (recipients, expected) in [
        (&["a@partner.example", "b@partner.example"][..], format!("sign and encrypt: {sealed}")),
        (&["a@other.example"], format!("sign: {signed}")),
        // Two rules that mean the same need no copy.
        (&["a@other.example", "x@y.example"], format!("sign: {signed}")),
        (
            &["x@y.example", "a@partner.example", "z@y.example"],
            format!(
                "split: for x@y.example, z@y.example: the rule of line 11 requires a signature for \
                 alice@example.org; for a@partner.example: {sealed}"
            ),
        ),
        (
            &["a@broken.example", "a@other.example", "\"odd\"@broken.example"],
            format!(
                "split: for a@broken.example, \"odd\"@broken.example: {broken}; for a@other.example: {signed}"
            ),
        ),
    ] {
        let envelope = envelope("alice@", "alice@example.org", recipients);
        assert_eq!(plan(&policy, &envelope, "From: alice@example.org"), expected, "{recipients:?}");
    }
    // One share that cannot be is enough to refuse it all.
    let bob = envelope("alice@", "bob@example.org", &["a@broken.example", "a@other.example"]);
    let expected =
        "refuse (policy): a signature is required, but the login \"alice\" may not sign as bob@example.org";
    assert_eq!(plan(&policy, &bob, "From: bob@example.org"), expected);
}

#[test]
fn recipients_share_a_plan_where_it_does_the_same_with_their_mail_whichever_rule_says_so() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let from = "From: alice@example.org\n";
    for (first, second, shared) in [
        ("sign = \"never\"", "sign = \"never\"", true),
        ("sign = \"required\"", "sign = \"required\"", true),
        ("sign = \"required\"\nsignature = \"opaque\"", "sign = \"required\"", false),
        ("sign = \"required\"", "sign = \"when-possible\"", false),
    ] {
        let rules = format!("[[rule]]\nto = \"a@example.net\"\n{first}\n[[rule]]\n{second}\n[milter]{base}");
        let envelope = envelope("alice@", "alice@example.org", &["a@example.net", "b@example.net"]);
        let plan = plan(&policy(&rules), &envelope, from);
        assert_eq!(!plan.starts_with("split: "), shared, "{first} and {second}: {plan}");
    }
}

#[test]
fn a_rule_may_choose_among_a_senders_certificates_and_no_others() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let identities = "[[identity]]\ncertificate = \"alice-2025.pem\"\n";
    for (only, expected) in
        [("alice-2024", Some("alice-2024")), ("alice-2025", Some("alice-2025")), ("bob", None)]
    {
        let rule = format!("[[rule]]\nsign = \"when-possible\"\nidentity = \"{only}.pem\"\n");
        let policy = policy(&format!("{rule}[milter]{base}{identities}"));
        let message = MimeEntity::parse(b"From: alice@example.org\r\n\r\n");
        let plan =
            policy.plan(&envelope("alice@", "alice@example.org", &["x@y.example"]), &message, year(2026));
        let signer = match plan {
            Plan::Protect(protect) => protect.signer,
            _ => None,
        };
        assert_eq!(signer, expected.map(crate::identity::tests::certificate), "{only}");
    }
}

#[test]
fn whoever_explains_is_told_the_rule_of_each_recipient() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let policy = policy(&format!("[[rule]]\nto = \"a@example.net\"\nsign = \"required\"\n[milter]{base}"));
    let envelope = envelope("alice@", "alice@example.org", &["a@example.net", "b@example.net"]);
    let message = MimeEntity::parse(b"From: alice@example.org\r\n\r\nhi\r\n");
    let rules = policy.rules_for(&envelope, &message);
    let lines: Vec<_> =
        rules.iter().map(|(name, rule)| (name.as_str(), rule.as_ref().map(|rule| rule.line))).collect();
    assert_eq!(lines, [("a@example.net", Some(1)), ("b@example.net", None)]);
}

/// By rules that demand nothing, that demand a signature of some mail, and that encrypt mail to a partner.
#[test]
fn who_may_be_one_of_whom_a_rule_demands_something_counts_as_one() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let rest = "[[rule]]\nsign = \"when-possible\"\n";
    let to = "[[rule]]\nto = \"*@partner.example\"\nsign = \"never\"\nencrypt = \"required\"\n";
    let wish = to.replace("required", "when-possible");
    let sender = "[[rule]]\nsender = \"*@bounces.example\"\nsign = \"required\"\n";
    let done = "[[rule]]\nsign = \"required\"\nencrypt = \"required\"\n";
    let encrypted = "encrypt: the rule of line 1 requires encryption of alice@example.org's mail";
    let signed = "sign: the rule of line 5 wants a signature for alice@example.org";
    let refused = |address: &str| {
        format!(
            "refuse (policy): {address:?} is no clear address, and may be one of whose mail the rule of line 1 requires more"
        )
    };
    let doubtful = [
        "nobody",
        "nobody%partner.example",
        "partner.example!nobody",
        "\"no body\"@partner.example",
        "nobody%partner.example@example.org",
        "nobody@partner.example@example.org",
        "nobody@[192.0.2.1]",
    ];
    let of = |rules: &str, sender: &str, to: &str| {
        let policy = policy(&format!("{rules}[milter]{base}"));
        plan(&policy, &envelope("alice@", sender, &[to]), "From: alice@example.org")
    };
    for clear in [
        "nobody@partner.example",
        "nobody@partner.example.",
        "\"nobody\"@partner.example",
        "@r.invalid:nobody@partner.example",
        "nobody@partner.example(x)",
        "nobody@PARTNER.example",
    ] {
        assert_eq!(of(&format!("{to}{rest}"), "a@b.example", clear), encrypted, "{clear}");
    }
    for to_whom in doubtful {
        assert_eq!(of(&format!("{to}{rest}"), "a@b.example", to_whom), refused(to_whom));
        // Nothing is demanded of anybody, or of everybody, or it is done.
        let wished = of(&format!("{wish}{rest}"), "a@b.example", to_whom);
        assert_eq!(wished, signed, "{to_whom}");
        let by_all = of(&format!("{to}{done}"), "a@b.example", to_whom);
        assert!(by_all.starts_with("sign and encrypt: the rule of line 5 requires"), "{by_all}");
    }
    assert_eq!(of(&format!("{to}{rest}"), "a@b.example", "postmaster"), signed);
    let required = "sign: the rule of line 1 requires a signature for alice@example.org";
    let wished = "sign: the rule of line 4 wants a signature for alice@example.org";
    for (from, expected) in [
        ("x@bounces.example", required),
        ("x@bounces.example.", required),
        ("\"x\"@bounces.example", required),
        ("@r.invalid:x@bounces.example", required),
        ("x@elsewhere.example", wished),
        ("", "pass: it is a notice from the null sender"),
    ] {
        assert_eq!(of(&format!("{sender}{rest}"), from, "x@y.example"), expected, "{from}");
    }
    for from in ["x%bounces.example", "bounces.example!x", "x", "\"x y\"@bounces.example"] {
        assert_eq!(of(&format!("{sender}{rest}"), from, "x@y.example"), refused(from));
    }
}

/// Neither the author nor the recipient is clear.
#[test]
fn a_recipient_in_doubt_counts_beside_an_author_in_doubt() {
    let base = CONFIG.split_once("[milter]").unwrap().1;
    let rules = "[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\n";
    let policy = policy(&format!("{rules}[milter]{base}"));
    for (to, is_refused) in [
        ("x@partner.example", true),
        ("x%partner.example", true),
        ("x@y.example", false),
        ("postmaster", false),
    ] {
        for header in ["Subject: x", "From: alice@example.org, bob@example.org"] {
            let plan = plan(&policy, &envelope("alice@", "alice@example.org", &[to]), header);
            assert_eq!(plan.starts_with("refuse"), is_refused, "{to} {header}: {plan}");
        }
    }
}
