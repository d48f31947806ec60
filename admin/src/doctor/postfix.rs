//! What Postfix does with recipients after the milter has seen them, where it is configured on this host.

use std::{path::Path, process::Command};

use agent::settings::{Listen, Milter, Rule};

use super::{Findings, Health};

/// Where Debian and others have it; it may be in no `PATH` of a user's.
const POSTCONF: &str = "/usr/sbin/postconf";

/// What adds recipients, or puts others in their place, behind the milters.
const EXPANDS: [&str; 3] = ["virtual_alias_maps", "always_bcc", "recipient_bcc_maps"];

/// Warns of them where rules say what recipients get, and Postfix asks this milter.
pub(super) fn examine(milter: &Milter, rules: &[Rule], findings: &mut Findings) {
    let lines = rules.iter().filter(|rule| !rule.conditions.to.is_empty()).map(|rule| rule.line.to_string());
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() || !Path::new(POSTCONF).exists() {
        return;
    }
    let asked = Command::new(POSTCONF).args(["-x", "smtpd_milters"]).args(EXPANDS).output();
    let Ok(answer) = asked else { return };
    let set = expanding(&String::from_utf8_lossy(&answer.stdout), &milter.listen);
    if !set.is_empty() {
        let found = format!(
            "{}: whom Postfix adds there, or puts in a recipient's place, gets mail as it was made for the recipient \
             that the client named; the rules with `to` (line {}) are not about them",
            set.join(", "),
            lines.join(", ")
        );
        findings.add(Health::Warn, "postfix", found);
    }
}

/// Those that are set, of a Postfix that asks the milter at this place.
fn expanding(settings: &str, listen: &Listen) -> Vec<String> {
    let of = |name: &str| {
        let values = settings.lines().filter_map(|line| line.split_once('='));
        values
            .filter(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
            .next_back()
            .unwrap_or_default()
    };
    let place = match listen {
        Listen::Tcp { port, .. } => format!(":{port}"),
        Listen::Unix { path, .. } => path.file_name().unwrap_or_default().display().to_string(),
    };
    let milters = of("smtpd_milters");
    if !milters.split([',', ' ', '{', '}']).any(|milter| milter.ends_with(&place)) {
        return Vec::new();
    }
    let set = EXPANDS.into_iter().map(|name| (name, of(name))).filter(|(_, value)| !value.is_empty());
    set.map(|(name, value)| format!("{name} = {value}")).collect()
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
            assert_eq!(expanding(&settings, listen) == found, is_found, "{milters}");
        }
        assert_eq!(expanding("smtpd_milters = inet:127.0.0.1:8890\nvirtual_alias_maps =\n", &tcp), [""; 0]);
    }
}
