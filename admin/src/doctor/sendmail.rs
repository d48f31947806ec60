//! What Sendmail makes of the addresses in mail behind the milter, where it is configured on this host.

use std::{fs, io::ErrorKind};

use agent::settings::Listen;

use super::{Findings, Health};

/// Where it reads its configuration, everywhere.
const CONFIGURATION: &str = "/etc/mail/sendmail.cf";

/// Complains of what its configuration leaves open, where it asks this milter.
pub(super) fn examine(listen: &Listen, findings: &mut Findings) {
    let text = match fs::read(CONFIGURATION) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => return findings.add(Health::Warn, CONFIGURATION, error.to_string()),
    };
    for (health, found) in complaints(&text, listen) {
        findings.add(health, "sendmail", format!("{CONFIGURATION}: {found}"));
    }
}

fn complaints(text: &str, listen: &Listen) -> Vec<(Health, String)> {
    let mut found = Vec::new();
    if !text.lines().any(|line| is_milter_at(line, listen)) {
        return found;
    }
    let why = "an address in From is written anew below our verdict, so that whoever has a certificate of an address in a \
               domain of his own is shown as anybody; have in sendmail.mc";
    let (nocanonify, no_cnames) = ("FEATURE(`nocanonify')dnl", "define(`confDONT_EXPAND_CNAMES', `True')dnl");
    match (looks_up_hosts(text), follows_cnames(text)) {
        (true, true) => {
            found.push((Health::Fail, format!("it follows CNAMEs: {why} {nocanonify} and {no_cnames}")));
        }
        (true, false) => {
            found.push((Health::Warn, format!("it looks up the hosts of addresses: {why} {nocanonify}")));
        }
        (false, true) => {
            let found_too = format!(
                "it follows CNAMEs where a class or a flag of a port has it look up hosts: {why} {no_cnames}"
            );
            found.push((Health::Warn, found_too));
        }
        (false, false) => {}
    }
    for (begin, name) in [("DM", "MASQUERADE_AS"), ("Kgenerics ", "FEATURE(`genericstable')")] {
        if text.lines().any(|line| line.strip_prefix(begin).is_some_and(|value| !value.trim().is_empty())) {
            let harm = "it writes another From below our signature, which is of nobody then; have addresses rewritten \
                        before the milter sees them, or not at all";
            found.push((Health::Warn, format!("{name}: {harm}")));
        }
    }
    found
}

/// Whether a line of the configuration is about the milter that listens there.
fn is_milter_at(line: &str, listen: &Listen) -> bool {
    let Some(definition) = line.strip_prefix('X') else { return false };
    let equates = definition.split(',').filter_map(|equate| equate.split_once('='));
    let mut sockets = equates.filter(|(key, _)| key.trim() == "S").map(|(_, socket)| socket.trim());
    sockets.any(|socket| match (listen, socket.split_once(':')) {
        (Listen::Tcp { port, .. }, Some(("inet" | "inet6", place))) => {
            place.split('@').next() == Some(port.to_string().as_str())
        }
        (Listen::Unix { path, .. }, Some(("unix" | "local", place))) => path.as_os_str() == place,
        (Listen::Unix { path, .. }, None) => path.as_os_str() == socket,
        _ => false,
    })
}

/// Whether the host of each address in a field is looked up: `nocanonify` has those with a dot left as they are before.
fn looks_up_hosts(text: &str) -> bool {
    let rules = text.lines().skip_while(|line| !line.starts_with("SCanonify2")).skip(1);
    let mut rules = rules.take_while(|line| !line.starts_with('S')).filter(|line| line.starts_with('R'));
    let left = |line: &str| line.split('\t').next().unwrap_or_default().trim().to_owned();
    let decides = ["R$* $| $* < @ $+.$+ > $*", "R$* $| $* < @ $* > $*"];
    rules.find(|line| decides.contains(&left(line).as_str())).is_some_and(|line| line.contains("$["))
}

/// Whether the name that a CNAME leads to is put in the place of the one that was looked up, which is what it does by default.
fn follows_cnames(text: &str) -> bool {
    let mut options = text.lines().filter_map(|line| line.strip_prefix("O ")?.split_once('='));
    let set = options.rfind(|(name, _)| name.trim().eq_ignore_ascii_case("DontExpandCnames"));
    !set.is_some_and(|(_, value)| value.trim().is_empty() || value.trim().starts_with(['t', 'T', 'y', 'Y']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of Debian's Sendmail 8.17.1 that matter.
    fn configuration(milter: &str, option: &str, rules: &str) -> String {
        format!(
            "DM\n#O DontExpandCnames=False\n{option}\nO InputMailFilters=other, hsmime\nXother, S=inet:8891@127.0.0.1, F=\n\
             Xhsmime, {milter}, F=T, T=C:30s;S:30s;R:5m;E:10m\nSCanonify2=96\nR$* < @ localhost > $*\t\t$: $1 < @ $j . > $2\n\
             R$* < @ $* $~P > $*\t\t$: $&{{daemon_flags}} $| $1 < @ $2 $3 > $4\n{rules}R$* $| $*\t\t\t$: $2\n\
             Sfinal=4\nR$* $| $* < @ $* > $*\t\t$: $2 < @ $[ $3 $] > $4\n"
        )
    }

    const LOOKED_UP: &str = "R$* CC $* $| $* < @ $+.$+ > $*\t$: $3 < @ $4.$5 . > $6\nR$* CC $* $| $*\t\t\t$: $3\n\
                             R$* $| $* < @ $* > $*\t\t$: $2 < @ $[ $3 $] > $4\n";
    const LEFT: &str = "R$* $| $* < @ $* $={Canonify} > $*\t$: $2 < @ $[ $3 $4 $] > $5\n\
                        R$* c $* $| $* < @ $* > $*\t$: $3 < @ $[ $4 $] > $5\nR$* $| $* < @ $+ . > $*\t\t$: $2 < @ $3 . > $4\n\
                        R$* $| $* < @ $+.$+ > $*\t$: $2 < @ $3.$4 . > $5\nR$* $| $* < @ $* > $*\t\t$: $2 < @ $[ $3 $] > $4\n";

    #[test]
    fn a_sendmail_that_follows_cnames_below_our_verdicts_fails() {
        let listen = Listen::Tcp { host: "127.0.0.1".into(), port: 8890 };
        let milter = "S=inet:8890@127.0.0.1";
        let set = "O DontExpandCnames=True";
        for (option, rules, expected) in [
            ("", LOOKED_UP, Some((Health::Fail, "nocanonify')dnl and define(`confDONT_EXPAND_CNAMES'"))),
            (
                "O DontExpandCnames=False",
                LOOKED_UP,
                Some((Health::Fail, "whoever has a certificate of an address")),
            ),
            (set, LOOKED_UP, Some((Health::Warn, "have in sendmail.mc FEATURE(`nocanonify')dnl"))),
            (
                "",
                LEFT,
                Some((Health::Warn, "have in sendmail.mc define(`confDONT_EXPAND_CNAMES', `True')dnl")),
            ),
            (set, LEFT, None),
        ] {
            let found = complaints(&configuration(milter, option, rules), &listen);
            let health: Vec<_> = found.iter().map(|(health, _)| *health).collect();
            assert_eq!(health, expected.iter().map(|(health, _)| *health).collect::<Vec<_>>(), "{found:?}");
            assert!(expected.is_none_or(|(_, words)| found[0].1.contains(words)), "{found:?}");
        }
    }

    #[test]
    fn only_a_sendmail_that_asks_this_milter_counts() {
        let tcp = Listen::Tcp { host: "127.0.0.1".into(), port: 8890 };
        let unix = Listen::Unix { path: "/run/hsmime/milter.sock".into(), mode: None };
        for (milter, listen, is_ours) in [
            ("S=inet:8890@127.0.0.1", &tcp, true),
            ("S=inet6:8890@::1", &tcp, true),
            ("S=inet:18890@127.0.0.1", &tcp, false),
            ("S=inet:8890@127.0.0.1", &unix, false),
            ("S=unix:/run/hsmime/milter.sock", &unix, true),
            ("S=local:/run/hsmime/milter.sock", &unix, true),
            ("S=/run/hsmime/milter.sock", &unix, true),
            ("S=unix:/run/other/milter.sock", &unix, false),
        ] {
            let found = complaints(&configuration(milter, "", LOOKED_UP), listen);
            assert_eq!(!found.is_empty(), is_ours, "{milter}");
        }
    }

    #[test]
    fn a_sendmail_that_masquerades_is_told_of() {
        let listen = Listen::Tcp { host: "127.0.0.1".into(), port: 8890 };
        let base = configuration("S=inet:8890@127.0.0.1", "O DontExpandCnames=True", LEFT);
        for (line, name) in
            [("DMexample.org", "MASQUERADE_AS"), ("Kgenerics hash /etc/mail/g", "genericstable")]
        {
            let found = complaints(&format!("{base}{line}\n"), &listen);
            let [(Health::Warn, found)] = found.as_slice() else { panic!("{found:?}") };
            assert!(found.contains(name), "{found}");
        }
    }
}
