//! Whether a message that claims to be signed or encrypted is so, as far as its form tells.
//!
//! A claim costs nothing: a media type, a file name, a line of armour. What must be signed leaves without
//! our signature only if somebody's cryptography is really there, and all there is. Whether a signature
//! is good is for its recipient to find out.

use smime::{
    cms::{CmsError, Object},
    message::Wrapped,
    mime::{Crypto, MimeEntity},
};

use super::pgp;

/// What is behind the claim of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// Nothing that protects the message: it is signed like any other.
    None,
    /// All of it is signed ([`Crypto::SmimeSigned`]), encrypted ([`Crypto::SmimeOther`]), or either of
    /// them by PGP.
    Whole(Crypto),
    /// It may be, but not in a form that everybody reads alike. It is neither let pass nor signed, because a
    /// signature around it would say that it is in order.
    Doubtful,
}

/// Looks behind the claim that [`smime::mime::is_smime_or_pgp`] found.
pub(super) fn protection(message: &MimeEntity<'_>, claim: Option<Crypto>) -> Protection {
    if claim.is_none() {
        return Protection::None;
    }
    // Some programs begin the body at a line that is no field.
    let is_clear = message.header().fields().all(|field| !field.name().is_empty());
    let Some(content_type) = message.content_type().ok().filter(|_| is_clear) else {
        return Protection::Doubtful;
    };
    match content_type.media() {
        "multipart/signed" if pgp::is_signed(message) => Protection::Whole(Crypto::Pgp),
        "multipart/encrypted" if pgp::is_encrypted(message) => Protection::Whole(Crypto::Pgp),
        "multipart/signed"
        | "multipart/encrypted"
        | "application/pkcs7-mime"
        | "application/x-pkcs7-mime" => cms(message).unwrap_or(Protection::Doubtful),
        // A file of that name may hold anything.
        "application/octet-stream" => cms(message).unwrap_or(Protection::None),
        "text/plain" | "application/pgp"
            if message.decoded_body().is_ok_and(|body| pgp::is_inline(&body)) =>
        {
            Protection::Whole(Crypto::Pgp)
        }
        _ => Protection::None,
    }
}

/// Whether only its recipients can read a message that is protected as a whole.
pub(super) fn is_ciphertext(message: &MimeEntity<'_>, protection: Protection) -> bool {
    match protection {
        Protection::Whole(Crypto::SmimeOther) => true,
        // `protection` has found it to be what it is called.
        Protection::Whole(Crypto::Pgp) => match message.content_type() {
            Ok(known) if known.media().starts_with("multipart/") => known.is("multipart/encrypted"),
            _ => message.decoded_body().is_ok_and(|body| pgp::is_inline_ciphertext(&body)),
        },
        _ => false,
    }
}

/// RFC 8551 3.2 to 3.5; nothing, if it is none of these forms.
fn cms(message: &MimeEntity<'_>) -> Option<Protection> {
    let wrapped = Wrapped::read(message).ok()??;
    let (object, is_detached) = match &wrapped {
        Wrapped::Clear { object, .. } => (object, true),
        Wrapped::Opaque(object) => (object, false),
    };
    match Object::parse(object) {
        Ok(Object::SignedData(signed)) if !signed.signer_infos().is_empty() => {
            (signed.content().is_none() == is_detached).then_some(Protection::Whole(Crypto::SmimeSigned))
        }
        Ok(Object::EnvelopedData(enveloped)) if !is_detached => {
            (!enveloped.recipients().is_empty()).then_some(Protection::Whole(Crypto::SmimeOther))
        }
        // Certificates, compressed data: complete, and no protection.
        Ok(Object::SignedData(_) | Object::CompressedData(_)) | Err(CmsError::ContentType(_))
            if !is_detached =>
        {
            Some(Protection::None)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use smime::{
        cms::compress,
        mime::{encode_base64, is_smime_or_pgp},
        testing::fixtures::data,
    };

    use super::*;
    use crate::policy::pgp::tests::{DETACHED, KEY, MESSAGE, clearsigned};

    fn protection_of(octets: &str) -> Protection {
        let octets = octets.replace("\r\n", "\n").replace('\n', "\r\n");
        let message = MimeEntity::parse(octets.as_bytes());
        protection(&message, is_smime_or_pgp(&message))
    }

    fn base64(octets: &[u8]) -> String {
        format!("Content-Transfer-Encoding: base64\n\n{}", String::from_utf8(encode_base64(octets)).unwrap())
    }

    /// `multipart/signed` with this Content-Type behind its boundary, and these parts.
    fn multipart(head: &str, parts: &[&str]) -> String {
        let parts: Vec<_> = parts.iter().map(|part| format!("--b\n{part}\n")).collect();
        format!("Content-Type: multipart/{head}; boundary=b\n\n{}--b--\n", parts.concat())
    }

    /// A `SignedData` without signers, and the start of a `CompressedData` (RFC 3274), both in DER.
    fn certificates_only() -> Vec<u8> {
        let signed_data = [
            &[0x30, 0x14, 0x02, 0x01, 0x01, 0x31, 0x00, 0x30, 0x0B][..],
            &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x01, 0x31, 0x00],
        ]
        .concat();
        let oid = [0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x02];
        [&[0x30, 0x23], &oid[..], &[0xA0, 0x16], &signed_data].concat()
    }

    #[test]
    fn cms_protects_if_it_is_complete() {
        let opaque = |object: &[u8]| format!("Content-Type: application/pkcs7-mime\n{}", base64(object));
        let file =
            |object: &[u8]| format!("Content-Type: application/octet-stream; name=x.p7m\n{}", base64(object));
        let signature =
            |object: &[u8]| format!("Content-Type: application/pkcs7-signature\n{}", base64(object));
        let detached = data("detached.p7s");
        let signed = |parts: &[&str]| multipart("signed; protocol=\"application/pkcs7-signature\"", parts);
        let (whole, encrypted) =
            (Protection::Whole(Crypto::SmimeSigned), Protection::Whole(Crypto::SmimeOther));
        let cut = |name: &str| data(name).split_last().unwrap().1.to_vec();
        for (name, message, expected) in [
            ("signed", opaque(&data("opaque.p7m")), whole),
            ("signed, in BER", opaque(&data("opaque-ber.p7m")), whole),
            ("encrypted", opaque(&data("der.p7m")), encrypted),
            ("encrypted, in BER", opaque(&data("ber.p7m")), encrypted),
            ("encrypted and authenticated", opaque(&data("gcm.p7m")), encrypted),
            ("under a file name", file(&data("der.p7m")), encrypted),
            ("cut off", opaque(&cut("der.p7m")), Protection::Doubtful),
            ("signed, cut off", opaque(&cut("opaque.p7m")), Protection::Doubtful),
            ("text", "Content-Type: application/pkcs7-mime\n\ntext".into(), Protection::Doubtful),
            (
                "a type and text",
                "Content-Type: application/pkcs7-mime; smime-type=certs-only\n\ntext".into(),
                Protection::Doubtful,
            ),
            ("certificates only", opaque(&certificates_only()), Protection::None),
            ("compressed", opaque(&compress(b"text").unwrap()), Protection::None),
            ("a signature without content", opaque(&detached), Protection::Doubtful),
            ("a file of text", file(b"text"), Protection::None),
            ("a file cut off", file(&cut("der.p7m")), Protection::None),
            ("HTML", "Content-Type: text/html; name=invoice.p7s\n\n<p>text".into(), Protection::None),
            (
                "text with a file name",
                "Content-Type: text/plain\nContent-Disposition: inline; filename=x.p7c\n\ntext".into(),
                Protection::None,
            ),
            ("text and its signature", signed(&["\nx", &signature(&detached)]), whole),
            ("no protocol", multipart("signed", &["\nx", &signature(&detached)]), whole),
            ("no part", "Content-Type: multipart/signed; boundary=x\n\ntext".into(), Protection::Doubtful),
            ("one part", signed(&["\nx"]), Protection::Doubtful),
            ("a third part", signed(&["\nx", &signature(&detached), "\ny"]), Protection::Doubtful),
            ("no signature", signed(&["\nx", "\ny"]), Protection::Doubtful),
            ("garbage for a signature", signed(&["\nx", &signature(b"y")]), Protection::Doubtful),
            (
                "certificates for a signature",
                signed(&["\nx", &signature(&certificates_only())]),
                Protection::Doubtful,
            ),
            (
                "ciphertext for a signature",
                signed(&["\nx", &signature(&data("der.p7m"))]),
                Protection::Doubtful,
            ),
            (
                "content in the signature",
                signed(&["\nx", &signature(&data("opaque.p7m"))]),
                Protection::Doubtful,
            ),
            (
                "a line that is no field",
                format!("text:\ntext\n{}", opaque(&data("der.p7m"))),
                Protection::Doubtful,
            ),
            (
                "two types",
                format!("Content-Type: text/plain\n{}", opaque(&data("der.p7m"))),
                Protection::Doubtful,
            ),
            ("plain text", "Content-Type: text/plain\n\ntext".into(), Protection::None),
        ] {
            assert_eq!(protection_of(&message), expected, "{name}");
        }
    }

    #[test]
    fn pgp_protects_if_it_is_complete() {
        let version = "Content-Type: application/pgp-encrypted\n\nVersion: 1\n";
        let octets = |text: &str| format!("Content-Type: application/octet-stream\n\n{text}");
        let signature = |text: &str| format!("Content-Type: application/pgp-signature\n\n{text}");
        let encrypted =
            |parts: &[&str]| multipart("encrypted; protocol=\"application/pgp-encrypted\"", parts);
        let signed = |parts: &[&str]| multipart("signed; protocol=\"application/pgp-signature\"", parts);
        let text = |text: &str| format!("Content-Type: text/plain\n\n{text}");
        let whole = Protection::Whole(Crypto::Pgp);
        for (name, message, expected) in [
            ("encrypted", encrypted(&[version, &octets(MESSAGE)]), whole),
            ("signed", signed(&["\nx", &signature(DETACHED)]), whole),
            ("inline", text(MESSAGE), whole),
            ("inline, without a type", format!("\n{}", clearsigned()), whole),
            ("a key and text", text(&format!("{KEY}\ntext\n")), Protection::None),
            ("armour and text", text(&format!("{MESSAGE}\ntext\n")), Protection::None),
            ("a file", format!("Content-Type: application/pgp-signature\n\n{DETACHED}"), Protection::None),
            ("text for ciphertext", encrypted(&[version, &octets("text")]), Protection::Doubtful),
            ("a key for ciphertext", encrypted(&[version, &octets(KEY)]), Protection::Doubtful),
            ("no version", encrypted(&["\ntext", &octets(MESSAGE)]), Protection::Doubtful),
            (
                "text for the version",
                encrypted(&[&version.replace('1', "1\nx"), &octets(MESSAGE)]),
                Protection::Doubtful,
            ),
            ("a third part", encrypted(&[version, &octets(MESSAGE), "\ntext"]), Protection::Doubtful),
            ("no parts", encrypted(&[]), Protection::Doubtful),
            ("text for a signature", signed(&["\nx", &signature("x")]), Protection::Doubtful),
            ("no signature", signed(&["\nx", "\nx"]), Protection::Doubtful),
            ("a third signed part", signed(&["\nx", &signature(DETACHED), "\ny"]), Protection::Doubtful),
            (
                "parts that depend on comments",
                signed(&["\nx", &signature(DETACHED)]).replace("boundary=b", "boundary=(x)b"),
                Protection::Doubtful,
            ),
            ("not closed", signed(&["\nx", &signature(DETACHED)]).replace("--b--", ""), Protection::Doubtful),
            (
                "another delimiter in front",
                signed(&["\nx", &signature(DETACHED)]).replacen("--b", "--c\n\ntext\n--c--\n--b", 1),
                Protection::Doubtful,
            ),
            ("another protocol", multipart("encrypted", &[version, &octets(MESSAGE)]), Protection::Doubtful),
        ] {
            assert_eq!(protection_of(&message), expected, "{name}");
        }
    }
}
