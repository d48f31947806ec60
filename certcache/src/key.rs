//! The keys of the tables. Numbers in keys are big-endian, so that their order is that of the octets.

use der::Encode;
use smime::{Certificate, MailAddress, algorithm::DigestAlgorithm, key::Digest};

use crate::record::Fingerprint;

/// LMDB takes keys of 511 octets; `choice` puts 17 octets behind an address, `by_addr` 33.
const MAX_KEY: usize = 511;
/// A serial number has at most 20 octets (RFC 5280 4.1.2.2); who writes more finds less.
const MAX_PART: usize = 64;

/// An address as a key, nothing where it is too long. Equal addresses have the same, and others another one.
pub(crate) fn address(address: &MailAddress) -> Option<Vec<u8>> {
    limited(address.folded())
}

/// An address or `@domain` as a key, however it is spelled.
pub(crate) fn text(text: &str) -> Option<Vec<u8>> {
    limited(canonical(text).unwrap_or_else(|| text.to_ascii_lowercase()))
}

/// The domain of an address as a key, with the `@`.
pub(crate) fn domain(address: &MailAddress) -> Option<Vec<u8>> {
    limited(of_domain(address))
}

/// `@` and the domain of an address in A-labels.
pub(crate) fn of_domain(address: &MailAddress) -> String {
    format!("@{}", address.ascii_domain())
}

/// The form under which equal addresses are the same, or domains with `@` before them; `None` for anything else.
pub(crate) fn canonical(address_or_domain: &str) -> Option<String> {
    match address_or_domain.strip_prefix('@') {
        Some(domain) => MailAddress::parse(&format!("x@{domain}")).ok().map(|any| of_domain(&any)),
        None => MailAddress::parse(address_or_domain).ok().map(|address| address.folded()),
    }
}

fn limited(key: String) -> Option<Vec<u8>> {
    let key = key.into_bytes();
    (!key.contains(&0) && key.len() + 1 + size_of::<Fingerprint>() <= MAX_KEY).then_some(key)
}

/// What all keys of a part and something else begin with.
pub(crate) fn prefix(part: &[u8]) -> Vec<u8> {
    [part, &[0]].concat()
}

/// A part, 0, and something of a length that is always the same.
pub(crate) fn pair(part: &[u8], other: &[u8]) -> Vec<u8> {
    [part, &[0], other].concat()
}

/// The first half of SHA-256 over a name in DER.
pub(crate) fn name(der: &[u8]) -> [u8; 16] {
    let digest = Digest::of(DigestAlgorithm::Sha256, der);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// The issuer's name as a key.
pub(crate) fn issuer(certificate: &Certificate) -> [u8; 16] {
    name(&certificate.issuer().to_der().unwrap_or_default())
}

/// The subject's name as a key.
pub(crate) fn subject(certificate: &Certificate) -> [u8; 16] {
    name(&certificate.subject().to_der().unwrap_or_default())
}

/// What all `by_is` keys of an issuer and serial number begin with.
pub(crate) fn issuer_and_serial(issuer: [u8; 16], serial: &[u8]) -> Vec<u8> {
    [issuer.as_slice(), &counted(serial)].concat()
}

/// Octets with their number before them, cut where they are too many.
pub(crate) fn counted(octets: &[u8]) -> Vec<u8> {
    let octets = octets.get(..MAX_PART).unwrap_or(octets);
    let len = u8::try_from(octets.len()).unwrap_or(u8::MAX);
    [&[len], octets].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_too_long_for_a_key_has_none() {
        assert_eq!(text(&format!("{}@example.org", "x".repeat(500))), None);
        assert_eq!(text("a\0b@example.org"), None);
        let short = MailAddress::parse("Alice@Example.ORG").unwrap();
        assert_eq!(address(&short).unwrap(), b"alice@example.org");
        assert_eq!(domain(&short).unwrap(), b"@example.org");
    }

    #[test]
    fn addresses_have_the_same_key_if_and_only_if_they_are_equal() {
        let spelled = [
            "alice@example.org",
            "ALICE@Example.ORG",
            "J\u{f6}rg@example.org",
            "j\u{f6}rg@example.org",
            "j\u{f6}RG@example.org",
            "a@B\u{dc}cher.example",
            "A@xn--bcher-kva.example",
        ];
        for one in spelled {
            for other in spelled {
                let [first, second] = [one, other].map(|text| MailAddress::parse(text).unwrap());
                assert_eq!(address(&first) == address(&second), first == second, "{one} {other}");
                assert_eq!(text(one) == text(other), first == second, "{one} {other}");
            }
        }
        let book = MailAddress::parse("a@B\u{dc}cher.example").unwrap();
        assert_eq!(domain(&book).unwrap(), b"@xn--bcher-kva.example");
        assert_eq!(text("@b\u{fc}CHER.example"), domain(&book));
    }

    #[test]
    fn no_serial_number_is_the_beginning_of_another() {
        let (short, long) = (issuer_and_serial([1; 16], &[1]), issuer_and_serial([1; 16], &[1, 2]));
        assert!(!long.starts_with(&short));
        assert!(issuer_and_serial([1; 16], &[7; 10_000]).len() < 200);
    }
}
