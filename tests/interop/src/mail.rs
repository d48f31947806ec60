//! Mails around CMS objects, and CMS objects out of mails, without help from the product.

use anyhow::{Context as _, Result, bail};
use testkit::mime;

use crate::form::Dress;

/// A whole mail and what is in it.
#[derive(Clone, Debug)]
pub struct Mail {
    /// All of it.
    pub octets: Vec<u8>,
    /// The CMS object.
    pub object: Vec<u8>,
    /// What a detached signature is over.
    pub content: Option<Vec<u8>>,
}

/// What an object is, which its media type tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `signed-data`.
    Signed,
    /// `enveloped-data`.
    Enveloped,
    /// `authEnveloped-data`.
    AuthEnveloped,
    /// `compressed-data`.
    Compressed,
    /// `certs-only`.
    CertificatesOnly,
}

impl Mail {
    /// Reads a mail that is an entity with a header of its own.
    pub fn read(octets: Vec<u8>) -> Result<Self> {
        let media = mime::values(&octets, "Content-Type").concat().to_ascii_lowercase();
        if media.starts_with("multipart/signed") {
            let signed = mime::signed(&octets)?;
            return Ok(Self { octets, object: signed.signature, content: Some(signed.content) });
        }
        let mut leaves = mime::leaves(&octets)?;
        let (Some(leaf), true) = (leaves.pop(), leaves.is_empty()) else { bail!("several parts") };
        let known = ["application/pkcs7-mime", "application/x-pkcs7-mime", "application/octet-stream"];
        if !known.contains(&leaf.media_type.as_str()) {
            bail!("the root is {}", leaf.media_type);
        }
        Ok(Self { octets, object: leaf.octets, content: None })
    }

    /// A mail around an entity of somebody's.
    pub fn carrying(from: &str, entity: &[u8]) -> Result<Self> {
        let header = format!("From: {from}\r\nTo: reader@partner.example\r\nSubject: interop\r\n");
        let version =
            if mime::values(entity, "MIME-Version").is_empty() { "MIME-Version: 1.0\r\n" } else { "" };
        Self::read([header.as_bytes(), version.as_bytes(), entity].concat()).context("no S/MIME entity")
    }
}

/// A `multipart/signed` entity.
pub fn multipart_signed(content: &[u8], object: &[u8], dress: Dress) -> Vec<u8> {
    let types = match dress {
        Dress::Usual => ["application/pkcs7-signature"; 2],
        Dress::X | Dress::Pkcs7 => ["application/x-pkcs7-signature"; 2],
        Dress::OctetStream => ["application/pkcs7-signature", "application/octet-stream"],
    };
    let [protocol, media] = types;
    let head = format!(
        "Content-Type: multipart/signed; protocol=\"{protocol}\";\r\n micalg=sha-256; boundary=\"=_peer\"\r\n\r\n--=_peer\r\n"
    );
    let between = format!(
        "\r\n--=_peer\r\nContent-Type: {media}; name=\"smime.p7s\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    );
    [head.as_bytes(), content, between.as_bytes(), &base64(object), b"--=_peer--\r\n"].concat()
}

/// An `application/pkcs7-mime` entity.
pub fn pkcs7_mime(kind: Kind, object: &[u8], dress: Dress) -> Vec<u8> {
    let media = match dress {
        Dress::Usual => "application/pkcs7-mime",
        Dress::X | Dress::Pkcs7 => "application/x-pkcs7-mime",
        Dress::OctetStream => "application/octet-stream",
    };
    let (smime_type, name) = match kind {
        Kind::Signed => ("signed-data", "smime.p7m"),
        Kind::Enveloped => ("enveloped-data", "smime.p7m"),
        Kind::AuthEnveloped => ("authEnveloped-data", "smime.p7m"),
        Kind::Compressed => ("compressed-data", "smime.p7z"),
        Kind::CertificatesOnly => ("certs-only", "smime.p7c"),
    };
    let smime_type = match dress {
        Dress::OctetStream => String::new(),
        _ => format!(" smime-type={smime_type};"),
    };
    let head = format!(
        "Content-Type: {media};{smime_type} name=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=\"{name}\"\r\n\r\n"
    );
    [head.as_bytes(), &base64(object)].concat()
}

fn base64(octets: &[u8]) -> Vec<u8> {
    let lines = octets.chunks(57).map(|line| data_encoding::BASE64.encode(line) + "\r\n");
    lines.collect::<String>().into_bytes()
}
