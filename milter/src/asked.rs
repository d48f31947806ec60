//! What the sender asked of delivery, out of the arguments of `MAIL` and `RCPT`: `RET`, `ENVID`, `NOTIFY` and `ORCPT`
//! (RFC 3461, 4), `SMTPUTF8` (RFC 6531, 3.4).
//!
//! What is not well formed is as if it were not there: the MTA has judged it, and it must be nothing but one parameter when
//! it is said to another server. `BODY` and `SIZE` are about the octets, which are others in a copy.

use std::ffi::CString;

use agent::{Asked, AskedOf, Returned};

use crate::xtext;

/// Of a transaction.
pub(crate) fn of_mail(arguments: &[CString]) -> Asked {
    let returned = value(arguments, "RET").and_then(|word| match word.to_ascii_uppercase().as_str() {
        "FULL" => Some(Returned::Full),
        "HDRS" => Some(Returned::HeadersOnly),
        _ => None,
    });
    let is_id = |id: &String| (1..=MAX_ENVELOPE_ID).contains(&id.len()) && xtext::printable(id).is_some();
    let envelope_id = value(arguments, "ENVID").filter(is_id);
    let is_international =
        arguments.iter().skip(1).any(|argument| argument.to_bytes().eq_ignore_ascii_case(b"SMTPUTF8"));
    Asked { returned, envelope_id, is_international, ..Asked::default() }
}

/// Of a recipient; `None` where nothing was.
pub(crate) fn of_rcpt(arguments: &[CString]) -> Option<AskedOf> {
    let notify = value(arguments, "NOTIFY").and_then(|words| notify(&words));
    let original = value(arguments, "ORCPT").filter(|original| is_original(original));
    (notify.is_some() || original.is_some()).then_some(AskedOf { notify, original })
}

/// Whether reports of failure are wanted where this was asked (RFC 3461, 4.1); where nothing was, they are.
pub(crate) fn wants_failures(asked: Option<&AskedOf>) -> bool {
    let words = asked.and_then(|asked| asked.notify.as_deref());
    words.is_none_or(|words| words.split(',').any(|word| word == FAILURE))
}

/// How many octets it takes.
pub(crate) fn octets(asked: &AskedOf) -> usize {
    let len = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    size_of::<(String, AskedOf)>() + len(&asked.notify) + len(&asked.original)
}

/// The same without reports of success.
pub(crate) fn without_success(words: &str) -> String {
    let others: Vec<&str> = words.split(',').filter(|word| *word != "SUCCESS").collect();
    if others.is_empty() { NEVER.to_owned() } else { others.join(",") }
}

/// The value of the first parameter of a name.
fn value(arguments: &[CString], name: &str) -> Option<String> {
    arguments.iter().skip(1).find_map(|argument| {
        let (keyword, value) = argument.to_str().ok()?.split_once('=')?;
        keyword.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

/// Either `NEVER`, or some of the others, each once.
fn notify(words: &str) -> Option<String> {
    let words = words.to_ascii_uppercase();
    if words == NEVER {
        return Some(words);
    }
    let mut known = Vec::new();
    for word in words.split(',') {
        let word = WORDS.into_iter().find(|known| *known == word)?;
        if !known.contains(&word) {
            known.push(word);
        }
    }
    Some(known.join(","))
}

/// A type and an address: in xtext, or, of the type `utf-8`, in UTF-8 without what xtext would escape (RFC 6533, 3).
fn is_original(original: &str) -> bool {
    let (kind, address) = original.split_once(';').unwrap_or_default();
    let is_kind = kind.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    let is_part = |c: char| match c {
        '+' | '=' => false,
        _ => c.is_ascii_graphic() || (!c.is_ascii() && !c.is_whitespace() && !c.is_control()),
    };
    let is_address = if kind.eq_ignore_ascii_case("utf-8") {
        address.chars().all(is_part)
    } else {
        xtext::decoded(address).is_some()
    };
    !kind.is_empty() && is_kind && !address.is_empty() && original.len() <= MAX_ORIGINAL && is_address
}

const NEVER: &str = "NEVER";
const FAILURE: &str = "FAILURE";
const WORDS: [&str; 3] = ["SUCCESS", FAILURE, "DELAY"];
/// RFC 3461, 4.4.
const MAX_ENVELOPE_ID: usize = 100;
/// RFC 3461, 4.2.
const MAX_ORIGINAL: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(parameters: &[&str]) -> Vec<CString> {
        [&["<a@x.invalid>"], parameters].concat().iter().map(|one| CString::new(*one).unwrap()).collect()
    }

    #[test]
    fn what_was_asked_of_a_transaction_is_found_and_what_is_malformed_is_not() {
        let asked = |returned, id: Option<&str>, is_international| Asked {
            returned,
            envelope_id: id.map(str::to_owned),
            is_international,
            ..Asked::default()
        };
        let long = format!("ENVID={}", "x".repeat(101));
        for (parameters, expected) in [
            (&[][..], asked(None, None, false)),
            (&["SIZE=7", "BODY=8BITMIME"], asked(None, None, false)),
            (&["RET=HDRS", "ENVID=QQ+2B1"], asked(Some(Returned::HeadersOnly), Some("QQ+2B1"), false)),
            (&["ret=full", "smtputf8", "envid=a"], asked(Some(Returned::Full), Some("a"), true)),
            (&["RET=ALL", "ENVID=", "SMTPUTF8=1"], asked(None, None, false)),
            (&["ENVID=a b", "RET"], asked(None, None, false)),
            (&["ENVID=a\r\nRCPT"], asked(None, None, false)),
            (&["ENVID=\u{e4}"], asked(None, None, false)),
            // xtext of what no field may hold, and what is no xtext.
            (&["ENVID=a+0D+0ABcc:b"], asked(None, None, false)),
            (&["ENVID=a+2b", "RET=HDRS"], asked(Some(Returned::HeadersOnly), None, false)),
            (&["ENVID=a+", "SMTPUTF8"], asked(None, None, true)),
            (&["ENVID=a=b"], asked(None, None, false)),
            (&[&long], asked(None, None, false)),
        ] {
            assert_eq!(of_mail(&arguments(parameters)), expected, "{parameters:?}");
        }
        assert_eq!(of_mail(&[]), Asked::default());
        assert_eq!(of_mail(&[CString::new("SMTPUTF8").unwrap()]), Asked::default(), "it is the address");
    }

    #[test]
    fn what_was_asked_of_a_recipient_is_found_and_what_is_malformed_is_not() {
        let asked = |notify: Option<&str>, original: Option<&str>| {
            Some(AskedOf { notify: notify.map(str::to_owned), original: original.map(str::to_owned) })
        };
        for (parameters, expected) in [
            (&[][..], None),
            (&["NOTIFY=NEVER"], asked(Some("NEVER"), None)),
            (
                &["notify=success,Delay", "ORCPT=rfc822;b+2Bx@y"],
                asked(Some("SUCCESS,DELAY"), Some("rfc822;b+2Bx@y")),
            ),
            (&["NOTIFY=FAILURE,FAILURE"], asked(Some("FAILURE"), None)),
            (&["NOTIFY=NEVER,SUCCESS"], None),
            (&["NOTIFY=", "ORCPT=rfc822"], None),
            (&["NOTIFY=SUCCESS DATA", "ORCPT=;b"], None),
            (&["ORCPT=rfc822;b c"], None),
            (&["ORCPT=rfc822;b\nQUIT"], None),
            (&["ORCPT=utf-8;b\u{fc}@y"], asked(None, Some("utf-8;b\u{fc}@y"))),
            (&["ORCPT=UTF-8;b\\x{FC}@y"], asked(None, Some("UTF-8;b\\x{FC}@y"))),
            (&["ORCPT=utf-8;b+2B@y"], None),
            (&["ORCPT=rfc822;b\u{fc}@y", "NOTIFY=DELAY"], asked(Some("DELAY"), None)),
            (&["ORCPT=rfc822;b+x@y", "NOTIFY=NEVER"], asked(Some("NEVER"), None)),
            (&["ORCPT=rfc822;b=x@y"], None),
            (&["ORCPT=rfc822;b+2"], None),
            (&["ORCPT=rfc822;"], None),
            (&[&format!("ORCPT=rfc822;{}", "b".repeat(494))], None),
        ] {
            assert_eq!(of_rcpt(&arguments(parameters)), expected, "{parameters:?}");
        }
    }

    #[test]
    fn failures_are_reported_unless_something_else_alone_was_asked_for() {
        assert!(wants_failures(None) && wants_failures(Some(&AskedOf::default())));
        for (words, expected) in [
            ("FAILURE", true),
            ("SUCCESS,FAILURE", true),
            ("NEVER", false),
            ("SUCCESS", false),
            ("SUCCESS,DELAY", false),
            ("DELAY", false),
        ] {
            let asked = AskedOf { notify: Some(words.to_owned()), original: None };
            assert_eq!(wants_failures(Some(&asked)), expected, "{words}");
        }
    }

    #[test]
    fn success_is_taken_out_and_the_rest_is_kept() {
        for (words, without) in
            [("NEVER", "NEVER"), ("SUCCESS", "NEVER"), ("SUCCESS,DELAY", "DELAY"), ("FAILURE", "FAILURE")]
        {
            assert_eq!(without_success(words), without);
        }
    }
}
