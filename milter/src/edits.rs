//! From [`Edits`] to milter requests, in the one order that Postfix and Sendmail understand alike.
//!
//! Removals of a name go from the highest index down (Postfix renumbers at once, Sendmail does not), insertions
//! only to place 0 (the MTAs count the others differently), and the body comes last in one run (Postfix allows
//! nothing between two chunks). The envelope comes first, so that no opened text is with an MTA that may still
//! bounce it; a recipient is removed before it is named again, as the MTAs remove all of that address. All is checked before the first request leaves.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};

use agent::{Edits, Returned, Unwritable, plain};
use indymilter::{ActionError, ContextActions};
use smime::MailAddress;

use crate::reports::Reported;
use crate::together::Holding;

/// Why edits cannot be sent; always a defect on our side of the joint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum EditError {
    /// RFC 5322, 3.6.8: printable US-ASCII without the colon.
    #[error("{name:?} is no field name")]
    Name { name: String },
    /// A NUL, a bare CR, a line end at the end, or one that begins a new field.
    #[error("the value of {name} has an octet or a fold that a field cannot have at {at}")]
    Value { name: String, at: usize },
    /// Postfix cuts header fields at 60000 octets without a word.
    #[error("the value of {name} has {octets} octets")]
    TooLong { name: String, octets: usize },
    /// Places count from 1; Postfix takes 0 for 1.
    #[error("there is no field {name} at {index}")]
    Index { name: String, index: u32 },
    /// RFC 5321, 4.1.2: no address holds a control character, and another command might begin there.
    #[error("the envelope sender holds a control character")]
    Sender,
    /// The same, or it is one that the MTA may not find when it is told to remove it.
    #[error("a recipient that is to be removed is no plain address")]
    Recipient,
}

/// Edits ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Requests {
    /// Whether the MTA shall hold the message.
    is_quarantined: bool,
    sender: Option<SenderRequest>,
    /// Recipients that are removed,
    removed: Vec<CString>,
    /// and those of them that are named again, with ESMTP parameters.
    added: Vec<(CString, CString)>,
    fields: Vec<FieldRequest>,
    body: Option<Vec<u8>>,
}

/// `MAIL FROM` once more: the path and ESMTP parameters.
#[derive(Debug, PartialEq, Eq)]
struct SenderRequest {
    path: CString,
    parameters: Option<&'static CStr>,
}

#[derive(Debug, PartialEq, Eq)]
enum FieldRequest {
    Remove { name: CString, index: i32 },
    Append { name: CString, value: CString },
    Prepend { name: CString, value: CString },
}

impl Requests {
    /// Orders and checks the edits of a message from this envelope sender, who asked for some reports of success.
    pub(crate) fn new(edits: Edits, sender: &str, reported: &[Reported]) -> Result<Self, EditError> {
        let sender = sender_request(&edits, sender)?;
        let unreported = unreported(&edits, reported);
        let again: BTreeSet<_> = unreported.iter().map(|one| &one.recipient).collect();
        let removed = edits.remove_recipients.iter().chain(again);
        let removed = removed.map(|one| removable(one)).collect::<Result<_, _>>()?;
        let added = unreported
            .into_iter()
            .map(|one| Ok((path(&one.recipient, EditError::Recipient)?, one.otherwise.clone())));
        let added = added.collect::<Result<_, _>>()?;
        let mut fields = removals(&edits)?;
        for (name, value) in &edits.append {
            fields.push(FieldRequest::Append { name: field_name(name)?, value: field_value(name, value)? });
        }
        // Each goes above all others, so the topmost comes last.
        for (name, value) in edits.prepend.iter().rev() {
            fields.push(FieldRequest::Prepend { name: field_name(name)?, value: field_value(name, value)? });
        }
        Ok(Self { is_quarantined: false, sender, removed, added, fields, body: edits.body })
    }

    /// Has the message held by the MTA where it is to be.
    pub(crate) fn quarantined(self, is_quarantined: bool) -> Self {
        Self { is_quarantined, ..self }
    }

    /// Sends them. After an error the MTA has some of the edits, so the message must not be accepted. The last one takes
    /// along what is held back, so that all of them have left when this is done.
    pub(crate) async fn send(
        self,
        to: &(impl ContextActions + Sync),
        holding: Holding<'_>,
    ) -> Result<(), ActionError> {
        let mut holding = Some(holding);
        let mut requests = self.in_order().peekable();
        while let Some(request) = requests.next() {
            if requests.peek().is_none() {
                drop(holding.take());
            }
            request.send(to).await?;
        }
        Ok(())
    }

    fn in_order(self) -> impl Iterator<Item = Request> {
        let Self { is_quarantined, sender, removed, added, fields, body } = self;
        // First: what shall be held is never delivered for want of it.
        let quarantine = is_quarantined.then_some(Request::Quarantine);
        (quarantine.into_iter())
            .chain(sender.map(Request::Sender))
            .chain(removed.into_iter().map(Request::RemoveRecipient))
            .chain(added.into_iter().map(|(path, parameters)| Request::AddRecipient(path, parameters)))
            .chain(fields.into_iter().map(Request::Field))
            .chain(body.map(Request::Body))
    }
}

/// One of them.
enum Request {
    Quarantine,
    Sender(SenderRequest),
    RemoveRecipient(CString),
    AddRecipient(CString, CString),
    Field(FieldRequest),
    Body(Vec<u8>),
}

impl Request {
    async fn send(self, to: &(impl ContextActions + Sync)) -> Result<(), ActionError> {
        match self {
            Self::Quarantine => to.quarantine(QUARANTINE_REASON).await,
            Self::Sender(SenderRequest { path, parameters }) => to.change_sender(path, parameters).await,
            Self::RemoveRecipient(recipient) => to.delete_recipient(recipient).await,
            Self::AddRecipient(recipient, parameters) => {
                to.add_recipient_ext(recipient, Some(parameters)).await
            }
            Self::Field(FieldRequest::Remove { name, index }) => {
                to.change_header(name, index, None::<CString>).await
            }
            Self::Field(FieldRequest::Append { name, value }) => to.add_header(name, value).await,
            Self::Field(FieldRequest::Prepend { name, value }) => to.insert_header(0, name, value).await,
            Self::Body(body) => to.replace_body(&body).await,
        }
    }
}

/// For whoever looks into the queue.
const QUARANTINE_REASON: &CStr = c"held by a rule on S/MIME";

/// What keeps the text out of bounces, or has them go to somebody else. To the null sender there are none, and
/// a message that has it must not become one that is bounced (RFC 5321, 4.5.5).
fn sender_request(edits: &Edits, sender: &str) -> Result<Option<SenderRequest>, EditError> {
    let parameters = match edits.returned {
        Returned::Full => None,
        Returned::HeadersOnly => Some(c"RET=HDRS"),
    };
    let new = edits.sender.as_ref().map(MailAddress::as_str);
    if sender.is_empty() || (parameters.is_none() && new.is_none()) {
        return Ok(None);
    }
    let path = path(new.unwrap_or(sender), EditError::Sender)?;
    Ok(Some(SenderRequest { path, parameters }))
}

/// Those of whose success the sender must not hear: a report of it holds the header as it was delivered, and with it
/// whether ciphertext could be decrypted, for as many tries as somebody likes (RFC 3218). Nothing is put to a key where one of
/// them is no plain address: who cannot be removed stays as he is, or such mail would wait for ever.
fn unreported<'r>(edits: &Edits, reported: &'r [Reported]) -> Vec<&'r Reported> {
    match edits.returned {
        Returned::Full => Vec::new(),
        Returned::HeadersOnly => {
            let stays = |one: &&Reported| {
                !edits.remove_recipients.contains(&one.recipient) && plain(&one.recipient).is_some()
            };
            reported.iter().filter(stays).collect()
        }
    }
}

/// A recipient whom the MTA surely finds. Whoever is not removed gets what is for others, and the MTA says nothing of it.
fn removable(recipient: &str) -> Result<CString, EditError> {
    plain(recipient).ok_or(EditError::Recipient)?;
    path(recipient, EditError::Recipient)
}

/// An address in angle brackets.
fn path(address: &str, error: EditError) -> Result<CString, EditError> {
    let path = format!("<{address}>");
    match CString::new(path) {
        Ok(path) if !address.contains(char::is_control) => Ok(path),
        _ => Err(error),
    }
}

/// One removal per field, the last of each name first.
fn removals(edits: &Edits) -> Result<Vec<FieldRequest>, EditError> {
    let mut places: Vec<_> =
        edits.remove.iter().map(|field| (field.name.to_ascii_lowercase(), field)).collect();
    places.sort_by(|(a, x), (b, y)| a.cmp(b).then(y.index.cmp(&x.index)));
    // A second removal of the same place would hit the next field.
    places.dedup_by(|(a, x), (b, y)| a == b && x.index == y.index);
    places
        .into_iter()
        .map(|(_, field)| {
            let index = i32::try_from(field.index)
                .ok()
                .filter(|index| *index > 0)
                .ok_or_else(|| EditError::Index { name: field.name.clone(), index: field.index })?;
            Ok(FieldRequest::Remove { name: field_name(&field.name)?, index })
        })
        .collect()
}

fn field_name(name: &str) -> Result<CString, EditError> {
    let error = || EditError::Name { name: name.chars().take(80).collect() };
    if !agent::is_field_name(name) {
        return Err(error());
    }
    CString::new(name).map_err(|_| error())
}

/// The value as it goes to the MTA: the space after the colon is ours to give since we negotiate leading spaces.
fn field_value(name: &str, value: &str) -> Result<CString, EditError> {
    let error = |at| EditError::Value { name: name.to_owned(), at };
    match agent::field_value(value) {
        Ok(value) => CString::new(value).map_err(|nul| error(nul.nul_position())),
        Err(Unwritable::TooLong(octets)) => Err(EditError::TooLong { name: name.to_owned(), octets }),
        Err(Unwritable::Octet(at)) => Err(error(at)),
        Err(_) => Err(error(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::FieldRef;

    fn remove(name: &str, index: u32) -> FieldRef {
        FieldRef { name: name.to_owned(), index }
    }

    fn field(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn spelled(edits: Edits) -> Vec<String> {
        let text = |octets: &CString| octets.to_str().unwrap().to_owned();
        Requests::new(edits, "a@x.invalid", &[])
            .unwrap()
            .fields
            .iter()
            .map(|request| match request {
                FieldRequest::Remove { name, index } => format!("-{} {index}", text(name)),
                FieldRequest::Append { name, value } => format!("+{}:{}", text(name), text(value)),
                FieldRequest::Prepend { name, value } => format!("^{}:{}", text(name), text(value)),
            })
            .collect()
    }

    #[test]
    fn fields_are_removed_from_the_highest_index_down_and_the_first_prepended_ends_on_top() {
        let edits = Edits {
            remove: vec![remove("Subject", 1), remove("X-A", 1), remove("x-a", 3), remove("X-A", 2)],
            prepend: vec![field("P", "first"), field("P", "second")],
            append: vec![field("Q", "first"), field("Q", "second")],
            ..Edits::default()
        };
        assert_eq!(
            spelled(edits),
            [
                "-Subject 1",
                "-x-a 3",
                "-X-A 2",
                "-X-A 1",
                "+Q: first",
                "+Q: second",
                "^P: second",
                "^P: first"
            ]
        );
    }

    #[test]
    fn a_field_named_twice_is_removed_once() {
        let edits =
            Edits { remove: vec![remove("X-A", 1), remove("X-B", 1), remove("x-a", 1)], ..Edits::default() };
        assert_eq!(spelled(edits), ["-X-A 1", "-X-B 1"]);
    }

    #[test]
    fn folds_become_lf() {
        let edits = Edits { append: vec![field("Q", "a;\r\n b;\n\tc"), field("E", "")], ..Edits::default() };
        assert_eq!(spelled(edits), ["+Q: a;\n b;\n\tc", "+E: "]);
    }

    #[test]
    fn nothing_is_sent_that_an_mta_would_read_otherwise() {
        let long = "x".repeat(60_000);
        let value = |value: &str| Edits { prepend: vec![field("P", value)], ..Edits::default() };
        let name = |name: &str| Edits { append: vec![field(name, "v")], ..Edits::default() };
        let place = |name: &str, index| Edits { remove: vec![remove(name, index)], ..Edits::default() };
        for (case, edits) in [
            ("injected field", value("a\r\nBcc: x@x.invalid")),
            ("injected empty line", value("a\r\n\r\nbody")),
            ("line end at the end", value("a\r\n")),
            ("bare CR", value("a\rb")),
            ("doubled CR", value("a\r\r\n b")),
            ("NUL", value("a\0b")),
            ("longer than Postfix keeps", value(&long)),
            ("empty name", name("")),
            ("colon in a name", name("A:B")),
            ("space in a name", name("A B")),
            ("line end in a name", name("A\nB")),
            ("beyond ASCII in a name", name("Ä")),
            ("NUL in a name", name("A\0")),
            ("place 0", place("A", 0)),
            ("place beyond the protocol", place("A", u32::MAX)),
            ("bad name to remove", place("", 1)),
        ] {
            assert!(Requests::new(edits, "", &[]).is_err(), "{case}");
        }
        assert!(Requests::new(value(&"x".repeat(59_999)), "", &[]).is_ok());
    }

    #[test]
    fn nobody_hears_of_the_success_of_what_bounces_must_not_hold() {
        let reported = |recipient: &str, otherwise: &str| Reported {
            recipient: recipient.to_owned(),
            otherwise: CString::new(otherwise).unwrap(),
        };
        let all = [
            reported("b@x.invalid", "NOTIFY=NEVER"),
            reported("c@x.invalid", "NOTIFY=FAILURE"),
            reported("b@x.invalid", "NOTIFY=DELAY"),
        ];
        let (c, d) = ("c@x.invalid".to_owned(), "d@x.invalid".to_owned());
        let (full, headers) = (Returned::Full, Returned::HeadersOnly);
        for (returned, copied, removed, added) in [
            (full, vec![], vec![], vec![]),
            (full, vec![c.clone()], vec!["<c@x.invalid>"], vec![]),
            (
                headers,
                vec![],
                vec!["<b@x.invalid>", "<c@x.invalid>"],
                vec![
                    "<b@x.invalid> NOTIFY=NEVER",
                    "<c@x.invalid> NOTIFY=FAILURE",
                    "<b@x.invalid> NOTIFY=DELAY",
                ],
            ),
            // Who gets a copy is not put back.
            (
                headers,
                vec![c, d],
                vec!["<c@x.invalid>", "<d@x.invalid>", "<b@x.invalid>"],
                vec!["<b@x.invalid> NOTIFY=NEVER", "<b@x.invalid> NOTIFY=DELAY"],
            ),
        ] {
            let edits = Edits { returned, remove_recipients: copied, ..Edits::default() };
            for sender in ["a@x.invalid", ""] {
                let requests = Requests::new(edits.clone(), sender, &all).unwrap();
                assert_eq!(requests.removed.iter().map(|r| r.to_str().unwrap()).collect::<Vec<_>>(), removed);
                let spelled = |(path, parameters): &(CString, CString)| {
                    format!("{} {}", path.to_str().unwrap(), parameters.to_str().unwrap())
                };
                assert_eq!(requests.added.iter().map(spelled).collect::<Vec<_>>(), added);
            }
        }
        let edits = Edits { returned: headers, ..Edits::default() };
        for odd in ["b\n@x.invalid", "\"b\"@x.invalid", "postmaster"] {
            let all = [reported(odd, "NOTIFY=NEVER"), reported("c@x.invalid", "NOTIFY=NEVER")];
            let requests = Requests::new(edits.clone(), "", &all).unwrap();
            assert_eq!(
                (requests.removed, requests.added.len()),
                (vec![c"<c@x.invalid>".to_owned()], 1),
                "{odd}"
            );
        }
        for recipient in
            ["@r.invalid:b@x.invalid", "B <b@x.invalid>", "b+\u{fffd}@x.invalid", "\"b\"@x.invalid"]
        {
            let edits = Edits { remove_recipients: vec![recipient.to_owned()], ..Edits::default() };
            assert_eq!(Requests::new(edits, "", &[]), Err(EditError::Recipient), "{recipient}");
        }
    }

    #[test]
    fn the_sender_is_named_again_only_to_change_what_bounces_to_it() {
        let postmaster = MailAddress::parse("postmaster@y.invalid").ok();
        let (full, headers) = (Returned::Full, Returned::HeadersOnly);
        for (returned, new, sender, expected) in [
            (full, &None, "a@x.invalid", None),
            (headers, &None, "a@x.invalid", Some(("<a@x.invalid>", true))),
            (headers, &None, "\"a>b\"@x.invalid", Some(("<\"a>b\"@x.invalid>", true))),
            (headers, &postmaster, "a@x.invalid", Some(("<postmaster@y.invalid>", true))),
            (full, &postmaster, "a@x.invalid", Some(("<postmaster@y.invalid>", false))),
            (headers, &None, "", None),
            (headers, &postmaster, "", None),
        ] {
            let edits = Edits { returned, sender: new.clone(), ..Edits::default() };
            let request = Requests::new(edits, sender, &[]).unwrap().sender;
            let spelled = request.as_ref().map(|r| (r.path.to_str().unwrap(), r.parameters.is_some()));
            assert_eq!(spelled, expected, "{returned:?} {new:?} {sender}");
        }
        let edits = || Edits { returned: headers, ..Edits::default() };
        for sender in ["a@x.invalid\n", "a\0b@x.invalid", "a\rb@x.invalid"] {
            assert_eq!(Requests::new(edits(), sender, &[]), Err(EditError::Sender), "{sender:?}");
        }
    }
}
