//! Directory names compared as RFC 5280 section 7.1 asks: by their text, prepared as in RFC 4518.
//!
//! There are two answers. Names are surely the same where case, surplus spaces, composition and the type of
//! string make the only difference: links between issuers and subjects and permitted subtrees want that. They may
//! be the same where also invisible characters, width or sharp s do: excluded subtrees hold all of these.

use der::{Encode, Tag, Tagged, asn1::ObjectIdentifier};
use unicode_normalization::UnicodeNormalization;
use x509_cert::name::{Name, RelativeDistinguishedName};

use crate::address::is_invisible;

/// A name with its values prepared for comparison.
#[derive(Debug)]
pub(crate) struct PreparedName {
    relative: Vec<Vec<Attribute>>,
    /// The same octets for names that are surely the same.
    canonical: Vec<u8>,
}

#[derive(Debug)]
struct Attribute {
    kind: ObjectIdentifier,
    value: der::Any,
    /// `None` where the type of string is not known, or the value is no such string.
    text: Option<String>,
    /// Without what RFC 4518 takes away beyond spaces; `None` where there is any of it.
    plain: Option<String>,
}

impl PreparedName {
    pub(crate) fn of(name: &Name) -> Self {
        Self::of_relative(name.iter_rdn())
    }

    /// A name of these parts, the outermost first.
    pub(crate) fn of_relative<'a>(parts: impl Iterator<Item = &'a RelativeDistinguishedName>) -> Self {
        Self::prepared(parts.map(prepare_relative).collect())
    }

    fn prepared(relative: Vec<Vec<Attribute>>) -> Self {
        let mut canonical = Vec::new();
        for attributes in &relative {
            let mut attributes: Vec<_> = attributes.iter().map(Attribute::canonical).collect();
            attributes.sort();
            append(&mut canonical, &attributes.concat());
        }
        Self { relative, canonical }
    }

    /// Whether this name is `other` (RFC 5280 7.1).
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }

    /// The same octets for all names that are the same.
    pub(crate) fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// Whether this name is `base` or below it.
    pub(super) fn is_below(&self, base: &Self) -> bool {
        self.begins_with(base, |has, wanted| has.len() == wanted.len() && has_all(has, wanted, surely_equal))
    }

    /// Whether it cannot be ruled out that this name is `base` or below it. A part that says more than the base's is
    /// another one to the letter (RFC 4517), and to whoever wrote `O=Victim` it may not be.
    pub(super) fn may_be_below(&self, base: &Self) -> bool {
        self.begins_with(base, |has, wanted| has_all(has, wanted, may_equal))
    }

    fn begins_with(&self, base: &Self, is: impl Fn(&[Attribute], &[Attribute]) -> bool) -> bool {
        let mut relative = self.relative.iter();
        base.relative.iter().all(|wanted| relative.next().is_some_and(|has| is(has, wanted)))
    }
}

impl Attribute {
    /// The type, and the text or else the value as it is.
    fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        append(&mut out, self.kind.as_bytes());
        out.push(u8::from(self.plain.is_some()));
        match &self.plain {
            Some(text) => append(&mut out, text.as_bytes()),
            None => append(&mut out, &self.value.to_der().unwrap_or_default()),
        }
        out
    }
}

fn append(out: &mut Vec<u8>, part: &[u8]) {
    out.extend(part.len().to_be_bytes());
    out.extend(part);
}

fn prepare_relative(name: &RelativeDistinguishedName) -> Vec<Attribute> {
    name.iter()
        .map(|attribute| {
            let text = text(&attribute.value);
            Attribute {
                kind: attribute.oid,
                value: attribute.value.clone(),
                plain: text.as_deref().and_then(prepare_plain),
                text: text.as_deref().map(prepare),
            }
        })
        .collect()
}

/// Whether each of `wanted` is there.
fn has_all(has: &[Attribute], wanted: &[Attribute], equal: fn(&Attribute, &Attribute) -> bool) -> bool {
    wanted.iter().all(|wanted| has.iter().any(|has| equal(has, wanted)))
}

fn surely_equal(one: &Attribute, other: &Attribute) -> bool {
    one.kind == other.kind && (one.value == other.value || one.plain.is_some() && one.plain == other.plain)
}

fn may_equal(one: &Attribute, other: &Attribute) -> bool {
    one.kind == other.kind
        && match (&one.text, &other.text) {
            (Some(one), Some(other)) => one == other,
            // What cannot be read may say the same.
            _ => true,
        }
}

/// The text of a DirectoryString or one of its relatives.
fn text(value: &der::Any) -> Option<String> {
    let octets = value.value();
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            String::from_utf8(octets.to_vec()).ok()
        }
        // T.61 beyond ASCII is read in many ways.
        Tag::TeletexString => octets.is_ascii().then(|| String::from_utf8(octets.to_vec()).ok())?,
        Tag::BmpString => {
            let (units, rest) = octets.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            rest.is_empty().then(|| String::from_utf16(&units).ok())?
        }
        _ => None,
    }
}

/// Maps, folds, normalises and takes surplus spaces away (RFC 4518 section 2).
fn prepare(text: &str) -> String {
    let mapped = text.chars().filter(|c| c.is_whitespace() || !is_ignored(*c));
    // Upper case first makes one of the letters that have several lower-case forms, and ss of sharp s.
    let folded = mapped.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    let normal: String = folded.nfkc().filter(|c| c.is_whitespace() || !is_ignored(*c)).collect();
    normal.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Folds, normalises and takes surplus spaces away, where there is nothing else to take away.
fn prepare_plain(text: &str) -> Option<String> {
    if text.chars().any(is_ignored) {
        return None;
    }
    let folded: String = if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        text.nfkc().flat_map(char::to_lowercase).nfkc().collect()
    };
    Some(folded.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
}

/// Characters that RFC 4518 2.2 maps to nothing: controls, and what shows as nothing.
fn is_ignored(c: char) -> bool {
    c.is_control()
        || is_invisible(c)
        || matches!(
            c,
            '\u{34f}' | '\u{1806}' | '\u{180b}'..='\u{180e}' | '\u{fe00}'..='\u{fe0f}' | '\u{fff9}'..='\u{fffc}'
                | '\u{6dd}' | '\u{70f}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn text_is_compared_without_case_width_composition_and_surplus_space() {
        for (one, other, same) in [
            ("Example", "EXAMPLE", true),
            ("Example Gmbh", " example \u{a0}\t GMBH ", true),
            ("Example", "Ex\u{ad}am\u{200b}ple\u{7}", true),
            ("Example", "\u{ff25}xample", true),
            ("M\u{fc}ller", "MU\u{308}LLER", true),
            ("Stra\u{df}e", "STRASSE", true),
            ("\u{3c3}\u{3c2}", "\u{3a3}\u{3a3}", true),
            ("Example", "Exampel", false),
            ("Ex ample", "Example", false),
            ("M\u{fc}ller", "Muller", false),
            ("", "x", false),
        ] {
            assert_eq!(prepare(one) == prepare(other), same, "{one:?} {other:?}");
        }
    }

    #[test]
    fn names_are_surely_the_same_but_for_case_spaces_composition_and_type_of_string() {
        let name = |tag, octets: &[u8]| {
            let value = der::Any::new(tag, octets).unwrap();
            let attribute = x509_cert::attr::AttributeTypeAndValue { oid: const_oid::db::rfc4519::CN, value };
            let relative = RelativeDistinguishedName::try_from(vec![attribute]).unwrap();
            PreparedName::prepared(vec![prepare_relative(&relative)])
        };
        let utf8 = |text: &str| name(Tag::Utf8String, text.as_bytes());
        let base = utf8("Stra\u{df}e  Z\u{fc}rich ");
        for (other, is_same, may_be_same) in [
            (utf8(" STRA\u{df}E Zu\u{308}rich"), true, true),
            (name(Tag::BmpString, b"\0s\0t\0r\0a\0\xdf\0e\0 \0z\0\xfc\0r\0i\0c\0h"), true, true),
            (utf8("strasse z\u{fc}rich"), false, true),
            (utf8("stra\u{df}e z\u{fc}r\u{ad}ich"), false, true),
            (utf8("stra\u{df}e zurich"), false, false),
            (name(Tag::TeletexString, b"Stra\xdfe Z\xfcrich"), false, true),
        ] {
            assert_eq!(base.is(&other), is_same, "{other:?}");
            assert_eq!(other.is_below(&base), is_same, "{other:?}");
            assert_eq!(base.may_be_below(&other), may_be_same, "{other:?}");
        }
        let unreadable = || name(Tag::TeletexString, b"\xdf");
        assert!(unreadable().is(&unreadable()));
        let long = PreparedName::of(&Name::from_str("CN=a,O=b").unwrap());
        let short = PreparedName::of(&Name::from_str("O=b").unwrap());
        assert!(long.is_below(&short) && !long.is(&short) && !short.is(&long));
    }

    #[test]
    fn strings_are_read_by_their_type_and_what_cannot_be_read_may_be_anything() {
        for (tag, octets, expected) in [
            (Tag::Utf8String, &b"\xc3\xbc"[..], Some("\u{fc}")),
            (Tag::Utf8String, b"\xfc", None),
            (Tag::PrintableString, b"x", Some("x")),
            (Tag::TeletexString, b"x", Some("x")),
            (Tag::TeletexString, b"\xfc", None),
            (Tag::BmpString, b"\0x\0\xfc", Some("x\u{fc}")),
            (Tag::BmpString, b"\0x\0", None),
            (Tag::BmpString, b"\xd8\0\0x", None),
            (Tag::GeneralString, b"x", None),
            (Tag::OctetString, b"x", None),
        ] {
            let value = der::Any::new(tag, octets).unwrap();
            assert_eq!(text(&value).as_deref(), expected, "{tag} {octets:?}");
        }
    }

    #[test]
    fn a_name_is_below_those_that_it_begins_with() {
        // As text a name has its last part first. The empty name is above all.
        let name = Name::from_str("CN=alice,OU=Sales+L=Bonn,O=example").unwrap();
        for (base, below, may_be_below) in [
            ("O=EXAMPLE", true, true),
            ("L=bonn+OU=sales,O=Example", true, true),
            ("CN=Alice,OU=Sales+L=Bonn,O=Example", true, true),
            // A part that says more may be what the base means, one that says less or other is not.
            ("L=Bonn,O=Example", false, true),
            ("OU=Sales+L=Bonn+CN=x,O=Example", false, false),
            ("OU=Other+L=Bonn,O=Example", false, false),
            ("CN=Example", false, false),
            ("O=Other", false, false),
            ("SN=x,CN=Alice,OU=Sales+L=Bonn,O=Example", false, false),
        ] {
            let base = Name::from_str(base).unwrap_or_else(|error| panic!("{base}: {error}"));
            let [name, base_name] = [&name, &base].map(PreparedName::of);
            assert_eq!(name.is_below(&base_name), below, "{base}");
            assert_eq!(name.may_be_below(&base_name), may_be_below, "{base}");
        }
        assert!(PreparedName::of(&name).may_be_below(&PreparedName::of(&Name::default())));
    }
}
