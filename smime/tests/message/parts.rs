//! A signed object of OpenSSL's taken apart, to be put together otherwise.

use der::{Encode, asn1::ObjectIdentifier};
use smime::{
    ber::{Element, Tag, Tree},
    key::{SignatureInput, Signer},
    testing::{fixtures::key, hostile::wrap},
};

/// Its elements, as they are encoded.
pub(crate) struct Parts {
    pub(crate) content_type: Vec<u8>,
    /// version, digestAlgorithms, encapContentInfo, certificates
    pub(crate) signed_data: Vec<Vec<u8>>,
    /// version, sid, digestAlgorithm, attributes, signatureAlgorithm, signature
    pub(crate) signer: Vec<Vec<u8>>,
    pub(crate) attributes: Vec<Vec<u8>>,
}

impl Parts {
    pub(crate) fn of(object: &[u8]) -> Self {
        let tree = Tree::parse(object).unwrap();
        let der = |element: Element<'_, '_>| element.to_der().unwrap();
        let info: Vec<_> = tree.root().children().collect();
        let signed_data: Vec<_> = info[1].children().next().unwrap().children().collect();
        let signer: Vec<_> = signed_data[4].children().next().unwrap().children().collect();
        Self {
            content_type: der(info[0]),
            signed_data: signed_data[..4].iter().copied().map(der).collect(),
            attributes: signer[3].children().map(der).collect(),
            signer: signer.into_iter().map(der).collect(),
        }
    }

    pub(crate) fn put_together(&self) -> Vec<u8> {
        self.with_signers(&[&self.signer])
    }

    /// With the signer of another object beside its own.
    pub(crate) fn put_together_with(&self, other: &Self) -> Vec<u8> {
        self.with_signers(&[&self.signer, &other.signer])
    }

    fn with_signers(&self, signers: &[&[Vec<u8>]]) -> Vec<u8> {
        let signers: Vec<_> = signers.iter().map(|signer| wrap(Tag::SEQUENCE, signer)).collect();
        let signers = wrap(Tag::SET, &signers);
        let signed_data = wrap(Tag::SEQUENCE, &[self.signed_data.concat(), signers]);
        wrap(Tag::SEQUENCE, &[self.content_type.clone(), wrap(Tag::context(0), &[signed_data])])
    }

    /// Signs the attributes as they are now with alice's key.
    pub(crate) fn sign_again(&mut self) -> Vec<u8> {
        self.attributes.sort();
        self.sign_over(&self.attributes.clone())
    }

    /// Signs these attributes, and sends those that there are.
    pub(crate) fn sign_over(&mut self, signed: &[Vec<u8>]) -> Vec<u8> {
        let alice = key("alice");
        let algorithm = alice.algorithms()[0];
        let attributes = wrap(Tag::SET, signed);
        let signature = alice.sign(&SignatureInput::of(algorithm, &attributes), algorithm).unwrap();
        self.signer[3] = wrap(Tag::context(0), &self.attributes);
        self.signer[5] = wrap(Tag::OCTET_STRING, &[signature.0]);
        self.put_together()
    }

    /// Adds CMSAlgorithmProtection.
    pub(crate) fn protect(&mut self, algorithms: &[Vec<u8>]) {
        let oid = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.52").to_der().unwrap();
        let value = wrap(Tag::SET, &[wrap(Tag::SEQUENCE, algorithms)]);
        self.attributes.push(wrap(Tag::SEQUENCE, &[oid, value]));
    }

    pub(crate) fn attribute(&mut self, oid: ObjectIdentifier) -> &mut Vec<u8> {
        let oid = oid.to_der().unwrap();
        self.attributes.iter_mut().find(|a| a.windows(oid.len()).any(|w| w == oid)).unwrap()
    }
}
