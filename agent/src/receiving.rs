//! RFC 8551's receiving agent: opens a message for those who own a key, and verifies it.

use std::{borrow::Cow, time::SystemTime};

use smime::{
    MailAddress,
    algorithm::ContentEncryptionAlgorithm,
    cms::{EncryptedKey, EnvelopedData, Object, OpenError},
    message::{Reason, Verdict, Wrapped, verify},
    mime::{MAX_DEPTH, Message, MimeEntity, single_originator},
    path::Trust,
};

use crate::{
    AgentError, Edits, Identities, Identity, Returned,
    opened::{as_entity, is_transport_safe, put_in_place},
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

impl Opening {
    /// What bounces may hold: whoever sends captured ciphertext to its owner must not get the text back when
    /// it cannot be delivered later. What could not be opened goes the same way, or the form of a bounce
    /// would tell which ciphertext was good (RFC 3218).
    pub fn returned(&self) -> Returned {
        match self {
            Self::NotEncrypted | Self::NotEntitled => Returned::Full,
            Self::Opened { .. } | Self::Failed(_) => Returned::HeadersOnly,
        }
    }
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
            Cow::Owned(ref octets) => match put_in_place(&outer, octets) {
                Some(edits) => (content, opening, edits),
                None => (
                    Cow::Borrowed(outer.octets()),
                    Opening::Failed("the header inside is too large".to_owned()),
                    Edits::default(),
                ),
            },
        };
        let entity = MimeEntity::parse(&content);
        let (mut verdict, _) = verify(&entity, sender, self.trust, at);
        if edits.body.is_some()
            && let Ok(Some(Wrapped::Clear { content: signed, .. })) = Wrapped::read(&entity)
            && !is_transport_safe(signed.octets())
        {
            // What will arrive is not what was signed.
            verdict = verdict.at_best(Reason::NotTransportSafe);
        }
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
            Ok((octets, cipher)) => Ok(Layer::Opened(as_entity(octets), cipher)),
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
    ) -> Option<(EncryptedKey<'e>, &'i Identity)> {
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
