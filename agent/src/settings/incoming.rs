//! An [`IncomingRule`]: which mail from elsewhere it is about, and what is done with it.

use std::fmt;

use smime::message::AuthResult;

use super::Conditions;
use crate::{
    Opening,
    config::{Action, Actions},
};

/// What to do with some mail from elsewhere. For each recipient the first rule that matches counts; where none does, mail
/// is opened and verified, and delivered whatever comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file, and none excludes another")]
pub struct IncomingRule {
    /// Where it stands in the file; 0 is what holds without a rule.
    pub line: usize,
    /// Which mail.
    pub conditions: Conditions,
    /// Whether it is opened.
    pub decrypt: bool,
    /// Whether a signature that passes is taken off.
    pub strip_signature: bool,
    /// Protected header fields (RFC 9788) that may take the place of the outer ones.
    pub promote: Vec<String>,
    /// Whether it gets a field with all that was found.
    pub details: bool,
    /// Whether its subject says what was found.
    pub subject_tag: bool,
    /// What becomes of it.
    pub actions: Actions,
}

impl Default for IncomingRule {
    fn default() -> Self {
        Self {
            line: 0,
            conditions: Conditions::default(),
            decrypt: true,
            strip_signature: false,
            promote: Vec::new(),
            details: false,
            subject_tag: false,
            actions: Actions::default(),
        }
    }
}

/// What becomes of a message, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of it.
    pub action: Action,
    /// What was not as the rule wants it; empty where nothing is amiss.
    pub cause: &'static str,
}

impl IncomingRule {
    /// What becomes of a message of which this was found.
    ///
    /// Whoever sends ciphertext that is tried with a key here learns nothing of what came of it (RFC 3218): but for mail
    /// that was opened and passes, all of it gets the same answer, that of unsigned mail, and it is held where other mail would be
    /// refused or deferred. A signature around what stays closed is no pass: around what opens it would be none. Who it is encrypted to, and that it is not encrypted at all, its sender knows anyway.
    pub fn decide(&self, opening: &Opening, result: AuthResult) -> Decision {
        let decision =
            |action, cause| Decision { action, cause: if action == Action::Deliver { "" } else { cause } };
        let by_result = decision(self.by_result(result), result.as_str());
        let by_opening = match opening {
            Opening::NotEncrypted => decision(self.actions.unencrypted, "unencrypted"),
            Opening::NotEntitled | Opening::Failed(_) => decision(self.actions.undecrypted, "undecrypted"),
            Opening::Opened { .. } => decision(Action::Deliver, ""),
        };
        let strictest = if by_opening.action > by_result.action { by_opening } else { by_result };
        let is_as_found = match opening {
            Opening::NotEncrypted | Opening::NotEntitled => true,
            Opening::Opened { .. } => result == AuthResult::Pass,
            Opening::Failed(_) => false,
        };
        if is_as_found {
            return strictest;
        }
        match (self.actions.unsigned, strictest.action) {
            (Action::Deliver | Action::Tag, Action::Deliver) => strictest,
            (Action::Deliver | Action::Tag, _) => Decision { action: Action::Tag, cause: strictest.cause },
            (Action::Discard, _) => Decision { action: Action::Discard, cause: "encrypted" },
            (Action::Quarantine | Action::Defer | Action::Reject, _) => {
                Decision { action: Action::Quarantine, cause: "encrypted" }
            }
        }
    }

    fn promotes(&self, field: &str) -> bool {
        self.promote.iter().any(|own| own.eq_ignore_ascii_case(field))
    }

    /// Whether both do the same with a message that they are about.
    pub(crate) fn treats_like(&self, other: &Self) -> bool {
        let Self { line, conditions, .. } = self;
        *self == Self { line: *line, conditions: conditions.clone(), ..other.clone() }
    }

    /// What holds for mail that both rules may be about: of each the stricter. It is thrown away only where both say so, and
    /// else held; a signature is taken off, and a field promoted, only where both say so.
    pub(crate) fn with(&self, other: &Self) -> Self {
        let stricter = |of: fn(&Actions) -> Action| match (of(&self.actions), of(&other.actions)) {
            (one, two) if one == two => one,
            (one, Action::Discard) => one.max(Action::Quarantine),
            (Action::Discard, two) => two.max(Action::Quarantine),
            (one, two) => one.max(two),
        };
        Self {
            line: if self.line == 0 { other.line } else { self.line },
            decrypt: self.decrypt && other.decrypt,
            strip_signature: self.strip_signature && other.strip_signature,
            promote: self.promote.iter().filter(|field| other.promotes(field)).cloned().collect(),
            details: self.details || other.details,
            subject_tag: self.subject_tag || other.subject_tag,
            actions: Actions {
                unsigned: stricter(|actions| actions.unsigned),
                policy: stricter(|actions| actions.policy),
                neutral: stricter(|actions| actions.neutral),
                permerror: stricter(|actions| actions.permerror),
                temperror: stricter(|actions| actions.temperror),
                fail: stricter(|actions| actions.fail),
                unencrypted: stricter(|actions| actions.unencrypted),
                undecrypted: stricter(|actions| actions.undecrypted),
            },
            ..self.clone()
        }
    }

    fn by_result(&self, result: AuthResult) -> Action {
        let Actions { unsigned, policy, neutral, permerror, temperror, fail, .. } = self.actions;
        match result {
            AuthResult::Pass => Action::Deliver,
            AuthResult::None => unsigned,
            AuthResult::Policy => policy,
            AuthResult::Neutral => neutral,
            AuthResult::PermError => permerror,
            AuthResult::TempError => temperror,
            AuthResult::Fail => fail,
        }
    }
}

impl fmt::Display for IncomingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { conditions, decrypt, strip_signature, promote, details, subject_tag, actions, .. } = self;
        write!(f, "{conditions}: ")?;
        let mut words =
            vec![if *decrypt { "decrypt" } else { "leave encrypted" }.to_owned(), "verify".to_owned()];
        let mut also = |is_so: bool, text: &str| is_so.then(|| words.push(text.to_owned()));
        also(*strip_signature, "strip signatures that pass");
        also(*details, "add details");
        also(*subject_tag, "tag the subject");
        also(!promote.is_empty(), &format!("promote {}", promote.join(" ")));
        for (cause, action) in [
            ("unsigned", actions.unsigned),
            ("policy", actions.policy),
            ("neutral", actions.neutral),
            ("permerror", actions.permerror),
            ("temperror", actions.temperror),
            ("fail", actions.fail),
            ("unencrypted", actions.unencrypted),
            ("undecrypted", actions.undecrypted),
        ] {
            also(action != Action::Deliver, &format!("{} {cause}", action.as_str()));
        }
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protection;

    const RESULTS: [AuthResult; 7] = [
        AuthResult::Pass,
        AuthResult::None,
        AuthResult::Policy,
        AuthResult::Neutral,
        AuthResult::PermError,
        AuthResult::TempError,
        AuthResult::Fail,
    ];
    const ALL: [Action; 6] =
        [Action::Deliver, Action::Tag, Action::Quarantine, Action::Defer, Action::Reject, Action::Discard];

    fn opened() -> Opening {
        Opening::Opened { cipher: "AES-128-CBC", protection: Protection::Unauthenticated }
    }

    fn rule(actions: Actions) -> IncomingRule {
        IncomingRule { actions, ..IncomingRule::default() }
    }

    #[test]
    fn each_finding_has_its_action_and_the_strictest_counts() {
        let each = Actions {
            unsigned: Action::Tag,
            policy: Action::Quarantine,
            neutral: Action::Reject,
            permerror: Action::Discard,
            temperror: Action::Defer,
            fail: Action::Reject,
            unencrypted: Action::Deliver,
            undecrypted: Action::Tag,
        };
        let unencrypted = Actions { unencrypted: Action::Quarantine, ..each };
        let failed = || Opening::Failed("x".to_owned());
        for (actions, opening, result, action, cause) in [
            (Actions::default(), Opening::NotEncrypted, AuthResult::Fail, Action::Deliver, ""),
            (each, Opening::NotEncrypted, AuthResult::Pass, Action::Deliver, ""),
            (each, Opening::NotEncrypted, AuthResult::None, Action::Tag, "none"),
            (each, Opening::NotEncrypted, AuthResult::Policy, Action::Quarantine, "policy"),
            (each, Opening::NotEncrypted, AuthResult::Neutral, Action::Reject, "neutral"),
            (each, Opening::NotEncrypted, AuthResult::PermError, Action::Discard, "permerror"),
            (each, Opening::NotEncrypted, AuthResult::TempError, Action::Defer, "temperror"),
            (each, Opening::NotEncrypted, AuthResult::Fail, Action::Reject, "fail"),
            (each, Opening::NotEntitled, AuthResult::Pass, Action::Tag, "undecrypted"),
            (each, Opening::NotEntitled, AuthResult::Fail, Action::Reject, "fail"),
            (unencrypted, Opening::NotEncrypted, AuthResult::Pass, Action::Quarantine, "unencrypted"),
            (unencrypted, Opening::NotEncrypted, AuthResult::None, Action::Quarantine, "unencrypted"),
            (unencrypted, Opening::NotEncrypted, AuthResult::Fail, Action::Reject, "fail"),
            (each, opened(), AuthResult::Pass, Action::Deliver, ""),
            (each, opened(), AuthResult::None, Action::Tag, "none"),
            (each, opened(), AuthResult::Fail, Action::Tag, "fail"),
            (each, failed(), AuthResult::None, Action::Tag, "none"),
            (each, failed(), AuthResult::Pass, Action::Tag, "undecrypted"),
            (
                Actions { unsigned: Action::Reject, ..each },
                failed(),
                AuthResult::Pass,
                Action::Quarantine,
                "encrypted",
            ),
            (
                Actions { unsigned: Action::Reject, ..each },
                opened(),
                AuthResult::Fail,
                Action::Quarantine,
                "encrypted",
            ),
            (
                Actions { unsigned: Action::Reject, ..each },
                failed(),
                AuthResult::None,
                Action::Quarantine,
                "encrypted",
            ),
        ] {
            assert_eq!(
                rule(actions).decide(&opening, result),
                Decision { action, cause },
                "{opening:?} {result:?} {actions:?}"
            );
        }
    }

    /// What the sender of a message can see: the reply, and whether it is delivered.
    fn is_seen_as(action: Action) -> u8 {
        match action {
            Action::Deliver | Action::Tag => 0,
            Action::Quarantine => 1,
            Action::Discard => 2,
            Action::Defer => 3,
            Action::Reject => 4,
        }
    }

    /// RFC 3218: over all actions for all findings.
    #[test]
    fn nobody_can_tell_what_came_of_a_ciphertext_that_does_not_pass() {
        for unsigned in ALL {
            for others in ALL {
                for undecrypted in [Action::Deliver, Action::Tag] {
                    let rule = rule(Actions {
                        unsigned,
                        policy: others,
                        neutral: others,
                        permerror: others,
                        temperror: others,
                        fail: others,
                        unencrypted: others,
                        undecrypted,
                    });
                    let mut seen: Vec<u8> = Vec::new();
                    for opening in [opened(), Opening::Failed("x".to_owned())] {
                        let passes = |result| opening == opened() && result == AuthResult::Pass;
                        for result in RESULTS.into_iter().filter(|result| !passes(*result)) {
                            seen.push(is_seen_as(rule.decide(&opening, result).action));
                        }
                    }
                    seen.dedup();
                    assert_eq!(seen.len(), 1, "{rule:?}");
                    assert!(seen.iter().all(|seen| *seen < 3), "the reply is that of success: {rule:?}");
                    let passing = rule.decide(&opened(), AuthResult::Pass);
                    assert_eq!(passing.action, Action::Deliver);
                }
            }
        }
    }
}
