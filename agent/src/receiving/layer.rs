//! One layer of ciphertext, and the keys of those who may get what is inside.
//!
//! Who that is their keys say, never a name: a RecipientInfo is covered by no tag and no signature, and whoever captures
//! a ciphertext can write one into it for a certificate of his own. So what names a certificate is put to that certificate's
//! key, each time it is named, and the content is for those alone whose key gives the content-encryption key that it was opened with.

use smime::{
    Certificate, MailAddress,
    algorithm::ContentEncryptionAlgorithm,
    cms::{EncryptedKey, EnvelopedData, Object, OpenError, Unlocked},
    key::KeyError,
    message::Ciphertext,
    question::{Answer, Question},
};

use super::{Entitled, Opening, ReceivingAgent, is_of_the_message};
use crate::{Identity, opened::as_entity};

/// Who is to get the content, and whether those who may can get it without the others.
#[derive(Debug)]
pub(crate) struct Group<'i> {
    entitled: Entitled<'i>,
    /// Who is in it, by place among the recipients.
    within: Vec<usize>,
    /// Who is not any more: for them it is opened once more, by other keys, or not at all.
    left: Vec<usize>,
    /// Whether somebody may still leave.
    may_part: bool,
}

impl<'i> Group<'i> {
    /// Of all of them together: what one of them may not get nobody gets.
    pub(crate) fn of(entitled: Entitled<'i>) -> Self {
        let within = match entitled {
            Entitled::Recipients(all) => (0..all.len()).collect(),
            Entitled::Owner | Entitled::Nobody => Vec::new(),
        };
        Self { entitled, within, left: Vec::new(), may_part: false }
    }

    /// Of those recipients who may get what the first of them may who may get any.
    pub(crate) fn of_some(recipients: &'i [Option<MailAddress>]) -> Self {
        Self { may_part: true, ..Self::of(Entitled::Recipients(recipients)) }
    }

    /// Whether it is the owner of an archive.
    pub(super) fn is_owners(&self) -> bool {
        matches!(self.entitled, Entitled::Owner)
    }

    /// Who is to be looked at once more.
    pub(super) fn left(self) -> Vec<usize> {
        self.left
    }

    /// Lets these go, if the group may be parted. False if it may not.
    fn part_from(&mut self, leaving: &[usize]) -> bool {
        if leaving.is_empty() {
            return true;
        }
        if self.may_part {
            self.leave(leaving);
        }
        self.may_part
    }

    fn leave(&mut self, leaving: &[usize]) {
        self.left.extend(leaving);
        self.within.retain(|place| !leaving.contains(place));
    }
}

/// A ciphertext that is to be opened.
pub(super) struct Layer<'i> {
    pub(super) ciphertext: Ciphertext,
    /// The identities whose certificates it names, each as often as it is named, and what is known of their keys.
    keys: Vec<(Named<'i>, State)>,
    /// For each of these the first one that is asked the same of the same key.
    twins: Vec<usize>,
    /// In their order those who get the content if their keys are right.
    owners: Vec<Owner>,
}

/// An identity whose certificate is named, and which of the RecipientInfos that name it is meant.
#[derive(Clone, Copy)]
struct Named<'i> {
    identity: &'i Identity,
    nth: usize,
}

impl Named<'_> {
    /// The encrypted key that is meant.
    fn info<'e>(&self, enveloped: &'e EnvelopedData<'_>) -> Option<EncryptedKey<'e>> {
        enveloped.recipients_for(self.identity.certificate()).nth(self.nth)
    }

    /// Whether another one's private key is the same, and so is all that it is asked: a certificate that was renewed with its key, or
    /// one key for several addresses.
    fn is_asked_the_same(&self, other: &Self, enveloped: &EnvelopedData<'_>) -> bool {
        let (key, others) =
            (self.identity.certificate().public_key(), other.identity.certificate().public_key());
        key == others
            && match (self.info(enveloped), other.info(enveloped)) {
                (Some(EncryptedKey::Transported(one)), Some(EncryptedKey::Transported(two))) => {
                    one.algorithm() == two.algorithm() && one.encrypted_key() == two.encrypted_key()
                }
                (Some(EncryptedKey::Agreed(one, wrapped)), Some(EncryptedKey::Agreed(two, others))) => {
                    std::ptr::eq(one, two) && wrapped == others
                }
                _ => false,
            }
    }
}

struct Owner {
    /// His place among the recipients.
    recipient: usize,
    /// The places of his keys.
    keys: Vec<usize>,
}

/// What is known of what a key has for the content.
enum State {
    Asks(Question),
    Answered(Option<Answer>),
    Failed(String),
}

/// A content, and how it was encrypted.
pub(super) struct Opened {
    pub(super) octets: Vec<u8>,
    pub(super) cipher: ContentEncryptionAlgorithm,
    /// Whose key gave the one that it was opened with.
    pub(super) certificate: Certificate,
    /// Whether nobody has the key that it was opened with: then it is noise, of which nothing may be kept.
    pub(super) is_noise: bool,
}

impl<'i> Layer<'i> {
    /// Whose keys are to be asked, and what; why it stays closed where nobody's are.
    pub(super) fn of(
        ciphertext: Ciphertext,
        agent: ReceivingAgent<'i>,
        group: &mut Group<'i>,
    ) -> Result<Self, Opening> {
        let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&ciphertext.object) else {
            return Err(Opening::NotEncrypted);
        };
        let mut keys = Vec::new();
        let owners = owners(&enveloped, agent, group, &mut keys)?;
        let twins = keys.iter().enumerate().map(|(at, named)| {
            let is_twin = |other: &Named<'_>| other.is_asked_the_same(named, &enveloped);
            keys.iter().take(at).position(is_twin).unwrap_or(at)
        });
        let twins = twins.collect();
        let keys = keys.into_iter().map(|named| (named, State::of(&enveloped, named))).collect();
        Ok(Self { ciphertext, keys, twins, owners })
    }

    /// The next key that is to be asked: its place, whose it is, and what.
    pub(super) fn question(&mut self) -> Option<(usize, &'i Identity, Question)> {
        let asks = |(_, state): &(_, State)| matches!(state, State::Asks(_));
        let place = self.keys.iter().position(asks)?;
        let (named, state) = self.keys.get_mut(place)?;
        match std::mem::replace(state, State::Answered(None)) {
            State::Asks(question) => Some((place, named.identity, question)),
            State::Answered(_) | State::Failed(_) => None,
        }
    }

    /// Takes the answer of one. An error is none of the message's: then nothing is known.
    pub(super) fn answered(
        &mut self,
        place: usize,
        answer: Result<Answer, KeyError>,
    ) -> Result<(), KeyError> {
        let state = match answer {
            Ok(answer) => State::Answered(Some(answer)),
            Err(error) if is_of_the_message(&error) => State::Failed(error.to_string()),
            Err(error) => return Err(error),
        };
        if let Some((_, known)) = self.keys.get_mut(place) {
            *known = state;
        }
        Ok(())
    }

    /// Opens it, when all are asked: the content, or why it stays closed. Nobody is left in the group but those who have the
    /// key that it was opened with.
    pub(super) fn open(
        self,
        group: &mut Group<'_>,
    ) -> Result<(Result<Opened, String>, Ciphertext), KeyError> {
        let Self { ciphertext, keys, twins, owners } = self;
        let opened = match Object::parse(&ciphertext.object) {
            Ok(Object::EnvelopedData(enveloped)) => open(&enveloped, keys, &twins, &owners, group)?,
            // It was read before.
            _ => Err(OpenError::Undecryptable.to_string()),
        };
        Ok((opened, ciphertext))
    }
}

impl State {
    fn of(enveloped: &EnvelopedData<'_>, named: Named<'_>) -> Self {
        let Some(info) = named.info(enveloped) else { return Self::Answered(None) };
        match enveloped.question(info, named.identity.certificate()) {
            Ok(Some(question)) => Self::Asks(question),
            Ok(None) => Self::Answered(None),
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

/// The owners of keys that are named, and in `keys` whose these are. Everybody's keys are asked, whatever comes of the first
/// one's: else the time would tell (RFC 3218).
fn owners<'i>(
    enveloped: &EnvelopedData<'_>,
    agent: ReceivingAgent<'i>,
    group: &mut Group<'i>,
    keys: &mut Vec<Named<'i>>,
) -> Result<Vec<Owner>, Opening> {
    let is_named = |identity: &&Identity| enveloped.recipient_for(identity.certificate()).is_some();
    let mut places_of = |identity: &'i Identity| {
        if !keys.iter().any(|known| known.identity.certificate() == identity.certificate()) {
            let count = enveloped.recipients_for(identity.certificate()).take(MOST_NAMED).count();
            keys.extend((0..count).map(|nth| Named { identity, nth }));
        }
        let is_his =
            |(_, known): &(usize, &Named<'_>)| known.identity.certificate() == identity.certificate();
        keys.iter().enumerate().filter(is_his).map(|(place, _)| place).collect::<Vec<_>>()
    };
    let recipients = match group.entitled {
        Entitled::Nobody => return Err(Opening::NotEntitled),
        Entitled::Owner => {
            let identity = agent.identities.iter().find(is_named).ok_or(Opening::NotEntitled)?;
            return Ok(vec![Owner { recipient: 0, keys: places_of(identity) }]);
        }
        Entitled::Recipients(recipients) => recipients,
    };
    let mut owners = Vec::new();
    let mut others = Vec::new();
    for recipient in group.within.iter().copied() {
        let address = recipients.get(recipient).and_then(Option::as_ref);
        let owned = address.into_iter().flat_map(|address| agent.identities.owned_by(address));
        let keys: Vec<_> = owned.filter(is_named).flat_map(&mut places_of).collect();
        if keys.is_empty() {
            others.push(recipient);
        } else {
            owners.push(Owner { recipient, keys });
        }
    }
    if owners.is_empty() || !group.part_from(&others) {
        return Err(Opening::NotEntitled);
    }
    Ok(owners)
}

/// Opens a content with the first key of the first owner that does, for those who have the same keys. Errors are the system's.
///
/// Who those are is found before the content is tried, and below one that anybody can change nobody leaves any more: how many
/// forms a message gets would tell its sender whether it opened (RFC 3218).
fn open(
    enveloped: &EnvelopedData<'_>,
    keys: Vec<(Named<'_>, State)>,
    twins: &[usize],
    owners: &[Owner],
    group: &mut Group<'_>,
) -> Result<Result<Opened, String>, KeyError> {
    let certificates: Vec<&Certificate> =
        keys.iter().map(|(named, _)| named.identity.certificate()).collect();
    let keys = content_keys(enveloped, keys, twins)?;
    let undecryptable = || OpenError::Undecryptable.to_string();
    let Some(first) = owners.first() else { return Ok(Err(undecryptable())) };
    let may_part = std::mem::take(&mut group.may_part);
    if may_part {
        let others = owners.iter().filter(|owner| !have_the_same(first, owner, &keys));
        let others: Vec<_> = others.map(|owner| owner.recipient).collect();
        group.leave(&others);
    }
    let is_owners_own = matches!(group.entitled, Entitled::Owner);
    if !is_owners_own && !is_authenticated(enveloped) && !has_one(first, &keys) {
        // With as much work as for who has one.
        drop(keys_of(first, &keys).next().map(|key| enveloped.open_by(&key.key)));
        return Ok(Err(undecryptable()));
    }
    let staying = || owners.iter().filter(|owner| !group.left.contains(&owner.recipient));
    let mut tried: Vec<&Unlocked> = Vec::new();
    let mut why = None;
    let mut noise = None;
    let firsts = first.keys.iter().filter_map(|place| Some((keys.get(*place)?, *certificates.get(*place)?)));
    for (key, certificate) in firsts {
        let key = match key {
            Ok(key) => key,
            Err(error) => {
                why.get_or_insert_with(|| error.clone());
                continue;
            }
        };
        if tried.len() == MOST_TRIED || tried.iter().any(|known| known.key.is_same_as(&key.key)) {
            continue;
        }
        tried.push(key);
        let content = enveloped.open_by(&key.key);
        let certificate = certificate.clone();
        match content.and_then(|octets| Ok((as_entity(octets), enveloped.algorithm()?))) {
            Ok((octets, cipher)) if key.is_decoy => {
                noise.get_or_insert(Opened { octets, cipher, certificate, is_noise: true });
            }
            Ok((octets, cipher)) => {
                let is_his =
                    |place: &usize| matches!(keys.get(*place), Some(Ok(his)) if his.key.is_same_as(&key.key));
                // Where one of those who stay has no right to it, it is as good as noise for all of them.
                let is_noise = !staying().all(|owner| owner.keys.iter().any(is_his));
                group.may_part = may_part && cipher.is_authenticated();
                return Ok(Ok(Opened { octets, cipher, certificate, is_noise }));
            }
            Err(error) => {
                why.get_or_insert_with(|| error.to_string());
            }
        }
    }
    match (noise, group.entitled) {
        (Some(noise), Entitled::Recipients(_)) => Ok(Ok(noise)),
        _ => Ok(Err(why.unwrap_or_else(undecryptable))),
    }
}

/// Whether nobody can change the content unnoticed. What is not is opened with nothing but the one key that an owner has, by all that
/// name him: with another one, that of a sender who captured the ciphertext, it would open as what he likes where the padding below
/// the captured key is bad, and as noise where it is good, and whatever reads mail behind us would tell him which. That no
/// content is tried then depends on nothing that he does not know.
fn is_authenticated(enveloped: &EnvelopedData<'_>) -> bool {
    enveloped.algorithm().is_ok_and(|cipher| cipher.is_authenticated())
}

/// Whether all that gives an owner a key gives him the same. What has no answer (an algorithm that we do not know, or that his
/// token does not) has none for anybody, which no padding decides.
fn has_one(owner: &Owner, keys: &[Result<Unlocked, String>]) -> bool {
    let mut his = keys_of(owner, keys);
    let first = his.next();
    his.all(|other| first.is_some_and(|first| first.key.is_same_as(&other.key)))
}

fn keys_of<'k>(owner: &'k Owner, keys: &'k [Result<Unlocked, String>]) -> impl Iterator<Item = &'k Unlocked> {
    owner.keys.iter().filter_map(|place| keys.get(*place)?.as_ref().ok())
}

/// Whether two owners have the same for the content, by its keys: in an honest message everybody has the one that opens it. A
/// key that was rejected is nobody else's; what nobody was asked for, or has no answer to, is nothing.
fn have_the_same(one: &Owner, other: &Owner, keys: &[Result<Unlocked, String>]) -> bool {
    let of = |owner| keys_of(owner, keys).collect::<Vec<_>>();
    let (one, other) = (of(one), of(other));
    let has_all = |one: &[&Unlocked], other: &[&Unlocked]| {
        other.iter().all(|key| one.iter().any(|his| his.key.is_same_as(&key.key)))
    };
    has_all(&one, &other) && has_all(&other, &one)
}

/// What all keys have for the content. Where the same key is asked the same by two names, what takes the place of a bad answer is the
/// same as well: a good one would be, and whether there are two tells how many forms a message gets (RFC 3218).
fn content_keys(
    enveloped: &EnvelopedData<'_>,
    keys: Vec<(Named<'_>, State)>,
    twins: &[usize],
) -> Result<Vec<Result<Unlocked, String>>, KeyError> {
    let mut all: Vec<Result<Unlocked, String>> = Vec::with_capacity(keys.len());
    for ((named, state), twin) in keys.into_iter().zip(twins) {
        let mut found = content_key(enveloped, named, state)?;
        if let (Ok(found), Some(Ok(twin))) = (&mut found, all.get(*twin))
            && found.is_decoy
            && twin.is_decoy
        {
            found.key = twin.key.clone();
        }
        all.push(found);
    }
    Ok(all)
}

/// What a key has for the content: where that is bad, a key that nobody else has. An error that is not the message's is an
/// error.
fn content_key(
    enveloped: &EnvelopedData<'_>,
    named: Named<'_>,
    state: State,
) -> Result<Result<Unlocked, String>, KeyError> {
    let answer = match state {
        State::Answered(answer) => answer,
        State::Failed(why) => return Ok(Err(why)),
        State::Asks(_) => None,
    };
    let Some(info) = named.info(enveloped) else {
        return Ok(Err(OpenError::Undecryptable.to_string()));
    };
    match enveloped.key_with(info, answer) {
        Ok(key) => Ok(Ok(key)),
        Err(OpenError::Key(error)) if !is_of_the_message(&error) => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// So often a certificate may be named in a layer for its key to be asked, by mistake or by others: in an honest message it is
/// once. A sender knows how often he named one.
const MOST_NAMED: usize = 4;

/// With so many keys a content is tried, if those before do not open it: in an honest message all have the same.
const MOST_TRIED: usize = 16;
