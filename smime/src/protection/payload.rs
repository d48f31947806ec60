//! The cryptographic payload (RFC 9788 1.1, RFC 9787 4): what is left of a message without its layers of S/MIME.

use crate::{
    cms::Object,
    message::Wrapped,
    mime::{Canonical, MAX_DEPTH, MimeEntity},
};

/// What the layers around it cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    octets: Vec<u8>,
    layers: usize,
}

impl Payload {
    /// Takes off signatures and compression, as far as no key is needed. `None` where a ciphertext is inside, which is to
    /// be opened first, or where a layer is no good form of one. Whether the signatures are good is not looked at.
    pub fn find(entity: &MimeEntity<'_>) -> Option<Self> {
        Self::below(entity, 0)
    }

    fn below(entity: &MimeEntity<'_>, layers: usize) -> Option<Self> {
        let Some(wrapped) = Wrapped::read(entity).ok()? else {
            return Some(Self { octets: entity.octets().to_vec(), layers });
        };
        if layers >= MAX_DEPTH {
            return None;
        }
        match wrapped {
            Wrapped::Clear { content, .. } => Self::below(&content, layers + 1),
            Wrapped::Opaque(object) => {
                let content = match Object::parse(&object).ok()? {
                    Object::SignedData(signed) => signed.content()?.concat(),
                    Object::CompressedData(compressed) => compressed.decompress().ok()?,
                    Object::EnvelopedData(_) => return None,
                };
                let content = Canonical::from_signed_part(&content);
                Self::below(&MimeEntity::parse(content.octets()), layers + 1)
            }
        }
    }

    /// The payload as an entity.
    pub fn entity(&self) -> MimeEntity<'_> {
        MimeEntity::parse(&self.octets)
    }

    /// How many layers were taken off. Without any there is no cryptographic payload, and nothing in it counts unless it
    /// was opened before.
    pub fn layers(&self) -> usize {
        self.layers
    }
}
