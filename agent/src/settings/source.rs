//! The checks of `[[source]]` and `[lookup]`, and the sources that come of them.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use lookup::{
    CertificateSource, Directory, Sources,
    ldap::{FilterTemplate, Ldap, LdapSettings, Password, Security, Server},
    smimea::{Anchors, Smimea},
};
use smime::{Certificate, Fault};

use super::check::Checker;
use crate::config::{At, LdapSection, LookupSection, PlaceSection, Problem, SourceSection};

/// `[[source]]` and `[lookup]`.
#[derive(Clone, Debug)]
pub struct LookupSettings {
    /// In the order in which they are asked.
    pub sources: Vec<SourceSettings>,
    /// How long a look-up may take in all.
    pub budget: Duration,
    /// How long it is believed that nobody has a certificate of an address.
    pub absent: Duration,
}

/// A place to look certificates up.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// What it is called in logs and tables.
    pub name: String,
    /// What it is.
    pub place: Place,
}

/// What a source is.
#[derive(Clone, Debug)]
pub enum Place {
    /// A folder of files.
    Directory(PathBuf),
    /// An LDAP directory.
    Ldap(Box<LdapPlace>),
    /// SMIMEA records.
    Smimea {
        /// The resolvers to ask; none: those of `/etc/resolv.conf`.
        servers: Vec<SocketAddr>,
        /// The file the keys of the root come from; `None`: those that IANA publishes.
        trust_anchor: Option<PathBuf>,
        /// Those keys.
        anchors: Anchors,
    },
}

/// An LDAP directory. Its password is read when it is used: not every program that reads the file may know it.
#[derive(Clone, Debug)]
pub struct LdapPlace {
    /// The server.
    pub server: Server,
    /// Whose certificates TLS believes.
    pub authorities: Vec<Certificate>,
    /// Where in the tree to search.
    pub base: String,
    /// What to search for.
    pub filter: FilterTemplate,
    /// The attributes with certificates; none: the usual ones.
    pub attributes: Vec<String>,
    /// The DN to bind with, and the file of its password.
    pub bind: Option<(String, PathBuf)>,
}

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("[[source]] \"{name}\": {reason}")]
pub struct SourcesError {
    /// The source.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl SourcesError {
    /// Whose fault it is: the operator's.
    pub fn fault(&self) -> Fault {
        Fault::Operator
    }
}

/// The sources of a configuration, ready to be asked. Nothing is connected yet.
pub fn start_sources(settings: &LookupSettings) -> Result<Sources, SourcesError> {
    let mut sources: Vec<Arc<dyn CertificateSource>> = Vec::new();
    for SourceSettings { name, place } in &settings.sources {
        let fail = |reason: String| SourcesError { name: name.clone(), reason };
        sources.push(match place {
            Place::Directory(path) => Arc::new(Directory::new(name, path)),
            Place::Ldap(ldap) => Arc::new(Ldap::new(name, with_password(ldap).map_err(fail)?).map_err(fail)?),
            Place::Smimea { servers, anchors, .. } => {
                let smimea = Smimea::new(name, servers, anchors.clone());
                Arc::new(smimea.map_err(|error: io::Error| fail(error.to_string()))?)
            }
        });
    }
    Ok(Sources::new(sources, settings.budget))
}

fn with_password(place: &LdapPlace) -> Result<LdapSettings, String> {
    let LdapPlace { server, authorities, base, filter, attributes, bind } = place.clone();
    let bind = match bind {
        Some((name, file)) => {
            let password = Password::from_file(&file);
            Some((name, password.map_err(|error| format!("password-file {}: {error}", file.display()))?))
        }
        None => None,
    };
    Ok(LdapSettings { server, authorities, base, filter, attributes, bind })
}

const TITLE: &str = "[[source]]";

impl Checker<'_> {
    pub(super) fn lookup(&mut self, sections: Vec<SourceSection>, lookup: LookupSection) -> LookupSettings {
        let mut sources: Vec<SourceSettings> = Vec::new();
        for SourceSection { line, name, place } in sections {
            let kind = match &place {
                PlaceSection::Directory(_) => "directory",
                PlaceSection::Ldap(_) => "ldap",
                PlaceSection::Smimea { .. } => "smimea",
            };
            let name = name.unwrap_or(At { line, value: kind.to_owned() });
            if sources.iter().any(|other| other.name == name.value) {
                self.wrong(
                    TITLE,
                    "name",
                    &name,
                    "another [[source]] has this name; give each its own `name`",
                );
            }
            let place = match place {
                PlaceSection::Directory(path) => self.directory(&path),
                PlaceSection::Ldap(section) => self.ldap(line, *section),
                PlaceSection::Smimea { servers, trust_anchor } => {
                    self.smimea(&servers, trust_anchor.as_ref())
                }
            };
            sources.extend(place.map(|place| SourceSettings { name: name.value, place }));
        }
        let (budget, absent) =
            (Duration::from_millis(lookup.budget_ms), Duration::from_mins(lookup.absent_minutes));
        LookupSettings { sources, budget, absent }
    }

    fn directory(&mut self, path: &At<PathBuf>) -> Option<Place> {
        let path = self.resolved(path);
        let reason = match std::fs::metadata(&path.value) {
            Ok(found) if found.is_dir() => return Some(Place::Directory(path.value)),
            Ok(_) => "this is no folder".to_owned(),
            Err(error) => error.to_string(),
        };
        self.file(TITLE, "path", path.as_deref(), reason);
        None
    }

    fn ldap(&mut self, line: usize, section: LdapSection) -> Option<Place> {
        let LdapSection { url, start_tls, ca_file, base, filter, attributes, bind_dn, password_file } =
            section;
        let server = match Server::parse(&url.value, start_tls) {
            Ok(server) => Some(server),
            Err(reason) => {
                self.wrong(TITLE, "url", &url, reason);
                None
            }
        };
        let parsed = filter.map(|text| (FilterTemplate::parse(&text.value), text));
        let filter = match parsed {
            None => Some(FilterTemplate::default()),
            Some((Ok(filter), _)) => Some(filter),
            Some((Err(reason), text)) => {
                self.wrong(TITLE, "filter", &text, &reason);
                None
            }
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ';' | '.');
        for attribute in &attributes {
            if attribute.value.is_empty() || !attribute.value.chars().all(is_name) {
                self.wrong(TITLE, "attributes", attribute, "it is a name like userCertificate;binary");
            }
        }
        let authorities = ca_file.map(|path| self.certificates(TITLE, "ca-file", &path));
        let bind = match (bind_dn, password_file) {
            (None, None) => None,
            (Some(name), Some(file)) => {
                self.existing(TITLE, "password-file", &file).map(|file| (name.value, file))
            }
            _ => {
                self.contradiction(line, "[[source]] needs `bind-dn` and `password-file`, or neither");
                None
            }
        };
        let server = server?;
        if authorities.is_none() && server.security() != Security::Plain {
            let reason = "[[source]] needs `ca-file`: whom TLS believes that this is the directory; the authorities \
                          that Debian knows are in /etc/ssl/certs/ca-certificates.crt";
            self.contradiction(line, reason);
        }
        if bind.is_some() && server.security() == Security::Plain && !server.is_local() {
            let reason = "[[source]] would send a password in clear; use ldaps:// or start-tls = true";
            self.contradiction(line, reason);
        }
        let attributes = attributes.into_iter().map(|attribute| attribute.value).collect();
        let authorities = authorities.unwrap_or_default();
        Some(Place::Ldap(Box::new(LdapPlace {
            server,
            authorities,
            base: base.value,
            filter: filter?,
            attributes,
            bind,
        })))
    }

    fn smimea(&mut self, servers: &[At<String>], trust_anchor: Option<&At<PathBuf>>) -> Option<Place> {
        let mut addresses = Vec::new();
        for server in servers {
            let text = &server.value;
            let alone = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
            match text.parse::<SocketAddr>().or_else(|_| alone()) {
                Ok(address) => addresses.push(address),
                Err(_) => {
                    self.wrong(TITLE, "servers", server, "it is an address like 127.0.0.1 or [::1]:5353");
                }
            }
        }
        let (path, anchors) = match trust_anchor {
            None => (None, Anchors::root()),
            Some(path) => {
                let path = self.resolved(path);
                match Anchors::from_file(&path.value) {
                    Ok(anchors) => (Some(path.value), anchors),
                    Err(reason) => {
                        self.file(TITLE, "trust-anchor", path.as_deref(), reason);
                        return None;
                    }
                }
            }
        };
        Some(Place::Smimea { servers: addresses, trust_anchor: path, anchors })
    }

    fn contradiction(&mut self, line: usize, reason: &str) {
        self.report.add(line, Problem::Contradiction { reason: reason.to_owned() });
    }
}

impl fmt::Display for SourceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\": ", self.name)?;
        match &self.place {
            Place::Directory(path) => write!(f, "files in {}", path.display()),
            Place::Ldap(ldap) => {
                let security = match ldap.server.security() {
                    Security::Plain => "without TLS",
                    Security::StartTls => "with StartTLS",
                    Security::Tls => "with TLS",
                };
                let bind = ldap.bind.as_ref().map_or("anonymous", |(name, _)| name);
                write!(f, "{} {security}, below \"{}\", as {bind}", ldap.server, ldap.base)
            }
            Place::Smimea { servers, trust_anchor, .. } => {
                let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
                let servers =
                    if servers.is_empty() { "/etc/resolv.conf".to_owned() } else { servers.join(", ") };
                write!(f, "SMIMEA by {servers}, ")?;
                match trust_anchor {
                    Some(path) => write!(f, "root key in {}", path.display()),
                    None => f.write_str("IANA's root keys"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use smime::store::{Lookup, Waited};

    use crate::settings::{ConfigError, Settings};

    fn parse(text: &str) -> Result<Settings, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("certs")).unwrap();
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/root.pem");
        fs::copy(root, folder.path().join("root.pem")).unwrap();
        fs::write(folder.path().join("password"), "s3cret\n").unwrap();
        let key = ". IN DNSKEY 257 3 13 CTXHYkIUsODYmDO3M26typdOJQvI9Xa4tsRMa8EqTDvs1s+Tkx4bDMigrRBMXOH2+RB5z6AWstd8wfhKeD6w7w==\n";
        fs::write(folder.path().join("root.key"), key).unwrap();
        let prefix = format!("{}/", folder.path().display());
        match Settings::parse(text, &folder.path().join("hsmime.toml")) {
            Ok(settings) => Ok(settings),
            Err(ConfigError::Invalid { complaints, .. }) => {
                Err(complaints.iter().map(|c| c.to_string().replace(&prefix, "")).collect())
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn sources_are_read_in_their_order_and_printed() {
        let settings = parse(
            "[[source]]\nkind = \"smimea\"\nservers = [\"127.0.0.1\", \"[::1]:5353\"]\ntrust-anchor = \"root.key\"\n\
             [[source]]\nkind = \"ldap\"\nname = \"staff\"\nurl = \"ldap://dir.example.org\"\nstart-tls = true\n\
             ca-file = \"root.pem\"\nbase = \"dc=example\"\nbind-dn = \"cn=r\"\npassword-file = \"password\"\n\
             filter = \"(|(mail={address})(alias={address}))\"\n\
             [[source]]\nkind = \"directory\"\npath = \"certs\"\n[lookup]\nbudget-ms = 700\nabsent-minutes = 0\n",
        )
        .unwrap();
        let text = settings.to_string();
        for expected in [
            "source     \"smimea\": SMIMEA by 127.0.0.1:53, [::1]:5353, root key in ",
            "source     \"staff\": ldap://dir.example.org:389 with StartTLS, below \"dc=example\", as cn=r\n",
            "source     \"directory\": files in ",
            "asked within 700ms in all; absence is believed for 0ns\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in {text}");
        }
        assert!(!format!("{settings:?}").contains("s3cret"));
        // The secret is read when it is used, and then it is gone.
        let error = super::start_sources(settings.lookup()).unwrap_err().to_string();
        assert!(
            error.starts_with("[[source]] \"staff\": password-file ") && error.contains("No such file"),
            "{error}"
        );
    }

    #[test]
    fn what_cannot_be_asked_is_complained_of() {
        let ldap = "[[source]]\nkind = \"ldap\"\nbase = \"dc=x\"\n";
        for (text, expected) in [
            (
                "[[source]]\nkind = \"directory\"\npath = \"none\"\n".to_owned(),
                "line 3: `path` in [[source]]: none: No such file or directory (os error 2)",
            ),
            (
                "[[source]]\nkind = \"directory\"\npath = \"root.pem\"\n".to_owned(),
                "line 3: `path` in [[source]]: root.pem: this is no folder",
            ),
            (
                format!("{ldap}url = \"http://x\"\n"),
                "line 4: `url` in [[source]] cannot be \"http://x\": it begins with ldap:// or ldaps://",
            ),
            (
                format!("{ldap}url = \"ldaps://x\"\n"),
                "line 1: [[source]] needs `ca-file`: whom TLS believes that this is the directory; the authorities that Debian knows are in /etc/ssl/certs/ca-certificates.crt",
            ),
            (
                format!("{ldap}url = \"ldap://x\"\nbind-dn = \"cn=r\"\n"),
                "line 1: [[source]] needs `bind-dn` and `password-file`, or neither",
            ),
            (
                format!("{ldap}url = \"ldap://x\"\nbind-dn = \"cn=r\"\npassword-file = \"password\"\n"),
                "line 1: [[source]] would send a password in clear; use ldaps:// or start-tls = true",
            ),
            (
                format!("{ldap}url = \"ldap://x\"\nattributes = [\"a b\"]\n"),
                "line 5: `attributes` in [[source]] cannot be \"a b\": it is a name like userCertificate;binary",
            ),
            (
                format!("{ldap}url = \"ldap://x\"\nfilter = \"(mail=x)\"\n"),
                "line 5: `filter` in [[source]] cannot be \"(mail=x)\": it has no place for the {address}",
            ),
            (
                "[[source]]\nkind = \"ldap\"\nurl = \"ldap://x\"\n".to_owned(),
                "line 1: [[source]] needs `base`",
            ),
            (
                "[[source]]\nkind = \"smimea\"\nservers = [\"dns.example.org\"]\n".to_owned(),
                "line 3: `servers` in [[source]] cannot be \"dns.example.org\": it is an address like 127.0.0.1 or [::1]:5353",
            ),
            (
                "[[source]]\nkind = \"smimea\"\n[[source]]\nkind = \"smimea\"\n".to_owned(),
                "line 3: `name` in [[source]] cannot be \"smimea\": another [[source]] has this name; give each its own `name`",
            ),
            (
                "[[source]]\nkind = \"smimea\"\ntrust-anchor = \"password\"\n".to_owned(),
                "line 3: `trust-anchor` in [[source]]: password: ",
            ),
            ("[[source]]\npath = \"certs\"\n".to_owned(), "line 1: [[source]] needs `kind`"),
            (
                "[lookup]\nbudget = 3\n".to_owned(),
                "line 2: unknown key `budget` in [lookup]; did you mean `budget-ms`?",
            ),
        ] {
            let complaints = parse(&text).map(|settings| settings.to_string()).unwrap_err();
            assert!(
                complaints.len() == 1 && complaints[0].starts_with(expected),
                "{complaints:#?}\nfor {text}"
            );
        }
        // In clear to this machine only.
        let local =
            format!("{ldap}url = \"ldap://127.0.0.1\"\nbind-dn = \"cn=r\"\npassword-file = \"password\"\n");
        assert!(parse(&local).is_ok());
    }

    #[test]
    fn what_the_cache_lacks_is_looked_up_at_the_sources() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("certs")).unwrap();
        for (from, to) in [("root.pem", "root.pem"), ("bob.pem", "certs/bob.pem")] {
            let from = format!("{}/testdata/{from}", env!("CARGO_MANIFEST_DIR"));
            fs::copy(from, folder.path().join(to)).unwrap();
        }
        let text = "[cache]\npath = \"cache\"\n[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n\
                    [[source]]\nkind = \"directory\"\npath = \"certs\"\n[[rule]]\nsign = \"never\"\nencrypt = \"when-possible\"\n";
        let settings = Settings::parse(text, &folder.path().join("hsmime.toml")).unwrap();
        let cache = crate::open_cache(&settings).unwrap().unwrap();
        let store = crate::store_of(&settings, cache, settings.trust()).unwrap().unwrap();
        let now =
            crate::identity::tests::certificate("root").not_before() + std::time::Duration::from_hours(24);
        let bob = crate::identity::tests::certificate("bob");
        let mut waited = Waited::default();
        let found = store.lookup(&bob.addresses()[0], now, &mut waited).unwrap();
        assert!(matches!(&found, Lookup::Found(found) if *found == [bob]), "{found:?}");
        let nobody = "nobody@example.org".parse().unwrap();
        assert!(matches!(store.lookup(&nobody, now, &mut waited).unwrap(), Lookup::Absent));
    }
}
