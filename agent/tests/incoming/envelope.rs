//! Recipients and senders that are written otherwise than the addresses of which rules are.

use super::*;

fn treat_to(agent: &Agent, sender: &str, to: &[&str], message: &str) -> Result<Outcome, AgentError> {
    let envelope = Envelope {
        sender: sender.to_owned(),
        recipients: to.iter().map(|to| (*to).to_owned()).collect(),
        client: "192.0.2.7".parse().ok(),
        ..Envelope::default()
    };
    agent.treat(&envelope, &Message::from_stored(message.as_bytes()), now())
}

const CLEAR: [&str; 6] = [
    "bob@example.org",
    "BOB@Example.org.",
    "\"bob\"@example.org",
    "@relay.invalid:bob@example.org",
    "bob(x)@example.org",
    " bob @example.org",
];
const DOUBTFUL: [&str; 6] = [
    "bob",
    "bob%example.org",
    "example.org!bob",
    "\"b ob\"@example.org",
    "bob%example.org@relay.invalid",
    "bob@[192.0.2.1]",
];

#[test]
fn a_rule_for_a_recipient_counts_for_all_who_may_be_that_recipient() {
    let rules = "[[incoming]]\nto = \"bob@example.org\"\nrequire-signed = true\n";
    let agent = agent(rules);
    for to in CLEAR.into_iter().chain(DOUBTFUL) {
        let outcome = treat_to(&agent, "friend@example.net", &[to], &plain());
        assert_eq!(fate(&outcome), "refused", "{to}");
    }
    for to in ["zoe@example.org", "zoe.@example.org", "postmaster", "Postmaster"] {
        let outcome = treat_to(&agent, "friend@example.net", &[to], &plain());
        assert_eq!(fate(&outcome), "delivered", "{to}");
    }
    // What demands nothing changes nothing.
    let agent = self::agent("[[incoming]]\nto = \"bob@example.org\"\ndetails = true\n");
    for to in CLEAR.into_iter().chain(DOUBTFUL) {
        let outcome = treat_to(&agent, "friend@example.net", &[to], &plain());
        assert_eq!(fate(&outcome), "delivered", "{to}");
    }
}

#[test]
fn a_rule_for_a_sender_counts_for_all_who_may_be_that_sender() {
    let agent = agent("[[incoming]]\nsender = \"bob@example.org\"\nrequire-signed = true\n");
    for sender in CLEAR.into_iter().chain(DOUBTFUL) {
        let outcome = treat_to(&agent, sender, &["zoe@example.org"], &plain());
        assert_eq!(fate(&outcome), "refused", "{sender}");
    }
    for sender in ["", "zoe@example.org"] {
        let outcome = treat_to(&agent, sender, &["zoe@example.org"], &plain());
        assert_eq!(fate(&outcome), "delivered", "{sender}");
    }
}

#[test]
fn a_rule_for_an_author_is_about_all_spellings_of_its_domain() {
    let agent = agent("[[incoming]]\nfrom = \"*@m\u{fc}nchen.example\"\nrequire-signed = true\n");
    for (from, expected) in [
        ("x@m\u{fc}nchen.example", "refused"),
        ("x@M\u{dc}NCHEN.example", "refused"),
        ("x@xn--mnchen-3ya.example", "refused"),
        ("x@munchen.example", "delivered"),
    ] {
        let mail = plain().replace("alice@example.org", from);
        assert_eq!(fate(&treat(&agent, &["bob"], &mail)), expected, "{from}");
    }
}

#[test]
fn nothing_is_opened_or_split_where_somebody_may_not_be_removed() {
    let rules = "[[incoming]]\nto = \"zoe@example.org\"\ndetails = true\n";
    for (agent, others) in [(agent(""), 1), (agent(rules), 1)] {
        let control =
            treat_to(&agent, "friend@example.net", &["bob@example.org", "zoe@example.org"], &encrypted());
        let control = control.unwrap();
        assert_eq!((control.action, control.copies.len()), ("opened", others));
        for odd in [
            "@relay.invalid:zoe@example.org",
            "Zoe <zoe@example.org>",
            "g:zoe@example.org;",
            "zoe+\u{fffd}@example.org",
            "\"zoe\"@example.org",
            "zoe(x)@example.org",
            "zoe@example.org.",
            "zoe%example.org",
            "zoe",
            // Though it is bob's own: his MTA may see it otherwise.
            "\"bob\"@example.org",
            "bob@example.org.",
        ] {
            let to = ["bob@example.org", odd, "zoe@example.org"];
            let outcome = treat_to(&agent, "friend@example.net", &to, &encrypted()).unwrap();
            assert_eq!(outcome.action, "verified", "{odd}");
            assert_eq!((outcome.copies.len(), outcome.edits.body.as_ref()), (0, None), "{odd}");
            assert!(outcome.edits.remove_recipients.is_empty(), "{odd}");
            assert_eq!(outcome.edits.returned, Returned::Full, "{odd}");
            let alone = treat_to(&agent, "friend@example.net", &[odd], &encrypted()).unwrap();
            assert_eq!((alone.action, alone.edits.body), ("verified", None), "{odd}");
        }
    }
}

#[test]
fn nobody_is_removed_whom_the_mta_may_not_find_but_all_get_copies() {
    let agent = agent("");
    let treat = |to: &[&str], told| {
        let envelope = Envelope {
            sender: "friend@example.net".to_owned(),
            recipients: to.iter().map(|to| (*to).to_owned()).collect(),
            told,
            ..Envelope::default()
        };
        agent.treat(&envelope, &Message::from_stored(encrypted().as_bytes()), now()).unwrap()
    };
    let to = ["zoe@example.org", "bob@example.org", "eve@example.org"];
    let control = treat(&to, Told::AsWritten);
    assert_eq!(control.edits.remove_recipients, ["zoe@example.org", "eve@example.org"]);
    let outcome = treat(&to, Told::Rewritten);
    assert_eq!((outcome.action, outcome.disposition), ("opened", Disposition::Replace));
    assert_eq!(outcome.edits, Edits::default(), "nothing of it is left to the MTA");
    let mut copies: Vec<_> = outcome.copies.iter().collect();
    copies.sort_by_key(|copy| copy.recipients.len());
    let shows = |copy: &Copy| String::from_utf8_lossy(&copy.octets).contains("Content-Type: text/plain");
    let seen: Vec<_> =
        copies.iter().map(|copy| (copy.recipients.join(" "), shows(copy), copy.returned)).collect();
    assert_eq!(
        seen,
        [
            ("bob@example.org".to_owned(), true, Returned::HeadersOnly),
            ("zoe@example.org eve@example.org".to_owned(), false, Returned::Full),
        ]
    );
    // One form needs nobody removed.
    let alone = treat(&["bob@example.org"], Told::Rewritten);
    assert_eq!((alone.action, alone.disposition, alone.copies.len()), ("opened", Disposition::Deliver, 0));
    // Where somebody far away may have had it told so, nobody gets a copy of what is opened.
    for to in [&to[..], &["bob@example.org"]] {
        let outcome = treat(to, Told::Unclear);
        assert_eq!((outcome.action, outcome.disposition), ("verified", Disposition::Deliver), "{to:?}");
        assert_eq!((outcome.copies.len(), &outcome.edits.body), (0, &None), "{to:?}");
        assert!(outcome.edits.remove_recipients.is_empty(), "{to:?}");
    }
}

#[test]
fn what_our_own_people_encrypted_is_opened_only_where_no_rule_keeps_it_closed() {
    for (rules, expected) in [
        ("", "opened"),
        ("[[incoming]]\nto = \"zoe@example.org\"\ndecrypt = false\n", "opened"),
        ("[[incoming]]\nto = \"bob@example.org\"\ndecrypt = false\n", "verified"),
        ("[[rule]]\nfrom = \"alice@example.org\"\nsign = \"never\"\nencrypt = \"required\"\n", "passed"),
    ] {
        let envelope = Envelope {
            sender: "alice@example.org".to_owned(),
            recipients: vec!["bob@example.org".to_owned()],
            login: Some("alice".to_owned()),
            ..Envelope::default()
        };
        let outcome = agent(rules).treat(&envelope, &Message::from_stored(encrypted().as_bytes()), now());
        let outcome = outcome.unwrap();
        assert_eq!(
            (outcome.action, outcome.edits.body.is_some()),
            (expected, expected == "opened"),
            "{rules}"
        );
    }
}

#[test]
fn where_nobody_sends_copies_all_get_one_form_by_the_strictest_of_all_rules() {
    let rules = "[[incoming]]\nto = \"alice@example.org\"\ndecrypt = false\n\
                 [[incoming]]\nto = \"bob@example.org\"\nsubject-tag = true\n";
    let settings = settings("", rules);
    let identities = || Identities::from_parts(["alice", "bob"].map(identity), "");
    let agent = Agent::with_identities(&settings, identities());
    for to in [&["bob", "alice"][..], &["alice", "zoe", "bob"]] {
        for mail in [encrypted(), plain()] {
            let outcome = treat(&agent, to, &mail).unwrap();
            assert_eq!((outcome.action, outcome.edits.body), ("verified", None), "{to:?}");
            assert_eq!((outcome.copies.len(), outcome.edits.remove_recipients.len()), (0, 0), "{to:?}");
        }
    }
    assert_eq!(treat(&agent, &["bob"], &encrypted()).unwrap().action, "opened");
}
