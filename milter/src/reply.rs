//! From a fault to an SMTP reply, in this one place.
//!
//! Replies are fixed texts with an enhanced status code (RFC 3463) and say nothing of what happened inside.

use indymilter::{SetErrorReply, Status};
use smime::Fault;

/// An SMTP reply that refuses a message or a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    code: &'static str,
    enhanced: &'static str,
    text: &'static str,
}

impl Reply {
    /// The message or its header is larger than we take. Permanent: it will not shrink.
    pub(crate) const TOO_LARGE: Self =
        Self { code: "552", enhanced: "5.3.4", text: "Message is too large for the S/MIME gateway" };

    /// RFC 5321, 4.5.3.1.10: the client sends to the others in a transaction of their own.
    pub(crate) const TOO_MANY_RECIPIENTS: Self =
        Self { code: "452", enhanced: "4.5.3", text: "Too many recipients" };

    /// Not an address that every MTA reads alike. What is left of it as UTF-8, or without its route, would be another one.
    pub(crate) const BAD_RECIPIENT: Self = Self {
        code: "553",
        enhanced: "5.1.3",
        text: "Recipient is not taken: write it as local@domain, without a route, a group or brackets in it",
    };

    /// The same of a sender.
    pub(crate) const BAD_SENDER: Self =
        Self { code: "553", enhanced: "5.1.7", text: "Sender is not taken: it is not UTF-8" };

    /// One text for all that may pass: whoever probes with made-up ciphertexts must not see from the reply
    /// whether a token was busy, a key missing or our code at fault (RFC 3218).
    pub(crate) const UNAVAILABLE: Self =
        Self { code: "451", enhanced: "4.3.2", text: "S/MIME gateway is not available, try again later" };

    /// More messages than we take at a time. Told before anything is known of the message, so it says nothing of keys.
    pub(crate) const BUSY: Self = Self {
        code: "451",
        enhanced: "4.3.2",
        text: "S/MIME gateway has as many messages as it can take, try again later",
    };

    /// The same client has half of all that are under way.
    pub(crate) const TOO_MANY_OF_CLIENT: Self = Self {
        code: "451",
        enhanced: "4.7.1",
        text: "Too many messages of yours at a time for the S/MIME gateway, try again later",
    };

    /// No memory or disk for what comes in.
    pub(crate) const NO_ROOM: Self = Self {
        code: "451",
        enhanced: "4.3.1",
        text: "S/MIME gateway has no room for the message, try again later",
    };

    /// More than any program writes.
    pub(crate) const TOO_MANY_FIELDS: Self =
        Self { code: "554", enhanced: "5.6.0", text: "Message has too many header fields" };

    const MALFORMED: Self =
        Self { code: "554", enhanced: "5.6.0", text: "Message is malformed and cannot be processed" };

    const FORBIDDEN: Self =
        Self { code: "550", enhanced: "5.7.1", text: "Message refused by the S/MIME policy of this site" };

    /// No reply of ours loses mail: a permanent one hands the message back to its sender, who learns of it, and
    /// is given only where trying again cannot help; in all other cases the client keeps the message and retries.
    pub(crate) fn of(fault: Fault) -> Self {
        match fault {
            Fault::Message => Self::MALFORMED,
            Fault::Policy => Self::FORBIDDEN,
            Fault::Transient | Fault::Operator | Fault::Internal => Self::UNAVAILABLE,
        }
    }

    /// Leaves this reply with the MTA and returns the status that makes it be used.
    pub(crate) fn give(self, to: &mut impl SetErrorReply) -> Status {
        // A reply that cannot be set is a generic one of the same class, so the result does not matter.
        let _ = to.set_error_reply(self.code, Some(self.enhanced), [escaped(self.text)]);
        if self.code.starts_with('5') { Status::Reject } else { Status::Tempfail }
    }

    /// The reply code, for the log.
    pub(crate) fn code(self) -> &'static str {
        self.code
    }
}

/// MTAs format the text: Postfix eats a single `%`, Sendmail then drops the whole reply.
fn escaped(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use indymilter::{IntoCString, SmtpReplyError};

    #[derive(Default)]
    struct Recorder(String);

    impl SetErrorReply for Recorder {
        fn set_error_reply<I, T>(
            &mut self,
            code: &str,
            enhanced: Option<&str>,
            text: I,
        ) -> Result<(), SmtpReplyError>
        where
            I: IntoIterator<Item = T>,
            T: IntoCString,
        {
            let text: Vec<String> =
                text.into_iter().map(|line| line.into_c_string().into_string().unwrap()).collect();
            self.0 = format!("{code} {} {}", enhanced.unwrap(), text.join("/"));
            Ok(())
        }
    }

    fn given(reply: Reply) -> (Status, String) {
        let mut recorder = Recorder::default();
        (reply.give(&mut recorder), recorder.0)
    }

    #[test]
    fn only_a_fault_of_message_or_policy_is_permanent() {
        for (fault, status, codes) in [
            (Fault::Message, Status::Reject, "554 5.6.0 "),
            (Fault::Policy, Status::Reject, "550 5.7.1 "),
            (Fault::Transient, Status::Tempfail, "451 4.3.2 "),
            (Fault::Operator, Status::Tempfail, "451 4.3.2 "),
            (Fault::Internal, Status::Tempfail, "451 4.3.2 "),
        ] {
            let (given_status, text) = given(Reply::of(fault));
            assert_eq!(given_status, status, "{fault}");
            assert!(text.starts_with(codes), "{fault}: {text}");
            assert_eq!(text.starts_with('4'), fault.may_pass(), "what others say of it: {fault}");
        }
    }

    #[test]
    fn what_may_pass_looks_alike_from_outside() {
        assert_eq!(given(Reply::of(Fault::Transient)), given(Reply::of(Fault::Operator)));
        assert_eq!(given(Reply::of(Fault::Transient)), given(Reply::of(Fault::Internal)));
    }

    #[test]
    fn percent_signs_are_doubled() {
        let reply = Reply { code: "550", enhanced: "5.7.1", text: "100% of %s%%" };
        assert_eq!(given(reply).1, "550 5.7.1 100%% of %%s%%%%");
    }
}
