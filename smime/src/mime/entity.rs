//! A MIME entity as a view of its octets: header, empty line, body (RFC 2045 2.4).

use std::borrow::Cow;

use super::{
    ContentType, Header, Message, MimeError, Multipart, base64::decode_base64,
    codec::decode_quoted_printable, content_type, message::EMPTY_LINE, split,
};

/// How deep entities may be nested.
pub const MAX_DEPTH: usize = 10;

/// A view of the octets of a message, of one of its parts, or of a message inside it.
#[derive(Clone, Copy, Debug)]
pub struct MimeEntity<'a> {
    octets: &'a [u8],
    /// Where the empty line begins.
    header_end: usize,
    /// Where the body begins.
    body: usize,
    depth: usize,
    in_digest: bool,
}

/// The encoding of a body for transport (RFC 2045 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferEncoding {
    /// Short lines of 7-bit octets, as they are.
    SevenBit,
    /// Short lines, as they are.
    EightBit,
    /// Any octets, as they are.
    Binary,
    /// Quoted-printable.
    QuotedPrintable,
    /// Base64.
    Base64,
}

impl TransferEncoding {
    /// Whether the octets are there as they are.
    pub fn is_identity(self) -> bool {
        matches!(self, Self::SevenBit | Self::EightBit | Self::Binary)
    }

    /// The octets that `encoded` stands for.
    pub fn decode(self, encoded: &[u8]) -> Result<Cow<'_, [u8]>, MimeError> {
        Ok(match self {
            Self::SevenBit | Self::EightBit | Self::Binary => Cow::Borrowed(encoded),
            Self::QuotedPrintable => Cow::Owned(decode_quoted_printable(encoded)),
            Self::Base64 => Cow::Owned(decode_base64(encoded)?),
        })
    }

    /// The name in the header field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SevenBit => "7bit",
            Self::EightBit => "8bit",
            Self::Binary => "binary",
            Self::QuotedPrintable => "quoted-printable",
            Self::Base64 => "base64",
        }
    }
}

impl<'a> MimeEntity<'a> {
    /// Takes octets with CRLF line ends for an entity. Octets that begin with an empty line have no
    /// header fields; octets without an empty line have no body.
    pub fn parse(octets: &'a [u8]) -> Self {
        Self::at_depth(octets, 0, false)
    }

    fn at_depth(octets: &'a [u8], depth: usize, in_digest: bool) -> Self {
        let (header_end, body) = if octets.starts_with(b"\r\n") {
            (0, 2)
        } else {
            EMPTY_LINE.find(octets).map_or((octets.len(), octets.len()), |at| (at + 2, at + 4))
        };
        Self { octets, header_end, body, depth, in_digest }
    }

    /// The header fields.
    pub fn header(&self) -> Header<'a> {
        Header::parse(self.header_octets())
    }

    /// The octets of the header fields, without the empty line.
    pub fn header_octets(&self) -> &'a [u8] {
        self.octets.get(..self.header_end).unwrap_or_default()
    }

    /// What follows the empty line.
    pub fn body(&self) -> &'a [u8] {
        self.octets.get(self.body..).unwrap_or_default()
    }

    /// Header, empty line and body.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// Whether there is an empty line between header and body.
    pub fn has_empty_line(&self) -> bool {
        self.body > self.header_end
    }

    /// The media type with its parameters. Without the field that is text/plain in us-ascii (RFC 2045
    /// 5.2), or message/rfc822 in a multipart/digest (RFC 2046 5.1.5).
    pub fn content_type(&self) -> Result<ContentType, MimeError> {
        let header = self.header();
        match single(&header, "Content-Type")? {
            Some(value) => ContentType::parse(value),
            None if self.in_digest => Ok(ContentType::new("message/rfc822", &[])),
            None => Ok(ContentType::new("text/plain", &[("charset", "us-ascii")])),
        }
    }

    /// How the body is encoded. Without the field that is [`TransferEncoding::SevenBit`] (RFC 2045 6.1).
    /// Some programs write the field twice; if it says the same, it is no matter which of them is read.
    pub fn transfer_encoding(&self) -> Result<TransferEncoding, MimeError> {
        const NAME: &str = "Content-Transfer-Encoding";
        let header = self.header();
        let mut names = header.all(NAME).map(|field| content_type::lone_token(NAME, field.value()));
        let Some(name) = names.next().transpose()? else {
            return Ok(TransferEncoding::SevenBit);
        };
        for other in names {
            if !other?.eq_ignore_ascii_case(&name) {
                return Err(MimeError::Ambiguous { what: NAME.to_owned() });
            }
        }
        match name.to_ascii_lowercase().as_str() {
            "7bit" => Ok(TransferEncoding::SevenBit),
            "8bit" => Ok(TransferEncoding::EightBit),
            "binary" => Ok(TransferEncoding::Binary),
            "quoted-printable" => Ok(TransferEncoding::QuotedPrintable),
            "base64" => Ok(TransferEncoding::Base64),
            _ => Err(MimeError::UnknownTransferEncoding { name }),
        }
    }

    /// The body without its transfer encoding.
    pub fn decoded_body(&self) -> Result<Cow<'a, [u8]>, MimeError> {
        self.transfer_encoding()?.decode(self.body())
    }

    /// The body of a multipart, cut at its boundary.
    pub fn multipart(&self) -> Result<Multipart<'a>, MimeError> {
        self.multipart_of(&self.content_type()?)
    }

    /// The same, where its type is known.
    pub(crate) fn multipart_of(&self, content_type: &ContentType) -> Result<Multipart<'a>, MimeError> {
        let media = || content_type.media().to_owned();
        if !content_type.is_multipart() {
            return Err(MimeError::NotMultipart { media: media() });
        }
        if !self.transfer_encoding()?.is_identity() {
            return Err(MimeError::EncodedMultipart { media: media() });
        }
        let boundary = content_type
            .parameter("boundary")
            .filter(|boundary| is_usable(boundary))
            .ok_or_else(|| MimeError::NoBoundary { media: media() })?;
        if self.depth >= MAX_DEPTH {
            return Err(MimeError::TooDeep);
        }
        let multipart = split(self.body(), boundary);
        if multipart.overflow {
            return Err(MimeError::TooManyParts);
        }
        Ok(multipart)
    }

    /// The parts of a multipart, by whole delimiter lines.
    pub fn parts(&self) -> Result<Vec<MimeEntity<'a>>, MimeError> {
        self.parts_of(&self.content_type()?)
    }

    /// The same, where its type is known.
    pub fn parts_of(&self, content_type: &ContentType) -> Result<Vec<MimeEntity<'a>>, MimeError> {
        let cut = self.multipart_of(content_type)?;
        Ok(self.entities_of(&cut, content_type.is("multipart/digest")))
    }

    /// The name of the file that this is said to be: `filename` of Content-Disposition (RFC 2183), else
    /// `name` of Content-Type. A hint and nothing more; what cannot be read gives none.
    pub fn file_name(&self) -> Option<String> {
        let header = self.header();
        let disposition = single(&header, "Content-Disposition").ok().flatten();
        let parameters = disposition.and_then(|value| content_type::disposition(value).ok());
        if let Some(name) =
            parameters.and_then(|(_, p)| content_type::parameter(&p, "filename").map(str::to_owned))
        {
            return Some(name);
        }
        self.content_type().ok()?.parameter("name").map(str::to_owned)
    }

    /// The pieces that [`MimeEntity::multipart`] found, as entities.
    pub(super) fn entities(&self, cut: &Multipart<'a>) -> Vec<MimeEntity<'a>> {
        self.entities_of(
            cut,
            self.content_type().is_ok_and(|content_type| content_type.is("multipart/digest")),
        )
    }

    fn entities_of(&self, cut: &Multipart<'a>, in_digest: bool) -> Vec<MimeEntity<'a>> {
        cut.parts.iter().map(|part| Self::at_depth(part, self.depth + 1, in_digest)).collect()
    }

    /// The body of a message/rfc822 as an entity.
    pub fn embedded(&self) -> Result<Self, MimeError> {
        if self.depth >= MAX_DEPTH {
            return Err(MimeError::TooDeep);
        }
        Ok(Self::at_depth(self.body(), self.depth + 1, false))
    }
}

impl Message {
    /// The message as an entity: the root.
    pub fn entity(&self) -> MimeEntity<'_> {
        MimeEntity::parse(self.octets())
    }
}

/// The value of a field that may be there once.
fn single<'a>(header: &Header<'a>, name: &str) -> Result<Option<&'a [u8]>, MimeError> {
    let mut fields = header.all(name);
    let first = fields.next().map(|field| field.value());
    if fields.next().is_some() {
        return Err(MimeError::Ambiguous { what: name.to_owned() });
    }
    Ok(first)
}

/// Whether a boundary can stand in a line of its own. RFC 2046 5.1.1 allows 70 characters of a smaller
/// set; more than that is met and does no harm.
fn is_usable(boundary: &str) -> bool {
    (1..=250).contains(&boundary.len())
        && boundary.bytes().all(|octet| matches!(octet, b' '..=b'~'))
        && !boundary.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_body_are_views_of_the_octets() {
        for (octets, header, body, has_empty_line) in [
            ("A: 1\r\n\r\nx\r\n\r\ny", "A: 1\r\n", "x\r\n\r\ny", true),
            ("\r\nonly a body", "", "only a body", true),
            ("A: 1\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n", "", false),
            ("A: 1\r\n\r\n", "A: 1\r\n", "", true),
            ("\r\n", "", "", true),
            ("", "", "", false),
        ] {
            let entity = MimeEntity::parse(octets.as_bytes());
            assert_eq!(
                (entity.header_octets(), entity.body(), entity.has_empty_line()),
                (header.as_bytes(), body.as_bytes(), has_empty_line),
                "{octets:?}"
            );
        }
    }

    #[test]
    fn message_and_entity_agree_where_the_body_begins() {
        for stored in ["A: 1\n\nx\n", "\nx", "A: 1", "", "\n", "A: 1\n\n\n"] {
            let message = Message::from_stored(stored.as_bytes());
            let entity = message.entity();
            assert_eq!(
                (entity.header_octets(), entity.body()),
                (message.header(), message.body()),
                "{stored:?}"
            );
        }
    }

    #[test]
    fn defaults_are_plain_text_in_seven_bits() {
        let entity = MimeEntity::parse(b"Subject: x\r\n\r\ny\r\n");
        let content_type = entity.content_type().unwrap();
        assert!(content_type.is("text/plain"));
        assert_eq!(content_type.parameter("charset"), Some("us-ascii"));
        assert_eq!(entity.transfer_encoding(), Ok(TransferEncoding::SevenBit));
        assert_eq!(entity.parts().unwrap_err(), MimeError::NotMultipart { media: "text/plain".into() });
    }

    #[test]
    fn a_field_that_is_there_twice_is_ambiguous() {
        let entity = MimeEntity::parse(
            b"Content-Type: text/plain\r\ncontent-type: text/html\r\nContent-Transfer-Encoding: 7bit\r\n\
              Content-Transfer-Encoding: 8bit\r\n\r\n",
        );
        assert_eq!(entity.content_type(), Err(MimeError::Ambiguous { what: "Content-Type".into() }));
        assert_eq!(
            entity.transfer_encoding(),
            Err(MimeError::Ambiguous { what: "Content-Transfer-Encoding".into() })
        );
    }

    #[test]
    fn an_encoding_that_is_there_twice_is_read_if_both_are_the_same() {
        for (other, expected) in [
            ("(c) 8BIT", Ok(TransferEncoding::EightBit)),
            ("7bit", Err(MimeError::Ambiguous { what: "Content-Transfer-Encoding".into() })),
        ] {
            let octets =
                format!("Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: {other}\r\n\r\n");
            assert_eq!(MimeEntity::parse(octets.as_bytes()).transfer_encoding(), expected, "{other}");
        }
    }

    #[test]
    fn transfer_encodings_are_read_in_any_case_with_comments() {
        for (value, expected) in [
            ("BASE64", Ok(TransferEncoding::Base64)),
            ("(c) 8Bit (d)", Ok(TransferEncoding::EightBit)),
            ("quoted-printable", Ok(TransferEncoding::QuotedPrintable)),
            ("x-uuencode", Err(MimeError::UnknownTransferEncoding { name: "x-uuencode".into() })),
        ] {
            let octets = format!("Content-Transfer-Encoding: {value}\r\n\r\nx");
            assert_eq!(MimeEntity::parse(octets.as_bytes()).transfer_encoding(), expected, "{value}");
        }
        let twice = MimeEntity::parse(b"Content-Transfer-Encoding: 7bit 8bit\r\n\r\n");
        assert!(matches!(twice.transfer_encoding(), Err(MimeError::Malformed { .. })));
    }

    #[test]
    fn parts_of_a_digest_are_messages_by_default() {
        let entity = MimeEntity::parse(
            b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\ny\r\n--b--\r\n",
        );
        let parts = entity.parts().unwrap();
        assert!(parts[0].content_type().unwrap().is("message/rfc822"));
        assert_eq!(parts[0].embedded().unwrap().header_octets(), b"Subject: x\r\n");
    }

    #[test]
    fn the_file_name_of_the_disposition_comes_first() {
        for (header, name) in [
            (
                "Content-Disposition: attachment; filename*=utf-8''a%20b\r\nContent-Type: a/b; name=c",
                Some("a b"),
            ),
            ("Content-Disposition: inline\r\nContent-Type: a/b; name=c", Some("c")),
            ("Content-Disposition: inline; filename=\r\nContent-Type: a/b; name=\"c\"", Some("c")),
            ("Content-Type: a/b; name=c; name=d", None),
            ("Subject: x", None),
        ] {
            let octets = format!("{header}\r\n\r\n");
            assert_eq!(MimeEntity::parse(octets.as_bytes()).file_name().as_deref(), name, "{header}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let mut octets = b"\r\nleaf".to_vec();
        for level in 0..=MAX_DEPTH {
            let inner = std::mem::take(&mut octets);
            octets = format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n")
                .into_bytes();
            octets.extend(inner);
            octets.extend(format!("\r\n--b{level}--\r\n").into_bytes());
        }
        let mut entity = MimeEntity::parse(&octets);
        for _ in 0..MAX_DEPTH {
            entity = entity.parts().unwrap()[0];
        }
        assert_eq!(entity.parts().unwrap_err(), MimeError::TooDeep);
    }

    #[test]
    fn multiparts_without_a_usable_boundary_have_no_parts() {
        for (parameters, encoding) in [
            ("", "7bit"),
            ("; boundary=\"\"", "7bit"),
            ("; boundary=\"b \"", "7bit"),
            ("; boundary=\"\u{fc}\"", "7bit"),
            ("; boundary=b; boundary=c", "7bit"),
            ("; boundary=b", "base64"),
            ("; boundary=b", "x-unknown"),
        ] {
            let octets = format!(
                "Content-Type: multipart/mixed{parameters}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n--b--"
            );
            assert!(MimeEntity::parse(octets.as_bytes()).parts().is_err(), "{parameters} {encoding}");
        }
    }
}
