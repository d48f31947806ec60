//! What the owner of a certificate says of its mail program outside of any message (RFC 2798 2.8): in a directory's
//! `userSMIMECertificate`, an object that is signed for the sake of its attributes.
//!
//! Whether anybody believes the signer is for the callers to find out.

use std::time::SystemTime;

use super::signer::Examiner;
use crate::{
    Certificate, Room,
    capabilities::Capabilities,
    cms::Object,
    path::{Budget, Trust},
};

/// Capabilities that were signed with a certificate's key: only [`announcements`] makes one.
#[derive(Clone, Debug)]
pub struct Announcement {
    pub(super) signer: Certificate,
    pub(super) certificate: Certificate,
    pub(super) capabilities: Capabilities,
    pub(super) signing_time: Option<SystemTime>,
}

impl Announcement {
    /// Whose key signed it. Neither its path nor its addresses were looked at.
    pub fn signer(&self) -> &Certificate {
        &self.signer
    }

    /// What they are about: the certificate that has the name in encryptionKeyPreference (RFC 8551 2.5.3), and without
    /// that the signer's own. Only the name is signed.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The capabilities.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// When the signer says it signed (RFC 8551 2.5.1). The signer chooses it freely.
    pub fn signing_time(&self) -> Option<SystemTime> {
        self.signing_time
    }
}

/// What is announced in a `SignedData` whose content is of no interest to who reads it, and most often absent (RFC 2798
/// 2.8); where there is a content, it must be the one that was signed. What is not signed, or not well, announces
/// nothing.
///
/// A signature says nothing of content here, and must not be taken for one over a message. Of `trust` only the
/// anchors matter, whose keys may be larger than others'.
pub fn announcements(budget: &mut Budget, octets: &[u8], trust: &Trust) -> Vec<Announcement> {
    let room = Room::of(octets.len());
    let Ok(Object::SignedData(signed_data)) = Object::parse_within(octets, room) else {
        return Vec::new();
    };
    // The time is for paths only.
    let at = SystemTime::UNIX_EPOCH;
    Examiner::new(&signed_data, signed_data.content(), trust, at, budget, room).announcements()
}
