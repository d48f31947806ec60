//! S/MIME recognised by the media types of RFC 8551 section 3.2 and their older spellings.

use std::borrow::Cow;

use crate::{
    NoRoom, Room,
    cms::{CmsError, Object},
    mime::{
        ContentType, HeaderField, MimeEntity, MimeError, TransferEncoding, count_bare_lfs, has_bare_lf,
        has_bare_line_end, has_blank_line, has_line_without_name, has_long_line, with_crlf,
    },
};

/// What an entity turns out to be. Only the entity itself is looked at, never what is inside a
/// `multipart/mixed` beside other parts: text there is not covered by a signature, and a ciphertext
/// there must not be decrypted next to an attacker's parts.
#[derive(Debug)]
pub enum Wrapped<'a> {
    /// `multipart/signed` with a CMS signature.
    Clear {
        /// The signed part.
        content: MimeEntity<'a>,
        /// The decoded signature.
        object: Vec<u8>,
    },
    /// `application/pkcs7-mime`: the decoded CMS object.
    Opaque(Vec<u8>),
}

/// A `multipart/signed` whose signature was taken apart, for all who look at it.
#[derive(Debug)]
pub struct Signature<'o, 'a> {
    pub(super) content: MimeEntity<'a>,
    pub(super) object: Result<Object<'o>, CmsError>,
    /// What is left of the message's.
    pub(super) room: Room,
}

impl<'o, 'a> Signature<'o, 'a> {
    /// Takes the object of a [`Wrapped::Clear`] apart, in the room that is left after that was read.
    pub fn parse(content: MimeEntity<'a>, object: &'o [u8], room: Room) -> Self {
        Self { content, object: Object::parse_within(object, room), room }
    }

    /// The object; an error where it cannot be read, or needs more than there is room for.
    pub fn object(&self) -> Result<&Object<'o>, &CmsError> {
        self.object.as_ref()
    }
}

/// S/MIME whose outer form is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrappedError {
    /// Not the two parts of RFC 1847.
    #[error("multipart/signed has {0} parts and not 2")]
    Parts(usize),
    /// The closing delimiter is missing, or the parts depend on how delimiters are read, or on what an MTA makes of what
    /// is around them.
    #[error("the parts of multipart/signed are not clearly delimited")]
    Delimiters,
    /// The second part is no CMS signature.
    #[error("the second part of multipart/signed is {0} and no CMS signature")]
    NoSignature(String),
    /// A header with a bare CR or LF, with a line of blanks, or with one that is no field: some programs see other fields
    /// there, or the end of the header, and show what stands behind it.
    #[error("the header can be read in more ways than one")]
    Header,
    /// A part cannot be decoded.
    #[error(transparent)]
    Mime(#[from] MimeError),
    /// A part is not decoded.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

impl<'a> Wrapped<'a> {
    /// Recognises S/MIME. `None` for everything else, PGP included. Where all readers do not see the same header, it is an
    /// error.
    pub fn read(entity: &MimeEntity<'a>) -> Result<Option<Self>, WrappedError> {
        Self::read_within(entity, &mut Room::of(entity.octets().len()))
    }

    /// Like [`Self::read`], in the room that is left of the message that the entity was found in; the decoded object takes
    /// its own from it.
    pub fn read_within(entity: &MimeEntity<'a>, room: &mut Room) -> Result<Option<Self>, WrappedError> {
        let Ok(content_type) = entity.content_type() else {
            // What the type is depends on who reads it; it is no S/MIME for us.
            return Ok(None);
        };
        Self::read_typed(entity, &content_type, room)
    }

    /// Like [`Self::read_within`], of an entity whose type is known.
    pub fn read_typed(
        entity: &MimeEntity<'a>,
        content_type: &ContentType,
        room: &mut Room,
    ) -> Result<Option<Self>, WrappedError> {
        if content_type.is("multipart/signed") {
            return Self::read_clear(entity, content_type, room);
        }
        if is_opaque(entity, content_type) {
            check_header(entity)?;
            return Ok(Some(Self::Opaque(decoded(entity, room)?)));
        }
        Ok(None)
    }

    /// Whether an entity with this header is a CMS object in base64. What its lines end in is no matter then.
    pub fn is_object_in_base64(header: &MimeEntity<'_>) -> bool {
        header.content_type().is_ok_and(|content_type| is_opaque(header, &content_type))
            && check_header(header).is_ok()
            && header.transfer_encoding() == Ok(TransferEncoding::Base64)
    }

    /// Whether an entity says that it is S/MIME; its body is not looked at.
    pub(super) fn is_claimed(entity: &MimeEntity<'_>) -> bool {
        entity
            .content_type()
            .is_ok_and(|content_type| content_type.is("multipart/signed") || is_opaque(entity, &content_type))
    }

    fn read_clear(
        entity: &MimeEntity<'a>,
        content_type: &ContentType,
        room: &mut Room,
    ) -> Result<Option<Self>, WrappedError> {
        if content_type.parameter("protocol").is_some_and(|protocol| !is_signature_type(protocol)) {
            return Ok(None);
        }
        check_header(entity)?;
        let multipart = entity.multipart_of(content_type)?;
        // Mail programs that read the boundary otherwise, or look for parts elsewhere, would show a part
        // that is not the signed one.
        let is_plain = entity
            .header()
            .all("Content-Type")
            .all(|field| is_plain(field.value()) && has_few_parameters(field.value()));
        let around = [multipart.preamble, multipart.epilogue];
        let is_clear = is_plain && content_type.parameter("boundary").is_some_and(is_clear_boundary);
        let is_kept = !around.into_iter().any(|octets| has_delimiter_like_line(octets) || is_changed(octets));
        if !is_clear || !is_kept {
            return Err(WrappedError::Delimiters);
        }
        let [content, signature] = multipart.parts.as_slice() else {
            return Err(WrappedError::Parts(multipart.parts.len()));
        };
        if multipart.ambiguous || !multipart.closed {
            return Err(WrappedError::Delimiters);
        }
        let signature = MimeEntity::parse(signature);
        check_header(&signature)?;
        let media = signature.content_type()?;
        let by_name = media.is("application/octet-stream") && has_name(&signature, &[".p7s"]);
        if !is_signature_type(media.media()) && !by_name {
            return Err(WrappedError::NoSignature(media.media().chars().take(100).collect()));
        }
        let object = decoded(&signature, room)?;
        let content = MimeEntity::parse(content);
        if has_bare_lf(content.header_octets()) {
            // As a CRLF, which it is when the signature is checked, it may end the header elsewhere.
            return Err(WrappedError::Header);
        }
        Ok(Some(Self::Clear { content, object }))
    }
}

/// A body without its transfer encoding.
fn decoded(entity: &MimeEntity<'_>, room: &mut Room) -> Result<Vec<u8>, WrappedError> {
    let body = entity.body().len();
    // While it is made it may take as much as what it is made of.
    let mut meanwhile = *room;
    meanwhile.take(body)?;
    let object = entity.decoded_body()?.into_owned();
    room.take(object.len())?;
    Ok(object)
}

/// The octets that a `multipart/signed` signs: with CRLF for every bare LF, unless the part is labelled as binary, whose
/// octets are what they are (RFC 8551 3.1.1). Without a copy where that is the same.
pub(crate) fn signed_octets<'a>(content: &MimeEntity<'a>, room: &mut Room) -> Result<Cow<'a, [u8]>, NoRoom> {
    if content.transfer_encoding() == Ok(TransferEncoding::Binary) {
        return Ok(Cow::Borrowed(content.octets()));
    }
    if !has_bare_lf(content.octets()) {
        return Ok(Cow::Borrowed(content.octets()));
    }
    room.take(content.octets().len() + count_bare_lfs(content.octets()))?;
    Ok(Cow::Owned(with_crlf(content.octets())))
}

fn check_header(entity: &MimeEntity<'_>) -> Result<(), WrappedError> {
    let header = entity.header();
    let says_what_it_is = |field: &HeaderField<'_>| SAY_WHAT_IT_IS.iter().any(|name| field.is(name));
    let is_cut = |field: &HeaderField<'_>| has_long_line(field.octets()) || may_be_cut(field.value());
    let is_broken = header.fields().any(|field| says_what_it_is(&field) && is_cut(&field));
    let octets = entity.header_octets();
    if is_broken || has_bare_line_end(octets) || has_line_without_name(&header) || has_blank_line(octets) {
        return Err(WrappedError::Header);
    }
    Ok(())
}

/// The fields of which Sendmail writes no more than `MaxMimeHeaderLength`.
const SAY_WHAT_IT_IS: [&str; 5] =
    ["Content-Type", "Content-Transfer-Encoding", "MIME-Version", "Content-Disposition", "Content-ID"];

/// Whether Sendmail may write less of such a field than there is (`fix_mime_header` and `shorten_rfc822_string` in 8.17): of
/// a parameter 1023 octets and of the field 2047, what is not ASCII counted twice. A boundary behind them would be lost.
fn may_be_cut(value: &[u8]) -> bool {
    value.len() + value.iter().filter(|octet| !octet.is_ascii()).count() > 900
}

/// Whether an MTA may make other lines of what is around parts. Sendmail takes the eighth bit off, which makes a hyphen of
/// 0xAD, and looks for delimiters also where 2047 octets of a line end (`mime8to7` in 8.17); others drop NULs.
fn is_changed(octets: &[u8]) -> bool {
    let length = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).len();
    let has_long_line = octets.split(|octet| *octet == b'\n').any(|line| length(line) > 900);
    !octets.is_ascii() || octets.contains(&0) || has_long_line
}

/// Whether Sendmail finds all parameters of a Content-Type: it reads twenty (`MAXMIMEARGS`).
fn has_few_parameters(value: &[u8]) -> bool {
    memchr::memchr_iter(b';', value).count() <= 20
}

/// Whether a Content-Type can be read in one way only: without comments, quoted pairs and RFC 2231's
/// asterisks, which some programs know and others take for text, and without folds in quoted strings, of which readers make
/// one blank or several.
fn is_plain(value: &[u8]) -> bool {
    let mut quoted = false;
    value.iter().all(|octet| match octet {
        b'"' => {
            quoted = !quoted;
            true
        }
        b'(' | b'*' => quoted,
        b'\r' | b'\n' => !quoted,
        b'\\' => false,
        _ => true,
    })
}

/// Whether all agents take a boundary for the same one: of RFC 2046's characters (5.1.1), as long as those say, and without
/// what some trim or decode.
fn is_clear_boundary(boundary: &str) -> bool {
    let is_known = |octet: u8| octet.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&octet);
    (1..=70).contains(&boundary.len())
        && boundary.bytes().all(is_known)
        && boundary.trim() == boundary
        && !boundary.contains("=?")
}

/// Whether a line begins like a delimiter.
fn has_delimiter_like_line(octets: &[u8]) -> bool {
    octets.split(|octet| matches!(octet, b'\r' | b'\n')).any(|line| line.starts_with(b"--"))
}

fn is_signature_type(media: &str) -> bool {
    ["application/pkcs7-signature", "application/x-pkcs7-signature"]
        .iter()
        .any(|known| media.eq_ignore_ascii_case(known))
}

fn is_pkcs7_mime(content_type: &ContentType) -> bool {
    content_type.is("application/pkcs7-mime") || content_type.is("application/x-pkcs7-mime")
}

fn is_opaque(entity: &MimeEntity<'_>, content_type: &ContentType) -> bool {
    // Some gateways keep only the file name (RFC 8551 section 3.2.1).
    is_pkcs7_mime(content_type)
        || (content_type.is("application/octet-stream") && has_name(entity, &[".p7m", ".p7c", ".p7z"]))
}

fn has_name(entity: &MimeEntity<'_>, extensions: &[&str]) -> bool {
    entity.file_name().is_some_and(|name| {
        let name = name.trim().to_ascii_lowercase();
        extensions.iter().any(|extension| name.ends_with(extension))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_mta_or_a_reader_changes_of_the_type_is_not_clear() {
        let parameters =
            |count: usize| (0..count).map(|at| format!("x{at}=y; ")).collect::<Vec<_>>().concat();
        for (parameters, is_clear) in [
            ("boundary=\"a b\"".to_owned(), true),
            ("x=\"y\";\r\n boundary=\"a b\"".to_owned(), true),
            ("boundary=\"a\r\n b\"".to_owned(), false),
            (format!("x=\"{}\";\r\n boundary=\"a b\"", "A".repeat(850)), true),
            // Postfix puts a fold behind octet 998, within the boundary if it is there; Sendmail leaves out what is too
            // much in all lines.
            (format!("x=\"{}\"; boundary=\"a b\"", "A".repeat(950)), false),
            (format!("x=\"{}\";\r\n boundary=\"a b\"", "A".repeat(870)), false),
            (format!("x=\"{}\";\r\n boundary=\"a b\"", "\u{fc}".repeat(212)), true),
            (format!("x=\"{}\";\r\n boundary=\"a b\"", "\u{fc}".repeat(220)), false),
            // And reads twenty parameters.
            (format!("{}boundary=\"a b\"", parameters(19)), true),
            (format!("{}boundary=\"a b\"", parameters(20)), false),
        ] {
            let text = format!(
                "Content-Type: multipart/signed; {parameters}\r\n\r\n--a b\r\n\r\nx\r\n--a b\r\n\
                 Content-Type: application/pkcs7-signature\r\n\r\ny\r\n--a b--\r\n"
            );
            let entity = MimeEntity::parse(text.as_bytes());
            let read = Wrapped::read(&entity);
            let is_unclear = matches!(read, Err(WrappedError::Header | WrappedError::Delimiters));
            assert_eq!(!is_unclear, is_clear, "{parameters}: {read:?}");
        }
    }

    #[test]
    fn what_an_mta_changes_around_the_parts_or_in_the_header_of_the_signature_is_not_clear() {
        let long = |length: usize| format!("{}\r\n", "A".repeat(length));
        let name = |length: usize| format!("{}: x\r\nDear: Bob\r\n", "a".repeat(length));
        for (around, field, is_clear) in [
            (&b"This is a signed message.\r\n"[..], "X: y\r\n", true),
            // Sendmail makes hyphens of 0xAD, line ends of 0x8D and 0x8A, and a NUL of 0x80.
            (b"\xad\xadb\r\n", "", false),
            (b"x\x8d\x8a--b\r\n", "", false),
            (b"\x80--b\r\n", "", false),
            (b"\xae\r\n", "", false),
            (b"\0--b\r\n", "", false),
            (long(900).as_bytes(), "", true),
            (long(901).as_bytes(), "", false),
            (format!("{}--b\r\n", "A".repeat(2047)).as_bytes(), "", false),
            (b"", &name(100), true),
            (b"", &name(101), false),
            (b"", "--x: y\r\n", false),
            (b"", "Text: y\r\n", false),
            (b"", &format!("Content-ID: {}\r\n", "x ".repeat(400)), true),
            (b"", &format!("Content-ID: {}\r\n", "x ".repeat(460)), false),
        ] {
            let header = "Content-Type: multipart/signed; boundary=b\r\n\r\n";
            let parts = format!(
                "--b\r\n\r\nx\r\n--b\r\n{field}Content-Type: application/pkcs7-signature\r\n\r\ny\r\n--b--\r\n"
            );
            for octets in [
                [header.as_bytes(), around, parts.as_bytes()].concat(),
                [header.as_bytes(), parts.as_bytes(), around].concat(),
            ] {
                let entity = MimeEntity::parse(&octets);
                let read = Wrapped::read(&entity);
                let is_unclear = matches!(read, Err(WrappedError::Header | WrappedError::Delimiters));
                let shown = String::from_utf8_lossy(&octets);
                assert_eq!(!is_unclear, is_clear, "{shown}: {read:?}");
            }
        }
    }

    #[test]
    fn a_signed_part_is_copied_only_for_bare_lfs_and_only_where_there_is_room() {
        for (part, made) in [
            ("X: y\r\n\r\na\nb\nc\n", Some("X: y\r\n\r\na\r\nb\r\nc\r\n")),
            ("X: y\r\n\r\na\r\nb\r\n", None),
            ("Content-Transfer-Encoding: binary\r\n\r\na\nb\n", None),
        ] {
            let content = MimeEntity::parse(part.as_bytes());
            let needed = made.map_or(0, str::len);
            let within = |left: usize| {
                let mut room = Room::of(0).without(Room::of(0).left() - left);
                signed_octets(&content, &mut room).map(|octets| (octets, room.left()))
            };
            assert_eq!(within(needed), Ok((Cow::Borrowed(made.unwrap_or(part).as_bytes()), 0)));
            assert!(needed == 0 || within(needed - 1).is_err(), "{part}");
        }
    }
}
