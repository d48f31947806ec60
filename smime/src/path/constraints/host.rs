//! Subtrees of host names, of URIs by their host, and of IP addresses (RFC 5280 4.2.1.10).

use super::Holds;

/// The base of a subtree of hosts, in lower case.
#[derive(Debug)]
pub(super) struct HostTree {
    domain: String,
    /// Whether it holds the domain itself.
    itself: bool,
    /// Whether it holds what is below the domain.
    below: bool,
}

impl HostTree {
    /// A dNSName: the host and all below it; with a dot in front, which is not in the RFC, what is below.
    pub(super) fn of_dns(base: &str) -> Option<Self> {
        match base.strip_prefix('.') {
            Some(domain) => Self::of(domain, false, true),
            None => Self::of(base, true, true),
        }
    }

    /// Of URIs: one host, or with a dot in front what is below a domain.
    pub(super) fn of_uri(base: &str) -> Option<Self> {
        match base.strip_prefix('.') {
            Some(domain) => Self::of(domain, false, true),
            None => Self::of(base, true, false),
        }
    }

    fn of(domain: &str, itself: bool, below: bool) -> Option<Self> {
        is_host(domain).then(|| Self { domain: domain.to_ascii_lowercase(), itself, below })
    }

    pub(super) fn holds(&self, host: &str) -> Holds {
        let host = host.to_ascii_lowercase();
        let (host, is_any) = host.strip_prefix("*.").map_or((host.as_str(), false), |rest| (rest, true));
        if !is_host(host) {
            return Holds::Perhaps;
        }
        let is_below =
            |host: &str, domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        if is_any {
            // Some host below `host`: in the tree if all of those are, perhaps if the tree is among them.
            let all = self.below && (host == self.domain || is_below(host, &self.domain));
            let some = host == self.domain || is_below(host, &self.domain) || is_below(&self.domain, host);
            return match (all, some) {
                (true, _) => Holds::Surely,
                (false, true) => Holds::Perhaps,
                (false, false) => Holds::No,
            };
        }
        Holds::from(self.itself && host == self.domain || self.below && is_below(host, &self.domain))
    }
}

/// Labels of letters, digits, hyphens and underscores.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    host.split('.').all(is_label)
}

/// The host of a URI with an authority, where it is a name (RFC 3986 3.2).
pub(super) fn host_of(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once("://")?;
    let is_scheme = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let authority = rest.split(['/', '?', '#']).next()?;
    // What stands before a second @ is taken for the user by some and for the host by others: no host has one.
    let host = authority.split_once('@').map_or(authority, |(_, host)| host);
    let host = match host.split_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) => return None,
        None => host,
    };
    // The last label of an IPv4 address is a number.
    let is_name = host.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()));
    (is_scheme && is_host(host) && is_name).then_some(host)
}

/// A network: address and mask.
#[derive(Debug)]
pub(super) struct NetTree {
    network: Vec<u8>,
    mask: Vec<u8>,
}

impl NetTree {
    pub(super) fn parse(base: &[u8]) -> Option<Self> {
        let (network, mask) = base.split_at_checked(base.len() / 2)?;
        let ones: u32 = mask.iter().map(|octet| octet.leading_ones()).sum();
        let set: u32 = mask.iter().map(|octet| octet.count_ones()).sum();
        // All ones are in front.
        let is_mask = ones == set && mask.iter().is_sorted_by(|one, next| **one == 0xFF || **next == 0);
        let is_net = matches!(base.len(), 8 | 32) && is_mask;
        is_net.then(|| Self { network: network.to_vec(), mask: mask.to_vec() })
    }

    pub(super) fn holds(&self, address: &[u8]) -> Holds {
        if !matches!(address.len(), 4 | 16) {
            return Holds::Perhaps;
        }
        if address.len() != self.network.len() {
            return Holds::No;
        }
        let pairs = address.iter().zip(&self.network).zip(&self.mask);
        Holds::from(pairs.into_iter().all(|((one, other), mask)| one & mask == other & mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_name_holds_itself_and_all_labels_before_it() {
        for (base, host, holds) in [
            ("example.org", "example.org", Holds::Surely),
            ("example.org", "Mail.EXAMPLE.org", Holds::Surely),
            ("example.org", "myexample.org", Holds::No),
            ("example.org", "org", Holds::No),
            (".example.org", "example.org", Holds::No),
            (".example.org", "a.example.org", Holds::Surely),
            ("example.org", "*.example.org", Holds::Surely),
            ("mail.example.org", "*.example.org", Holds::Perhaps),
            ("example.org", "*.example.com", Holds::No),
            ("example.org", "example.org.", Holds::Perhaps),
            ("example.org", "exa mple.org", Holds::Perhaps),
        ] {
            assert_eq!(HostTree::of_dns(base).unwrap().holds(host), holds, "{base} {host}");
        }
        assert!(HostTree::of_dns("").is_none() && HostTree::of_dns("*.org").is_none());
    }

    #[test]
    fn a_uri_is_held_by_its_host_only() {
        let tree = HostTree::of_uri("example.org").unwrap();
        let below = HostTree::of_uri(".example.org").unwrap();
        for (uri, one, many) in [
            ("http://example.org/index.html", Holds::Surely, Holds::No),
            ("ldap://EXAMPLE.org:389?x", Holds::Surely, Holds::No),
            ("http://a@example.org", Holds::Surely, Holds::No),
            ("http://a.example.org/", Holds::No, Holds::Surely),
            ("http://example.com/.example.org", Holds::No, Holds::No),
            ("http://example.com#@example.org", Holds::No, Holds::No),
            ("http://example.org@example.com", Holds::No, Holds::No),
        ] {
            let host = host_of(uri).unwrap();
            assert_eq!((tree.holds(host), below.holds(host)), (one, many), "{uri}");
        }
        for uri in [
            "mailto:a@example.org",
            "http:///x",
            "http://10.0.0.1/",
            "http://[::1]/",
            "http://a@b@example.org/",
            "http://example.org:x/",
            "example.org",
        ] {
            assert_eq!(host_of(uri), None, "{uri}");
        }
    }

    #[test]
    fn addresses_are_held_by_networks_of_their_family() {
        let net = NetTree::parse(&[10, 1, 0, 0, 255, 255, 128, 0]).unwrap();
        for (address, holds) in [
            (&[10, 1, 127, 9][..], Holds::Surely),
            (&[10, 1, 128, 9], Holds::No),
            (&[0; 16], Holds::No),
            (&[10, 1, 0], Holds::Perhaps),
        ] {
            assert_eq!(net.holds(address), holds, "{address:?}");
        }
        for base in
            [&[10, 1, 0, 0, 255, 0, 255, 0][..], &[10, 1, 0, 0, 0, 255, 0, 0], &[10, 1, 0, 0], &[], &[10; 7]]
        {
            assert!(NetTree::parse(base).is_none(), "{base:?}");
        }
        assert!(NetTree::parse(&[0; 8]).unwrap().holds(&[1, 2, 3, 4]) == Holds::Surely);
    }
}
