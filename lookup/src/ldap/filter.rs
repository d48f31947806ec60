//! The search filter of the configuration (RFC 4515), with places for the address.
//!
//! The address never becomes part of the filter's text: its octets go into the assertion value by themselves, where
//! parentheses and asterisks are letters like others. So there is nothing to escape, and nothing to inject.

use smime::{MailAddress, ber::Tag};

use super::message::{string, tlv};

/// A filter with places for `{address}`, `{local}` and `{domain}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterTemplate(Node);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Present(String),
    Equal(String, Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Address,
    Local,
    Domain,
}

/// No filter is nested deeper.
const MAX_DEPTH: usize = 8;

impl FilterTemplate {
    /// Parses a filter: `&`, `|`, `!`, equality and presence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (node, rest) = parse(text.trim(), MAX_DEPTH)?;
        if !rest.is_empty() {
            return Err(format!("{rest:?} follows the filter"));
        }
        if !node.has_place() {
            return Err("it has no place for the {address}".to_owned());
        }
        Ok(Self(node))
    }

    /// The filter for an address in BER (RFC 4511 4.5.1.7).
    pub(super) fn encode(&self, address: &MailAddress) -> Vec<u8> {
        self.0.encode(address)
    }
}

impl Default for FilterTemplate {
    fn default() -> Self {
        Self(Node::Equal("mail".to_owned(), vec![Part::Address]))
    }
}

impl Node {
    fn has_place(&self) -> bool {
        match self {
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().any(Self::has_place),
            Self::Not(_) | Self::Present(_) => false,
            Self::Equal(_, parts) => parts.iter().any(|part| matches!(part, Part::Address | Part::Local)),
        }
    }

    // The recursion is bounded by MAX_DEPTH.
    fn encode(&self, address: &MailAddress) -> Vec<u8> {
        match self {
            Self::And(nodes) => tlv(Tag(0xA0), &encode_all(nodes, address)),
            Self::Or(nodes) => tlv(Tag(0xA1), &encode_all(nodes, address)),
            Self::Not(node) => tlv(Tag(0xA2), &node.encode(address)),
            Self::Present(attribute) => tlv(Tag(0x87), attribute.as_bytes()),
            Self::Equal(attribute, parts) => {
                let mut value = Vec::new();
                for part in parts {
                    value.extend_from_slice(match part {
                        Part::Text(text) => text,
                        Part::Address => address.as_str().as_bytes(),
                        Part::Local => address.local().as_bytes(),
                        Part::Domain => address.domain().as_bytes(),
                    });
                }
                tlv(Tag(0xA3), &[string(attribute.as_bytes()), string(&value)].concat())
            }
        }
    }
}

fn encode_all(nodes: &[Node], address: &MailAddress) -> Vec<u8> {
    nodes.iter().flat_map(|node| node.encode(address)).collect()
}

/// One filter in parentheses, and what follows it.
fn parse(text: &str, depth: usize) -> Result<(Node, &str), String> {
    let Some(inside) = text.strip_prefix('(') else {
        return Err("a filter begins with a parenthesis, as in (mail={address})".to_owned());
    };
    let Some(depth) = depth.checked_sub(1) else {
        return Err("it is nested too deep".to_owned());
    };
    if let Some(list) = inside.strip_prefix('&') {
        let (nodes, rest) = parse_all(list, depth)?;
        return Ok((Node::And(nodes), rest));
    }
    if let Some(list) = inside.strip_prefix('|') {
        let (nodes, rest) = parse_all(list, depth)?;
        return Ok((Node::Or(nodes), rest));
    }
    if let Some(one) = inside.strip_prefix('!') {
        let (node, rest) = parse(one, depth)?;
        let rest = rest.strip_prefix(')').ok_or("a parenthesis is not closed")?;
        return Ok((Node::Not(Box::new(node)), rest));
    }
    let (item, rest) = inside.split_once(')').ok_or("a parenthesis is not closed")?;
    let (attribute, value) = item.split_once('=').ok_or_else(|| format!("{item:?} has no ="))?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ';' | '.');
    if attribute.is_empty() || !attribute.chars().all(is_name) {
        return Err(format!(
            "{attribute:?} is no attribute; equality and presence (=*) are what can be asked"
        ));
    }
    let attribute = attribute.to_owned();
    if value == "*" {
        Ok((Node::Present(attribute), rest))
    } else {
        Ok((Node::Equal(attribute, parts(value)?), rest))
    }
}

fn parse_all(mut text: &str, depth: usize) -> Result<(Vec<Node>, &str), String> {
    let mut nodes = Vec::new();
    while text.starts_with('(') {
        let (node, rest) = parse(text, depth)?;
        nodes.push(node);
        text = rest;
    }
    let rest = text.strip_prefix(')').ok_or("a parenthesis is not closed")?;
    if nodes.is_empty() { Err("& and | need filters behind them".to_owned()) } else { Ok((nodes, rest)) }
}

fn parts(value: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut text = Vec::new();
    let mut rest = value;
    while let Some(first) = rest.chars().next() {
        let place = [("{address}", Part::Address), ("{local}", Part::Local), ("{domain}", Part::Domain)];
        if let Some((name, part)) = place.into_iter().find(|(name, _)| rest.starts_with(name)) {
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(part);
            rest = rest.strip_prefix(name).unwrap_or_default();
            continue;
        }
        let after = rest.strip_prefix(first).unwrap_or_default();
        match first {
            '\\' => {
                let digits = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                text.push(digits.ok_or("a \\ is followed by two hexadecimal digits")?);
                rest = after.get(2..).unwrap_or_default();
            }
            '*' | '(' | '{' | '}' => {
                return Err(format!(
                    "{value:?}: the places are {{address}}, {{local}} and {{domain}}; other {first} are written as \\xx"
                ));
            }
            other => {
                text.extend(other.to_string().bytes());
                rest = after;
            }
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> MailAddress {
        MailAddress::parse(text).unwrap()
    }

    #[test]
    fn a_filter_is_parsed_once_and_the_address_is_put_in_as_octets() {
        let filter =
            FilterTemplate::parse("(&(objectClass=*)(|(mail={address})(uid={local}\\2a))(!(o=x)))").unwrap();
        let expected = tlv(
            Tag(0xA0),
            &[
                tlv(Tag(0x87), b"objectClass"),
                tlv(
                    Tag(0xA1),
                    &[
                        tlv(Tag(0xA3), &[string(b"mail"), string(b"a@example.org")].concat()),
                        tlv(Tag(0xA3), &[string(b"uid"), string(b"a*")].concat()),
                    ]
                    .concat(),
                ),
                tlv(Tag(0xA2), &tlv(Tag(0xA3), &[string(b"o"), string(b"x")].concat())),
            ]
            .concat(),
        );
        assert_eq!(filter.encode(&address("a@example.org")), expected);
        // `*` and `|` may stand in a local part; they stay letters of the value.
        let filter = FilterTemplate::default().encode(&address("*|uid=*@example.org"));
        assert_eq!(filter, tlv(Tag(0xA3), &[string(b"mail"), string(b"*|uid=*@example.org")].concat()));
        assert_eq!(FilterTemplate::parse("(mail={address})").unwrap(), FilterTemplate::default());
    }

    #[test]
    fn what_is_no_filter_is_refused_with_what_is_wrong() {
        let deep = format!("{}(a={{address}}){}", "(!".repeat(20), ")".repeat(20));
        for (text, expected) in [
            ("mail={address}", "begins with a parenthesis"),
            ("(mail={address}", "not closed"),
            ("(mail={address})x", "\"x\" follows"),
            ("(mail=alice)", "no place"),
            ("(!(mail={address}))", "no place"),
            ("(mail={adress})", "the places are"),
            ("(mail=*{local}*)", "other * are written"),
            ("(mail>={address})", "is no attribute"),
            ("(=x)", "is no attribute"),
            ("(&)", "need filters"),
            ("(mail)", "has no ="),
            ("(mail=\\zz{address})", "two hexadecimal"),
            (&deep, "too deep"),
        ] {
            let error = FilterTemplate::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
