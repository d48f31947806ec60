//! Certificates out of PKCS#12 files (RFC 7292), old and new ones.
//!
//! The MAC is checked before anything is decrypted, key derivation has a limit, and private keys stay what they are:
//! their bags are counted and not opened. Public-key modes (`SignedData`, `EnvelopedData`) are not read.

mod crypto;

use smime::{
    Certificate,
    ber::{BerError, Element, Tag, Tree},
};

use crypto::{Budget, Cipher, Mac};

/// What is in a file.
#[derive(Debug, Default)]
pub(crate) struct Bags {
    /// The certificates, in the file's order, each once.
    pub(crate) certificates: Vec<Certificate>,
    /// How many private keys there are.
    pub(crate) private_keys: usize,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Pkcs12Error {
    /// The structure is wrong.
    #[error("malformed PKCS#12: {0}")]
    Structure(#[from] BerError),
    /// The MAC does not fit.
    #[error("the password is wrong, or the file was changed")]
    Password,
    /// Something that is not read here.
    #[error("the PKCS#12 file uses {0}, which is not read here; convert it (openssl pkcs12 -export)")]
    Unsupported(String),
    /// Deriving the keys would take too long.
    #[error("the PKCS#12 file asks for more than {} million rounds of key derivation", crypto::MAX_ITERATIONS / 1_000_000)]
    TooSlow,
    /// More than anybody has.
    #[error("the PKCS#12 file has more than {MAX_BAGS} parts")]
    TooMany,
}

/// How many parts and bags are looked at.
const MAX_BAGS: usize = 10_000;
/// How deep bags may be in bags.
const MAX_DEPTH: usize = 4;

const DATA: &str = "1.2.840.113549.1.7.1";
const ENCRYPTED_DATA: &str = "1.2.840.113549.1.7.6";
const KEY_BAG: &str = "1.2.840.113549.1.12.10.1.1";
const SHROUDED_KEY_BAG: &str = "1.2.840.113549.1.12.10.1.2";
const CERT_BAG: &str = "1.2.840.113549.1.12.10.1.3";
const SAFE_CONTENTS_BAG: &str = "1.2.840.113549.1.12.10.1.6";
const X509_CERTIFICATE: &str = "1.2.840.113549.1.9.22.1";

/// Reads the certificates of a file.
pub(crate) fn read(octets: &[u8], password: &str) -> Result<Bags, Pkcs12Error> {
    let tree = Tree::parse(octets)?;
    let mut fields = tree.root().expect(Tag::SEQUENCE, "PFX")?.children();
    fields.required("version")?;
    let safe = fields.required("authSafe")?;
    let (content_type, content) = content_info(safe)?;
    if content_type != DATA {
        return Err(Pkcs12Error::Unsupported("a signature instead of a password's MAC".to_owned()));
    }
    let content = content.ok_or_else(|| safe.unexpected("content"))?.octet_string()?.concat();
    let mut reader = Reader { password, budget: Budget::default(), bags: Bags::default(), seen: 0 };
    if let Some(mac) = fields.next() {
        Mac::read(mac)?.verify(&content, password, &mut reader.budget)?;
    }
    let tree = Tree::parse(&content)?;
    for part in tree.root().expect(Tag::SEQUENCE, "AuthenticatedSafe")?.children() {
        reader.count()?;
        reader.part(part)?;
    }
    Ok(reader.bags)
}

struct Reader<'p> {
    password: &'p str,
    budget: Budget,
    bags: Bags,
    seen: usize,
}

impl Reader<'_> {
    fn count(&mut self) -> Result<(), Pkcs12Error> {
        self.seen += 1;
        if self.seen > MAX_BAGS { Err(Pkcs12Error::TooMany) } else { Ok(()) }
    }

    /// A part of the authenticated safe: plain or encrypted bags.
    fn part(&mut self, part: Element<'_, '_>) -> Result<(), Pkcs12Error> {
        let (content_type, content) = content_info(part)?;
        let content = content.ok_or_else(|| part.unexpected("content"))?;
        let octets = match content_type.as_str() {
            DATA => content.octet_string()?.concat(),
            ENCRYPTED_DATA => {
                let mut fields = content.expect(Tag::SEQUENCE, "EncryptedData")?.children();
                fields.required("version")?;
                let info = fields.required("encryptedContentInfo")?;
                let mut fields = info.expect(Tag::SEQUENCE, "EncryptedContentInfo")?.children();
                fields.required("contentType")?;
                let cipher = Cipher::read(fields.required("contentEncryptionAlgorithm")?)?;
                let encrypted =
                    fields.optional_context(0).ok_or_else(|| info.unexpected("encryptedContent"))?;
                let encrypted = encrypted.string_segments()?.concat();
                cipher.decrypt(encrypted, self.password, &mut self.budget)?
            }
            other => return Err(Pkcs12Error::Unsupported(format!("contents of type {other}"))),
        };
        let tree = Tree::parse(&octets)?;
        self.safe_contents(tree.root(), MAX_DEPTH)
    }

    fn safe_contents(&mut self, contents: Element<'_, '_>, depth: usize) -> Result<(), Pkcs12Error> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Pkcs12Error::Unsupported("bags in bags in bags".to_owned()));
        };
        for bag in contents.expect(Tag::SEQUENCE, "SafeContents")?.children() {
            self.count()?;
            let mut fields = bag.expect(Tag::SEQUENCE, "SafeBag")?.children();
            let id = fields.required("bagId")?.object_identifier()?.to_string();
            let value = fields.required("bagValue")?.expect(Tag::context(0), "bagValue [0]")?;
            let value = value.children().required("bagValue")?;
            match id.as_str() {
                KEY_BAG | SHROUDED_KEY_BAG => self.bags.private_keys += 1,
                SAFE_CONTENTS_BAG => self.safe_contents(value, depth)?,
                CERT_BAG => self.certificate(value)?,
                // CRLs and secrets are not asked for.
                _ => {}
            }
        }
        Ok(())
    }

    fn certificate(&mut self, bag: Element<'_, '_>) -> Result<(), Pkcs12Error> {
        let mut fields = bag.expect(Tag::SEQUENCE, "CertBag")?.children();
        if fields.required("certId")?.object_identifier()?.to_string() != X509_CERTIFICATE {
            return Ok(());
        }
        let value = fields.required("certValue")?.expect(Tag::context(0), "certValue [0]")?;
        let octets = value.children().required("certValue")?.octet_string()?.concat();
        // One that does not decode is of no use, and hides no other.
        if let Ok(certificate) = Certificate::from_der(&octets)
            && !self.bags.certificates.contains(&certificate)
        {
            self.bags.certificates.push(certificate);
        }
        Ok(())
    }
}

/// The type of a `ContentInfo` and what is in its `[0]`.
fn content_info<'t, 'a>(info: Element<'t, 'a>) -> Result<(String, Option<Element<'t, 'a>>), Pkcs12Error> {
    let mut fields = info.expect(Tag::SEQUENCE, "ContentInfo")?.children();
    let content_type = fields.required("contentType")?.object_identifier()?.to_string();
    let content = fields.next().and_then(|explicit| explicit.children().next());
    Ok((content_type, content))
}

#[cfg(test)]
mod tests;
