//! Which addresses may be connected to: those of the public Internet, and networks that the operator names.
//!
//! The URL in a certificate is somebody else's text. Without this, whoever has a certificate from a CA that we trust could
//! make us talk to servers that only we can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use ureq::{
    Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

/// Whether this is an address of the public Internet (RFC 6890 and the registries it began).
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = a == 0
        || a >= 240
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        // Shared by carriers; IETF protocols; 6to4 relays; benchmarks.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Global unicast only, which leaves out mapped and translated IPv4, loopback, local and multicast ones; and of it not
    // the protocols below 2001::/23 (Teredo), documentation and 6to4.
    let is_special = (a == 0x2001 && (b < 0x200 || b == 0xDB8)) || a == 0x2002 || (a == 0x3FFF && b < 0x1000);
    a & 0xE000 == 0x2000 && !is_special
}

/// Resolves names and gives only addresses that may be connected to: what a name resolves to is looked at in the same
/// place where it is used, so that it cannot change in between.
#[derive(Debug, Default)]
pub(super) struct Guard {
    resolver: DefaultResolver,
    allowed: Vec<IpNet>,
    /// The operator's, which is mostly on a network of his own.
    proxy: Option<Uri>,
}

impl Guard {
    /// Public addresses, those of these networks, and this proxy wherever it is.
    pub(super) fn new(allowed: Vec<IpNet>, proxy: Option<Uri>) -> Self {
        Self { resolver: DefaultResolver::default(), allowed, proxy }
    }

    /// Whether this is the proxy. With one no other name is resolved here.
    fn is_proxy(&self, uri: &Uri) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.authority() == uri.authority())
    }

    /// Whether this address may be connected to.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || self.allowed.iter().any(|network| network.contains(&address))
    }
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.resolver.resolve(uri, config, timeout)?;
        if self.is_proxy(uri) {
            return Ok(found);
        }
        let mut allowed = self.empty();
        for address in found.iter().filter(|address| self.allows(address.ip())) {
            allowed.push(*address);
        }
        if allowed.is_empty() {
            let first = found.first().map(SocketAddr::ip);
            return Err(Error::Other(Box::new(NotAllowed(first))));
        }
        Ok(allowed)
    }
}

/// A name resolves to addresses that may not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("its address{} is not public; `allow-networks` in [revocation] can allow it", .0.map_or(String::new(), |address| format!(" {address}")))]
pub(super) struct NotAllowed(pub(super) Option<IpAddr>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_and_allowed_networks_are_connected_to() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("100.63.255.255", true),
            ("172.32.0.1", true),
            ("192.0.1.1", true),
            ("2600::1", true),
            ("2a00:1450::1", true),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("192.0.0.8", false),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:8.8.8.8", false),
            ("::ffff:10.0.0.1", false),
            ("::127.0.0.1", false),
            ("64:ff9b::a00:1", false),
            ("100::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("2002:a00:1::1", false),
            ("3fff::1", false),
            ("fc00::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(is_public(address), public, "{address}");
            assert_eq!(Guard::default().allows(address), public, "{address}");
        }
        let guard = Guard::new(vec!["10.1.0.0/16".parse().unwrap()], None);
        assert!(guard.allows("10.1.2.3".parse().unwrap()) && !guard.allows("10.2.0.1".parse().unwrap()));
    }
}
