//! Where an LDAP server is and how it is spoken to: its URL, TLS, and the password for it.

use std::{fmt, fs::File, io, io::Read, net::IpAddr, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use smime::Certificate;
use zeroize::Zeroizing;

/// An LDAP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: Security,
}

/// How what is said is kept from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Not at all: `ldap://`.
    Plain,
    /// By TLS after a plain beginning (RFC 4511 4.14).
    StartTls,
    /// By TLS from the first octet: `ldaps://`.
    Tls,
}

impl Server {
    /// Parses `ldap://host:port` or `ldaps://host:port`; `start_tls` turns the first into [`Security::StartTls`].
    pub fn parse(url: &str, start_tls: bool) -> Result<Self, &'static str> {
        let (rest, security, default_port) = if let Some(rest) = url.strip_prefix("ldaps://") {
            if start_tls {
                return Err("ldaps:// is TLS already; start-tls is for ldap://");
            }
            (rest, Security::Tls, 636)
        } else if let Some(rest) = url.strip_prefix("ldap://") {
            (rest, if start_tls { Security::StartTls } else { Security::Plain }, 389)
        } else {
            return Err("it begins with ldap:// or ldaps://");
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("after ] comes a port")?)),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(default_port), str::parse).map_err(|_| "the port is no number")?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(is_name) {
            return Err("after // comes a host name or address, and nothing after the port");
        }
        Ok(Self { host: host.to_owned(), port, security })
    }

    /// Whether it is this machine.
    pub fn is_local(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        address.map_or(self.host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
    }

    /// How what is said is kept from others.
    pub fn security(&self) -> Security {
        self.security
    }

    /// Whether what it says it has not is surely said by it.
    pub fn is_proven(&self) -> bool {
        self.security != Security::Plain || self.is_local()
    }

    pub(super) fn name(&self) -> Result<ServerName<'static>, String> {
        ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.security == Security::Tls { "ldaps" } else { "ldap" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// TLS that believes certificates of these authorities only, with TLS 1.2 or 1.3.
pub(super) fn tls(authorities: &[Certificate]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let der = CertificateDer::from(authority.der().to_vec());
        // A bundle of a system holds some that nobody can use.
        if let Err(error) = roots.add(der)
            && authorities.len() == 1
        {
            return Err(format!("{authority} is no authority: {error}"));
        }
    }
    if roots.is_empty() {
        return Err("there is no authority in it that could be used".to_owned());
    }
    // Named, so that no other part of a program can choose another.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// A password; it wipes itself and is never shown.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// No password is longer.
    const MAX: u64 = 1024;

    /// The first line of a file that others than its owner and group cannot read.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let mut octets = Zeroizing::new(Vec::with_capacity(2048));
        let file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        if mode & 0o007 != 0 {
            let reason =
                format!("everybody on this machine may use it (mode {:o}): chmod o= it", mode & 0o777);
            return Err(io::Error::other(reason));
        }
        file.take(Self::MAX + 1).read_to_end(&mut octets)?;
        let line = octets.split(|octet| matches!(octet, b'\n' | b'\r')).next().unwrap_or_default();
        // With an empty one a server takes anybody for nobody, and says that all is well (RFC 4513 5.1.2).
        if line.is_empty() {
            return Err(io::Error::other("there is no password in its first line"));
        }
        if octets.len() as u64 > Self::MAX {
            return Err(io::Error::other("it is longer than a password"));
        }
        Ok(Self(Zeroizing::new(line.to_vec())))
    }

    /// The octets.
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_scheme_a_host_and_a_port() {
        for (url, start_tls, expected) in [
            ("ldap://dir.example.org", false, "ldap://dir.example.org:389 Plain"),
            ("ldap://dir.example.org/", true, "ldap://dir.example.org:389 StartTls"),
            ("ldaps://dir.example.org:1636", false, "ldaps://dir.example.org:1636 Tls"),
            ("ldap://[::1]:3890", false, "ldap://[::1]:3890 Plain"),
            ("ldap://[::1]", false, "ldap://[::1]:389 Plain"),
            ("ldaps://dir.example.org", true, "ldaps:// is TLS already; start-tls is for ldap://"),
            ("dir.example.org", false, "it begins with ldap:// or ldaps://"),
            ("ldap://", false, "after // comes a host name or address, and nothing after the port"),
            ("ldap://h/dc=x", false, "after // comes a host name or address, and nothing after the port"),
            ("ldap://h:x", false, "the port is no number"),
            ("ldap://user@h", false, "after // comes a host name or address, and nothing after the port"),
        ] {
            let found = match Server::parse(url, start_tls) {
                Ok(server) => format!("{server} {:?}", server.security()),
                Err(error) => error.to_owned(),
            };
            assert_eq!(found, expected, "{url}");
        }
        assert!(Server::parse("ldap://127.0.0.1:3", false).unwrap().is_local());
        assert!(!Server::parse("ldap://10.0.0.1:3", false).unwrap().is_local());
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "s3cret\n").unwrap();
        let may_be_used_by =
            |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        may_be_used_by(0o644);
        let error = Password::from_file(&file).unwrap_err().to_string();
        assert!(error.contains("mode 644") && error.contains("chmod o="), "{error}");
        may_be_used_by(0o640);
        let password = Password::from_file(&file).unwrap();
        assert_eq!((password.expose(), format!("{password:?}").as_str()), (&b"s3cret"[..], "[redacted]"));
        for (content, expected) in [("", "no password"), ("\nx\n", "no password")] {
            std::fs::write(&file, content).unwrap();
            assert!(Password::from_file(&file).unwrap_err().to_string().contains(expected));
        }
    }
}
