//! The mailboxes that a field's value lists (RFC 5322 3.4): a strict subset of the grammar, without any address that only
//! looks like one.

use super::from::{FromError, malformed};
use crate::MailAddress;

/// RFC 5322's mailbox-list without its obsolete forms, but for dots in display names.
pub(super) fn mailboxes(value: &[u8]) -> Result<Vec<MailAddress>, FromError> {
    let text = std::str::from_utf8(value).map_err(|_| malformed("it is not UTF-8"))?;
    let mut tokens = tokens(text)?.into_iter().peekable();
    let mut addresses = Vec::new();
    loop {
        let mut before = Vec::new();
        while let Some(token) = tokens.next_if(|token| !matches!(token.kind, Kind::Comma | Kind::Less)) {
            before.push(token);
        }
        if tokens.next_if(|token| token.kind == Kind::Less).is_some() {
            if !before.iter().all(|token| matches!(token.kind, Kind::Atom(_) | Kind::Quoted | Kind::Dot)) {
                return Err(malformed("an unquoted special character in a display name"));
            }
            let mut inside = Vec::new();
            while let Some(token) = tokens.next_if(|token| token.kind != Kind::Greater) {
                inside.push(token);
            }
            let Some(end) = tokens.next() else {
                return Err(malformed("an angle bracket is not closed"));
            };
            if inside.iter().chain([&end]).any(|token| token.after_comment) {
                return Err(malformed("a comment in angle brackets, of which some agents show an address"));
            }
            addresses.push(addr_spec(&inside)?);
        } else {
            addresses.push(addr_spec(&before)?);
        }
        match tokens.next().map(|token| token.kind) {
            None => return Ok(addresses),
            Some(Kind::Comma) => {}
            Some(_) => return Err(malformed("something between an address and the next comma")),
        }
    }
}

/// `dot-atom "@" dot-atom` without white space and comments inside.
fn addr_spec(tokens: &[Token<'_>]) -> Result<MailAddress, FromError> {
    let mut text = String::new();
    let mut atom_is_next = true;
    for (index, token) in tokens.iter().enumerate() {
        if token.after_blank && index > 0 {
            return Err(malformed("white space or a comment in an address"));
        }
        match token.kind {
            Kind::Atom(atom) if atom_is_next && !atom.starts_with("=?") => text.push_str(atom),
            Kind::Dot if !atom_is_next => text.push('.'),
            Kind::At if !atom_is_next => text.push('@'),
            Kind::Quoted => return Err(malformed("a quoted local part is not taken")),
            _ => return Err(malformed("an address that is not local@domain")),
        }
        atom_is_next = !atom_is_next;
    }
    if atom_is_next {
        return Err(malformed("an address that is not local@domain"));
    }
    Ok(MailAddress::parse(&text)?)
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind<'a>,
    /// Whether white space or a comment is in front of it.
    after_blank: bool,
    /// Whether that is a comment.
    after_comment: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind<'a> {
    Atom(&'a str),
    /// A quoted string. What is in it is for people.
    Quoted,
    Dot,
    At,
    Comma,
    Less,
    Greater,
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, FromError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let (mut after_blank, mut after_a_comment) = (false, false);
    while let Some(first) = rest.chars().next() {
        let tail = rest.get(first.len_utf8()..).unwrap_or_default();
        let kind = match first {
            // A value holds CR and LF in folds only; see `has_bare_line_end`.
            ' ' | '\t' | '\r' | '\n' => {
                after_blank = true;
                rest = tail;
                continue;
            }
            '(' => {
                (after_blank, after_a_comment) = (true, true);
                rest = after_comment(tail)?;
                continue;
            }
            '"' => {
                rest = after_quoted(tail)?;
                Kind::Quoted
            }
            '.' | '@' | ',' | '<' | '>' => {
                rest = tail;
                match first {
                    '.' => Kind::Dot,
                    '@' => Kind::At,
                    ',' => Kind::Comma,
                    '<' => Kind::Less,
                    _ => Kind::Greater,
                }
            }
            ':' | ';' => return Err(malformed("groups are not taken")),
            _ => {
                let len = rest.find(|c| !is_atext(c)).unwrap_or(rest.len());
                let (Some(atom), Some(tail)) =
                    (rest.get(..len).filter(|atom| !atom.is_empty()), rest.get(len..))
                else {
                    return Err(malformed("a character that has no place here"));
                };
                rest = tail;
                Kind::Atom(atom)
            }
        };
        tokens.push(Token { kind, after_blank, after_comment: after_a_comment });
        (after_blank, after_a_comment) = (false, false);
    }
    Ok(tokens)
}

/// RFC 5322 3.2.3, and RFC 6532 3.2 beyond ASCII.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}

/// What follows a comment whose opening parenthesis is gone already.
fn after_comment(text: &str) -> Result<&str, FromError> {
    let mut nesting = 1_usize;
    after(text, "a comment has no end", |c| {
        match c {
            '(' => nesting += 1,
            ')' => nesting -= 1,
            _ => {}
        }
        nesting == 0
    })
}

/// What follows a quoted string whose opening quote is gone already.
fn after_quoted(text: &str) -> Result<&str, FromError> {
    after(text, "a quoted string has no end", |c| c == '"')
}

/// What follows the first character that `ends`; characters behind a backslash never do.
fn after<'t>(
    text: &'t str,
    reason: &'static str,
    mut ends: impl FnMut(char) -> bool,
) -> Result<&'t str, FromError> {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '\r' | '\n' | '\t' => {}
            c if c.is_control() => return Err(malformed("a control character")),
            c if ends(c) => return Ok(chars.as_str()),
            _ => {}
        }
    }
    Err(malformed(reason))
}
