//! What comes out of an object that is forged, and whether the key was asked for it.

use std::sync::atomic::{AtomicUsize, Ordering};

use smime::{
    Certificate,
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::KeyEncryptionAlgorithm,
    cipher::ContentCipher,
    cms::{EnvelopedData, Object, OpenError, RecipientKey, seal},
    key::{Decryptor, KeyError, Unwrapped},
    testing::{
        Node,
        fixtures::{certificate, key},
    },
};

use crate::support::TEXT;

/// A key that counts how often it is asked.
#[derive(Debug)]
pub(crate) struct Counting {
    key: smime::testing::MemoryKey,
    asked: AtomicUsize,
}

impl Counting {
    pub(crate) fn of(name: &str) -> Self {
        Self { key: key(name), asked: AtomicUsize::new(0) }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

impl Decryptor for Counting {
    fn certificate(&self) -> &Certificate {
        Decryptor::certificate(&self.key)
    }

    fn decrypt_key(
        &self,
        encrypted_key: &[u8],
        algorithm: &KeyEncryptionAlgorithm,
    ) -> Result<Unwrapped, KeyError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.key.decrypt_key(encrypted_key, algorithm)
    }

    fn agree(&self, originator: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.key.agree(originator)
    }
}

/// What came of an object, in the order in which it is looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not read as an EnvelopedData of either kind, or without a key for who asks.
    NotForUs,
    /// Refused for what it says of itself; the key was not asked.
    Refused,
    /// The key was asked, and nothing came out.
    Undecryptable,
    /// The key was asked for what this kind of key does not do; it says so by itself.
    NotDone,
    Opened(Vec<u8>),
}

pub(crate) fn open(object: &[u8], token: &Counting) -> Outcome {
    let Ok(Object::EnvelopedData(enveloped)) = Object::parse(object) else { return Outcome::NotForUs };
    open_parsed(&enveloped, token)
}

pub(crate) fn open_parsed(enveloped: &EnvelopedData<'_>, token: &Counting) -> Outcome {
    let Some(recipient) = enveloped.recipient_for(token.certificate()) else { return Outcome::NotForUs };
    let opened = enveloped.open(recipient, token);
    match (opened, token.asked()) {
        (Ok(content), _) => Outcome::Opened(content),
        (Err(OpenError::Undecryptable), 1) => Outcome::Undecryptable,
        (Err(OpenError::Key(KeyError::Unsupported { .. })), 1) => Outcome::NotDone,
        (Err(_), 0) => Outcome::Refused,
        (Err(error), asked) => unreachable!("{error} after {asked} questions"),
    }
}

/// One wrong key in about 250 gives content in CBC valid padding, and what comes out then is no text. That no one can
/// tell from outside is the point.
#[track_caller]
pub(crate) fn nothing_of_the_text(outcome: &Outcome, what: &str) {
    if let Outcome::Opened(content) = outcome {
        let mut pieces = TEXT.as_bytes().windows(8);
        assert!(!pieces.any(|piece| content.windows(8).any(|window| window == piece)), "{what}");
    }
}

/// Content for bob, to be changed: the paths are those of RFC 5083 section 2.1 and RFC 5652 section 6.1.
pub(crate) fn sealed(cipher: ContentCipher) -> Node {
    let recipient = RecipientKey::new(certificate("bob")).unwrap();
    Node::parse(&seal(&[TEXT.as_bytes()], cipher, &[recipient]).unwrap())
}
