//! `[[source]]` and `[lookup]` as they are written: where certificates are looked up that the cache does not have.

use std::path::PathBuf;

use lookup::Kind;

use super::reader::{At, Section};

/// `[[source]]`: a place to look certificates up.
#[derive(Debug)]
pub(crate) struct SourceSection {
    pub(crate) line: usize,
    pub(crate) name: Option<At<String>>,
    pub(crate) place: PlaceSection,
}

/// What a source is.
#[derive(Debug)]
pub(crate) enum PlaceSection {
    Directory(At<PathBuf>),
    Ldap(Box<LdapSection>),
    Smimea { servers: Vec<At<String>>, trust_anchor: Option<At<PathBuf>> },
}

/// The keys of an LDAP directory.
#[derive(Debug)]
pub(crate) struct LdapSection {
    pub(crate) url: At<String>,
    pub(crate) start_tls: bool,
    pub(crate) ca_file: Option<At<PathBuf>>,
    pub(crate) base: At<String>,
    pub(crate) filter: Option<At<String>>,
    pub(crate) attributes: Vec<At<String>>,
    pub(crate) bind_dn: Option<At<String>>,
    pub(crate) password_file: Option<At<PathBuf>>,
}

/// `[lookup]`: how long to look, and how long to remember that nothing was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookupSection {
    pub(crate) budget_ms: u64,
    pub(crate) absent_minutes: u64,
}

impl Default for LookupSection {
    fn default() -> Self {
        Self { budget_ms: 5_000, absent_minutes: 60 }
    }
}

const KINDS: [(&str, Kind); 3] =
    [("directory", Kind::Directory), ("ldap", Kind::Ldap), ("smimea", Kind::Smimea)];

/// All keys of all kinds: none of them is a slip as long as the kind is not known.
const KEYS: [&str; 11] = [
    "path",
    "url",
    "start-tls",
    "ca-file",
    "base",
    "filter",
    "attributes",
    "bind-dn",
    "password-file",
    "servers",
    "trust-anchor",
];

pub(super) fn source(section: &mut Section<'_, '_>) -> Option<SourceSection> {
    let kind = section.word("kind", &KINDS);
    let kind = section.required("kind", kind);
    let name = section.string("name");
    let line = section.line();
    let place = match kind.map(|kind| kind.value) {
        Some(Kind::Ldap) => ldap(section).map(|ldap| PlaceSection::Ldap(Box::new(ldap))),
        Some(Kind::Smimea) => Some(PlaceSection::Smimea {
            servers: section.strings("servers"),
            trust_anchor: section.path("trust-anchor"),
        }),
        Some(_) => {
            let path = section.path("path");
            section.required("path", path).map(PlaceSection::Directory)
        }
        None => {
            for key in KEYS {
                section.allow(key);
            }
            None
        }
    };
    Some(SourceSection { line, name, place: place? })
}

fn ldap(section: &mut Section<'_, '_>) -> Option<LdapSection> {
    let url = section.string("url");
    let url = section.required("url", url);
    let base = section.string("base");
    let base = section.required("base", base);
    let start_tls = section.boolean("start-tls").is_some_and(|flag| flag.value);
    let ca_file = section.path("ca-file");
    let filter = section.string("filter");
    let attributes = section.strings("attributes");
    let bind_dn = section.string("bind-dn");
    let password_file = section.path("password-file");
    Some(LdapSection {
        url: url?,
        start_tls,
        ca_file,
        base: base?,
        filter,
        attributes,
        bind_dn,
        password_file,
    })
}

pub(super) fn lookup(section: &mut Section<'_, '_>) -> LookupSection {
    let default = LookupSection::default();
    LookupSection {
        budget_ms: section.number("budget-ms", 100..=60_000).map_or(default.budget_ms, |n| n.value),
        absent_minutes: section
            .number("absent-minutes", 0..=43_200)
            .map_or(default.absent_minutes, |n| n.value),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Report};

    #[test]
    fn a_kind_takes_its_own_keys_only() {
        for (text, expected) in [
            (
                "kind = \"ldpa\"\nurl = \"ldap://x\"\n",
                "line 2: `kind` in [[source]] cannot be \"ldpa\"; did you mean `ldap`?",
            ),
            (
                "kind = \"directory\"\npath = \"x\"\nurl = \"ldap://x\"\n",
                "line 4: unknown key `url` in [[source]]; its keys are `kind`, `name`, `path`",
            ),
            (
                "kind = \"ldap\"\nurl = \"ldap://x\"\nbase = \"x\"\nstart-tls = \"yes\"\n",
                "line 5: `start-tls` in [[source]] must be true or false, but is a text",
            ),
        ] {
            let mut report = Report::default();
            Config::parse(&format!("[[source]]\n{text}"), &mut report);
            let complaints: Vec<String> = report.into_complaints().iter().map(ToString::to_string).collect();
            assert_eq!(complaints, [expected], "{text}");
        }
    }
}
