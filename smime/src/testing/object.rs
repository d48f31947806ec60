//! Octets read as the CMS object that a test knows them to be.

#![expect(clippy::panic, clippy::missing_panics_doc, reason = "another object ends the test, as it should")]

use crate::cms::{EnvelopedData, Object, SignedData};

/// These octets as `SignedData`.
pub fn signed_data(octets: &[u8]) -> SignedData<'_> {
    match Object::parse(octets) {
        Ok(Object::SignedData(signed)) => signed,
        other => panic!("no SignedData: {other:?}"),
    }
}

/// These octets as `EnvelopedData` or `AuthEnvelopedData`.
pub fn enveloped_data(octets: &[u8]) -> EnvelopedData<'_> {
    match Object::parse(octets) {
        Ok(Object::EnvelopedData(enveloped)) => enveloped,
        other => panic!("no EnvelopedData: {other:?}"),
    }
}
