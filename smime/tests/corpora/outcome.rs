//! What comes of a sample, in one line: the verdict, what a key opened, what structure a message has.

use std::{fs, path::Path, time::SystemTime};

use smime::{
    Certificate, MailAddress,
    cms::{Object, SignedData},
    message::{Ciphertext, verify},
    mime::{Message, MimeEntity, encode_base64, single_originator},
    path::Trust,
    revocation::Crl,
};

use crate::keys::Key;

/// Who looks at the samples of a folder: whom it trusts, when, and what it can open.
pub(crate) struct Reader {
    pub(crate) trust: Trust,
    pub(crate) at: SystemTime,
    pub(crate) keys: Vec<Key>,
    /// Who is taken for the sender where a sample has no From.
    pub(crate) sender: &'static str,
}

impl Reader {
    /// A message or an entity: what its signature is worth, and what is inside if it can be opened.
    pub(crate) fn mail(&self, octets: &[u8]) -> String {
        let message = Message::from_stored(octets);
        let entity = message.entity();
        let has_from = entity.header().all("From").next().is_some();
        let sender =
            if has_from { single_originator(&entity) } else { Ok(MailAddress::parse(self.sender).unwrap()) };
        self.entity(&entity, &sender)
    }

    fn entity(
        &self,
        entity: &MimeEntity<'_>,
        sender: &Result<MailAddress, smime::mime::FromError>,
    ) -> String {
        let (verdict, _) = verify(entity, sender.clone(), &self.trust, self.at);
        let said = format!("{}: {}", verdict.result().as_str(), verdict.reason());
        let Some(ciphertext) = Ciphertext::find(entity) else { return said };
        let (opened, content) = self.opened(&ciphertext.object);
        // What is inside is a text of its own, here often with LF alone.
        let inside = content.map(|content| self.entity(&Message::from_stored(&content).entity(), sender));
        let parts = [ciphertext.is_signed.then_some(said), Some(opened), inside];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// A ciphertext, and what is in it.
    fn opened(&self, object: &[u8]) -> (String, Option<Vec<u8>>) {
        let enveloped = match Object::parse(object) {
            Ok(Object::EnvelopedData(enveloped)) => enveloped,
            other => unreachable!("{other:?}"),
        };
        let cipher =
            enveloped.algorithm().map_or_else(|error| error.to_string(), |cipher| cipher.name().to_owned());
        for key in &self.keys {
            let Some(recipient) = enveloped.recipient_for(&key.certificate) else { continue };
            return match enveloped.open(recipient, key) {
                Ok(content) => (format!("opened, {cipher}"), Some(content)),
                Err(error) => (format!("not opened, {cipher}: {error}"), None),
            };
        }
        (format!("for nobody here, {cipher}"), None)
    }

    /// A CMS object without a mail around it.
    pub(crate) fn object(&self, octets: &[u8], content: Option<&[u8]>) -> String {
        match Object::parse(octets) {
            Ok(Object::SignedData(signed)) => self.signature(&signed, octets, content),
            Ok(Object::EnvelopedData(_)) => match self.opened(octets) {
                (said, Some(content)) if content.starts_with(b"Content-Type") => {
                    format!("{said}; {}", self.mail(&content))
                }
                // An object in an object.
                (said, Some(content)) if Object::parse(&content).is_ok() => {
                    format!("{said}; {}", self.object(&content, None))
                }
                (said, Some(content)) => {
                    format!("{said}; {:?}", String::from_utf8_lossy(content.get(..40).unwrap_or(&content)))
                }
                (said, None) => said,
            },
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        }
    }

    fn signature(&self, signed: &SignedData<'_>, octets: &[u8], content: Option<&[u8]>) -> String {
        let object = String::from_utf8(encode_base64(octets)).unwrap();
        if let (None, Some(content)) = (signed.content(), content) {
            let start = b"Content-Type: multipart/signed; boundary=corpora\r\n\r\n--corpora\r\n";
            let middle = "\r\n--corpora\r\nContent-Type: application/pkcs7-signature\r\n\
                          Content-Transfer-Encoding: base64\r\n\r\n";
            let tail = format!("{middle}{object}\r\n--corpora--\r\n");
            return self.mail(&[start, content, tail.as_bytes()].concat());
        }
        let start = "Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n";
        self.mail(format!("{start}{object}\r\n").as_bytes())
    }
}

/// The media types of a message's parts.
pub(crate) fn structure(entity: &MimeEntity<'_>) -> String {
    let Ok(content_type) = entity.content_type() else { return "unclear".to_owned() };
    let inside: Vec<_> = if content_type.is_multipart() {
        let Ok(parts) = entity.parts() else { return format!("{}, unclear", content_type.media()) };
        parts.iter().map(structure).collect()
    } else if content_type.is("message/rfc822") {
        entity.embedded().iter().map(structure).collect()
    } else {
        return content_type.media().to_owned();
    };
    format!("{}({})", content_type.media(), inside.join(" "))
}

/// A certificate, a CRL, or what is wrong with it.
pub(crate) fn certificate(path: &Path) -> String {
    match Certificate::from_der(&fs::read(path).unwrap()) {
        Ok(certificate) => format!("certificate of {}", certificate.subject()),
        Err(error) => error.to_string(),
    }
}

pub(crate) fn crl(path: &Path) -> String {
    match Crl::from_der(&fs::read(path).unwrap()) {
        Ok(_) => "CRL".to_owned(),
        Err(error) => error.to_string(),
    }
}
