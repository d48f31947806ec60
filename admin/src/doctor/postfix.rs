//! What Postfix does with recipients after the milter has seen them, where it is configured on this host.

use std::{path::Path, process::Command};

use agent::settings::{Listen, Milter, Rule};

use super::{Findings, Health};

/// Where Debian and others have it; it may be in no `PATH` of a user's.
const POSTCONF: &str = "/usr/sbin/postconf";

/// What adds recipients, or puts others in their place, behind the milters.
const EXPANDS: [&str; 3] = ["virtual_alias_maps", "always_bcc", "recipient_bcc_maps"];

/// How large mail may be.
const SIZE_LIMIT: &str = "message_size_limit";

/// Warns of what the configurations of both leave open, where Postfix asks this milter; whether it does.
pub(super) fn examine(milter: &Milter, rules: &[Rule], findings: &mut Findings) -> bool {
    if !Path::new(POSTCONF).exists() {
        return false;
    }
    let asked = Command::new(POSTCONF).args(["-x", "smtpd_milters", SIZE_LIMIT]).args(EXPANDS).output();
    let Ok(answer) = asked else { return false };
    let said = String::from_utf8_lossy(&answer.stdout);
    let Some(postfix) = Postfix::asking(&said, &milter.listen) else { return false };
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

/// What `postconf` says of a Postfix that asks the milter.
struct Postfix<'a>(&'a str);

impl<'a> Postfix<'a> {
    /// `None` where it asks none at this place.
    fn asking(settings: &'a str, listen: &Listen) -> Option<Self> {
        let place = match listen {
            Listen::Tcp { port, .. } => format!(":{port}"),
            Listen::Unix { path, .. } => path.file_name().unwrap_or_default().display().to_string(),
        };
        let postfix = Self(settings);
        let mut milters = postfix.value("smtpd_milters").split([',', ' ', '{', '}']);
        milters.any(|milter| milter.ends_with(&place)).then_some(postfix)
    }

    fn value(&self, name: &str) -> &'a str {
        let values = self.0.lines().filter_map(|line| line.split_once('='));
        values
            .filter(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
            .next_back()
            .unwrap_or_default()
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
    use super::*;

    #[test]
    fn maps_count_where_postfix_asks_this_milter() {
        let tcp = Listen::Tcp { host: "127.0.0.1".into(), port: 8890 };
        let unix = Listen::Unix { path: "/var/spool/postfix/hsmime.sock".into(), mode: None };
        let maps = "virtual_alias_maps = hash:/etc/postfix/virtual\nalways_bcc =\nrecipient_bcc_maps = \n";
        let found = ["virtual_alias_maps = hash:/etc/postfix/virtual".to_owned()];
        for (milters, listen, is_found) in [
            ("inet:127.0.0.1:8890", &tcp, true),
            ("inet:localhost:11332, inet:localhost:8890", &tcp, true),
            ("{ inet:[::1]:8890, connect_timeout=10s }", &tcp, true),
            ("inet:127.0.0.1:18890", &tcp, false),
            ("", &tcp, false),
            ("unix:hsmime.sock", &unix, true),
            ("unix:other.sock", &unix, false),
        ] {
            let settings = format!("smtpd_milters = {milters}\n{maps}");
            let postfix = Postfix::asking(&settings, listen);
            assert_eq!(postfix.is_some(), is_found, "{milters}");
            assert!(postfix.is_none_or(|postfix| postfix.expanding() == found), "{milters}");
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
