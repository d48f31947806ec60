//! RFC 8551's receiving agent: opens a message for those who own a key, and verifies it.

use std::{borrow::Cow, time::SystemTime};

use smime::{
    MailAddress, Room,
    algorithm::ContentEncryptionAlgorithm,
    cms::{EncryptedKey, EnvelopedData, Object, OpenError},
    message::{Ciphertext, Reason, Verdict, VerifiedSigner, Wrapped, verify, verify_within},
    mime::{Claimed, MAX_DEPTH, Message, MimeEntity, SenderRule},
    path::{Budget, Trust},
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
    /// Who the signer of a message may be.
    pub sender_rule: SenderRule,
}

/// For whom a message may be opened.
#[derive(Clone, Copy, Debug)]
pub enum Entitled<'a> {
    /// For these recipients: each of them must own a key that the message is encrypted to, because all
    /// of them will get the same plaintext. `None` stands for a recipient who owns nothing.
    Recipients(&'a [Option<MailAddress>]),
    /// For whoever runs this over his own archive.
    Owner,
    /// For nobody: it stays closed.
    Nobody,
}

/// What became of a message.
#[derive(Debug)]
pub struct Received {
    /// Whether it was opened.
    pub opening: Opening,
    /// The names of the ciphers that were opened, from outside in.
    pub ciphers: Vec<&'static str>,
    /// What its signature is worth: the outer one, or the one inside if it was opened. An outer signature
    /// around what was opened is among its layers.
    pub verdict: Verdict,
    /// The signers behind the verdict that were found good.
    pub signers: Vec<VerifiedSigner>,
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
        /// How well the best of the layers protects what is inside.
        protection: Protection,
    },
    /// Not every recipient owns a key that it is encrypted to.
    NotEntitled,
    /// It could not be opened: bad ciphertext, or an algorithm that is not supported.
    Failed(String),
}

/// How well a cipher protects. None of it tells who encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// Not at all today: anybody may have read it, or changed it.
    Weak,
    /// Nobody read it on the way; somebody may have changed it.
    Unauthenticated,
    /// A change would have been noticed.
    Authenticated,
}

impl Protection {
    fn of(cipher: &ContentEncryptionAlgorithm) -> Self {
        if cipher.is_authenticated() {
            Self::Authenticated
        } else if cipher.is_weak() {
            Self::Weak
        } else {
            Self::Unauthenticated
        }
    }
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
        self.receive_whole(message, entitled, at).map(|(received, _)| received)
    }

    /// The same, and the content beside it where it was opened.
    pub(crate) fn receive_whole(
        &self,
        message: &Message,
        entitled: Entitled<'_>,
        at: SystemTime,
    ) -> Result<(Received, Option<Vec<u8>>), AgentError> {
        let outer = message.entity();
        let sender = Claimed::of(&outer, self.sender_rule);
        let mut budget = Budget::default();
        let room = Room::of(message.octets().len());
        let Opened { content, opening, around, mut ciphers } =
            self.open(&outer, entitled, &sender, &mut budget, room, at)?;
        let (content, opening, edits) = match content {
            Cow::Borrowed(_) => (content, opening, Edits::default()),
            // The body will be there twice, and encoded in between where mail transport would change it.
            Cow::Owned(ref octets) if !is_transport_safe(octets) && room.left() < 4 * octets.len() => (
                Cow::Borrowed(outer.octets()),
                Opening::Failed("the content inside is too large".to_owned()),
                Edits::default(),
            ),
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
        let made = edits.body.as_ref().map_or(0, |body| body.len() + content.len());
        let (mut verdict, signers) =
            verify_within(&mut budget, room.without(made), &entity, sender, self.trust, at);
        if edits.body.is_some() {
            verdict = around.into_iter().rev().fold(verdict, Verdict::inside);
        }
        if edits.body.is_some()
            && let Ok(Some(Wrapped::Clear { content: signed, .. })) = Wrapped::read(&entity)
            && !is_transport_safe(signed.octets())
        {
            // What will arrive is not what was signed.
            verdict = verdict.at_best(Reason::NotTransportSafe);
        }
        let content = if let Cow::Owned(content) = content {
            Some(content)
        } else {
            ciphers.clear();
            None
        };
        Ok((Received { opening, ciphers, verdict, signers, edits }, content))
    }

    /// Verifies the message as it is.
    pub fn verify(&self, message: &Message, at: SystemTime) -> Verdict {
        let entity = message.entity();
        verify(&entity, Claimed::of(&entity, self.sender_rule), self.trust, at).0
    }

    /// Opens layer after layer while the root is ciphertext, or a signature around nothing but ciphertext: then
    /// the signature goes with the ciphertext that it covers, and what it was worth is kept.
    fn open<'m>(
        &self,
        outer: &MimeEntity<'m>,
        entitled: Entitled<'_>,
        sender: &Claimed,
        budget: &mut Budget,
        whole: Room,
        at: SystemTime,
    ) -> Result<Opened<'m>, AgentError> {
        let mut opened = Opened {
            content: Cow::Borrowed(outer.octets()),
            opening: Opening::NotEncrypted,
            around: Vec::new(),
            ciphers: Vec::new(),
        };
        for _ in 0..MAX_DEPTH {
            let entity = MimeEntity::parse(&opened.content);
            let room = opened.leaves_of(whole);
            let Some(ciphertext) = Ciphertext::find_within(&entity, room) else { break };
            // Beside it there will be its content.
            if room.without(ciphertext.object.len()).take(ciphertext.object.len()).is_err() {
                if matches!(opened.opening, Opening::NotEncrypted) {
                    opened.opening = Opening::Failed("the ciphertext inside is too large".to_owned());
                }
                break;
            }
            match (self.open_layer(&ciphertext, entitled)?, &opened.opening) {
                (Layer::Opened(octets, cipher), before) => {
                    if ciphertext.is_signed {
                        let room = room.without(ciphertext.object.len() + octets.len());
                        let (verdict, _) =
                            verify_within(budget, room, &entity, sender.clone(), self.trust, at);
                        opened.around.push(verdict);
                    }
                    let mut protection = Protection::of(&cipher);
                    if let Opening::Opened { protection: before, .. } = before {
                        protection = protection.max(*before);
                    }
                    opened.ciphers.push(cipher.name());
                    opened.opening = Opening::Opened { cipher: cipher.name(), protection };
                    opened.content = Cow::Owned(octets);
                }
                // What was opened so far is opened; the layer below stays closed.
                (Layer::Stays(_), Opening::Opened { .. }) => break,
                (Layer::Stays(why), _) => {
                    opened.opening = why;
                    break;
                }
            }
        }
        if matches!(opened.opening, Opening::Opened { .. })
            && let Some(content) = decompressed(&opened.content, opened.leaves_of(whole))
        {
            opened.content = Cow::Owned(content);
        }
        Ok(opened)
    }

    fn open_layer(&self, ciphertext: &Ciphertext, entitled: Entitled<'_>) -> Result<Layer, AgentError> {
        let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&ciphertext.object) else {
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
            Entitled::Nobody => None,
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

/// What was opened of a message, if anything.
struct Opened<'m> {
    /// The octets of what is left, borrowed where nothing was opened.
    content: Cow<'m, [u8]>,
    opening: Opening,
    /// What the signatures around opened ciphertexts were worth, from outside in.
    around: Vec<Verdict>,
    /// The ciphers' names.
    ciphers: Vec<&'static str>,
}

impl Opened<'_> {
    /// What is left of the room of the whole message beside the content.
    fn leaves_of(&self, whole: Room) -> Room {
        match &self.content {
            Cow::Borrowed(_) => whole,
            Cow::Owned(made) => whole.without(made.len()),
        }
    }
}

/// What is compressed, without its compression: few mail programs can undo it. `None` where it is not, or cannot
/// be undone in the room that is left.
fn decompressed(octets: &[u8], whole: Room) -> Option<Vec<u8>> {
    let mut content: Option<Vec<u8>> = None;
    for _ in 0..MAX_DEPTH {
        let mut room = whole.without(content.as_ref().map_or(0, Vec::len));
        let entity = MimeEntity::parse(content.as_deref().unwrap_or(octets));
        let Ok(Some(Wrapped::Opaque(object))) = Wrapped::read_within(&entity, &mut room) else { break };
        let Ok(Object::CompressedData(compressed)) = Object::parse_within(&object, room) else { break };
        let Ok(inside) = compressed.decompress_within(&mut room) else { break };
        // It will be there twice: as an entity, and as the body that takes the ciphertext's place.
        if room.take(inside.len()).is_err() {
            break;
        }
        content = Some(as_entity(inside));
    }
    content
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
