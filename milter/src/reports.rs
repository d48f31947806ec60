//! Recipients for whom the sender asked to be told of success (`NOTIFY=SUCCESS` of RFC 3461, 4.1), and how each is named
//! again without that.
//!
//! Such a report holds the header of what was delivered, with our verdict on the ciphertext in it.

use std::ffi::CString;

/// A recipient of whose success the sender wants to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    /// As it was given, without angle brackets.
    pub(crate) recipient: String,
    /// What the sender asked for but for that: `NOTIFY` and, if it was there, `ORCPT`.
    pub(crate) otherwise: CString,
}

impl Reported {
    /// The recipient, if the arguments of its `RCPT` ask for reports of success.
    pub(crate) fn of(recipient: &str, arguments: &[CString]) -> Option<Self> {
        let parameters = || {
            arguments.iter().skip(1).filter_map(|argument| {
                let octets = argument.to_bytes();
                let equals = octets.iter().position(|octet| *octet == b'=')?;
                let (keyword, value) = octets.split_at_checked(equals)?;
                Some((keyword, value.get(1..)?, octets))
            })
        };
        let mut is_asked = false;
        let mut others: Vec<&[u8]> = Vec::new();
        for (_, value, _) in parameters().filter(|(keyword, ..)| keyword.eq_ignore_ascii_case(b"NOTIFY")) {
            for word in value.split(|octet| *octet == b',') {
                let word = word.trim_ascii();
                if word.eq_ignore_ascii_case(b"SUCCESS") {
                    is_asked = true;
                } else if [&b"FAILURE"[..], b"DELAY"].iter().any(|known| word.eq_ignore_ascii_case(known)) {
                    others.push(word);
                }
            }
        }
        if !is_asked {
            return None;
        }
        let notify = if others.is_empty() { b"NEVER".to_vec() } else { others.join(&b',') };
        let mut otherwise = [&b"NOTIFY="[..], &notify].concat();
        let original = parameters().find(|(keyword, ..)| keyword.eq_ignore_ascii_case(b"ORCPT"));
        if let Some((_, _, parameter)) = original {
            otherwise.push(b' ');
            otherwise.extend_from_slice(parameter);
        }
        // All octets are of strings without NUL.
        Some(Self { recipient: recipient.to_owned(), otherwise: CString::new(otherwise).ok()? })
    }

    /// How many octets it takes.
    pub(crate) fn octets(&self) -> usize {
        size_of::<Self>() + self.recipient.len() + self.otherwise.as_bytes().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_taken_out_of_what_the_sender_asked_for_and_the_rest_is_kept() {
        for (parameters, expected) in [
            (&[][..], None),
            (&["NOTIFY=NEVER"], None),
            (&["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;b@x"], None),
            (&["ORCPT=rfc822;NOTIFY=SUCCESS"], None),
            (&["NOTIFY"], None),
            (&["NOTIFY=SUCCESS"], Some("NOTIFY=NEVER")),
            (&["notify=success"], Some("NOTIFY=NEVER")),
            (&["NOTIFY=SUCCESS,FAILURE"], Some("NOTIFY=FAILURE")),
            (&["NOTIFY=Delay,Success,Failure"], Some("NOTIFY=Delay,Failure")),
            (&["NOTIFY=SUCCESS,X"], Some("NOTIFY=NEVER")),
            (&["NOTIFY=FAILURE", "NOTIFY=SUCCESS"], Some("NOTIFY=FAILURE")),
            (&["orcpt=rfc822;b+2B@x", "X=1", "NOTIFY=SUCCESS"], Some("NOTIFY=NEVER orcpt=rfc822;b+2B@x")),
        ] {
            let arguments = [&["<b@x>"], parameters].concat();
            let arguments: Vec<_> = arguments.iter().map(|one| CString::new(*one).unwrap()).collect();
            let reported = Reported::of("b@x", &arguments);
            let otherwise = reported.as_ref().map(|reported| reported.otherwise.to_str().unwrap());
            assert_eq!(otherwise, expected, "{parameters:?}");
        }
        assert_eq!(Reported::of("b@x", &[]), None);
    }
}
