//! Where a milter listens, in the spelling of Postfix's `smtpd_milters`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `inet:host:port` or `inet6:[address]:port`.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:/path`.
    Unix {
        /// The socket.
        path: PathBuf,
        /// Its permissions, from `socket-mode`.
        mode: Option<u32>,
    },
}

impl Listen {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => {
                host.parse::<IpAddr>().map_or(host == "localhost", |address| address.is_loopback())
            }
            Self::Unix { .. } => true,
        }
    }

    /// The addresses from which this machine comes there, as far as the spelling tells. Postfix says of a Unix socket that it is
    /// 127.0.0.1, from where the system also connects to all others like it.
    pub(super) fn clients(&self) -> Vec<IpAddr> {
        let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
        match self {
            Self::Unix { .. } => vec![v4],
            Self::Tcp { host, .. } => match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
                Ok(address) if address.is_loopback() && address.is_ipv4() => vec![v4, address],
                // Its own address, or one like it.
                Ok(address) => vec![address],
                Err(_) if host == "localhost" => vec![v4, v6],
                Err(_) => Vec::new(),
            },
        }
    }

    /// Parses the value of `listen`, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("inet:") {
            let (host, port) = split_port(rest, "inet:127.0.0.1:8890")?;
            if host.contains([':', '[', ']']) {
                return Err(format!(
                    "an IPv6 address is written inet6:[{}]:{port}",
                    host.trim_matches(['[', ']'])
                ));
            }
            return Ok(Self::Tcp { host: host.to_owned(), port });
        }
        if let Some(rest) = text.strip_prefix("inet6:") {
            let (host, port) = split_port(rest, "inet6:[::1]:8890")?;
            let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
            let bare =
                bare.ok_or_else(|| "the address must be in brackets, like inet6:[::1]:8890".to_owned())?;
            bare.parse::<Ipv6Addr>().map_err(|_| format!("\"{bare}\" is not an IPv6 address"))?;
            return Ok(Self::Tcp { host: bare.to_owned(), port });
        }
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.strip_prefix("local:")) {
            if !path.starts_with('/') {
                return Err("the path of the socket must begin with /".to_owned());
            }
            return Ok(Self::Unix { path: PathBuf::from(path), mode: None });
        }
        if text.starts_with('/') {
            return Err(format!("did you mean unix:{text}?"));
        }
        if split_port(text, "").is_ok() {
            return Err(format!("did you mean inet:{text}?"));
        }
        Err("it must be like inet:127.0.0.1:8890, inet6:[::1]:8890 or unix:/run/hsmime/milter.sock"
            .to_owned())
    }
}

fn split_port<'t>(text: &'t str, example: &str) -> Result<(&'t str, u16), String> {
    if let Some((port, host)) = text.split_once('@') {
        return Err(format!("that is Sendmail's spelling; write inet:{host}:{port}"));
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()) else {
        return Err(format!("host and port are needed, like {example}"));
    };
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok((host, port)),
        _ => Err(format!("\"{port}\" is not a port; it must be from 1 to 65535")),
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "inet6:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "inet:{host}:{port}"),
            Self::Unix { path, mode: None } => write!(f, "unix:{}", path.display()),
            Self::Unix { path, mode: Some(mode) } => write!(f, "unix:{} (mode {mode:o})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_listened_at_is_read_and_written_back() {
        for text in ["inet:127.0.0.1:8890", "inet:localhost:1", "inet6:[::1]:8890", "unix:/run/hsmime/m.sock"]
        {
            assert_eq!(Listen::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_spellings_are_refused_with_the_right_one() {
        for (text, expected) in [
            ("127.0.0.1:8890", "did you mean inet:127.0.0.1:8890?"),
            ("/run/m.sock", "did you mean unix:/run/m.sock?"),
            ("inet:8890@localhost", "that is Sendmail's spelling; write inet:localhost:8890"),
            ("inet:8890", "host and port are needed, like inet:127.0.0.1:8890"),
            ("inet:[::1]:8890", "an IPv6 address is written inet6:[::1]:8890"),
            ("inet:::1:8890", "an IPv6 address is written inet6:[::1]:8890"),
            ("inet6:::1:8890", "the address must be in brackets, like inet6:[::1]:8890"),
            ("inet6:[host]:8890", "\"host\" is not an IPv6 address"),
            ("inet:localhost:0", "\"0\" is not a port; it must be from 1 to 65535"),
            ("inet:localhost:99999", "\"99999\" is not a port; it must be from 1 to 65535"),
            ("unix:m.sock", "the path of the socket must begin with /"),
            (
                "milter",
                "it must be like inet:127.0.0.1:8890, inet6:[::1]:8890 or unix:/run/hsmime/milter.sock",
            ),
        ] {
            assert_eq!(Listen::parse(text).unwrap_err(), expected, "{text}");
        }
    }
}
