//! What one connection has told of the message under way.
//!
//! Pure state, without protocol or clock: the callbacks feed it and carry out what it answers.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::net::IpAddr;

use agent::Envelope;
use smime::mime::{Message, MessageBuilder};

/// One connection's state between two commands.
#[derive(Debug)]
pub(crate) struct Session {
    max_message_octets: usize,
    transaction: Option<Transaction>,
}

/// A mail transaction from `MAIL` on (RFC 5321, 3.3).
#[derive(Debug, Default)]
struct Transaction {
    envelope: Envelope,
    envelope_octets: usize,
    message: MessageBuilder,
    message_id: Option<String>,
    refusal: Option<Refusal>,
}

/// A message that came in completely.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) envelope: Envelope,
    pub(crate) message: Message,
    /// For the log.
    pub(crate) message_id: Option<String>,
}

/// Why something is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the header is larger than {MAX_HEADER_OCTETS} octets")]
    HeaderTooLarge,
    #[error("the message is larger than the milter's max-message-bytes")]
    MessageTooLarge,
    #[error("the envelope is larger than {MAX_ENVELOPE_OCTETS} octets")]
    TooManyRecipients,
    #[error("the MTA sent no MAIL command before this one")]
    NoTransaction,
}

impl Session {
    pub(crate) fn new(max_message_octets: usize) -> Self {
        Self { max_message_octets, transaction: None }
    }

    /// Whether a message is under way.
    pub(crate) fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Begins a transaction; whatever was under way is forgotten. `macros` looks up a macro of the MTA.
    pub(crate) fn mail<'m>(&mut self, arguments: &[CString], macros: impl Fn(&CStr) -> Option<&'m CStr>) {
        let text = |name| macros(name).map(CStr::to_string_lossy).filter(|value| !value.is_empty());
        let envelope = Envelope {
            sender: address(arguments),
            recipients: Vec::new(),
            client: text(c"{client_addr}").and_then(|value| client_address(&value)),
            login: text(c"{auth_authen}").map(Cow::into_owned),
            listener: text(c"{daemon_name}").map(Cow::into_owned),
        };
        let envelope_octets = envelope.sender.len();
        self.transaction = Some(Transaction { envelope, envelope_octets, ..Transaction::default() });
    }

    /// Adds a recipient. One too many is refused by itself; the transaction goes on.
    pub(crate) fn rcpt(&mut self, arguments: &[CString]) -> Result<(), Refusal> {
        let transaction = self.transaction.as_mut().ok_or(Refusal::NoTransaction)?;
        let recipient = address(arguments);
        let octets = transaction.envelope_octets + size_of::<String>() + recipient.len();
        if octets > MAX_ENVELOPE_OCTETS {
            return Err(Refusal::TooManyRecipients);
        }
        transaction.envelope_octets = octets;
        transaction.envelope.recipients.push(recipient);
        Ok(())
    }

    /// Adds a header field, `value` being all that follows the colon. There is no answer, because the MTA is
    /// told not to wait for one; what is wrong is said at the end of the header.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) {
        let Some(transaction) = &mut self.transaction else { return };
        if transaction.refusal.is_some() {
            return;
        }
        if transaction.message.len() + name.len() + value.len() > MAX_HEADER_OCTETS {
            transaction.refuse(Refusal::HeaderTooLarge);
            return;
        }
        transaction.message.field(name, value);
        if name.eq_ignore_ascii_case(b"Message-ID") && transaction.message_id.is_none() {
            transaction.message_id = Some(loggable(value));
        }
    }

    /// Ends the header. A refusal ends the transaction.
    pub(crate) fn end_of_header(&mut self) -> Result<(), Refusal> {
        let transaction = self.transaction.as_ref().ok_or(Refusal::NoTransaction)?;
        match transaction.refusal {
            Some(refusal) => {
                self.reset();
                Err(refusal)
            }
            None => Ok(()),
        }
    }

    /// Adds octets of the body. A refusal ends the transaction.
    pub(crate) fn body(&mut self, chunk: &[u8]) -> Result<(), Refusal> {
        let limit = self.max_message_octets;
        let transaction = self.transaction.as_mut().ok_or(Refusal::NoTransaction)?;
        if transaction.message.len() + chunk.len() > limit {
            transaction.refuse(Refusal::MessageTooLarge);
        }
        if let Some(refusal) = transaction.refusal {
            self.reset();
            return Err(refusal);
        }
        transaction.message.body(chunk);
        Ok(())
    }

    /// Ends the message and the transaction.
    pub(crate) fn end_of_message(&mut self) -> Result<Received, Refusal> {
        let Transaction { envelope, message, message_id, refusal, .. } =
            self.transaction.take().ok_or(Refusal::NoTransaction)?;
        match refusal {
            Some(refusal) => Err(refusal),
            None if message.len() > self.max_message_octets => Err(Refusal::MessageTooLarge),
            None => Ok(Received { envelope, message: message.finish(), message_id }),
        }
    }

    /// Forgets the message under way, if there is one. Postfix asks for it after each message, too.
    pub(crate) fn reset(&mut self) {
        self.transaction = None;
    }
}

impl Transaction {
    /// Remembers why, and lets go of the memory.
    fn refuse(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
        self.message = MessageBuilder::default();
    }
}

/// The address among the arguments of `MAIL` or `RCPT`: the first, with angle brackets from the SMTP server,
/// without them for locally submitted mail. The others are ESMTP parameters.
fn address(arguments: &[CString]) -> String {
    let path = arguments.first().map(|first| first.to_string_lossy()).unwrap_or_default();
    let path = path.trim();
    path.strip_prefix('<').and_then(|path| path.strip_suffix('>')).unwrap_or(path).to_owned()
}

/// `{client_addr}`, which Sendmail gives IPv6 addresses an `IPv6:` in.
fn client_address(value: &str) -> Option<IpAddr> {
    let plain = match value.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => value.get(5..)?,
        _ => value,
    };
    plain.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// At most 200 printable characters of what a stranger wrote.
pub(crate) fn loggable(octets: &[u8]) -> String {
    octets.iter().filter(|octet| octet.is_ascii_graphic()).take(200).map(|octet| char::from(*octet)).collect()
}

/// Field names, values and separators.
const MAX_HEADER_OCTETS: usize = 256 * 1024;

/// Sender and recipients; some 10,000 of usual length.
const MAX_ENVELOPE_OCTETS: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn arguments(all: &[&str]) -> Vec<CString> {
        all.iter().map(|one| CString::new(*one).unwrap()).collect()
    }

    fn session_after_mail(sender: &str) -> Session {
        let mut session = Session::new(LIMIT);
        session.mail(&arguments(&[sender]), |_| None);
        session
    }

    #[test]
    fn addresses_lose_their_brackets_and_parameters() {
        for (given, expected) in [
            (vec!["<a@x.invalid>", "SIZE=7", "BODY=8BITMIME"], "a@x.invalid"),
            (vec!["a@x.invalid"], "a@x.invalid"),
            (vec!["<>"], ""),
            (vec![""], ""),
            (vec![], ""),
            (vec!["<"], "<"),
            (vec!["<\"a>b\"@x.invalid>"], "\"a>b\"@x.invalid"),
        ] {
            assert_eq!(address(&arguments(&given)), expected, "{given:?}");
        }
    }

    #[test]
    fn client_and_login_come_from_macros() {
        for (client, login, expected_client, expected_login) in [
            ("192.0.2.1", "joe", Some("192.0.2.1"), Some("joe")),
            ("2001:db8::1", "", Some("2001:db8::1"), None),
            ("IPv6:2001:db8:0:0:0:0:0:1", "", Some("2001:db8::1"), None),
            ("::ffff:192.0.2.1", "", Some("192.0.2.1"), None),
            ("IPv6:", "", None, None),
            ("unknown", "", None, None),
            ("IPv6é", "", None, None),
            ("", "", None, None),
        ] {
            let (client_macro, login_macro) = (CString::new(client).unwrap(), CString::new(login).unwrap());
            let mut session = Session::new(LIMIT);
            session.mail(&arguments(&["<a@x.invalid>"]), |name| match name.to_bytes() {
                b"{client_addr}" => Some(client_macro.as_c_str()),
                b"{auth_authen}" => Some(login_macro.as_c_str()),
                _ => None,
            });
            let envelope = session.end_of_message().unwrap().envelope;
            assert_eq!(envelope.client, expected_client.map(|a| a.parse().unwrap()), "{client}");
            assert_eq!(envelope.login.as_deref(), expected_login, "{client}");
        }
    }

    #[test]
    fn a_second_mail_command_forgets_the_first_message() {
        let mut session = session_after_mail("<a@x.invalid>");
        session.rcpt(&arguments(&["<r@x.invalid>"])).unwrap();
        session.field(b"Subject", b" first");
        session.body(b"first\r\n").unwrap();
        session.mail(&arguments(&["<b@x.invalid>"]), |_| None);
        session.field(b"Subject", b" second");
        let received = session.end_of_message().unwrap();
        assert_eq!(received.envelope.sender, "b@x.invalid");
        assert!(received.envelope.recipients.is_empty());
        assert_eq!(received.message.octets(), b"Subject: second\r\n\r\n");
    }

    #[test]
    fn commands_without_a_transaction_are_refused_and_harm_nothing() {
        let mut session = Session::new(LIMIT);
        session.field(b"A", b" b");
        assert_eq!(session.rcpt(&arguments(&["<r@x.invalid>"])), Err(Refusal::NoTransaction));
        assert_eq!(session.end_of_header(), Err(Refusal::NoTransaction));
        assert_eq!(session.body(b"x"), Err(Refusal::NoTransaction));
        assert_eq!(session.end_of_message().unwrap_err(), Refusal::NoTransaction);
        session.reset();
        assert!(!session.in_transaction());
    }

    #[test]
    fn a_header_too_large_is_refused_at_its_end() {
        let mut session = session_after_mail("<a@x.invalid>");
        let value = vec![b'x'; 60_000];
        for _ in 0..5 {
            session.field(b"X-Long", &value);
        }
        assert_eq!(session.end_of_header(), Err(Refusal::HeaderTooLarge));
        assert!(!session.in_transaction());
    }

    #[test]
    fn a_message_as_large_as_allowed_is_taken_and_one_octet_more_is_not() {
        let header = b"A: b\r\n\r\n".len();
        for (octets, taken) in [(LIMIT - header, true), (LIMIT - header + 1, false)] {
            let mut session = session_after_mail("<a@x.invalid>");
            session.field(b"A", b" b");
            session.end_of_header().unwrap();
            session.body(b"").unwrap();
            for chunk in vec![b'x'; octets].chunks(65_535) {
                if let Err(refusal) = session.body(chunk) {
                    assert_eq!(refusal, Refusal::MessageTooLarge);
                }
            }
            assert_eq!(session.end_of_message().is_ok(), taken);
        }
    }

    #[test]
    fn recipients_have_a_limit_and_the_transaction_survives_it() {
        let mut session = session_after_mail("<a@x.invalid>");
        let recipient = arguments(&["<somebody@example.invalid>"]);
        let taken = (0..20_000).take_while(|_| session.rcpt(&recipient).is_ok()).count();
        assert!((5_000..20_000).contains(&taken), "{taken}");
        assert_eq!(session.end_of_message().unwrap().envelope.recipients.len(), taken);
    }

    #[test]
    fn what_a_stranger_wrote_is_short_and_printable_in_the_log() {
        assert_eq!(loggable(b" <a\n\x1b[31m@x>"), "<a[31m@x>");
        assert_eq!(loggable(&[b'x'; 999]).len(), 200);
    }
}
