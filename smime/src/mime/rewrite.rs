//! Rewrites an entity so that it survives transport, part by part (RFC 8551 3.1, 3.1.2, 3.1.3).
//!
//! What need not change is copied octet by octet. What must change and cannot without a guess about how
//! others read it is an error.

use std::borrow::Cow;

use super::{
    CanonicalError, ContentType, HeaderField, MAX_PARTS, MimeEntity, MimeError, TransferEncoding,
    base64::{base64_len, encode_base64_into},
    codec::{encode_quoted_printable_into, quoted_printable_len},
    field::{retyped, safe_field},
    hazard::{hazard_of_fixed, hazards},
    message::crlf,
    split,
};

/// Where an entity stands, and so which of its fields count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The message itself: only its `Content-*` fields are signed.
    Root,
    /// A part of a multipart.
    Part,
    /// The message in a message/rfc822: all fields stay as they are.
    Embedded,
}

/// What is written in place of a field, or in addition if there is none.
#[derive(Default)]
struct Changes {
    encoding: Option<TransferEncoding>,
    content_type: Option<Vec<u8>>,
}

impl Changes {
    /// An agent that converts 8-bit parts goes by the label.
    fn relabelled(encoding: TransferEncoding) -> Self {
        let is_wrong = matches!(encoding, TransferEncoding::EightBit | TransferEncoding::Binary);
        Self { encoding: is_wrong.then_some(TransferEncoding::SevenBit), content_type: None }
    }

    fn is_empty(&self) -> bool {
        self.encoding.is_none() && self.content_type.is_none()
    }
}

/// Why an entity is kept as it is or not taken at all.
enum Untouchable {
    Signed,
    Unreadable(MimeError),
}

/// What comes behind the entity, in the same buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// A signature, at most.
    Signature,
    /// All of it becomes base64, in a CMS object.
    Object,
}

impl Room {
    /// What to reserve for an entity of this length.
    fn around(self, len: usize) -> usize {
        let signed = len + SIGNATURE_ROOM;
        match self {
            Self::Signature => signed,
            Self::Object => base64_len(signed + OBJECT_ROOM),
        }
    }
}

/// About what a signature takes, in base64, with two certificates and long keys.
const SIGNATURE_ROOM: usize = 8 << 10;

/// What an object takes beside its content, with a signature in it or some tens of recipients. More costs a copy.
const OBJECT_ROOM: usize = 16 << 10;

pub(super) struct Rewriter {
    out: Vec<u8>,
    room: Room,
    /// Octets of the message that are not written yet, about.
    rest: usize,
    path: Vec<usize>,
    seen: usize,
}

impl Rewriter {
    /// So many zeros, and the octets of `message` as they can be signed.
    pub(super) fn rewrite(
        message: &MimeEntity<'_>,
        lead: usize,
        room: Room,
    ) -> Result<Vec<u8>, CanonicalError> {
        // Most mail stays as it is, but for a word here and there; then a signature comes behind it.
        let rest = message.octets().len();
        let mut out = Vec::with_capacity(room.around(lead + rest + rest / 64));
        out.resize(lead, 0);
        let mut rewriter = Self { out, room, rest, path: Vec::new(), seen: 0 };
        rewriter.entity(message, Role::Root)?;
        let mut out = rewriter.out;
        let enough = room.around(out.len());
        if room == Room::Signature && out.capacity() > enough + enough / 16 {
            // More was expected to be encoded than was.
            out.shrink_to(enough);
        }
        Ok(out)
    }

    /// Appends octets.
    fn put(&mut self, octets: &[u8]) {
        self.reserve(octets.len());
        self.out.extend_from_slice(octets);
    }

    /// Makes room for so many octets, and for all that may follow: buffers are as long as messages, so none is doubled
    /// for being a little short.
    fn reserve(&mut self, more: usize) {
        let len = self.out.len() + more;
        if self.room.around(len) <= self.out.capacity() {
            return;
        }
        let longest = len + base64_len(self.rest).max(len / 32);
        // Of the old buffer only what is written has to be there beside the new one.
        self.out.shrink_to_fit();
        self.out.reserve_exact(self.room.around(longest) - self.out.len());
    }

    /// Counts an entity without parts as written.
    fn take(&mut self, entity: &MimeEntity<'_>) {
        self.rest = self.rest.saturating_sub(entity.octets().len());
    }

    fn entity(&mut self, entity: &MimeEntity<'_>, role: Role) -> Result<(), CanonicalError> {
        self.seen += 1;
        if self.seen > MAX_PARTS {
            return self.keep(entity, role, Untouchable::Unreadable(MimeError::TooManyParts));
        }
        if role == Role::Part && has_line_without_name(entity) {
            return self.keep(entity, role, Untouchable::Unreadable(MimeError::HeaderLine));
        }
        let content_type = match entity.content_type() {
            Ok(content_type) => content_type,
            // Whatever it is, base64 around the same octets does not change it, unless it has parts.
            Err(error) if may_have_parts(entity) => {
                return self.keep(entity, role, Untouchable::Unreadable(error));
            }
            Err(_) => return self.leaf(entity, role, None),
        };
        match content_type.media() {
            "multipart/signed" | "multipart/encrypted" => self.keep(entity, role, Untouchable::Signed),
            "message/rfc822" => self.message(entity, role, &content_type),
            // RFC 6532 3.7 and RFC 6533 allow any encoding for these.
            media if media.starts_with("message/global") => self.leaf(entity, role, Some(&content_type)),
            media if media.starts_with("message/") => self.unencodable(entity, role, media),
            _ if content_type.is_multipart() => self.multipart(entity, role),
            _ => self.leaf(entity, role, Some(&content_type)),
        }
    }

    /// RFC 2046 5.1. Preamble and epilogue go: agents drop them, and some call a signature over them
    /// broken.
    fn multipart(&mut self, entity: &MimeEntity<'_>, role: Role) -> Result<(), CanonicalError> {
        let cut = match entity.multipart() {
            Ok(cut) if cut.ambiguous => Err(MimeError::AmbiguousBoundary),
            Ok(cut) if cut.parts.is_empty() => Err(MimeError::NoParts),
            other => other,
        };
        let content = cut.and_then(|cut| Ok((cut, entity.content_type()?, entity.transfer_encoding()?)));
        let (cut, content_type, encoding) = match content {
            Ok(content) => content,
            Err(error) => return self.keep(entity, role, Untouchable::Unreadable(error)),
        };
        self.header(entity, role, &Changes::relabelled(encoding))?;
        let body = self.out.len();
        let boundary = content_type.parameter("boundary").unwrap_or_default();
        let mut written = Vec::with_capacity(cut.parts.len());
        for (index, part) in entity.entities(&cut).iter().enumerate() {
            self.put(format!("--{boundary}\r\n").as_bytes());
            let start = self.out.len();
            self.path.push(index + 1);
            self.entity(part, Role::Part)?;
            self.path.pop();
            written.push(start..self.out.len());
            self.put(b"\r\n");
        }
        self.put(format!("--{boundary}--\r\n").as_bytes());
        let again = split(self.out.get(body..).unwrap_or_default(), boundary);
        let parts = written.into_iter().map(|range| self.out.get(range).unwrap_or_default());
        let same = again.preamble.is_empty() && again.epilogue.is_empty() && again.closed;
        // The same octets in the same place: they need not be compared one by one.
        let is_same = |(again, part): (&&[u8], &[u8])| std::ptr::eq(*again, part);
        let as_many = again.parts.len() == parts.len();
        if !same || again.ambiguous || !as_many || !again.parts.iter().zip(parts).all(is_same) {
            return Err(CanonicalError::Boundary { part: self.part() });
        }
        Ok(())
    }

    /// RFC 2046 5.2.1: a message/rfc822 must not be encoded as a whole, so what is in it is.
    ///
    /// The fields of the inner message are not ours to change, nor is what somebody else signed in it. If
    /// they would not survive, the part becomes a message/global in base64: the one message type that may
    /// be encoded (RFC 6532 3.7), and what the inner message is if its header is in UTF-8.
    fn message(
        &mut self,
        entity: &MimeEntity<'_>,
        role: Role,
        content_type: &ContentType,
    ) -> Result<(), CanonicalError> {
        let encoding = match entity.transfer_encoding() {
            Ok(encoding) => encoding,
            Err(error) => return self.keep(entity, role, Untouchable::Unreadable(error)),
        };
        if !encoding.is_identity() || !entity.has_empty_line() {
            return self.leaf(entity, role, Some(content_type));
        }
        let inner = match entity.embedded() {
            Ok(inner) => inner,
            Err(error) => return self.keep(entity, role, Untouchable::Unreadable(error)),
        };
        let header = inner.header_octets();
        // Where agents disagree what is header and what is body, all of it stays or is wrapped.
        let is_broken = has_line_without_name(&inner);
        let is_safe = hazard_of_fixed(if is_broken { inner.octets() } else { header }).is_none();
        if is_broken && is_safe && !header.starts_with(b"From ") {
            return self.unchanged_body(entity, role, &Changes::relabelled(encoding));
        }
        if !is_safe || is_broken {
            return self.global(entity, role, "message/global");
        }
        let (written, nesting, rest) = (self.out.len(), self.path.len(), self.rest);
        self.header(entity, role, &Changes::relabelled(encoding))?;
        self.entity(&inner, Role::Embedded).or_else(|_| {
            // Something in it must not be changed and would not survive, such as a foreign signature.
            self.out.truncate(written);
            self.path.truncate(nesting);
            self.rest = rest;
            self.global(entity, role, "message/global")
        })
    }

    /// Writes a message type as the sibling that may be encoded (RFC 6532 3.7, RFC 6533).
    fn global(&mut self, entity: &MimeEntity<'_>, role: Role, media: &str) -> Result<(), CanonicalError> {
        let content_type = Some(retyped(entity.header().all("Content-Type").next().as_ref(), media));
        self.header(entity, role, &Changes { encoding: Some(TransferEncoding::Base64), content_type })?;
        self.take(entity);
        self.reserve(base64_len(entity.body().len()));
        encode_base64_into(entity.body(), &mut self.out);
        Ok(())
    }

    /// Message types that RFC 2046 5.2 keeps in 7 bits: they survive as they are, as a type of RFC 6533, or
    /// not at all.
    fn unencodable(
        &mut self,
        entity: &MimeEntity<'_>,
        role: Role,
        media: &str,
    ) -> Result<(), CanonicalError> {
        match entity.transfer_encoding() {
            Ok(encoding) if !encoding.is_identity() => self.leaf(entity, role, None),
            Ok(encoding) => {
                let Some(hazard) = hazard_of_fixed(entity.body()) else {
                    return self.unchanged_body(entity, role, &Changes::relabelled(encoding));
                };
                // These are in UTF-8, and reports may hold them in place of the older types.
                let sibling = match media {
                    "message/delivery-status" => Some("message/global-delivery-status"),
                    "message/disposition-notification" => Some("message/global-disposition-notification"),
                    _ => None,
                };
                if let Some(sibling) = sibling.filter(|_| std::str::from_utf8(entity.body()).is_ok()) {
                    return self.global(entity, role, sibling);
                }
                Err(CanonicalError::NotEncodable { part: self.part(), media: media.to_owned(), hazard })
            }
            Err(error) => self.keep(entity, role, Untouchable::Unreadable(error)),
        }
    }

    /// Everything without parts. Without a content type nothing is known about the octets.
    fn leaf(
        &mut self,
        entity: &MimeEntity<'_>,
        role: Role,
        content_type: Option<&ContentType>,
    ) -> Result<(), CanonicalError> {
        let encoding = match entity.transfer_encoding() {
            Ok(encoding) => encoding,
            Err(error) => return self.keep(entity, role, Untouchable::Unreadable(error)),
        };
        // What is binary has no line ends, and what looks like them no mailbox may change.
        let has_lines_by_chance = encoding == TransferEncoding::Binary
            && !content_type.is_some_and(has_lines)
            && memchr::memchr2(b'\r', b'\n', entity.body()).is_some();
        if !has_lines_by_chance && hazards(entity.body()).any().is_none() {
            self.unchanged_body(entity, role, &Changes::relabelled(encoding))?;
            let is_text = content_type.is_some_and(|known| known.media().starts_with("text/"));
            if role == Role::Root && entity.body().is_empty() && is_text && encoding.is_identity() {
                // Some agents do not see the end of a header without a line after it.
                self.put(b"\r\n");
            }
            return Ok(());
        }
        let is_text = content_type.is_some_and(has_lines);
        let body = entity.body();
        let mended = if is_text { crlf(body) } else { Cow::Borrowed(body) };
        let decoded = match encoding.decode(&mended) {
            Ok(decoded) => decoded,
            Err(error) => return self.keep(entity, role, Untouchable::Unreadable(error)),
        };
        let in_base64 = base64_len(decoded.len());
        let is_quotable = is_text && memchr::memchr(0, &decoded).is_none();
        let quoted = if is_quotable { quoted_printable_len(&decoded, in_base64) } else { None };
        let encoding =
            if quoted.is_some() { TransferEncoding::QuotedPrintable } else { TransferEncoding::Base64 };
        let changes =
            Changes { encoding: Some(encoding), content_type: default_type(entity, content_type, &decoded) };
        self.take(entity);
        self.header(entity, role, &changes)?;
        self.reserve(quoted.unwrap_or(in_base64));
        if quoted.is_some() {
            encode_quoted_printable_into(&decoded, &mut self.out);
        } else {
            encode_base64_into(&decoded, &mut self.out);
        }
        Ok(())
    }

    /// Writes an entity whose body is safe.
    fn unchanged_body(
        &mut self,
        entity: &MimeEntity<'_>,
        role: Role,
        changes: &Changes,
    ) -> Result<(), CanonicalError> {
        self.take(entity);
        let is_safe = hazard_of_fixed(entity.header_octets()).is_none();
        if role != Role::Root && changes.is_empty() && is_safe {
            // Whole, because there may be no empty line.
            self.put(entity.octets());
            return Ok(());
        }
        self.header(entity, role, changes)?;
        self.put(entity.body());
        Ok(())
    }

    /// Writes an entity as it is, if it survives transport.
    fn keep(&mut self, entity: &MimeEntity<'_>, role: Role, why: Untouchable) -> Result<(), CanonicalError> {
        let start = self.out.len();
        self.take(entity);
        if role == Role::Root {
            for field in entity.header().fields().filter(is_content_field) {
                self.put(field.octets());
                self.end_line();
            }
            self.put(b"\r\n");
            self.put(entity.body());
        } else {
            self.put(entity.octets());
        }
        let Some(hazard) = hazard_of_fixed(self.out.get(start..).unwrap_or_default()) else {
            return Ok(());
        };
        let part = self.part();
        Err(match why {
            Untouchable::Signed => CanonicalError::NestedSignatureNotSafe { part, hazard },
            Untouchable::Unreadable(source) => CanonicalError::Unreadable { part, hazard, source },
        })
    }

    /// Writes the fields that count, with the changes, and the empty line.
    fn header(
        &mut self,
        entity: &MimeEntity<'_>,
        role: Role,
        changes: &Changes,
    ) -> Result<(), CanonicalError> {
        let mut encoding = changes
            .encoding
            .map(|encoding| format!("Content-Transfer-Encoding: {}\r\n", encoding.as_str()).into_bytes());
        let mut content_type = changes.content_type.clone();
        let header = entity.header();
        let counts = |field: &HeaderField<'_>| role != Role::Root || is_content_field(field);
        let fields = header.fields().filter(counts);
        if role == Role::Root && fields.clone().next().is_none() && content_type.is_none() {
            content_type = Some(b"Content-Type: text/plain; charset=us-ascii\r\n".to_vec());
        }
        for field in fields {
            let change = if field.is("Content-Transfer-Encoding") {
                if changes.encoding.is_some() && encoding.is_none() {
                    // The same once more.
                    continue;
                }
                encoding.take()
            } else if field.is("Content-Type") {
                content_type.take()
            } else {
                None
            };
            if let Some(change) = change {
                self.put(&change);
                continue;
            }
            let safe = safe_field(&field).map_err(|hazard| CanonicalError::HeaderNotSafe {
                part: self.part(),
                field: field.name().to_owned(),
                hazard,
            })?;
            self.put(&safe);
            self.end_line();
        }
        // A message without it is not MIME, and the encoding would be shown to people.
        if role == Role::Embedded && !changes.is_empty() && header.all("MIME-Version").next().is_none() {
            self.put(b"MIME-Version: 1.0\r\n");
        }
        for added in [content_type, encoding].into_iter().flatten() {
            self.put(&added);
        }
        self.put(b"\r\n");
        Ok(())
    }

    /// The last field of octets without an empty line may lack its line end.
    fn end_line(&mut self) {
        if !self.out.ends_with(b"\r\n") {
            self.put(b"\r\n");
        }
    }

    fn part(&self) -> String {
        if self.path.is_empty() {
            return "0".to_owned();
        }
        let numbers: Vec<_> = self.path.iter().map(ToString::to_string).collect();
        numbers.join(".")
    }
}

fn is_content_field(field: &HeaderField<'_>) -> bool {
    field.name().get(..8).is_some_and(|start| start.eq_ignore_ascii_case("Content-"))
}

/// Some agents begin the body at such a line.
fn has_line_without_name(entity: &MimeEntity<'_>) -> bool {
    entity.header().fields().any(|field| field.name().is_empty())
}

/// Whether an agent that reads more into a broken Content-Type than we do could find parts.
fn may_have_parts(entity: &MimeEntity<'_>) -> bool {
    entity.header().all("Content-Type").any(|field| {
        let value = field.unfolded().to_ascii_lowercase();
        value.contains("multipart") || value.contains("message")
    })
}

/// Whether this is text in which the octets CR and LF are line ends. In charsets of wider units they
/// may be halves of a character.
fn has_lines(content_type: &ContentType) -> bool {
    let charset = content_type.parameter("charset").unwrap_or_default().to_ascii_lowercase();
    let is_wide = ["utf-16", "utf16", "utf-32", "utf32", "ucs", "iso-10646", "unicode", "csunicode"]
        .iter()
        .any(|wide| charset.starts_with(wide));
    content_type.media().starts_with("text/") && !is_wide
}

/// The Content-Type of 8-bit text that came without one. us-ascii, the default, would be untrue once the
/// octets are encoded; UTF-8 is what agents try, and RFC 1428 has a name for what is not that either.
fn default_type(
    entity: &MimeEntity<'_>,
    content_type: Option<&ContentType>,
    decoded: &[u8],
) -> Option<Vec<u8>> {
    let is_default = entity.header().all("Content-Type").next().is_none();
    if !is_default || decoded.is_ascii() || !content_type?.is("text/plain") {
        return None;
    }
    let charset = if std::str::from_utf8(decoded).is_ok() { "utf-8" } else { "unknown-8bit" };
    Some(format!("Content-Type: text/plain; charset={charset}\r\n").into_bytes())
}
