//! `[[rule]]` as it is written: conditions first, then what is done where all of them hold.

use std::{ops::RangeInclusive, path::PathBuf};

use smime::{profile::Profile, protection::ConfidentialityPolicy};

use super::{
    reader::{At, Section},
    word_of,
};

/// `[[rule]]`: what to do with some mail.
#[derive(Debug)]
pub(crate) struct RuleSection {
    pub(crate) line: usize,
    pub(crate) conditions: ConditionKeys,
    pub(crate) sign: Level,
    pub(crate) form: SignatureForm,
    pub(crate) identity: Option<At<PathBuf>>,
    pub(crate) profile: Profile,
    pub(crate) encrypt: At<Level>,
    pub(crate) to_sender: bool,
    pub(crate) also_to: Vec<At<PathBuf>>,
    pub(crate) no_certificate: NoCertificate,
    pub(crate) unknown: At<WhenUnknown>,
    pub(crate) mixed: At<Mixed>,
    pub(crate) header_protection: At<HeaderProtection>,
}

/// The conditions of a rule; one that is not given holds always.
#[derive(Debug)]
pub(crate) struct ConditionKeys {
    pub(crate) listener: Vec<At<String>>,
    pub(crate) network: Vec<At<String>>,
    pub(crate) login: Vec<At<String>>,
    pub(crate) sender: Vec<At<String>>,
    pub(crate) from: Vec<At<String>>,
    pub(crate) to: Vec<At<String>>,
    pub(crate) header: Vec<At<String>>,
    pub(crate) larger_than: Option<At<u64>>,
    pub(crate) smaller_than: Option<At<u64>>,
}

/// Whether mail is signed, or encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It is, or it does not leave.
    Required,
    /// It is if all that takes is there, and leaves without otherwise.
    WhenPossible,
    /// It is not.
    Never,
}

impl Level {
    const WORDS: [(&'static str, Self); 3] =
        [("required", Self::Required), ("when-possible", Self::WhenPossible), ("never", Self::Never)];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        word_of(&Self::WORDS, self)
    }
}

/// How a signature is put to a message (RFC 8551 3.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignatureForm {
    /// `multipart/signed`: everybody can read the text.
    #[default]
    Detached,
    /// `application/pkcs7-mime`: only S/MIME programs can, and no transport changes it.
    Opaque,
}

impl SignatureForm {
    const WORDS: [(&'static str, Self); 2] = [("detached", Self::Detached), ("opaque", Self::Opaque)];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        word_of(&Self::WORDS, self)
    }
}

/// What becomes of mail that must be encrypted to somebody who is known to have no certificate. Of whom nothing is
/// known, it is always a temporary failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoCertificate {
    /// It is refused for good: its author learns of it at once.
    #[default]
    Refuse,
    /// A temporary failure: the certificate may come.
    Defer,
}

impl NoCertificate {
    const WORDS: [(&'static str, Self); 2] = [("refuse", Self::Refuse), ("defer", Self::Defer)];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        word_of(&Self::WORDS, self)
    }
}

/// What becomes of mail that is encrypted when possible, where it could not be found out whether that is possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUnknown {
    /// It is a temporary failure, until it is known or the sender's MTA gives up: else whoever keeps us from asking would
    /// have mail in clear.
    #[default]
    Defer,
    /// It leaves in clear.
    Plain,
}

impl WhenUnknown {
    const WORDS: [(&'static str, Self); 2] = [("defer", Self::Defer), ("plain", Self::Plain)];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        word_of(&Self::WORDS, self)
    }
}

/// What becomes of mail whose recipients cannot all get the same form of it: one has no certificate, another is
/// not named in the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mixed {
    /// Each gets its own, in copies of their own.
    #[default]
    Split,
    /// It is a temporary failure.
    Defer,
    /// It is refused for good.
    Refuse,
    /// Nobody's is encrypted. Only where encryption is not required.
    Plain,
}

impl Mixed {
    const WORDS: [(&'static str, Self); 4] =
        [("split", Self::Split), ("defer", Self::Defer), ("refuse", Self::Refuse), ("plain", Self::Plain)];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        word_of(&Self::WORDS, self)
    }
}

/// What is done with the header fields of mail that is signed or encrypted (RFC 9788).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HeaderProtection {
    /// Nothing.
    #[default]
    Off,
    /// They are signed, or encrypted, with the content. What is encrypted shows no more outside than the policy says.
    By(ConfidentialityPolicy),
}

impl HeaderProtection {
    const WORDS: [(&'static str, Self); 3] = [
        ("off", Self::Off),
        ("hcp-no-confidentiality", Self::By(ConfidentialityPolicy::None)),
        ("hcp-baseline", Self::By(ConfidentialityPolicy::Baseline)),
    ];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        word_of(&Self::WORDS, self)
    }
}

pub(super) fn rule(section: &mut Section<'_, '_>) -> Option<RuleSection> {
    let line = section.line();
    let conditions = ConditionKeys {
        listener: section.texts("listener"),
        network: section.texts("network"),
        login: section.texts("login"),
        sender: section.texts("sender"),
        from: section.texts("from"),
        to: section.texts("to"),
        header: section.texts("header"),
        larger_than: section.number("larger-than", SIZES),
        smaller_than: section.number("smaller-than", SIZES),
    };
    let sign = section.word("sign", &Level::WORDS);
    let sign = section.required("sign", sign);
    let form = section.word("signature", &SignatureForm::WORDS);
    let identity = section.path("identity");
    let profile = section.word("profile", &PROFILES);
    let encrypt = section.word("encrypt", &Level::WORDS);
    let to_sender = section.boolean("encrypt-to-sender");
    let also_to = section.paths("encrypt-to");
    let no_certificate = section.word("no-certificate", &NoCertificate::WORDS);
    let unknown = section.word("unknown", &WhenUnknown::WORDS);
    let mixed = section.word("mixed", &Mixed::WORDS);
    let header_protection = section.word("header-protection", &HeaderProtection::WORDS);
    Some(RuleSection {
        line,
        conditions,
        sign: sign?.value,
        form: form.map_or_else(SignatureForm::default, |word| word.value),
        identity,
        profile: profile.map_or(Profile::STANDARD, |word| word.value),
        encrypt: encrypt.unwrap_or(At { line, value: Level::Never }),
        to_sender: to_sender.is_some_and(|given| given.value),
        also_to,
        no_certificate: no_certificate.map_or_else(NoCertificate::default, |word| word.value),
        unknown: unknown.unwrap_or(At { line, value: WhenUnknown::default() }),
        mixed: mixed.unwrap_or(At { line, value: Mixed::default() }),
        header_protection: header_protection.unwrap_or(At { line, value: HeaderProtection::default() }),
    })
}

/// `Profile::ALL` with their names.
const PROFILES: [(&str, Profile); 4] = {
    let [a, b, c, d] = Profile::ALL;
    [(a.name, a), (b.name, b), (c.name, c), (d.name, d)]
};

pub(super) const SIZES: RangeInclusive<u64> = 0..=(4 << 30);
