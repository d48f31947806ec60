//! What Postfix does where the milter does not answer, and with recipients after it has seen them, where it is configured on
//! this host.

mod milters;

use std::{path::Path, process::Command};

use agent::{
    Actions, Level,
    settings::{IncomingRule, Milter, Rule},
};

use self::milters::{Asked, DEFAULT_ACTION, PARAMETERS};
use super::{Findings, Health};

/// Where Debian and others have it; it may be in no `PATH` of a user's.
const POSTCONF: &str = "/usr/sbin/postconf";

/// What adds recipients, or puts others in their place, behind the milters.
const EXPANDS: [&str; 3] = ["virtual_alias_maps", "always_bcc", "recipient_bcc_maps"];

/// How large mail may be.
const SIZE_LIMIT: &str = "message_size_limit";

/// Warns of what the configurations of both leave open, where Postfix asks this milter; whether it does.
pub(super) fn examine(
    milter: &Milter,
    rules: &[Rule],
    incoming: &[IncomingRule],
    findings: &mut Findings,
) -> bool {
    if !Path::new(POSTCONF).exists() {
        return false;
    }
    let of_main = Command::new(POSTCONF)
        .args(["-x", DEFAULT_ACTION, SIZE_LIMIT])
        .args(PARAMETERS)
        .args(EXPANDS)
        .output();
    let Ok(answer) = of_main else { return false };
    let mut said = String::from_utf8_lossy(&answer.stdout).into_owned();
    // What services have of their own. Its lines begin with the service's name.
    if let Ok(answer) = Command::new(POSTCONF).arg("-Px").output() {
        said.push_str(&String::from_utf8_lossy(&answer.stdout));
    }
    let postfix = Postfix(&said);
    let asked = milters::asking(&postfix, &milter.listen);
    if asked.is_empty() {
        return false;
    }
    for (health, found) in asked.iter().filter_map(|asked| without_answer(asked, rules, incoming)) {
        findings.add(health, "postfix", found);
    }
    let lines = rules.iter().filter(|rule| !rule.conditions.to.is_empty()).map(|rule| rule.line.to_string());
    let lines: Vec<String> = lines.collect();
    let set = postfix.expanding();
    if !set.is_empty() && !lines.is_empty() {
        let found = format!(
            "{}: whom Postfix adds there, or puts in a recipient's place, gets mail as it was made for the recipient \
             that the client named; the rules with `to` (line {}) are not about them",
            set.join(", "),
            lines.join(", ")
        );
        findings.add(Health::Warn, "postfix", found);
    }
    if let Some(found) = postfix.size(milter.mta_message_bytes) {
        findings.add(Health::Warn, "postfix", found);
    }
    true
}

/// What is wrong with what Postfix does while the milter does not answer.
fn without_answer(asked: &Asked, rules: &[Rule], incoming: &[IncomingRule]) -> Option<(Health, String)> {
    let Asked { parameter, action } = asked;
    let becomes = match action.to_ascii_lowercase().as_str() {
        "accept" => "is accepted",
        "quarantine" => "is held, and accepted as soon as somebody releases it",
        _ => return None,
    };
    let demands = |rule: &&Rule| rule.sign == Level::Required || rule.encrypt == Level::Required;
    let lines: Vec<_> = rules.iter().filter(demands).map(|rule| rule.line.to_string()).collect();
    let refuses = |rule: &&IncomingRule| rule.actions != Actions::default();
    let barred: Vec<_> = incoming.iter().filter(refuses).map(|rule| rule.line.to_string()).collect();
    let mut whats = Vec::new();
    if !lines.is_empty() {
        whats.push(format!("what must be signed or encrypted (line {}) leaves without", lines.join(", ")));
    }
    if !barred.is_empty() {
        whats.push(format!("what is not to be delivered (line {}) comes in", barred.join(", ")));
    }
    let (health, what) = if whats.is_empty() {
        (Health::Warn, "mail leaves unsigned, and what comes in is neither opened nor judged".to_owned())
    } else {
        (Health::Fail, whats.join(", and "))
    };
    let found = format!(
        "{parameter}: while this milter does not answer, mail {becomes} ({action}), so {what}: set \
         {DEFAULT_ACTION} = tempfail"
    );
    Some((health, found))
}

/// What `postconf` says, first of `main.cf`, then of the services in `master.cf`.
struct Postfix<'a>(&'a str);

impl<'a> Postfix<'a> {
    fn lines(&self) -> impl DoubleEndedIterator<Item = (&'a str, &'a str)> {
        let values = self.0.lines().filter_map(|line| line.split_once('='));
        values.map(|(key, value)| (key.trim(), value.trim()))
    }

    fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.lines().map(|(key, _)| key)
    }

    fn find(&self, name: &str) -> Option<&'a str> {
        self.lines().rfind(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn value(&self, name: &str) -> &'a str {
        self.find(name).unwrap_or_default()
    }

    /// What is set of that which adds recipients.
    fn expanding(&self) -> Vec<String> {
        let set =
            EXPANDS.into_iter().map(|name| (name, self.value(name))).filter(|(_, value)| !value.is_empty());
        set.map(|(name, value)| format!("{name} = {value}")).collect()
    }

    /// What is wrong with what the milter knows of the limit of its MTA.
    fn size(&self, known: Option<usize>) -> Option<String> {
        let limit: usize = self.value(SIZE_LIMIT).parse().ok().filter(|limit| *limit > 0)?;
        let risk = "near that limit Postfix's answer may tell strangers whether ciphertext opened";
        match known {
            None => Some(format!(
                "[milter] has no `mta-message-bytes`: {risk}; write mta-message-bytes = {limit}, or less where whom \
                 Postfix hands mail to takes less"
            )),
            Some(known) if known > limit => {
                Some(format!("mta-message-bytes = {known} is more than its {SIZE_LIMIT} = {limit}: {risk}"))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use agent::settings::Listen;

    use super::*;

    #[test]
    fn maps_count_where_postfix_asks_this_milter() {
        let tcp = Listen::Tcp { host: "127.0.0.1".into(), port: 8890 };
        let unix = Listen::Unix { path: "/var/spool/postfix/hsmime.sock".into(), mode: None };
        let maps = "virtual_alias_maps = hash:/etc/postfix/virtual\nalways_bcc =\nrecipient_bcc_maps = \n";
        let found = ["virtual_alias_maps = hash:/etc/postfix/virtual".to_owned()];
        for (list, listen, is_found) in [
            ("inet:127.0.0.1:8890", &tcp, true),
            ("inet:localhost:11332, inet:localhost:8890", &tcp, true),
            ("{ inet:[::1]:8890, connect_timeout=10s }", &tcp, true),
            ("inet:127.0.0.1:18890", &tcp, false),
            ("", &tcp, false),
            ("unix:hsmime.sock", &unix, true),
            ("unix:other.sock", &unix, false),
        ] {
            let settings = format!("smtpd_milters = {list}\n{maps}");
            let postfix = Postfix(&settings);
            assert_eq!(!milters::asking(&postfix, listen).is_empty(), is_found, "{list}");
            assert_eq!(postfix.expanding(), found, "{list}");
        }
        assert_eq!(Postfix("virtual_alias_maps =\n").expanding(), [""; 0]);
    }

    #[test]
    fn the_milter_has_to_know_how_much_its_postfix_takes() {
        let postfix = Postfix("message_size_limit = 10240000\n");
        let unknown = postfix.size(None).unwrap();
        assert!(unknown.contains("write mta-message-bytes = 10240000"), "{unknown}");
        assert!(postfix.size(Some(10_240_001)).unwrap().contains("is more than its message_size_limit"));
        assert_eq!(postfix.size(Some(10_240_000)), None);
        // Without a limit there is nothing to learn, nor of a Postfix that does not say.
        for unlimited in ["message_size_limit = 0\n", "", "message_size_limit = ${x}\n"] {
            assert_eq!(Postfix(unlimited).size(None), None);
        }
    }
}
