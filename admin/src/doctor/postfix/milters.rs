//! Where Postfix asks a milter, and what it does there while that does not answer.

use agent::settings::Listen;

use super::Postfix;

/// What has it ask milters: for mail by SMTP, and for that of `sendmail`.
pub(super) const PARAMETERS: [&str; 2] = ["smtpd_milters", "non_smtpd_milters"];
/// What becomes of mail where a milter does not answer, unless its own line says otherwise.
pub(super) const DEFAULT_ACTION: &str = "milter_default_action";

/// A place where the milter is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// What has it asked there, as `postconf` writes it.
    pub(super) parameter: String,
    /// What is done while it does not answer.
    pub(super) action: String,
}

/// All places where the milter is asked that listens there, of `main.cf` and of the services in `master.cf` that have
/// values of their own.
pub(super) fn asking(postfix: &Postfix<'_>, listen: &Listen) -> Vec<Asked> {
    let mut services: Vec<&str> = vec![""];
    services.extend(postfix.keys().filter_map(|key| {
        let (service, parameter) = key.rsplit_once('/')?;
        (PARAMETERS.contains(&parameter) || parameter == DEFAULT_ACTION).then_some(service)
    }));
    services.dedup();
    let mut found = Vec::new();
    for service in services {
        let of = |parameter: &str| match service {
            "" => (parameter.to_owned(), postfix.value(parameter)),
            service => {
                let own = format!("{service}/{parameter}");
                let value = postfix.find(&own).unwrap_or_else(|| postfix.value(parameter));
                (own, value)
            }
        };
        let (_, default) = of(DEFAULT_ACTION);
        for parameter in PARAMETERS {
            let (parameter, milters) = of(parameter);
            // What a service is of is told by nothing but its name, so all others may be for mail by SMTP.
            let is_cleanup = service.starts_with("cleanup");
            if !service.is_empty() && is_cleanup == parameter.ends_with("/smtpd_milters") {
                continue;
            }
            found.extend(entries(milters).into_iter().filter(|entry| is_at(entry, listen)).map(|entry| {
                Asked {
                    parameter: parameter.clone(),
                    action: own_action(entry).unwrap_or(default).to_owned(),
                }
            }));
        }
    }
    found
}

/// The milters of a list: each is a word, or has a pair of braces with settings of its own.
fn entries(list: &str) -> Vec<&str> {
    let (mut entries, mut depth, mut begin) = (Vec::new(), 0_u32, 0);
    for (at, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' | ' ' | '\t' if depth == 0 => {
                entries.extend(list.get(begin..at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    entries.extend(list.get(begin..));
    entries.retain(|entry| !entry.is_empty());
    entries
}

fn words(entry: &str) -> impl Iterator<Item = &str> {
    entry.split([',', ' ', '\t', '{', '}', '=']).filter(|word| !word.is_empty())
}

fn is_at(entry: &str, listen: &Listen) -> bool {
    let place = match listen {
        Listen::Tcp { port, .. } => format!(":{port}"),
        Listen::Unix { path, .. } => path.file_name().unwrap_or_default().display().to_string(),
    };
    words(entry).next().is_some_and(|milter| milter.ends_with(&place))
}

fn own_action(entry: &str) -> Option<&str> {
    words(entry).skip_while(|word| *word != "default_action").nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_where_the_milter_does_not_answer_is_found_wherever_it_is_asked() {
        let listen = Listen::Tcp { host: "127.0.0.1".into(), port: 8890 };
        let ours = "inet:127.0.0.1:8890";
        for (settings, expected) in [
            (
                format!("smtpd_milters = {ours}\nmilter_default_action = accept"),
                vec![("smtpd_milters", "accept")],
            ),
            (
                format!("smtpd_milters = {ours}\nmilter_default_action = tempfail"),
                vec![("smtpd_milters", "tempfail")],
            ),
            (
                format!("smtpd_milters =\nnon_smtpd_milters = {ours}\nmilter_default_action = quarantine"),
                vec![("non_smtpd_milters", "quarantine")],
            ),
            // Another milter's own setting is not ours, and ours goes before that of all.
            (
                format!(
                    "smtpd_milters = {{ inet:localhost:11332, default_action=accept }}, {{ {ours}, connect_timeout=10s }}\n\
                     milter_default_action = tempfail"
                ),
                vec![("smtpd_milters", "tempfail")],
            ),
            (
                format!(
                    "smtpd_milters = inet:localhost:1,{{{ours},default_action=accept}}\nmilter_default_action = tempfail"
                ),
                vec![("smtpd_milters", "accept")],
            ),
            (
                format!(
                    "smtpd_milters = {{ {ours}, {{ default_action = accept }} }}\nmilter_default_action = tempfail"
                ),
                vec![("smtpd_milters", "accept")],
            ),
            // Services have values of their own.
            (
                format!(
                    "smtpd_milters =\nmilter_default_action = tempfail\nsubmission/inet/smtpd_milters = {ours}\n\
                         submission/inet/milter_default_action = accept\nsmtp/inet/content_filter = x"
                ),
                vec![("submission/inet/smtpd_milters", "accept")],
            ),
            (
                format!(
                    "smtpd_milters = {ours}\nmilter_default_action = accept\n10025/inet/smtpd_milters =\n\
                         submission/inet/milter_default_action = tempfail"
                ),
                vec![("smtpd_milters", "accept"), ("submission/inet/smtpd_milters", "tempfail")],
            ),
            (
                format!(
                    "non_smtpd_milters = {ours}\nmilter_default_action = tempfail\ncleanup/unix/milter_default_action = accept"
                ),
                vec![("non_smtpd_milters", "tempfail"), ("cleanup/unix/non_smtpd_milters", "accept")],
            ),
            ("smtpd_milters = inet:127.0.0.1:18890".to_owned(), vec![]),
            ("smtpd_milters = { }, {".to_owned(), vec![]),
        ] {
            let found = asking(&Postfix(&settings), &listen);
            let found: Vec<_> = found.iter().map(|it| (it.parameter.as_str(), it.action.as_str())).collect();
            assert_eq!(found, expected, "{settings}");
        }
    }
}
