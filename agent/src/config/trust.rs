//! `[trust]` as it is written: whom to believe, and how sure that must be.

use std::path::PathBuf;

use smime::{
    mime::SenderRule,
    path::{LegacySignatures, RevocationMode},
};

use super::{
    reader::{At, Section},
    word_of,
};

/// `[trust]`: whom to believe.
#[derive(Debug)]
pub(crate) struct TrustSection {
    pub(crate) anchors: Vec<At<PathBuf>>,
    pub(crate) intermediates: Vec<At<PathBuf>>,
    pub(crate) crls: Vec<At<PathBuf>>,
    pub(crate) revocation: RevocationMode,
    /// `None`: as safe as it gets where revocation is looked at at all.
    pub(crate) encrypt_revocation: Option<RevocationMode>,
    pub(crate) encrypt_grace_hours: u64,
    pub(crate) sender_rule: SenderRule,
    pub(crate) policies: Vec<At<String>>,
    pub(crate) legacy: LegacySignatures,
}

impl Default for TrustSection {
    fn default() -> Self {
        Self {
            anchors: Vec::new(),
            intermediates: Vec::new(),
            crls: Vec::new(),
            revocation: RevocationMode::default(),
            encrypt_revocation: None,
            encrypt_grace_hours: 24,
            sender_rule: SenderRule::default(),
            policies: Vec::new(),
            legacy: LegacySignatures::default(),
        }
    }
}

const REVOCATION: [(&str, RevocationMode); 3] = [
    ("hard-fail", RevocationMode::HardFail),
    ("soft-fail", RevocationMode::SoftFail),
    ("off", RevocationMode::Off),
];

const LEGACY: [(&str, LegacySignatures); 2] =
    [("refused", LegacySignatures::Refused), ("marked", LegacySignatures::Marked)];

/// The word in the configuration.
pub(crate) fn revocation_word(mode: RevocationMode) -> &'static str {
    word_of(&REVOCATION, mode)
}

pub(super) fn trust(section: &mut Section<'_, '_>) -> TrustSection {
    let default = TrustSection::default();
    let anchors = section.paths("anchors");
    let intermediates = section.paths("intermediates");
    let crls = section.paths("crls");
    let revocation = section.word("revocation", &REVOCATION);
    let encrypt_revocation = section.word("encrypt-revocation", &REVOCATION);
    let grace = section.number("encrypt-grace-hours", 0..=168);
    let sender_header = section.boolean("sender-header").is_some_and(|given| given.value);
    let policies = section.strings("policies");
    let legacy = section.word("legacy", &LEGACY);
    TrustSection {
        anchors,
        intermediates,
        crls,
        revocation: revocation.map_or(default.revocation, |word| word.value),
        encrypt_revocation: encrypt_revocation.map(|word| word.value),
        encrypt_grace_hours: grace.map_or(default.encrypt_grace_hours, |hours| hours.value),
        sender_rule: if sender_header { SenderRule::FromOrSender } else { SenderRule::From },
        policies,
        legacy: legacy.map_or(default.legacy, |word| word.value),
    }
}
