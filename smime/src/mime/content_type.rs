//! Content-Type and fields like it: a value and parameters (RFC 2045 5.1, RFC 2231).
//!
//! Strict where agents could disagree: what is there twice is an error. Two habits of the field are
//! taken: a semicolon with nothing behind it, and `/`, `:`, `?`, `=`, `@` in a value without quotes.

use std::collections::BTreeMap;

use super::MimeError;

/// A media type with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType {
    media: String,
    parameters: Vec<(String, String)>,
    /// The names that RFC 2231's sections or encoding were undone for.
    in_sections: Vec<String>,
}

impl ContentType {
    /// Reads the value of a Content-Type field, folds and all.
    pub fn parse(value: &[u8]) -> Result<Self, MimeError> {
        let mut cursor = Cursor { field: "Content-Type", octets: value, at: 0 };
        cursor.skip_blanks()?;
        let kind = cursor.token("a type is expected")?;
        cursor.skip_blanks()?;
        cursor.expect(b'/', "a type without a subtype")?;
        cursor.skip_blanks()?;
        let subtype = cursor.token("a subtype is expected")?;
        let media = format!("{kind}/{subtype}").to_ascii_lowercase();
        let (parameters, in_sections) = cursor.parameters()?;
        Ok(Self { media, parameters, in_sections })
    }

    /// A media type that we write: lower case, with these parameters.
    pub fn new(media: &str, parameters: &[(&str, &str)]) -> Self {
        let parameters =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { media: media.to_owned(), parameters, in_sections: Vec::new() }
    }

    /// `type/subtype` in lower case.
    pub fn media(&self) -> &str {
        &self.media
    }

    /// Whether this is the media type. Case does not matter.
    pub fn is(&self, media: &str) -> bool {
        self.media.eq_ignore_ascii_case(media)
    }

    /// Whether this is a multipart of any kind.
    pub fn is_multipart(&self) -> bool {
        self.media.starts_with("multipart/")
    }

    /// The value of a parameter, RFC 2231's continuations and encoding undone. The case of the name
    /// does not matter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        parameter(&self.parameters, name)
    }

    /// Whether a parameter was written by RFC 2231, of which some programs read nothing.
    pub(crate) fn is_in_sections(&self, name: &str) -> bool {
        self.in_sections.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// All parameters in the order of their first appearance; names are in lower case.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }
}

/// A Content-Disposition (RFC 2183 2): the disposition in lower case and the parameters.
pub(super) fn disposition(value: &[u8]) -> Result<(String, Vec<(String, String)>), MimeError> {
    let mut cursor = Cursor { field: "Content-Disposition", octets: value, at: 0 };
    cursor.skip_blanks()?;
    let kind = cursor.token("a disposition is expected")?.to_ascii_lowercase();
    Ok((kind, cursor.parameters()?.0))
}

/// The value of a field that holds one token and nothing else.
pub(super) fn lone_token(field: &'static str, value: &[u8]) -> Result<String, MimeError> {
    let mut cursor = Cursor { field, octets: value, at: 0 };
    cursor.skip_blanks()?;
    let token = cursor.token("a token is expected")?.to_owned();
    cursor.skip_blanks()?;
    if cursor.peek().is_some() {
        return Err(cursor.error("there is more than one token"));
    }
    Ok(token)
}

pub(super) fn parameter<'p>(parameters: &'p [(String, String)], name: &str) -> Option<&'p str> {
    parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// More parameters than any honest field has; RFC 2231's continuations count one by one.
const MAX_PARAMETERS: usize = 200;

struct Cursor<'a> {
    field: &'static str,
    octets: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn error(&self, reason: &'static str) -> MimeError {
        MimeError::Malformed { field: self.field, at: self.at, reason }
    }

    fn peek(&self) -> Option<u8> {
        self.octets.get(self.at).copied()
    }

    fn bump(&mut self) -> Option<u8> {
        let octet = self.peek()?;
        self.at += 1;
        Some(octet)
    }

    fn expect(&mut self, octet: u8, reason: &'static str) -> Result<(), MimeError> {
        if self.peek() != Some(octet) {
            return Err(self.error(reason));
        }
        self.at += 1;
        Ok(())
    }

    /// White space, folds and comments (RFC 5322 3.2.2). Comments nest; a counter is all that needs.
    fn skip_blanks(&mut self) -> Result<(), MimeError> {
        let mut nesting = 0_usize;
        while let Some(octet) = self.peek() {
            match octet {
                b'(' => nesting += 1,
                b')' if nesting > 0 => nesting -= 1,
                b'\\' if nesting > 0 => self.at += 1,
                b' ' | b'\t' => {}
                b'\r' if self.octets.get(self.at + 1) == Some(&b'\n') => self.at += 1,
                _ if nesting > 0 => {}
                _ => return Ok(()),
            }
            self.at += 1;
        }
        if nesting > 0 { Err(self.error("a comment has no end")) } else { Ok(()) }
    }

    /// RFC 2045's token.
    fn token(&mut self, reason: &'static str) -> Result<&'a str, MimeError> {
        self.run(is_token, reason)
    }

    fn run(&mut self, belongs: fn(u8) -> bool, reason: &'static str) -> Result<&'a str, MimeError> {
        let rest = self.octets.get(self.at..).unwrap_or_default();
        let len = rest.iter().take_while(|octet| belongs(**octet)).count();
        let text = rest.get(..len).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        if text.is_empty() {
            return Err(self.error(reason));
        }
        self.at += len;
        Ok(text)
    }

    /// The rest of a quoted string after the first quote (RFC 5322 3.2.4); folds vanish.
    fn quoted(&mut self) -> Result<Vec<u8>, MimeError> {
        let mut text = Vec::with_capacity(64);
        loop {
            match self.bump() {
                Some(b'"') => return Ok(text),
                Some(b'\\') => match self.bump() {
                    Some(octet) if !octet.is_ascii_control() => text.push(octet),
                    _ => return Err(self.error("a backslash escapes nothing")),
                },
                Some(b'\r') if self.peek() == Some(b'\n') => self.at += 1,
                Some(octet) if !octet.is_ascii_control() || octet == b'\t' => text.push(octet),
                Some(_) => return Err(self.error("a control character in a quoted string")),
                None => return Err(self.error("a quoted string has no end")),
            }
        }
    }

    /// `*(";" attribute "=" value)` up to the end.
    fn parameters(&mut self) -> Result<Parameters, MimeError> {
        let mut collected = Collector::default();
        for _ in 0..MAX_PARAMETERS {
            self.skip_blanks()?;
            if self.peek().is_none() {
                return collected.finish(self);
            }
            self.expect(b';', "a semicolon is expected")?;
            self.skip_blanks()?;
            if matches!(self.peek(), None | Some(b';')) {
                continue;
            }
            let name = self.token("a parameter's name is expected")?;
            self.skip_blanks()?;
            self.expect(b'=', "a parameter without a value")?;
            self.skip_blanks()?;
            let value = if self.peek() == Some(b'"') {
                self.at += 1;
                self.quoted()?
            } else {
                self.run(is_bare_value, "a parameter's value is expected")?.as_bytes().to_vec()
            };
            collected.add(name, value, self)?;
        }
        self.skip_blanks()?;
        if self.peek().is_some() {
            return Err(self.error("there are too many parameters"));
        }
        collected.finish(self)
    }
}

pub(super) fn is_token(octet: u8) -> bool {
    octet.is_ascii_graphic()
        && !matches!(
            octet,
            b'(' | b')'
                | b'<'
                | b'>'
                | b'@'
                | b','
                | b';'
                | b':'
                | b'\\'
                | b'"'
                | b'/'
                | b'['
                | b']'
                | b'?'
                | b'='
        )
}

fn is_bare_value(octet: u8) -> bool {
    is_token(octet) || b"/:?=@".contains(&octet)
}

/// Parameters, and the names of those that RFC 2231 was undone for.
type Parameters = (Vec<(String, String)>, Vec<String>);

/// Parameters by name in the order of their first appearance, with RFC 2231's pieces apart.
#[derive(Default)]
struct Collector {
    names: Vec<(String, Pieces)>,
}

#[derive(Default)]
struct Pieces {
    plain: Option<Vec<u8>>,
    /// By section number; whether the section is percent-encoded. `name*` is section 0.
    sections: BTreeMap<u8, (Vec<u8>, bool)>,
}

impl Collector {
    fn add(&mut self, name: &str, value: Vec<u8>, cursor: &Cursor<'_>) -> Result<(), MimeError> {
        let (name, suffix) = match name.split_once('*') {
            Some((name, suffix)) => (name.to_ascii_lowercase(), Some(suffix)),
            None => (name.to_ascii_lowercase(), None),
        };
        let ambiguous = || MimeError::Ambiguous { what: format!("parameter {name}") };
        let at = self.names.iter().position(|(known, _)| *known == name);
        let pieces = match at.and_then(|at| self.names.get_mut(at)) {
            Some((_, pieces)) => pieces,
            None => &mut self.names.push_mut((name.clone(), Pieces::default())).1,
        };
        let Some(suffix) = suffix else {
            return pieces.plain.replace(value).map_or(Ok(()), |_| Err(ambiguous()));
        };
        let (number, encoded) = match suffix.strip_suffix('*') {
            Some(number) => (number, true),
            None if suffix.is_empty() => ("0", true),
            None => (suffix, false),
        };
        let number: u8 = number
            .parse()
            .ok()
            .filter(|parsed: &u8| parsed.to_string() == number)
            .ok_or_else(|| cursor.error("a continuation without a number"))?;
        pieces.sections.insert(number, (value, encoded)).map_or(Ok(()), |_| Err(ambiguous()))
    }

    fn finish(self, cursor: &Cursor<'_>) -> Result<Parameters, MimeError> {
        let in_sections =
            self.names.iter().filter(|(_, pieces)| !pieces.sections.is_empty()).map(|(name, _)| name.clone());
        let in_sections = in_sections.collect();
        let parameters: Result<_, MimeError> = self
            .names
            .into_iter()
            .map(|(name, pieces)| {
                let value = match pieces.plain {
                    None => joined(&pieces.sections, cursor)?,
                    Some(plain) if pieces.sections.is_empty() => String::from_utf8(plain)
                        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
                    // A plain name beside an encoded one is for old agents, and shown to people only.
                    Some(_) if matches!(name.as_str(), "name" | "filename") => {
                        joined(&pieces.sections, cursor)?
                    }
                    Some(_) => return Err(MimeError::Ambiguous { what: format!("parameter {name}") }),
                };
                Ok((name, value))
            })
            .collect();
        Ok((parameters?, in_sections))
    }
}

/// RFC 2231 3 and 4: sections in order without a gap, and `charset'language'` in front of the first.
fn joined(sections: &BTreeMap<u8, (Vec<u8>, bool)>, cursor: &Cursor<'_>) -> Result<String, MimeError> {
    let mut octets = Vec::new();
    let mut charset = Vec::new();
    for (index, (number, (text, encoded))) in sections.iter().enumerate() {
        if usize::from(*number) != index {
            return Err(cursor.error("a continuation is missing"));
        }
        if !encoded {
            octets.extend_from_slice(text);
            continue;
        }
        let mut text = text.as_slice();
        if index == 0 {
            let mut pieces = text.splitn(3, |octet| *octet == b'\'');
            let (Some(name), Some(_language), Some(rest)) = (pieces.next(), pieces.next(), pieces.next())
            else {
                return Err(cursor.error("an encoded parameter without a charset"));
            };
            charset = name.to_ascii_lowercase();
            text = rest;
        }
        unpercent(text, &mut octets).ok_or_else(|| cursor.error("a percent sign without two digits"))?;
    }
    Ok(match charset.as_slice() {
        b"iso-8859-1" | b"windows-1252" => octets.iter().copied().map(char::from).collect(),
        _ => String::from_utf8_lossy(&octets).into_owned(),
    })
}

fn unpercent(text: &[u8], octets: &mut Vec<u8>) -> Option<()> {
    let mut rest = text.iter();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => super::codec::hex_pair(*rest.next()?, *rest.next()?)?,
            other => *other,
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> (String, Vec<(String, String)>) {
        let parsed = ContentType::parse(value.as_bytes()).unwrap_or_else(|error| panic!("{value}: {error}"));
        (parsed.media().to_owned(), parsed.parameters().to_vec())
    }

    #[test]
    fn values_and_parameters_are_read() {
        for (value, media, parameters) in [
            (" text/plain", "text/plain", &[][..]),
            (" Text/HTML;CharSet=UTF-8;", "text/html", &[("charset", "UTF-8")]),
            (
                " multipart/mixed;\r\n\tboundary=\"a \\\"b\\\\\"; ; x=y",
                "multipart/mixed",
                &[("boundary", "a \"b\\"), ("x", "y")],
            ),
            (
                " (c (n\\)ested))multipart (x) / (y) signed ; (z) boundary (q) = (r) b (s)",
                "multipart/signed",
                &[("boundary", "b")],
            ),
            ("a/b; boundary=----=_Part_1:2/3?4@5", "a/b", &[("boundary", "----=_Part_1:2/3?4@5")]),
            ("a/b; n=\"one\r\n two\"", "a/b", &[("n", "one two")]),
            // RFC 2231 4.1
            (
                "a/x; title*0*=us-ascii'en'This%20is%20even%20more%20; title*1*=%2A%2A%2Afun%2A%2A%2A%20; \
                 title*2=\"isn't it!\"",
                "a/x",
                &[("title", "This is even more ***fun*** isn't it!")],
            ),
            ("a/x; URL*1=\"b\"; y=z; URL*0=a", "a/x", &[("url", "ab"), ("y", "z")]),
            ("a/x; name=old; name*=utf-8''%c3%bc.pdf", "a/x", &[("name", "\u{fc}.pdf")]),
            ("a/x; name*=iso-8859-1''%fc", "a/x", &[("name", "\u{fc}")]),
        ] {
            let parameters: Vec<_> =
                parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(parsed(value), (media.to_owned(), parameters), "{value}");
        }
    }

    #[test]
    fn what_agents_could_read_in_two_ways_is_ambiguous() {
        for value in [
            "multipart/mixed; boundary=a; BOUNDARY=b",
            "multipart/mixed; boundary=a; boundary*=us-ascii''b",
            "multipart/mixed; boundary=a; boundary*0=b",
            "multipart/mixed; boundary*0=a; boundary*0=b",
            "multipart/mixed; boundary*=us-ascii''b; boundary*0=a",
        ] {
            let error = ContentType::parse(value.as_bytes()).unwrap_err();
            assert_eq!(error, MimeError::Ambiguous { what: "parameter boundary".into() }, "{value}");
        }
    }

    #[test]
    fn what_the_grammar_does_not_produce_is_malformed() {
        let many = format!("a/b{}", "; x=y".repeat(MAX_PARAMETERS + 1));
        for value in [
            "",
            "text",
            "text/",
            "/plain",
            "text/plain x",
            "text/plain; x",
            "text/plain; x=",
            "text/plain; =y",
            "text/plain; x=a b",
            "text/plain; x=\"a",
            "text/plain; x=\"a\\",
            "text/plain (c",
            "text/plain)",
            "text/plain; x=\u{fc}",
            "text/plain; x=\"\0\"",
            "text/plain; x=\"a\rb\"",
            "te\rxt/plain",
            "text/plain; x*1=b",
            "text/plain; x*0=a; x*2=c",
            "text/plain; x**=c",
            "text/plain; x*01=c",
            "text/plain; x*=abc",
            "text/plain; x*=utf-8''%4",
            "text/plain; x*=utf-8''%zz",
            "text/plain, x=y",
            "a/b; c=(d)",
            many.as_str(),
        ] {
            let parsed = ContentType::parse(value.as_bytes());
            assert!(
                matches!(parsed, Err(MimeError::Malformed { .. } | MimeError::Ambiguous { .. })),
                "{value}: {parsed:?}"
            );
        }
    }
}
