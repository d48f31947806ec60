//! RFC 8551's receiving agent: opens a message for those who own a key, and verifies it.

use std::{borrow::Cow, time::SystemTime};

use smime::{
    MailAddress,
    algorithm::ContentEncryptionAlgorithm,
    cms::{EnvelopedData, KeyTransport, Object, OpenError},
    message::{Verdict, Wrapped, verify},
    mime::{Canonical, MAX_DEPTH, Message, MimeEntity, single_originator},
    path::Trust,
};

use crate::{
    AgentError, Edits, Identities, Identity,
    sending::{content_fields, is_content_field},
};

/// Opens and verifies messages with these identities and this trust.
#[derive(Clone, Copy, Debug)]
pub struct ReceivingAgent<'a> {
    /// The identities whose keys are at hand.
    pub identities: &'a Identities,
    /// Whom to trust.
    pub trust: &'a Trust,
}

/// For whom a message may be opened.
#[derive(Clone, Copy, Debug)]
pub enum Entitled<'a> {
    /// For these recipients: each of them must own a key that the message is encrypted to, because all
    /// of them will get the same plaintext. `None` stands for a recipient who owns nothing.
    Recipients(&'a [Option<MailAddress>]),
    /// For whoever runs this over his own archive.
    Owner,
}

/// What became of a message.
#[derive(Debug)]
pub struct Received {
    /// Whether it was opened.
    pub opening: Opening,
    /// What its signature is worth: the outer one, or the one inside if it was opened.
    pub verdict: Verdict,
    /// The edits that put the opened content in place; empty where nothing was opened.
    pub edits: Edits,
}

/// Whether a message was opened, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It is not encrypted as a whole.
    NotEncrypted,
    /// It was opened.
    Opened {
        /// The cipher's name; of several layers, the innermost one's.
        cipher: &'static str,
        /// Whether a layer's cipher notices changes. It does not tell who encrypted.
        authenticated: bool,
    },
    /// Not every recipient owns a key that it is encrypted to.
    NotEntitled,
    /// It could not be opened: bad ciphertext, or an algorithm that is not supported.
    Failed(String),
}

impl<'i> ReceivingAgent<'i> {
    /// Opens the message where that is allowed and verifies what comes out. An error means that a key
    /// could not be asked: then nothing is known, and the message must wait.
    pub fn receive(
        &self,
        message: &Message,
        entitled: Entitled<'_>,
        at: SystemTime,
    ) -> Result<Received, AgentError> {
        let outer = message.entity();
        let sender = single_originator(&outer);
        let (content, opening) = self.open(&outer, entitled)?;
        let (content, opening, edits) = match content {
            Cow::Borrowed(_) => (content, opening, Edits::default()),
            Cow::Owned(ref octets) => match replace_content(&outer, octets) {
                Some(edits) => (content, opening, edits),
                None => (
                    Cow::Borrowed(outer.octets()),
                    Opening::Failed("the header inside is too large".to_owned()),
                    Edits::default(),
                ),
            },
        };
        let (verdict, _) = verify(&MimeEntity::parse(&content), sender, self.trust, at);
        Ok(Received { opening, verdict, edits })
    }

    /// Verifies the message as it is.
    pub fn verify(&self, message: &Message, at: SystemTime) -> Verdict {
        let entity = message.entity();
        verify(&entity, single_originator(&entity), self.trust, at).0
    }

    /// Opens layer after layer while the root is ciphertext; the octets of what is left, borrowed where
    /// nothing was opened.
    fn open<'m>(
        &self,
        outer: &MimeEntity<'m>,
        entitled: Entitled<'_>,
    ) -> Result<(Cow<'m, [u8]>, Opening), AgentError> {
        let mut content = Cow::Borrowed(outer.octets());
        let mut opening = Opening::NotEncrypted;
        for _ in 0..MAX_DEPTH {
            let step = self.open_layer(&MimeEntity::parse(&content), entitled)?;
            match (step, &opening) {
                (Layer::Opened(octets, cipher), before) => {
                    content = Cow::Owned(octets);
                    let was = matches!(before, Opening::Opened { authenticated: true, .. });
                    let authenticated = was || cipher.is_authenticated();
                    opening = Opening::Opened { cipher: cipher.name(), authenticated };
                }
                // What was opened so far is opened; the layer below stays closed.
                (Layer::Stays(_), Opening::Opened { .. }) => break,
                (Layer::Stays(why), _) => {
                    opening = why;
                    break;
                }
            }
        }
        Ok((content, opening))
    }

    fn open_layer(&self, entity: &MimeEntity<'_>, entitled: Entitled<'_>) -> Result<Layer, AgentError> {
        // What cannot be read as S/MIME at all is the verifier's to report.
        let Ok(Some(Wrapped::Opaque(object))) = Wrapped::read(entity) else {
            return Ok(Layer::Stays(Opening::NotEncrypted));
        };
        let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&object) else {
            return Ok(Layer::Stays(Opening::NotEncrypted));
        };
        let Some((info, identity)) = self.choose(&enveloped, entitled) else {
            return Ok(Layer::Stays(Opening::NotEntitled));
        };
        match enveloped
            .algorithm()
            .and_then(|cipher| Ok((enveloped.open(info, identity.decryptor())?, cipher)))
        {
            Ok((octets, cipher)) => Ok(Layer::Opened(with_crlf_header(octets), cipher)),
            Err(OpenError::Key(error)) if !is_of_the_message(&error) => Err(error.into()),
            Err(error) => Ok(Layer::Stays(Opening::Failed(error.to_string()))),
        }
    }

    /// The RecipientInfo to open with: chosen by certificates alone, and only if everybody who will get
    /// the plaintext owns a key that the message is encrypted to.
    fn choose<'e>(
        &self,
        enveloped: &'e EnvelopedData<'_>,
        entitled: Entitled<'_>,
    ) -> Option<(&'e KeyTransport, &'i Identity)> {
        let named = |identity: &'i Identity| {
            enveloped.recipient_for(identity.certificate()).map(|info| (info, identity))
        };
        match entitled {
            Entitled::Owner => self.identities.iter().find_map(named),
            Entitled::Recipients(recipients) => {
                let owned = recipients
                    .iter()
                    .map(|recipient| self.identities.owned_by(recipient.as_ref()?).find_map(named));
                owned.collect::<Option<Vec<_>>>()?.into_iter().next()
            }
        }
    }
}

/// One step of opening.
enum Layer {
    Opened(Vec<u8>, ContentEncryptionAlgorithm),
    Stays(Opening),
}

/// Whether an error of a key depends on the message alone: an algorithm that the key or its token does
/// not know. Waiting would not help, and the message is not ours to refuse.
fn is_of_the_message(error: &smime::key::KeyError) -> bool {
    matches!(error, smime::key::KeyError::Unsupported { .. })
}

/// Some senders encrypt content with LF line ends; a header that has them is read as text as a whole.
fn with_crlf_header(octets: Vec<u8>) -> Vec<u8> {
    let first_line = octets.split(|octet| *octet == b'\n').next().unwrap_or_default();
    if first_line.len() == octets.len() || first_line.ends_with(b"\r") {
        return octets;
    }
    Message::from_stored(&octets).octets().to_vec()
}

/// The edits that put opened content in the place of the ciphertext: its `Content-*` fields and its
/// body. No other field of the inner header gets out: RFC 8551 gives them no meaning, attackers do.
/// `None` if its fields are larger than MTAs take.
fn replace_content(outer: &MimeEntity<'_>, octets: &[u8]) -> Option<Edits> {
    let inner = MimeEntity::parse(octets);
    // Inside, content may be binary; outside, mail transport would damage that. What cannot be made safe,
    // such as a signed part, stays as it is.
    let safe = if is_transport_safe(octets) { None } else { Canonical::from_entity(&inner).ok() };
    let inner = safe.as_ref().map_or(inner, |canonical| MimeEntity::parse(canonical.octets()));
    let mut append = vec![("MIME-Version".to_owned(), "1.0".to_owned())];
    for field in inner.header().fields() {
        if is_content_field(field.name()) && !field.is("MIME-Version") {
            append.push((field.name().to_owned(), clean_value(field.value())));
        }
    }
    let size: usize = append.iter().map(|(name, value)| name.len() + value.len()).sum();
    (size <= MAX_FIELDS).then(|| Edits {
        remove: content_fields(outer),
        append,
        body: Some(inner.body().to_vec()),
        ..Edits::default()
    })
}

/// Postfix cuts a field at 60,000 octets without a word.
const MAX_FIELDS: usize = 50_000;

/// A field's value with its folds and without anything that could end the field: it comes from inside
/// the ciphertext, where anybody may have written it.
fn clean_value(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let lines = text.split("\r\n").map(|line| line.replace(|c: char| c.is_control() && c != '\t', " "));
    let folded = lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty());
    folded.collect::<Vec<_>>().join("\r\n ")
}

/// Whether every line ends in CRLF and has at most 998 octets, and there is no NUL (RFC 5321 4.5.3.1.6).
fn is_transport_safe(octets: &[u8]) -> bool {
    octets.split(|octet| *octet == b'\n').all(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.len() <= 998 && !line.contains(&b'\r') && !line.contains(&0)
    }) && !octets.starts_with(b"\n")
        && !octets.windows(2).any(|pair| matches!(pair, [before, b'\n'] if *before != b'\r'))
}
