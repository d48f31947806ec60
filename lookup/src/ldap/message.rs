//! The few LDAP messages a look-up takes (RFC 4511), written in DER and read over [`Tree`].
//!
//! Written here, and not taken from a library, because what a server sends is hostile until TLS and the bind are done:
//! here nesting, elements and octets are bounded before anything is decoded. The libraries at hand recurse.

use smime::ber::{BerError, Element, Tag, Tree, write_header};

/// Application tags of RFC 4511.
const BIND_REQUEST: Tag = Tag(0x60);
const BIND_RESPONSE: Tag = Tag(0x61);
const UNBIND_REQUEST: Tag = Tag(0x42);
const SEARCH_REQUEST: Tag = Tag(0x63);
const SEARCH_RESULT_ENTRY: Tag = Tag(0x64);
const SEARCH_RESULT_DONE: Tag = Tag(0x65);
const SEARCH_RESULT_REFERENCE: Tag = Tag(0x73);
const EXTENDED_REQUEST: Tag = Tag(0x77);
const EXTENDED_RESPONSE: Tag = Tag(0x78);
const ENUMERATED: Tag = Tag(0x0A);
const BOOLEAN: Tag = Tag(0x01);
/// RFC 4511 4.14.1.
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// What to ask for.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) base: &'a str,
    /// The filter in BER.
    pub(super) filter: &'a [u8],
    pub(super) attributes: &'a [String],
    pub(super) size_limit: u32,
    /// In seconds.
    pub(super) time_limit: u32,
}

/// What a server says.
#[derive(Debug)]
pub(super) enum Response {
    Bind(LdapResult),
    Extended(LdapResult),
    /// The values of all attributes that were asked for.
    Entry(Vec<Vec<u8>>),
    /// Look elsewhere; nobody does.
    Reference,
    Done(LdapResult),
    /// RFC 4511 4.4.1: it hangs up.
    Notice(LdapResult),
}

/// `LDAPResult` (RFC 4511 4.1.9).
#[derive(Debug)]
pub(super) struct LdapResult {
    pub(super) code: u32,
    pub(super) message: String,
}

impl LdapResult {
    pub(super) const SUCCESS: u32 = 0;
    pub(super) const TIME_LIMIT_EXCEEDED: u32 = 3;
    pub(super) const SIZE_LIMIT_EXCEEDED: u32 = 4;
    pub(super) const REFERRAL: u32 = 10;
    pub(super) const NO_SUCH_OBJECT: u32 = 32;

    /// The code's name where it is often met, with the server's words.
    pub(super) fn describe(&self) -> String {
        let name = match self.code {
            1 => "operationsError",
            2 => "protocolError",
            Self::TIME_LIMIT_EXCEEDED => "timeLimitExceeded",
            Self::SIZE_LIMIT_EXCEEDED => "sizeLimitExceeded",
            8 => "strongerAuthRequired",
            Self::REFERRAL => "referral",
            11 => "adminLimitExceeded",
            13 => "confidentialityRequired",
            Self::NO_SUCH_OBJECT => "noSuchObject: the `base` is not there",
            34 => "invalidDNSyntax: the `base` or `bind-dn` is no DN",
            48 => "inappropriateAuthentication",
            49 => "invalidCredentials: the `bind-dn` or its password is wrong",
            50 => "insufficientAccessRights",
            51 => "busy",
            52 => "unavailable",
            53 => "unwillingToPerform",
            _ => "",
        };
        let words: String = self.message.chars().filter(|c| !c.is_control()).take(200).collect();
        match (name.is_empty(), words.is_empty()) {
            (true, true) => format!("result {}", self.code),
            (true, false) => format!("result {}, {words}", self.code),
            (false, true) => name.to_owned(),
            (false, false) => format!("{name} ({words})"),
        }
    }
}

/// A value with its tag and length in front.
pub(super) fn tlv(tag: Tag, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    write_header(tag, content.len(), &mut out);
    out.extend_from_slice(content);
    out
}

/// An OCTET STRING.
pub(super) fn string(text: &[u8]) -> Vec<u8> {
    tlv(Tag::OCTET_STRING, text)
}

fn integer(tag: Tag, value: u32) -> Vec<u8> {
    let octets = value.to_be_bytes();
    let skipped = octets.iter().take(3).take_while(|octet| **octet == 0).count();
    let mut content = octets.get(skipped..).unwrap_or_default().to_vec();
    if content.first().is_some_and(|first| first & 0x80 != 0) {
        content.insert(0, 0);
    }
    tlv(tag, &content)
}

fn message(id: u32, operation: &[u8]) -> Vec<u8> {
    tlv(Tag::SEQUENCE, &[&integer(Tag::INTEGER, id), operation].concat())
}

/// A simple bind (RFC 4511 4.2); name and password are empty for an anonymous one.
pub(super) fn bind(id: u32, name: &str, password: &[u8]) -> Vec<u8> {
    let fields = [integer(Tag::INTEGER, 3), string(name.as_bytes()), tlv(Tag(0x80), password)];
    message(id, &tlv(BIND_REQUEST, &fields.concat()))
}

/// StartTLS (RFC 4511 4.14).
pub(super) fn start_tls(id: u32) -> Vec<u8> {
    message(id, &tlv(EXTENDED_REQUEST, &tlv(Tag(0x80), START_TLS)))
}

/// The end of a connection.
pub(super) fn unbind(id: u32) -> Vec<u8> {
    message(id, &tlv(UNBIND_REQUEST, &[]))
}

/// A search of the whole subtree, without following aliases.
pub(super) fn search(id: u32, search: &Search<'_>) -> Vec<u8> {
    let attributes: Vec<u8> = search.attributes.iter().flat_map(|name| string(name.as_bytes())).collect();
    let fields = [
        string(search.base.as_bytes()),
        integer(ENUMERATED, 2),
        integer(ENUMERATED, 0),
        integer(Tag::INTEGER, search.size_limit),
        integer(Tag::INTEGER, search.time_limit),
        tlv(BOOLEAN, &[0]),
        search.filter.to_vec(),
        tlv(Tag::SEQUENCE, &attributes),
    ];
    message(id, &tlv(SEARCH_REQUEST, &fields.concat()))
}

/// How long the message at the beginning of `octets` is, once that can be seen. RFC 4511 5.1: lengths are definite.
pub(super) fn length(octets: &[u8]) -> Result<Option<usize>, &'static str> {
    let (Some(tag), Some(first)) = (octets.first(), octets.get(1)) else {
        return Ok(None);
    };
    if *tag != Tag::SEQUENCE.0 {
        return Err("this is not LDAP");
    }
    match first {
        0..=0x7F => Ok(Some(2 + usize::from(*first))),
        0x81..=0x84 => {
            let digits = usize::from(first & 0x7F);
            let Some(digits) = octets.get(2..2 + digits) else {
                return Ok(None);
            };
            let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
            Ok(Some(2 + digits.len() + length))
        }
        _ => Err("a length that LDAP does not have"),
    }
}

/// Reads one message: its number and what it says. `None` for what nobody asked for.
pub(super) fn read(octets: &[u8]) -> Result<(u32, Option<Response>), BerError> {
    let tree = Tree::parse(octets)?;
    let mut fields = tree.root().expect(Tag::SEQUENCE, "LDAPMessage")?.children();
    let id = number(&fields.required("messageID")?.expect(Tag::INTEGER, "messageID")?)?;
    let operation = fields.required("protocolOp")?;
    let response = match operation.tag() {
        BIND_RESPONSE => Some(Response::Bind(result(&operation)?)),
        EXTENDED_RESPONSE if id == 0 => Some(Response::Notice(result(&operation)?)),
        EXTENDED_RESPONSE => Some(Response::Extended(result(&operation)?)),
        SEARCH_RESULT_DONE => Some(Response::Done(result(&operation)?)),
        SEARCH_RESULT_REFERENCE => Some(Response::Reference),
        SEARCH_RESULT_ENTRY => Some(Response::Entry(values(&operation)?)),
        _ => None,
    };
    Ok((id, response))
}

fn result(operation: &Element<'_, '_>) -> Result<LdapResult, BerError> {
    let mut fields = operation.children();
    let code = number(&fields.required("resultCode")?.expect(ENUMERATED, "resultCode")?)?;
    fields.required("matchedDN")?;
    let message = fields.required("diagnosticMessage")?.octet_string()?.concat();
    Ok(LdapResult { code, message: String::from_utf8_lossy(&message).into_owned() })
}

fn values(entry: &Element<'_, '_>) -> Result<Vec<Vec<u8>>, BerError> {
    let mut fields = entry.children();
    fields.required("objectName")?;
    let list = fields.required("attributes")?.expect(Tag::SEQUENCE, "attributes")?;
    let mut values = Vec::new();
    for attribute in list.children() {
        let mut fields = attribute.expect(Tag::SEQUENCE, "PartialAttribute")?.children();
        fields.required("type")?;
        for value in fields.required("vals")?.expect(Tag::SET, "vals")?.children() {
            values.push(value.octet_string()?.concat());
        }
    }
    Ok(values)
}

fn number(element: &Element<'_, '_>) -> Result<u32, BerError> {
    let content = element.content();
    let is_small = matches!(content.len(), 1..=5) && content.first().is_some_and(|first| first & 0x80 == 0);
    let value = content.iter().fold(0_u64, |value, octet| value << 8 | u64::from(*octet));
    u32::try_from(value).ok().filter(|_| is_small).ok_or_else(|| element.unexpected("a small number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_written_as_openldap_writes_it() {
        let search = search(
            2,
            &Search {
                base: "dc=x",
                filter: &tlv(Tag(0xA3), &[string(b"mail"), string(b"a@x")].concat()),
                attributes: &["cn".to_owned()],
                size_limit: 200,
                time_limit: 3,
            },
        );
        let expected = [
            0x30, 0x32, 0x02, 1, 2, 0x63, 0x2D, 0x04, 4, b'd', b'c', b'=', b'x', 0x0A, 1, 2, 0x0A, 1, 0,
            0x02, 2, 0, 200, 0x02, 1, 3, 0x01, 1, 0, 0xA3, 11, 0x04, 4, b'm', b'a', b'i', b'l', 0x04, 3,
            b'a', b'@', b'x', 0x30, 4, 0x04, 2, b'c', b'n',
        ];
        let mut expected = expected.to_vec();
        expected[1] = u8::try_from(expected.len() - 2).unwrap();
        expected[6] = u8::try_from(expected.len() - 7).unwrap();
        assert_eq!(search, expected);
    }

    #[test]
    fn hostile_messages_are_refused_without_falling() {
        // 200,000 SEQUENCEs in each other end a program that follows them by calling itself.
        let mut nested = Vec::new();
        for level in (0..200_000_u32).rev() {
            nested.extend([0x30, 0x84]);
            nested.extend((level * 6).to_be_bytes());
        }
        assert!(read(&nested).is_err());
        for octets in [&b""[..], b"0", &[0x30, 0], &[0x30, 3, 2, 1, 1], &[0x30, 7, 2, 1, 1, 0x61, 2, 0x0A, 0]]
        {
            assert!(read(octets).is_err(), "{octets:?}");
        }
        let good =
            message(1, &tlv(BIND_RESPONSE, &[integer(ENUMERATED, 49), string(b""), string(b"no")].concat()));
        let (1, Some(Response::Bind(LdapResult { code: 49, .. }))) = read(&good).unwrap() else {
            panic!("{:?}", read(&good));
        };
        for at in 0..good.len() {
            for octet in 0..=255 {
                let mut changed = good.clone();
                changed[at] = octet;
                let _ = read(&changed);
                let _ = read(&changed[..at]);
            }
        }
    }

    #[test]
    fn the_length_of_a_message_is_known_from_its_first_octets() {
        for (octets, expected) in [
            (&[0x30][..], Ok(None)),
            (&[0x30, 5], Ok(Some(7))),
            (&[0x30, 0x82, 1], Ok(None)),
            (&[0x30, 0x82, 1, 0], Ok(Some(260))),
            (&[0x30, 0x84, 255, 255, 255, 255], Ok(Some(0xFFFF_FFFF + 6))),
            (b"HTTP/1.1", Err("this is not LDAP")),
            (&[0x30, 0x80], Err("a length that LDAP does not have")),
            (&[0x30, 0x88], Err("a length that LDAP does not have")),
        ] {
            assert_eq!(length(octets), expected, "{octets:?}");
        }
    }
}
