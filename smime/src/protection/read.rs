//! Protected header fields read (RFC 9788 4).

use std::{cmp::Ordering, collections::HashMap};

use super::{HP_OUTER, ProtectedField, is_structural, one_line};
use crate::{
    MailAddress,
    mime::{FromError, Header, HeaderTooLarge, Message, MimeEntity, single_originator},
};

/// How header fields are in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `hp="clear"`: they were to be signed (RFC 9788 2.1).
    Clear,
    /// `hp="cipher"`: they were to be encrypted as far as HP-Outer does not say otherwise (RFC 9788 2.1).
    Cipher,
    /// `protected-headers="v1"`; what the sender meant to hide is not known.
    ProtectedHeadersV1,
    /// A `message/rfc822` around the message (RFC 8551 3.1); what the sender meant to hide is not known.
    Rfc8551,
}

impl Scheme {
    /// Whether the sender says what was to be hidden (RFC 9788 4.10).
    pub fn states_intent(self) -> bool {
        matches!(self, Self::Clear | Self::Cipher)
    }
}

/// How one field was protected on its way (RFC 9788 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldProtection {
    /// Not at all.
    Unprotected,
    /// A good signature covers it; everybody could read it.
    SignedOnly,
    /// It was hidden; nobody vouches for it.
    EncryptedOnly,
    /// It was hidden, and a good signature covers it.
    SignedAndEncrypted,
}

/// A field whose inner and outer values are not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, as spelled inside, or else outside.
    pub name: String,
    /// The values inside, in order; none where the field is outside only.
    pub inner: Vec<String>,
    /// The values outside.
    pub outer: Vec<String>,
    /// Whether the sender made them differ: what HP-Outer says of the outer header is what came. Otherwise somebody else
    /// changed the outer one on the way, or the scheme does not tell.
    pub by_sender: bool,
}

/// The header fields in a cryptographic payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedHeader {
    scheme: Scheme,
    fields: Listed,
    outer: Listed,
    from: Result<MailAddress, FromError>,
}

impl ProtectedHeader {
    /// Reads the header of a payload, which must be the whole of what the layers around it cover: a parameter or field
    /// anywhere else means nothing (RFC 9788 2.1, 2.2).
    ///
    /// `None` where the payload does not say that its header is protected. `outer` is the header of the message: a
    /// `message/rfc822` counts as RFC 8551's scheme only where both have the same Message-ID, or else it is a
    /// forwarded message (RFC 9788 4.10.1). A header that says it is protected and is larger than any that is met is an
    /// error.
    pub fn read(payload: &MimeEntity<'_>, outer: &Header<'_>) -> Result<Option<Self>, HeaderTooLarge> {
        let stored = has_lf_alone_inside(payload).then(|| Message::from_stored(payload.octets()));
        let payload = stored.as_ref().map_or(*payload, Message::entity);
        let Some((scheme, entity)) = Self::find(&payload, outer) else { return Ok(None) };
        entity.header().check_size()?;
        Ok(Some(Self::of(scheme, &entity)))
    }

    /// Which scheme a payload says it follows, and where its fields are.
    fn find<'a>(payload: &MimeEntity<'a>, outer: &Header<'_>) -> Option<(Scheme, MimeEntity<'a>)> {
        let content_type = payload.content_type().ok()?;
        if content_type.is_in_sections("hp") {
            // One word needs no RFC 2231, and readers differ in whether they undo it.
            return None;
        }
        let is_v1 = |value: &str| value.eq_ignore_ascii_case("v1");
        let scheme = match content_type.parameter("hp").map(str::to_ascii_lowercase).as_deref() {
            Some("clear") => Scheme::Clear,
            Some("cipher") => Scheme::Cipher,
            None if content_type.parameter("protected-headers").is_some_and(is_v1) => {
                Scheme::ProtectedHeadersV1
            }
            None if content_type.is("message/rfc822") => Scheme::Rfc8551,
            // Nothing is said, or by a word of another version, of which nobody knows what it means.
            _ => return None,
        };
        if scheme != Scheme::Rfc8551 {
            return Some((scheme, *payload));
        }
        let inner = payload.embedded().ok()?;
        let id = |header: &Header<'_>| {
            let mut ids = header.all("Message-ID");
            ids.next().map(|field| one_line(&field.unfolded())).filter(|_| ids.next().is_none())
        };
        let is_same = id(&inner.header()).is_some_and(|inside| Some(inside) == id(outer));
        is_same.then_some((scheme, inner))
    }

    fn of(scheme: Scheme, entity: &MimeEntity<'_>) -> Self {
        let header = entity.header();
        let mut fields = Vec::new();
        let mut outer = Vec::new();
        for field in header.fields().filter(|field| !field.name().is_empty()) {
            if field.is(HP_OUTER) {
                outer.extend(hp_outer(&field.unfolded()));
            } else if !is_structural(field.name()) {
                fields.push(ProtectedField::of(&field));
            }
        }
        if scheme != Scheme::Cipher {
            // Of no meaning without encryption (RFC 9788 2.2).
            outer.clear();
        }
        let (fields, outer) = (Listed::new(fields), Listed::new(outer));
        Self { scheme, fields, outer, from: single_originator(entity) }
    }

    /// How the fields came to be there.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The protected fields in their order, without those that describe the payload as a part.
    pub fn fields(&self) -> &[ProtectedField] {
        &self.fields.list
    }

    /// What the sender says the outer header was, where it was encrypted (RFC 9788 2.2).
    pub fn outer(&self) -> &[ProtectedField] {
        &self.outer.list
    }

    /// All values of a field.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields().iter().filter(move |field| field.is(name)).map(|field| field.value.as_str())
    }

    /// Who wrote it, by the protected From. Readers and filters before us went by the outer one: where this is another,
    /// it must not be shown or compared in its place unless a signature that is bound to it vouches (RFC 9788 4.4).
    pub fn originator(&self) -> Result<&MailAddress, &FromError> {
        self.from.as_ref()
    }

    /// How a protected field was protected, in a message that came with a good signature around this payload, or
    /// encrypted, or both (RFC 9788 4.3.1). The word of the scheme is not taken for either.
    pub fn protection(&self, field: &ProtectedField, is_signed: bool, is_encrypted: bool) -> FieldProtection {
        if !self.fields.contains(field) {
            return FieldProtection::Unprotected;
        }
        // Without HP-Outer nobody vouches that the outer header was what came.
        let is_hidden = is_encrypted && self.scheme == Scheme::Cipher && !self.outer.contains(field);
        match (is_signed, is_hidden) {
            (false, false) => FieldProtection::Unprotected,
            (true, false) => FieldProtection::SignedOnly,
            (false, true) => FieldProtection::EncryptedOnly,
            (true, true) => FieldProtection::SignedAndEncrypted,
        }
    }

    /// The names of the fields that the sender hid: those that an answer must hide too (RFC 9788 6.1).
    pub fn confidential(&self) -> impl Iterator<Item = &str> {
        let fields = self.fields().iter().filter(|_| self.scheme == Scheme::Cipher);
        fields.filter(|field| !self.outer.contains(field)).map(|field| field.name.as_str())
    }

    /// Where the protected fields and those of the message's own header differ, each field once. Fields that carriers
    /// add are among them: what may take whose place is for the caller, by a list of what it knows. An outer header
    /// larger than any that is met is an error.
    pub fn differences(&self, outer: &Header<'_>) -> Result<Vec<Difference>, HeaderTooLarge> {
        outer.check_size()?;
        let outside: Vec<_> = outer
            .fields()
            .filter(|field| !field.name().is_empty() && !is_structural(field.name()))
            .map(|field| ProtectedField::of(&field))
            .collect();
        let mut by_name: HashMap<String, [Vec<&str>; 3]> = HashMap::new();
        for (at, fields) in [self.fields(), &outside, self.outer()].into_iter().enumerate() {
            for field in fields {
                let values = by_name.entry(field.name.to_ascii_lowercase()).or_default();
                values.get_mut(at).into_iter().for_each(|values| values.push(&field.value));
            }
        }
        let owned = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect();
        let mut found: Vec<Difference> = Vec::new();
        for field in self.fields().iter().chain(&outside) {
            // Of more fields of the name the first has taken all.
            let Some([inner, outer, stated]) = by_name.remove(&field.name.to_ascii_lowercase()) else {
                continue;
            };
            if inner != outer {
                let by_sender = self.scheme == Scheme::Cipher && outer == stated;
                let name = field.name.clone();
                found.push(Difference { name, inner: owned(inner), outer: owned(outer), by_sender });
            }
        }
        Ok(found)
    }
}

/// Fields in their order, among which one is found without a look at all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    list: Vec<ProtectedField>,
    /// The indices of the fields, by [`order`].
    sorted: Vec<usize>,
}

impl Listed {
    fn new(list: Vec<ProtectedField>) -> Self {
        let mut sorted: Vec<_> = (0..list.len()).collect();
        sorted.sort_by(|one, other| match (list.get(*one), list.get(*other)) {
            (Some(one), Some(other)) => order(one, other),
            _ => Ordering::Equal,
        });
        Self { list, sorted }
    }

    /// Whether a field of the same name and value is among them.
    fn contains(&self, field: &ProtectedField) -> bool {
        let found = |at: &usize| self.list.get(*at).map_or(Ordering::Less, |own| order(own, field));
        self.sorted.binary_search_by(found).is_ok()
    }
}

/// By the name, whose case does not matter, then by the value: equal are fields that say the same.
fn order(one: &ProtectedField, other: &ProtectedField) -> Ordering {
    let name = |octet: u8| octet.to_ascii_lowercase();
    let names = one.name.bytes().map(name).cmp(other.name.bytes().map(name));
    names.then_with(|| one.value.cmp(&other.value))
}

/// Whether an embedded message has no line end but LF, as the one in RFC 9788's own example has (C.3.17): there is no
/// doubt then where its header ends.
fn has_lf_alone_inside(payload: &MimeEntity<'_>) -> bool {
    payload.content_type().is_ok_and(|content_type| content_type.is("message/rfc822"))
        && payload.body().contains(&b'\n')
        && !payload.body().windows(2).any(|pair| pair == b"\r\n")
}

/// `HP-Outer: Name: value`.
fn hp_outer(value: &str) -> Option<ProtectedField> {
    let (name, value) = value.split_once(':')?;
    let name = name.trim();
    let is_name = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic());
    (is_name && !is_structural(name))
        .then(|| ProtectedField { name: name.to_owned(), value: one_line(value) })
}
