//! `SignedData` as received (RFC 5652 section 5.1).

use der::asn1::ObjectIdentifier;

use super::{CmsError, MAX_CERTIFICATES, MAX_SIGNERS, OCTETS_OF_DECODED, OCTETS_OF_NAME, SignerInfo};
use crate::{
    Certificate, Room,
    ber::{Element, Tag},
};

/// Content in its segments, where there is any.
pub(super) type Content<'a> = Option<Vec<&'a [u8]>>;

/// A `SignedData` whose content stays in the octets it was read from.
#[derive(Debug)]
pub struct SignedData<'a> {
    content_type: ObjectIdentifier,
    content: Content<'a>,
    /// With the number of their elements.
    certificates: Vec<(&'a [u8], usize)>,
    crls: Vec<&'a [u8]>,
    /// How much memory each takes once it is decoded.
    crl_costs: Vec<usize>,
    signer_infos: Vec<SignerInfo>,
}

impl<'a> SignedData<'a> {
    pub(super) fn read(element: Element<'_, 'a>) -> Result<Self, CmsError> {
        let mut fields = element.expect(Tag::SEQUENCE, "SignedData")?.children();
        fields.required("version")?.expect(Tag::INTEGER, "version")?;
        fields.required("digestAlgorithms")?.expect(Tag::SET, "digestAlgorithms")?;
        let (content_type, content) = read_content(fields.required("encapContentInfo")?)?;
        let certificates = members(fields.optional_context(0), "certificates", MAX_CERTIFICATES)?;
        let certificates = certificates.map(|member| (member.octets(), member.size())).collect();
        let crls = members(fields.optional_context(1), "CRLs", MAX_CERTIFICATES)?;
        let (crls, crl_costs) = crls.map(|member| (member.octets(), cost_of_evidence(member))).unzip();
        let signers = fields.required("signerInfos")?.expect(Tag::SET, "signerInfos")?;
        fields.end()?;
        if signers.children().count() > MAX_SIGNERS {
            return Err(CmsError::TooMany { part: "signers", limit: MAX_SIGNERS });
        }
        let signer_infos = signers.children().map(SignerInfo::read).collect::<Result<_, _>>()?;
        Ok(Self { content_type, content, certificates, crls, crl_costs, signer_infos })
    }

    /// eContentType.
    pub fn content_type(&self) -> ObjectIdentifier {
        self.content_type
    }

    /// eContent in its segments, or `None` if the signature is detached.
    pub fn content(&self) -> Option<&[&'a [u8]]> {
        self.content.as_deref()
    }

    /// The certificates that decode; the others are no use to anybody.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.certificates.iter().filter_map(|(octets, _)| Certificate::from_der(octets).ok()).collect()
    }

    /// Like [`Self::certificates`], without those for which there is no room left of the message.
    pub(crate) fn certificates_within(&self, room: &mut Room) -> Vec<Certificate> {
        let fitting =
            self.certificates.iter().filter(|(_, size)| room.take(size * OCTETS_OF_DECODED).is_ok());
        fitting.filter_map(|(octets, _)| Certificate::from_der(octets).ok()).collect()
    }

    /// Whether all certificates decode, and there is room left of the message for them.
    pub(crate) fn has_readable_certificates(&self, room: &mut Room) -> bool {
        self.certificates_within(room).len() == self.certificates.len()
    }

    /// The CRLs' exact octets.
    pub fn crls(&self) -> &[&'a [u8]] {
        &self.crls
    }

    /// Like [`Self::crls`], without those for which there is no room left of the message.
    pub(crate) fn crls_within(&self, room: &mut Room) -> Vec<&'a [u8]> {
        let all = self.crls.iter().zip(&self.crl_costs);
        all.filter(|(_, cost)| room.take(**cost).is_ok()).map(|(octets, _)| *octets).collect()
    }

    /// The signers. There may be none: then it is a message that carries certificates only.
    pub fn signer_infos(&self) -> &[SignerInfo] {
        &self.signer_infos
    }
}

/// `EncapsulatedContentInfo` (RFC 5652 5.2).
pub(super) fn read_content<'a>(
    element: Element<'_, 'a>,
) -> Result<(ObjectIdentifier, Content<'a>), CmsError> {
    let mut fields = element.expect(Tag::SEQUENCE, "encapContentInfo")?.children();
    let content_type = fields.required("eContentType")?.object_identifier()?;
    let content = match fields.optional_context(0) {
        None => None,
        Some(explicit) => {
            let mut inner = explicit.expect(Tag::context(0), "eContent [0]")?.children();
            let octets = inner.required("eContent")?;
            inner.end()?;
            Some(octets.octet_string()?)
        }
    };
    fields.end()?;
    Ok((content_type, content))
}

/// The members of an implicitly tagged SET.
fn members<'t, 'a>(
    set: Option<Element<'t, 'a>>,
    part: &'static str,
    limit: usize,
) -> Result<impl Iterator<Item = Element<'t, 'a>>, CmsError> {
    let members = set.into_iter().flat_map(|set| set.children());
    if members.clone().count() > limit { Err(CmsError::TooMany { part, limit }) } else { Ok(members) }
}

/// What a member of the CRLs takes once it is decoded: a CRL its octets and as much for its entries, and its names; anything
/// else may be of certificates.
fn cost_of_evidence(member: Element<'_, '_>) -> usize {
    if member.tag() == Tag::SEQUENCE {
        2 * member.octets().len() + member.count_inside(Tag::SET) * OCTETS_OF_NAME
    } else {
        member.size() * OCTETS_OF_DECODED
    }
}
