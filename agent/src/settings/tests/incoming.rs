//! The keys of `[[incoming]]`: each is about what it is called after, and nothing else.

use smime::message::AuthResult;

use super::*;
use crate::{Opening, config::Action};

const RESULTS: [AuthResult; 7] = [
    AuthResult::None,
    AuthResult::Pass,
    AuthResult::Policy,
    AuthResult::TempError,
    AuthResult::Neutral,
    AuthResult::PermError,
    AuthResult::Fail,
];

/// Of which results a rule with this line changes what becomes of a message, and how.
fn changed(line: &str, opening: &Opening) -> Vec<(AuthResult, Action)> {
    let folder = folder();
    let settings = parse(&folder, &format!("{TOKEN}{}[[incoming]]\n{line}\n", milter(""))).unwrap();
    let [rule] = settings.incoming() else { panic!("{line}") };
    let fates = RESULTS.map(|result| (result, rule.decide(opening, result).action));
    fates.into_iter().filter(|(_, action)| *action != Action::Deliver).collect()
}

#[test]
fn each_key_is_about_the_verdict_that_it_is_called_after() {
    let words = [
        ("tag", Action::Tag),
        ("quarantine", Action::Quarantine),
        ("reject", Action::Reject),
        ("discard-silently", Action::Discard),
    ];
    for (key, result) in [
        ("on-unsigned", AuthResult::None),
        ("on-policy", AuthResult::Policy),
        ("on-neutral", AuthResult::Neutral),
        ("on-permerror", AuthResult::PermError),
        ("on-temperror", AuthResult::TempError),
        ("on-fail", AuthResult::Fail),
    ] {
        for (word, action) in words {
            let line = format!("{key} = \"{word}\"");
            assert_eq!(changed(&line, &Opening::NotEncrypted), [(result, action)], "{line}");
        }
        assert_eq!(changed(&format!("{key} = \"deliver\""), &Opening::NotEncrypted), [], "{key}");
    }
    let defer = "on-temperror = \"defer\"";
    assert_eq!(changed(defer, &Opening::NotEncrypted), [(AuthResult::TempError, Action::Defer)]);
    let all = RESULTS.map(|result| (result, Action::Tag));
    for (line, not_encrypted, not_opened) in
        [("on-unencrypted = \"tag\"", &all[..], &[][..]), ("on-undecrypted = \"tag\"", &[], &all)]
    {
        assert_eq!(changed(line, &Opening::NotEncrypted), not_encrypted, "{line}");
        assert_eq!(changed(line, &Opening::NotEntitled), not_opened, "{line}");
    }
}

#[test]
fn what_is_required_is_refused_where_it_is_not_and_may_come_again_where_that_is_in_doubt() {
    let expected = RESULTS.map(|result| match result {
        AuthResult::Pass => (result, Action::Deliver),
        AuthResult::TempError => (result, Action::Defer),
        _ => (result, Action::Reject),
    });
    let expected: Vec<_> = expected.into_iter().filter(|(_, action)| *action != Action::Deliver).collect();
    assert_eq!(changed("require-signed = true", &Opening::NotEncrypted), expected);
    let all = RESULTS.map(|result| (result, Action::Reject));
    assert_eq!(changed("require-encrypted = true", &Opening::NotEncrypted), all);
    assert_eq!(changed("require-encrypted = true", &Opening::NotEntitled), []);
    // One that is said for itself counts.
    let line = "require-signed = true\non-policy = \"tag\"";
    assert!(changed(line, &Opening::NotEncrypted).contains(&(AuthResult::Policy, Action::Tag)));
}
