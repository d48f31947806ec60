//! The cryptographic payload (RFC 9788 1.1, RFC 9787 4): what is left of a message without its layers of S/MIME.

use crate::{
    Room,
    cms::Object,
    message::{Wrapped, normalised, signed_octets},
    mime::{MAX_DEPTH, MimeEntity},
};

/// What the layers around it cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    octets: Vec<u8>,
    layers: usize,
}

impl Payload {
    /// Takes off signatures and compression, as far as no key is needed. `None` where a ciphertext is inside, which is to
    /// be opened first, or where a layer is no good form of one: a signature without signers, or one that is no
    /// `SignedData` or not over what stands beside it. Whether the signatures are good is not looked at; where one is,
    /// what is found is what it covers.
    ///
    /// The payload of what would grow too large is not found either.
    pub fn find(entity: &MimeEntity<'_>) -> Option<Self> {
        Self::find_within(entity, Room::of(entity.octets().len()))
    }

    /// Like [`Self::find`], in the room that is left of the message that the entity was found in.
    pub fn find_within(entity: &MimeEntity<'_>, room: Room) -> Option<Self> {
        Self::below(entity, 0, 0, room)
    }

    fn below(entity: &MimeEntity<'_>, layers: usize, depth: usize, before: Room) -> Option<Self> {
        let mut room = before;
        let Some(wrapped) = Wrapped::read_within(entity, &mut room).ok()? else {
            room.take(entity.octets().len()).ok()?;
            return Some(Self { octets: entity.octets().to_vec(), layers });
        };
        if depth >= MAX_DEPTH {
            return None;
        }
        match wrapped {
            Wrapped::Clear { content, object } => match Object::parse_within(&object, room).ok()? {
                Object::SignedData(signed)
                    if signed.content().is_none() && !signed.signer_infos().is_empty() =>
                {
                    let signed = signed_octets(&content, &mut room).ok()?;
                    Self::below(&MimeEntity::parse(&signed), layers + 1, depth + 1, room)
                }
                _ => None,
            },
            Wrapped::Opaque(object) => {
                let (content, layers) = match Object::parse_within(&object, room).ok()? {
                    Object::SignedData(signed) if !signed.signer_infos().is_empty() => {
                        (room.joined(signed.content()?).ok()?, layers + 1)
                    }
                    // Anybody can compress.
                    Object::CompressedData(compressed) => {
                        (compressed.decompress_within(&mut room).ok()?, layers)
                    }
                    Object::SignedData(_) | Object::EnvelopedData(_) => return None,
                };
                drop(object);
                let content = normalised(content, room).ok()?;
                let room = before.without(content.len());
                Self::below(&MimeEntity::parse(&content), layers, depth + 1, room)
            }
        }
    }

    /// The payload as an entity.
    pub fn entity(&self) -> MimeEntity<'_> {
        MimeEntity::parse(&self.octets)
    }

    /// How many signatures were taken off; compression protects nothing. Without any there is no cryptographic payload, and
    /// nothing in it counts unless it was opened before.
    pub fn layers(&self) -> usize {
        self.layers
    }
}
