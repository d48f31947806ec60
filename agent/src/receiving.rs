//! RFC 8551's receiving agent: opens a message for those whose keys do, and verifies it.

mod layer;
mod opening;

use std::{borrow::Cow, time::SystemTime};

use smime::{
    Certificate, MailAddress, Room,
    algorithm::ContentEncryptionAlgorithm,
    cms::OpenError,
    key::KeyError,
    message::{
        AuthResult, Ciphertext, Reason, Signature, Verdict, VerifiedSigner, Wrapped, is_loose, verify_read,
        verify_within,
    },
    mime::{Claimed, LONGEST_ALLOWED, MAX_DEPTH, Message, MimeEntity, SenderRule},
    path::{Budget, Trust},
};
use tracing::warn;

use crate::{
    AgentError, Edits, Identities, Turn,
    fit::Fit,
    opened::{is_read_alike, is_transport_safe, placed},
};
pub(crate) use layer::Group;
use layer::{Layer, Opened};
pub use opening::{Opening, Protection};

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
    /// For these recipients: each of them must own a key that gives the content-encryption key, because all
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
    /// By whose keys, from outside in; with the ciphers.
    pub keys: Vec<Certificate>,
    /// What its signature is worth: the outer one, or the one inside if it was opened. An outer signature
    /// around what was opened is among its layers.
    pub verdict: Verdict,
    /// The signers behind the verdict that were found good.
    pub signers: Vec<VerifiedSigner>,
    /// The edits that put the opened content in place; empty where nothing was opened.
    pub edits: Edits,
}

impl Received {
    /// Has it stay closed all the same, as what does not open.
    pub(crate) fn fail(&mut self, why: &str) {
        self.opening = Opening::Failed(why.to_owned());
        let verdict = std::mem::replace(&mut self.verdict, Verdict::without_signers(Reason::NotSigned));
        self.verdict = around_closed(verdict);
    }
}

/// What a signature is worth around ciphertext that was tried and stays closed, wherever that is: nobody has seen what it is of. As
/// if it had opened: anybody can sign captured ciphertext, and encrypt that once more, and whether it passes, or teaches us a
/// certificate, would tell him which opens (RFC 3218).
fn around_closed(verdict: Verdict) -> Verdict {
    match verdict.result() {
        AuthResult::Pass => verdict.at_best(Reason::SignedCiphertext),
        _ => verdict,
    }
}

impl<'i> ReceivingAgent<'i> {
    /// Opens the message where that is allowed and verifies what comes out. An error means that a key
    /// could not be asked: then nothing is known, and the message must wait. For recipients that is so with the outermost
    /// ciphertext; one inside stays closed.
    pub fn receive(
        &self,
        message: &Message,
        entitled: Entitled<'_>,
        at: SystemTime,
    ) -> Result<Received, AgentError> {
        self.receive_in_turns(message, entitled, at).wait(message)
    }

    /// The same, turn by turn.
    pub fn receive_in_turns(
        self,
        message: &Message,
        entitled: Entitled<'i>,
        at: SystemTime,
    ) -> Turn<'i, Result<Received, AgentError>> {
        let whole = self.receive_whole(message, Group::of(entitled), Fit::Any, at);
        whole.map(|_, received| received.map(|Whole { received, .. }| received), message)
    }

    /// The same, and the content beside it where it was opened. What fits better so stays compressed.
    pub(crate) fn receive_whole(
        self,
        message: &Message,
        group: Group<'i>,
        fit: Fit,
        at: SystemTime,
    ) -> Turn<'i, Result<Whole, AgentError>> {
        let work = Work {
            agent: self,
            group,
            fit,
            at,
            sender: Claimed::of(&message.entity(), self.sender_rule),
            budget: Budget::default(),
            whole: Room::of(message.octets().len()),
            layers: 0,
            content: None,
            opening: Opening::NotEncrypted,
            around: Vec::new(),
            ciphers: Vec::new(),
            keys: Vec::new(),
            doubt: None,
            stays_inside: false,
        };
        work.open(message)
    }

    /// Verifies the message as it is.
    pub fn verify(&self, message: &Message, at: SystemTime) -> Verdict {
        self.verify_within(&mut Budget::default(), message, None, at)
    }

    /// The same, with the budget in the caller's hands, and with the message's outermost signature where that was read.
    pub fn verify_within(
        &self,
        budget: &mut Budget,
        message: &Message,
        signature: Option<&Signature<'_, '_>>,
        at: SystemTime,
    ) -> Verdict {
        let entity = message.entity();
        let claimed = Claimed::of(&entity, self.sender_rule);
        if let Some(signature) = signature {
            return verify_read(budget, signature, claimed, self.trust, at).0;
        }
        let room = Room::of(entity.octets().len());
        verify_within(budget, room, &entity, claimed, self.trust, at).0
    }
}

/// What became of a message, and the content of it that was opened.
pub(crate) struct Whole {
    pub(crate) received: Received,
    pub(crate) content: Option<Vec<u8>>,
    /// For whom of a group that may be parted all this is not, by place.
    pub(crate) left: Vec<usize>,
}

/// A message on its way from layer to layer, and how far it is.
struct Work<'i> {
    agent: ReceivingAgent<'i>,
    /// Who gets what was opened so far.
    group: Group<'i>,
    at: SystemTime,
    sender: Claimed,
    budget: Budget,
    /// That of the whole message.
    whole: Room,
    /// How many layers were looked at.
    layers: usize,
    /// How large it may become.
    fit: Fit,
    /// What was opened so far.
    content: Option<Vec<u8>>,
    opening: Opening,
    /// What the signatures around opened ciphertexts were worth, from outside in.
    around: Vec<Verdict>,
    /// The ciphers' names.
    ciphers: Vec<&'static str>,
    /// Whose keys opened them.
    keys: Vec<Certificate>,
    /// What keeps all that is signed from passing, below a cipher that lets anybody change it.
    doubt: Option<Reason>,
    /// Whether a ciphertext inside what was opened stays closed.
    stays_inside: bool,
}

impl<'i> Work<'i> {
    /// Opens layer after layer while the root is ciphertext, or a signature around nothing but ciphertext: then
    /// the signature goes with the ciphertext that it covers, and what it was worth is kept.
    fn open(mut self, message: &Message) -> Turn<'i, Result<Whole, AgentError>> {
        match self.next_layer(message) {
            Some(layer) => self.ask(message, layer),
            None => Turn::Done(Ok(self.verify(message))),
        }
    }

    /// Asks one key after the other, and opens the layer.
    fn ask(mut self, message: &Message, mut layer: Layer<'i>) -> Turn<'i, Result<Whole, AgentError>> {
        let Some((place, identity, question)) = layer.question() else {
            return match self.open_layer(message, layer) {
                Ok(true) => self.open(message),
                Ok(false) => Turn::Done(Ok(self.verify(message))),
                Err(error) => self.unknown(message, error),
            };
        };
        Turn::asking(identity, question, move |message, answer| match layer.answered(place, answer) {
            Ok(()) => self.ask(message, layer),
            Err(error) => self.unknown(message, error),
        })
    }

    /// Ends where a key could not be asked: nothing is known, and the message must wait. But not for a layer below one that
    /// was opened, which stays closed: the reply would tell whoever sent it that the outer one opened (RFC 3218). The owner
    /// of an archive may know.
    fn unknown(mut self, message: &Message, error: KeyError) -> Turn<'i, Result<Whole, AgentError>> {
        if self.content.is_none() || self.group.is_owners() {
            return Turn::Done(Err(error.into()));
        }
        warn!(
            error = error.to_string(),
            "a ciphertext inside another stays closed: its key could not be asked"
        );
        self.stays_inside = true;
        Turn::Done(Ok(self.verify(message)))
    }

    /// The ciphertext that is the root now, if there is one that may be opened, and room for its content.
    fn next_layer(&mut self, message: &Message) -> Option<Layer<'i>> {
        let room = self.room();
        let ciphertext = Ciphertext::find_within(&self.entity(message), room)?;
        if self.layers == MAX_DEPTH {
            self.stays_inside = true;
            return None;
        }
        self.layers += 1;
        // Beside it there will be its content.
        if room.without(ciphertext.object.len()).take(ciphertext.object.len()).is_err() {
            self.stays(Opening::Failed("the ciphertext inside is too large".to_owned()));
            return None;
        }
        let layer = Layer::of(ciphertext, self.agent, &mut self.group);
        layer.map_err(|why| self.stays(why)).ok()
    }

    /// The layer below stays closed. What was opened so far is opened.
    fn stays(&mut self, why: Opening) {
        if matches!(self.opening, Opening::NotEncrypted) {
            self.opening = why;
        } else {
            self.stays_inside = true;
        }
    }

    /// Opens a layer by the answers of its keys. False if it stays closed.
    fn open_layer(&mut self, message: &Message, layer: Layer<'i>) -> Result<bool, KeyError> {
        let (opened, ciphertext) = layer.open(&mut self.group)?;
        let Opened { octets, cipher, certificate, .. } = match opened {
            Ok(Opened { octets, is_noise: true, .. }) => {
                self.waste(message, octets);
                self.stays(Opening::Failed(OpenError::Undecryptable.to_string()));
                return Ok(false);
            }
            Ok(opened) => opened,
            Err(why) => {
                self.stays(Opening::Failed(why));
                return Ok(false);
            }
        };
        if ciphertext.is_signed {
            let room = self.room().without(ciphertext.object.len() + octets.len());
            let content = self.content.take();
            let entity = content.as_deref().map_or_else(|| message.entity(), MimeEntity::parse);
            let (trust, sender) = (self.agent.trust, self.sender.clone());
            let verdict = match &self.doubt {
                Some(doubt) => Verdict::without_signers(doubt.clone()),
                None => verify_within(&mut self.budget, room, &entity, sender, trust, self.at).0,
            };
            self.around.push(verdict);
        }
        // The owner of an archive tells nobody.
        if !cipher.is_authenticated() && !self.group.is_owners() {
            let room = self.room().without(ciphertext.object.len() + octets.len());
            let doubt = doubt_of(&cipher, &MimeEntity::parse(&octets), room);
            self.doubt = self.doubt.take().or(doubt);
        }
        let mut protection = Protection::of(&cipher);
        if let Opening::Opened { protection: before, .. } = self.opening {
            protection = protection.max(before);
        }
        self.ciphers.push(cipher.name());
        self.keys.push(certificate);
        self.opening = Opening::Opened { cipher: cipher.name(), protection };
        self.content = Some(octets);
        Ok(true)
    }

    /// Does with noise what is done with a content, and keeps nothing of it: nothing of a message is lost because a random key
    /// found a good padding, and how long that took tells nobody that the right one was rejected.
    fn waste(&self, message: &Message, noise: Vec<u8>) {
        let room = self.room();
        if let Ok((content, edits)) = placed(&message.entity(), noise, room, self.fit) {
            let made = edits.body.as_ref().map_or(0, |body| body.len() + content.len());
            let entity = MimeEntity::parse(&content);
            let (sender, trust) = (self.sender.clone(), self.agent.trust);
            let room = room.without(made);
            let verdict = verify_within(&mut Budget::default(), room, &entity, sender, trust, self.at);
            std::hint::black_box((edits, verdict));
        }
    }

    /// What is the root now.
    fn entity<'m>(&'m self, message: &'m Message) -> MimeEntity<'m> {
        self.content.as_deref().map_or_else(|| message.entity(), MimeEntity::parse)
    }

    /// What is left of the room of the whole message beside the content.
    fn room(&self) -> Room {
        self.content.as_ref().map_or(self.whole, |made| self.whole.without(made.len()))
    }

    /// Puts what was opened in place and verifies it.
    fn verify(mut self, message: &Message) -> Whole {
        let outer = message.entity();
        let placed = self.content.take().map(|opened| placed(&outer, opened, self.whole, self.fit));
        let Self { agent, group, at, sender, mut budget, whole: room, opening, around, .. } = self;
        let (mut ciphers, mut keys) = (self.ciphers, self.keys);
        let (doubt, stays_inside) = (self.doubt, self.stays_inside);
        let closed = || Cow::Borrowed(outer.octets());
        let (content, opening, edits) = match placed {
            None => (closed(), opening, Edits::default()),
            Some(Ok((content, edits))) => (Cow::Owned(content), opening, edits),
            Some(Err(why)) => (closed(), Opening::Failed(why.to_owned()), Edits::default()),
        };
        let entity = MimeEntity::parse(&content);
        let made = edits.body.as_ref().map_or(0, |body| body.len() + content.len());
        let (mut verdict, signers) = match doubt.filter(|_| edits.body.is_some()) {
            Some(doubt) => (Verdict::without_signers(doubt), Vec::new()),
            None => verify_within(&mut budget, room.without(made), &entity, sender, agent.trust, at),
        };
        if edits.body.is_some() {
            verdict = around.into_iter().rev().fold(verdict, Verdict::inside);
        }
        if matches!(opening, Opening::Failed(_)) || (edits.body.is_some() && stays_inside) {
            verdict = around_closed(verdict);
        }
        if edits.body.is_some()
            && let Ok(Some(Wrapped::Clear { content: signed, .. })) = Wrapped::read(&entity)
            && (!is_transport_safe(signed.octets(), LONGEST_ALLOWED) || !is_read_alike(&edits, &entity))
        {
            // What will arrive is not what was signed.
            verdict = verdict.at_best(Reason::NotTransportSafe);
        }
        let content = if let Cow::Owned(content) = content {
            Some(content)
        } else {
            ciphers.clear();
            keys.clear();
            None
        };
        Whole {
            received: Received { opening, ciphers, keys, verdict, signers, edits },
            content,
            left: group.left(),
        }
    }
}

/// Why content that came out of a cipher without authentication is not verified, if it is not (`smime/message/firm.rs`). Nobody is asked
/// about its certificates: that would show, too. What is not signed, and holds no ciphertext, passes in no case.
fn doubt_of(cipher: &ContentEncryptionAlgorithm, content: &MimeEntity<'_>, room: Room) -> Option<Reason> {
    if is_loose(content, room) {
        return Some(Reason::BesideSigned);
    }
    let is_layer = || !matches!(Wrapped::read_within(content, &mut room.clone()), Ok(None));
    (cipher.has_short_blocks() && is_layer()).then_some(Reason::ShortBlocks)
}

/// Whether an error of a key depends on the message alone: an algorithm that the key or its token does
/// not know. Waiting would not help, and the message is not ours to refuse.
fn is_of_the_message(error: &KeyError) -> bool {
    matches!(error, KeyError::Unsupported { .. })
}
