//! A site whose keys count what they are asked, and ciphertext for it, honest and forged.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use agent::{Agent, Identities, Identity, Outcome, Returned, settings::Logins};
use smime::{
    Certificate,
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::KeyEncryptionAlgorithm,
    cipher::ContentCipher,
    cms::{self, Keep, Proof, RecipientKey},
    key::{ContentEncryptionKey, Decryptor, KeyError, Unwrapped},
    mime::{Message, encode_base64},
    testing::{
        MemoryKey, Node,
        authority::{Authority, Wanted},
        fixtures::{certificate, key},
    },
};

use super::{HEADER, settings};

/// A key that counts its uses, and may be away.
#[derive(Debug)]
pub(super) struct Asked {
    key: MemoryKey,
    uses: Arc<AtomicUsize>,
    away: Arc<Mutex<Vec<Certificate>>>,
}

impl Asked {
    fn once<T>(&self, answer: impl FnOnce(&MemoryKey) -> Result<T, KeyError>) -> Result<T, KeyError> {
        self.uses.fetch_add(1, Ordering::SeqCst);
        if self.away.lock().unwrap().contains(Decryptor::certificate(&self.key)) {
            return Err(KeyError::Unavailable { token: "mail".to_owned(), reason: "lost".to_owned() });
        }
        answer(&self.key)
    }
}

impl Decryptor for Asked {
    fn certificate(&self) -> &Certificate {
        Decryptor::certificate(&self.key)
    }

    fn decrypt_key(&self, key: &[u8], algorithm: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        self.once(|memory| memory.decrypt_key(key, algorithm))
    }

    fn agree(&self, originator: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        self.once(|memory| memory.agree(originator))
    }
}

/// Whoever answers in Alice's place with a key of his own: what he encrypts to others is not hers.
#[derive(Debug)]
pub(super) struct Liar(Certificate);

impl Decryptor for Liar {
    fn certificate(&self) -> &Certificate {
        &self.0
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        Ok(Unwrapped::Key(ContentEncryptionKey::new(vec![0x5a; 32])))
    }
}

/// A site with alice, bob, his key of before, p256, a mailbox that alice and bob share, and two whose certificates have one key.
pub(super) struct Site {
    pub(super) agent: Agent,
    pub(super) uses: Arc<AtomicUsize>,
    pub(super) away: Arc<Mutex<Vec<Certificate>>>,
}

/// A certificate of an authority here: by its own name, or a fixture's.
pub(super) fn of(name: &str) -> Certificate {
    Decryptor::certificate(&owned(name)).clone()
}

pub(super) fn owned(name: &str) -> MemoryKey {
    let issued = |key, serial, addresses: &[&str]| {
        let wanted = Wanted { key, name, addresses, serial, ..Wanted::default() };
        Authority::root("Root", "alice").issue_key(&wanted)
    };
    match name {
        "before" => issued("revoked", 70, &["bob@example.org"]),
        "shared" => issued("mallory", 71, &["alice@example.org", "bob@example.org", "p256@example.org"]),
        "twin" => issued("bob", 72, &["twin@example.org"]),
        "other-twin" => issued("bob", 73, &["other-twin@example.org"]),
        other => key(other),
    }
}

pub(super) fn site(milter: &str, rules: &str, has_copies: bool) -> Site {
    let (uses, away) = (Arc::default(), Arc::default());
    let identity = |name| {
        let asked = Asked { key: owned(name), uses: Arc::clone(&uses), away: Arc::clone(&away) };
        let certificate = Decryptor::certificate(&asked).clone();
        Identity::new(certificate, Vec::new(), Logins::Address, Arc::new(owned(name)), Arc::new(asked))
    };
    let identities = ["alice", "before", "bob", "p256", "shared", "twin", "other-twin"].map(identity);
    let agent = Agent::with_identities(&settings(milter, rules), Identities::from_parts(identities, "+"));
    Site { agent: if has_copies { agent.with_copies() } else { agent }, uses, away }
}

pub(super) fn keys(names: &[&str]) -> Vec<RecipientKey> {
    names.iter().map(|name| RecipientKey::new(of(name)).unwrap()).collect()
}

pub(super) fn sealed(entity: &str, to: &[&str]) -> Vec<u8> {
    sealed_by(ContentCipher::Aes256Gcm, entity, to)
}

pub(super) fn sealed_by(cipher: ContentCipher, entity: &str, to: &[&str]) -> Vec<u8> {
    cms::seal(&[entity.as_bytes()], cipher, &keys(to)).unwrap()
}

/// The same with RecipientInfos that somebody wrote for these, who cannot open it.
pub(super) fn forged(object: &[u8], names: &[&str]) -> Vec<u8> {
    cms::rekey(object, &Liar(certificate("alice")), &keys(names), Keep::All, Proof::Key).unwrap()
}

/// The same with octets for somebody that are no key at all.
pub(super) fn scribbled(mut object: Vec<u8>, name: &str) -> Vec<u8> {
    let serial = of(name).serial_number().to_vec();
    let at = object.windows(serial.len()).position(|octets| octets == serial).unwrap();
    let key = at + object[at..].windows(4).position(|octets| octets == [4, 0x82, 1, 0]).unwrap() + 4;
    object[key..key + 256].fill(0x5a);
    object
}

/// The same object with a key for somebody by an algorithm that nobody knows: sha1WithRSAEncryption.
pub(super) fn by_no_known_algorithm(mut object: Vec<u8>, name: &str) -> Vec<u8> {
    let serial = of(name).serial_number().to_vec();
    let at = object.windows(serial.len()).position(|octets| octets == serial).unwrap();
    let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let algorithm = at + object[at..].windows(rsa.len()).position(|octets| octets == rsa).unwrap();
    object[algorithm + rsa.len() - 1] = 5;
    object
}

/// The place of the RecipientInfos in an object.
pub(super) const INFOS: [usize; 3] = [1, 0, 1];

/// The same with so many other RecipientInfos in front of somebody's, which name the same certificate and do not open it.
pub(super) fn twice(object: &[u8], name: &str, others: usize) -> Vec<u8> {
    let mut node = Node::parse(object);
    for _ in 0..others {
        let other = Node::parse(&sealed("Content-Type: text/plain\r\n\r\nAnother.\r\n", &[name]));
        node.at(&INFOS).nodes().insert(0, other.get(&INFOS).get(&[0]).clone());
    }
    node.to_der()
}

pub(super) fn entity(object: &[u8]) -> String {
    format!(
        "Content-Type: application/pkcs7-mime; smime-type=authEnveloped-data; name=smime.p7m\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        String::from_utf8(encode_base64(object)).unwrap()
    )
}

pub(super) fn mail(object: &[u8]) -> String {
    format!("{HEADER}{}", entity(object))
}

impl Site {
    pub(super) fn treat(&self, to: &[&str], mail: &str) -> Result<Outcome, agent::AgentError> {
        self.uses.store(0, Ordering::SeqCst);
        super::treat(&self.agent, to, mail)
    }

    /// Who gets the text, and how often keys were asked.
    pub(super) fn readers(&self, to: &[&str], mail: &str) -> (Vec<String>, usize) {
        let outcome = self.treat(to, mail).unwrap();
        let uses = self.uses.load(Ordering::SeqCst);
        let mut readers = Vec::new();
        let mut count = 0;
        let mut look = |recipients: &[String], octets: &[u8], returned| {
            count += recipients.len();
            // Whether a key was right shows in no bounce.
            assert_eq!(returned, Returned::HeadersOnly, "{recipients:?} of {to:?}");
            if octets.windows(6).any(|octets| octets == b"Hello.") {
                readers.extend(recipients.iter().map(|to| to.replace("@example.org", "")));
            }
        };
        let removed = &outcome.edits.remove_recipients;
        let once: BTreeSet<&str> = to.iter().copied().collect();
        let stay: Vec<_> = once.iter().map(|to| format!("{to}@example.org")).collect();
        let stay: Vec<_> = stay.into_iter().filter(|to| !removed.contains(to)).collect();
        let kept = outcome.edits.apply(&Message::from_stored(mail.as_bytes()));
        look(&stay, kept.octets(), outcome.edits.returned);
        for copy in &outcome.copies {
            look(&copy.recipients, &copy.octets, copy.returned);
        }
        assert_eq!(count, once.len(), "each has one form: {outcome:?}");
        readers.sort();
        (readers, uses)
    }
}
