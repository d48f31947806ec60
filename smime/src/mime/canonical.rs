//! The octets that get signed: a canonical, 7-bit-safe MIME entity (RFC 8551 3.1.1 to 3.1.3).
//!
//! How an entity becomes one is in `rewrite.rs`.

use super::{
    CanonicalError, MimeEntity,
    boundary::BOUNDARY_LEN,
    message::crlf,
    rewrite::{Rewriter, Room},
};
use crate::{algorithm::DigestAlgorithm, key::Digest};

/// A MIME entity whose octets survive transport, so that a signature over them does.
///
/// There is one only if this check found or made it so. All of it is 7-bit with lines of at most
/// [`LONGEST_LINE`](super::LONGEST_LINE) octets that end in CRLF. No leaf has `From ` at the start of a line or white space at the end of one,
/// except where a leaf must not be encoded again, and so is as its author sent it: inside
/// multipart/signed and multipart/encrypted, in message types that RFC 2046 forbids to encode, and in
/// what cannot be read.
#[derive(Clone, PartialEq, Eq)]
pub struct Canonical {
    /// [`LEAD`] zeros, then the entity.
    buffer: Vec<u8>,
}

/// Room for the delimiter that a signed entity follows, so that a message can be made around it where it is.
pub(crate) const LEAD: usize = b"--".len() + BOUNDARY_LEN + b"\r\n".len();

impl Canonical {
    /// Makes what is to be signed of a message.
    ///
    /// - Of the header, the `Content-*` fields stay. Without any, the entity is text/plain in us-ascii.
    /// - A leaf that would not survive is encoded: text in quoted-printable or base64, whichever is
    ///   shorter, anything else in base64. Its Content-Transfer-Encoding is replaced, and a raw 8-bit
    ///   parameter or description is written in RFC 2231 or RFC 2047; other fields and other leaves stay
    ///   octet by octet.
    /// - A message or report inside that would not survive and must not be changed becomes message/global
    ///   or its like in base64.
    /// - `8bit` and `binary` become `7bit` where that is true by now: an agent that converts goes by the
    ///   label, not by the octets.
    /// - Text that is encoded gets CRLF for every bare LF; other leaves keep their octets.
    /// - Multiparts lose preamble and epilogue and end in one closing delimiter.
    /// - A multipart/signed or multipart/encrypted inside is never touched.
    pub fn from_entity(message: &MimeEntity<'_>) -> Result<Self, CanonicalError> {
        Ok(Self { buffer: Rewriter::rewrite(message, LEAD, Room::Signature)? })
    }

    /// The same, with room for the base64 of all of it: the object that [`crate::message::seal_in_place`] and its like
    /// make of it takes its place.
    pub fn to_be_enclosed(message: &MimeEntity<'_>) -> Result<Self, CanonicalError> {
        Ok(Self { buffer: Rewriter::rewrite(message, LEAD, Room::Object)? })
    }

    /// Takes what was signed: the first part of a multipart/signed, or the content of an opaque
    /// signature. Nothing is changed but that a bare LF, which cannot come by SMTP, becomes CRLF.
    pub fn from_signed_part(octets: &[u8]) -> Self {
        let octets = crlf(octets);
        let mut buffer = Vec::with_capacity(LEAD + octets.len());
        buffer.resize(LEAD, 0);
        buffer.extend_from_slice(&octets);
        Self { buffer }
    }

    /// Header, empty line and body.
    pub fn octets(&self) -> &[u8] {
        self.buffer.get(LEAD..).unwrap_or_default()
    }

    /// The octets for themselves.
    pub fn into_octets(mut self) -> Vec<u8> {
        self.buffer.drain(..LEAD);
        self.buffer
    }

    /// [`LEAD`] zeros and the octets, without a copy.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// The digest of the octets, as the message-digest attribute has it.
    pub fn digest(&self, algorithm: DigestAlgorithm) -> Digest {
        Digest::of(algorithm, self.octets())
    }
}

impl std::fmt::Debug for Canonical {
    /// The length only: what is signed is nobody's business but the recipients'.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canonical").field("len", &self.octets().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mime::{Hazard, MimeError};

    fn crlf(text: &str) -> Vec<u8> {
        text.replace('\n', "\r\n").into_bytes()
    }

    fn canonical(message: &str) -> Result<String, CanonicalError> {
        Canonical::from_entity(&MimeEntity::parse(&crlf(message)))
            .map(|canonical| String::from_utf8(canonical.into_octets()).unwrap().replace("\r\n", "\n"))
    }

    #[track_caller]
    fn check(cases: &[(&str, &str, &str)]) {
        for (name, message, expected) in cases {
            assert_eq!(canonical(message).as_deref(), Ok(*expected), "{name}");
        }
    }

    #[test]
    fn only_content_fields_of_the_message_are_signed() {
        check(&[
            (
                "safe octets stay",
                "Subject: x\nMIME-Version: 1.0\ncontent-type : text/plain;\n\tcharset=utf-8 \nContent-X: y\n\nhi\n\n",
                "content-type : text/plain;\n\tcharset=utf-8 \nContent-X: y\n\nhi\n\n",
            ),
            ("no MIME", "Subject: x\n\nhi", "Content-Type: text/plain; charset=us-ascii\n\nhi"),
            ("no header", "\nhi\n", "Content-Type: text/plain; charset=us-ascii\n\nhi\n"),
            ("no body", "Subject: x\n", "Content-Type: text/plain; charset=us-ascii\n\n\n"),
            ("empty body", "Content-Type: text/html\n\n", "Content-Type: text/html\n\n\n"),
            ("empty attachment", "Content-Type: a/b\n\n", "Content-Type: a/b\n\n"),
            ("header without a line end", "Content-Type: a/b", "Content-Type: a/b\n\n"),
            (
                "continuation of a field that goes",
                "Subject: x\n Content-Type: a/b\nno field\n\nhi\n",
                "Content-Type: text/plain; charset=us-ascii\n\nhi\n",
            ),
            (
                "8-bit text that came without MIME",
                "Subject: x\n\n\u{fc}\n",
                "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n=C3=BC\n",
            ),
            (
                "raw UTF-8 in a field",
                "Content-Type: a/b\nContent-Disposition: inline; filename=\"\u{fc}\"\n\nhi\n",
                "Content-Type: a/b\nContent-Disposition: inline;\n filename*=utf-8''%C3%BC\n\nhi\n",
            ),
        ]);
    }

    #[test]
    fn leaves_that_would_not_survive_are_encoded() {
        let long = "x".repeat(999);
        let encoding = |body: &str, head: &str| format!("Content-Type: text/plain{head}\n\n{body}");
        let cte = "\nContent-Transfer-Encoding: ";
        for (name, message, expected) in [
            ("trailing blank", encoding("a \n", ""), encoding("a=20\n", &format!("{cte}quoted-printable"))),
            ("From", encoding("From a\n", ""), encoding("=46rom a\n", &format!("{cte}quoted-printable"))),
            (
                "8-bit, in place of the old label",
                "Content-Transfer-Encoding: 8bit\nContent-Type: text/plain\n\ntext \u{fc}-\n".to_owned(),
                "Content-Transfer-Encoding: quoted-printable\nContent-Type: text/plain\n\ntext =C3=BC-\n"
                    .to_owned(),
            ),
            (
                "text that is shorter in base64",
                encoding("\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}", ""),
                encoding("w7zDvMO8w7zDvMO8\n", &format!("{cte}base64")),
            ),
            (
                "binary",
                format!("Content-Type: image/x{cte}binary\n\n\0\n"),
                format!("Content-Type: image/x{cte}base64\n\nAA0K\n"),
            ),
            (
                "quoted-printable with blanks that transport added",
                encoding("a=3D \n", &format!("{cte}quoted-printable")),
                encoding("a=3D\n", &format!("{cte}quoted-printable")),
            ),
            (
                "an escaped delimiter stays escaped",
                encoding("=2D-b--\n\u{fc} a long line of text\n", &format!("{cte}quoted-printable")),
                encoding("=2D-b--\n=C3=BC a long line of text\n", &format!("{cte}quoted-printable")),
            ),
            (
                "base64 in one line",
                encoding(&"QUFB".repeat(250), &format!("{cte}base64")),
                encoding(&quoted(&"A".repeat(750)), &format!("{cte}quoted-printable")),
            ),
            (
                "a label that is not true",
                encoding("a\n", &format!("{cte}8bit")),
                encoding("a\n", &format!("{cte}7bit")),
            ),
            ("a long line", encoding(&long, ""), encoding(&quoted(&long), &format!("{cte}quoted-printable"))),
            (
                "UTF-16 has no line ends to mend",
                format!("Content-Type: text/plain; charset=utf-16{cte}binary\n\nxa\u{fc}\n"),
                format!("Content-Type: text/plain; charset=utf-16{cte}base64\n\neGHDvA0K\n"),
            ),
            (
                "a type that cannot be read",
                "Content-Type: text/plain; a; b\n\n\u{fc}".to_owned(),
                format!("Content-Type: text/plain; a; b{cte}base64\n\nw7w=\n"),
            ),
        ] {
            assert_eq!(canonical(&message).as_deref(), Ok(expected.as_str()), "{name}");
        }
    }

    /// Text without anything to encode, with soft breaks.
    fn quoted(text: &str) -> String {
        let chars: Vec<char> = text.chars().collect();
        let count = chars.len();
        let mut lines: Vec<String> = Vec::new();
        let mut at = 0;
        while at < count {
            let len = if count - at <= 76 { count - at } else { 75 };
            lines.push(chars[at..at + len].iter().collect());
            at += len;
        }
        lines.join("=\n")
    }

    #[test]
    fn bare_line_ends_become_crlf_in_text_only() {
        for (message, expected) in [
            (
                &b"Content-Type: text/plain\r\n\r\nline\nof \xc3\xbc text\r\n"[..],
                "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nline\r\nof =C3=BC text\r\n",
            ),
            (
                b"Content-Type: text/plain\r\n\r\na line with CR\rin it\r\n",
                "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na line with CR=0Din it\r\n",
            ),
            (
                b"Content-Type: a/b\r\n\r\nx\ny\r\n",
                "Content-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\neAp5DQo=\r\n",
            ),
        ] {
            let canonical = Canonical::from_entity(&MimeEntity::parse(message)).unwrap();
            assert_eq!(String::from_utf8_lossy(canonical.octets()), expected);
        }
    }

    #[test]
    fn multiparts_lose_what_is_around_their_parts() {
        check(&[
            (
                "preamble, epilogue, padding, nested",
                "Content-Type: multipart/mixed; boundary=a\nContent-Transfer-Encoding: 8bit\n\npre\n--a  \n\none\n\n\
                 --a\nContent-Type: multipart/alternative; boundary=\"b b\"\n\nPRE\n--b b\n\nx \n--b b--\nPOST\n\
                 --a--\npost\n",
                "Content-Type: multipart/mixed; boundary=a\nContent-Transfer-Encoding: 7bit\n\n--a\n\none\n\n\
                 --a\nContent-Type: multipart/alternative; boundary=\"b b\"\n\n--b b\n\
                 Content-Transfer-Encoding: quoted-printable\n\nx=20\n--b b--\n\n--a--\n",
            ),
            (
                "not closed",
                "Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n",
                "Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n\n--a--\n",
            ),
            (
                "empty parts, and a part that begins with its body",
                "Content-Type: multipart/mixed; boundary=a\n\n--a\n--a\njust text \n--a--",
                "Content-Type: multipart/mixed; boundary=a\n\n--a\n\n--a\njust text \n--a--\n",
            ),
            (
                "unreadable but safe",
                "Content-Type: multipart/mixed\n\npre\n--a\n",
                "Content-Type: multipart/mixed\n\npre\n--a\n",
            ),
            (
                "a delimiter that agents read in two ways, but safe",
                "Content-Type: multipart/mixed; boundary=a\n\npre\n--a\n\nx\n--ab\n--a--\npost\n",
                "Content-Type: multipart/mixed; boundary=a\n\npre\n--a\n\nx\n--ab\n--a--\npost\n",
            ),
            (
                "no delimiter, so all of it would be preamble",
                "Content-Type: multipart/mixed; boundary=a\n\ntext\n",
                "Content-Type: multipart/mixed; boundary=a\n\ntext\n",
            ),
        ]);
    }

    #[test]
    fn messages_inside_are_encoded_leaf_by_leaf() {
        check(&[
            (
                "inner header stays, inner body is encoded",
                "Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\n\
                 X : y \nMIME-Version: 1.0\nContent-Type: text/html\nContent-Transfer-Encoding: 8bit\nTo: z\n\n<p>a \u{fc}\n",
                "Content-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\n\
                 X : y \nMIME-Version: 1.0\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\nTo: z\n\n\
                 <p>a =C3=BC\n",
            ),
            (
                "an inner message without MIME becomes MIME if it must",
                "Content-Type: message/rfc822\n\nSubject: x\n\na \u{fc} b\n",
                "Content-Type: message/rfc822\n\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
                 Content-Transfer-Encoding: quoted-printable\n\na =C3=BC b\n",
            ),
            (
                "a UTF-8 header makes it message/global",
                "Content-Type: message/rfc822; name=\"a b\"\nContent-X: y\n\nSubject: \u{fc}\n\nx\n",
                "Content-Type: message/global;\n name=\"a b\"\nContent-X: y\nContent-Transfer-Encoding: base64\n\n\
                 U3ViamVjdDogw7wNCg0KeA0K\n",
            ),
            (
                "so does a mailbox line",
                "Content-Type: message/rfc822\n\nFrom a b\nA: b\n\nx\n",
                "Content-Type: message/global\nContent-Transfer-Encoding: base64\n\nRnJvbSBhIGINCkE6IGINCg0KeA0K\n",
            ),
            (
                "in a digest, without a type",
                "Content-Type: multipart/digest; boundary=a\n\n--a\n\nSubject: \u{fc}\n\nx\n--a\n\nSubject: y\n\nx \n--a--\n",
                "Content-Type: multipart/digest; boundary=a\n\n--a\nContent-Type: message/global\n\
                 Content-Transfer-Encoding: base64\n\nU3ViamVjdDogw7wNCg0KeA==\n\n--a\n\nSubject: y\nMIME-Version: 1.0\n\
                 Content-Transfer-Encoding: quoted-printable\n\nx=20\n--a--\n",
            ),
            (
                "so does what must not be changed inside",
                "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: message/rfc822\n\n\
                 Content-Type: multipart/signed; boundary=s\n\n--s\n\n\u{fc}\n--s--\n--a\n\n\u{fc}\n--a--\n",
                "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: message/global\n\
                 Content-Transfer-Encoding: base64\n\n\
                 Q29udGVudC1UeXBlOiBtdWx0aXBhcnQvc2lnbmVkOyBib3VuZGFyeT1zDQoNCi0tcw0KDQrDvA0K\nLS1zLS0=\n\n--a\n\
                 Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nw7w=\n\n--a--\n",
            ),
            (
                "a report in UTF-8 becomes that of RFC 6533",
                "Content-Type: message/delivery-status; x=y\n\nDiagnostic-Code: \u{fc}\n",
                "Content-Type: message/global-delivery-status;\n x=y\nContent-Transfer-Encoding: base64\n\n\
                 RGlhZ25vc3RpYy1Db2RlOiDDvA0K\n",
            ),
            (
                "an encoding that is given twice",
                "Content-Transfer-Encoding: 8bit\nContent-Type: text/plain; charset=utf-8\n\
                 content-transfer-encoding: 8BIT\n\nfull of \u{fc}\n",
                "Content-Transfer-Encoding: quoted-printable\nContent-Type: text/plain; charset=utf-8\n\n\
                 full of =C3=BC\n",
            ),
            (
                "message types that must stay as they are",
                "Content-Type: message/delivery-status\nContent-Transfer-Encoding: 8bit\n\nDiagnostic-Code: smtp \n",
                "Content-Type: message/delivery-status\nContent-Transfer-Encoding: 7bit\n\nDiagnostic-Code: smtp \n",
            ),
        ]);
    }

    const SIGNED: &str = "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=s\n\n\
        pre\n--s\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\n-- \nFrom me\n\n--s\n\nsig\n--s--\npost\n";

    #[test]
    fn what_is_signed_already_stays_octet_by_octet() {
        let message = format!(
            "Content-Type: multipart/mixed; boundary=a\n\n--a\n{SIGNED}--a\nContent-Type: message/rfc822\n\n{SIGNED}--a--\n"
        );
        assert_eq!(canonical(&message), Ok(message));
        assert_eq!(canonical(&format!("Subject: x\n{SIGNED}")).as_deref(), Ok(SIGNED));
    }

    #[test]
    fn what_cannot_be_made_safe_is_named() {
        let mixed = |part: &str| {
            canonical(&format!("Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n--a\n{part}\n--a--\n"))
                .unwrap_err()
        };
        let part = || "2".to_owned();
        let hazard = Hazard::EightBit;
        assert_eq!(
            mixed(&SIGNED.replace("\nsig\n", "\n\u{fc}\n")),
            CanonicalError::NestedSignatureNotSafe { part: part(), hazard }
        );
        assert_eq!(
            mixed("Content-Type: message/partial; id=x; number=1\n\n\u{fc}"),
            CanonicalError::NotEncodable { part: part(), media: "message/partial".into(), hazard }
        );
        for (text, source) in [
            (
                "Content-Type: multipart/mixed\n\n\u{fc}",
                MimeError::NoBoundary { media: "multipart/mixed".into() },
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n\u{fc}\n--bb\n",
                MimeError::AmbiguousBoundary,
            ),
            ("Content-Type: multipart/mixed; boundary=b\n\n\u{fc}", MimeError::NoParts),
            (
                "Content-Type: multipart/mixed; boundary=b; boundary=c\n\n\u{fc}",
                MimeError::Ambiguous { what: "parameter boundary".into() },
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n\u{fc}",
                MimeError::EncodedMultipart { media: "multipart/mixed".into() },
            ),
            (
                "Content-Transfer-Encoding: x-uuencode\n\n\u{fc}",
                MimeError::UnknownTransferEncoding { name: "x-uuencode".into() },
            ),
            ("no field \u{fc}\n\nx", MimeError::HeaderLine),
        ] {
            assert_eq!(mixed(text), CanonicalError::Unreadable { part: part(), hazard, source }, "{text}");
        }
        assert_eq!(
            mixed("Content-ID: \u{fc}\n\nx"),
            CanonicalError::HeaderNotSafe { part: part(), field: "Content-ID".into(), hazard }
        );
    }

    #[test]
    fn what_is_nested_too_deep_is_kept_if_safe() {
        let nested = |leaf: &str| {
            (0..20).fold(leaf.to_owned(), |inner, level| {
                format!("Content-Type: multipart/mixed; boundary=b{level}x\n\n--b{level}x\n{inner}\n--b{level}x--\n")
            })
        };
        let safe = nested("\nx");
        assert_eq!(canonical(&safe), Ok(safe));
        let error = canonical(&nested("\n\u{fc}")).unwrap_err();
        assert!(matches!(error, CanonicalError::Unreadable { source: MimeError::TooDeep, .. }), "{error}");
    }

    #[test]
    fn parts_beyond_the_limit_are_kept_if_safe() {
        let many = |text: &str| {
            let part = format!(
                "--a\nContent-Type: multipart/mixed; boundary=c\n\n{}--c--\n",
                "--c\n\nx\n".repeat(400)
            );
            format!("Content-Type: multipart/mixed; boundary=a\n\n{}--a\n\n{text}\n--a--\n", part.repeat(3))
        };
        assert!(canonical(&many("x")).is_ok());
        let error = canonical(&many("\u{fc}")).unwrap_err();
        assert!(
            matches!(error, CanonicalError::Unreadable { source: MimeError::TooManyParts, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_signed_part_is_digested_as_it_came() {
        let signed = Canonical::from_signed_part(b"A: b \r\n\r\nFrom x \xfc\n");
        assert_eq!(signed.octets(), b"A: b \r\n\r\nFrom x \xfc\r\n");
        assert_eq!(
            signed.digest(DigestAlgorithm::Sha256),
            Digest::of(DigestAlgorithm::Sha256, b"A: b \r\n\r\nFrom x \xfc\r\n")
        );
    }
}
