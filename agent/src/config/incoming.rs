//! `[[incoming]]` as it is written: what is done with mail from elsewhere, once it is known what its signature is worth.

use super::{
    reader::{At, Section},
    rule::{ConditionKeys, SIZES},
    word_of,
};

/// `[[incoming]]`: what to do with some mail from elsewhere.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file, and none excludes another")]
pub(crate) struct IncomingSection {
    pub(crate) line: usize,
    pub(crate) conditions: ConditionKeys,
    pub(crate) decrypt: bool,
    pub(crate) strip_signature: bool,
    pub(crate) promote: Vec<At<String>>,
    pub(crate) details: bool,
    pub(crate) subject_tag: bool,
    pub(crate) actions: Actions,
}

/// What becomes of mail, from the mildest to the strictest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It is delivered.
    #[default]
    Deliver,
    /// It is delivered with a field that says what was not right.
    Tag,
    /// The MTA holds it until a person decides.
    Quarantine,
    /// It is a temporary failure: the sender tries again.
    Defer,
    /// It is refused for good.
    Reject,
    /// It is accepted and thrown away, and nobody learns of it.
    Discard,
}

impl Action {
    const WORDS: [(&'static str, Self); 5] = [
        ("deliver", Self::Deliver),
        ("tag", Self::Tag),
        ("quarantine", Self::Quarantine),
        ("reject", Self::Reject),
        ("discard-silently", Self::Discard),
    ];
    /// For what may be another thing when it is tried again.
    const WORDS_IN_DOUBT: [(&'static str, Self); 6] = {
        let [a, b, c, d, e] = Self::WORDS;
        [a, b, c, ("defer", Self::Defer), d, e]
    };
    /// For mail that could not be decrypted: only what its sender cannot see (RFC 3218).
    const WORDS_UNSEEN: [(&'static str, Self); 2] = [("deliver", Self::Deliver), ("tag", Self::Tag)];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        word_of(&Self::WORDS_IN_DOUBT, self)
    }
}

/// What becomes of mail by RFC 7281's word for its signature, and by its encryption. The strictest counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// `none`.
    pub unsigned: Action,
    /// `policy`.
    pub policy: Action,
    /// `neutral`.
    pub neutral: Action,
    /// `permerror`.
    pub permerror: Action,
    /// `temperror`.
    pub temperror: Action,
    /// `fail`.
    pub fail: Action,
    /// It came without encryption.
    pub unencrypted: Action,
    /// It was encrypted and stays so: to others, or in a way that cannot be read.
    pub undecrypted: Action,
}

pub(super) fn incoming(section: &mut Section<'_, '_>) -> IncomingSection {
    let line = section.line();
    let conditions = ConditionKeys {
        listener: section.texts("listener"),
        network: section.texts("network"),
        sender: section.texts("sender"),
        from: section.texts("from"),
        to: section.texts("to"),
        // Whoever writes to us from elsewhere chooses the header, and has no login.
        login: Vec::new(),
        header: Vec::new(),
        larger_than: section.number("larger-than", SIZES),
        smaller_than: section.number("smaller-than", SIZES),
    };
    let mut flag = |key, default: bool| section.boolean(key).map_or(default, |given| given.value);
    let decrypt = flag("decrypt", true);
    let strip_signature = flag("strip-signature", false);
    let details = flag("details", false);
    let subject_tag = flag("subject-tag", false);
    let or_reject = |is_required| if is_required { Action::Reject } else { Action::Deliver };
    let signed = or_reject(flag("require-signed", false));
    let encrypted = or_reject(flag("require-encrypted", false));
    let mut word = |key, words: &[(&'static str, Action)], default| {
        section.word(key, words).map_or(default, |given| given.value)
    };
    let all = &Action::WORDS;
    let actions = Actions {
        unsigned: word("on-unsigned", all, signed),
        policy: word("on-policy", all, signed),
        neutral: word("on-neutral", all, signed),
        permerror: word("on-permerror", all, signed),
        temperror: word(
            "on-temperror",
            &Action::WORDS_IN_DOUBT,
            if signed == Action::Reject { Action::Defer } else { signed },
        ),
        fail: word("on-fail", all, signed),
        unencrypted: word("on-unencrypted", all, encrypted),
        undecrypted: word("on-undecrypted", &Action::WORDS_UNSEEN, Action::Deliver),
    };
    let promote = section.strings("promote");
    IncomingSection { line, conditions, decrypt, strip_signature, promote, details, subject_tag, actions }
}
