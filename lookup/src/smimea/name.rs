//! Where in the DNS the certificates of an address are (RFC 8162 section 3).

use hickory_resolver::proto::rr::Name;
use smime::{MailAddress, algorithm::DigestAlgorithm, key::Digest};

/// Of SHA-256 of the local part, the first 28 octets.
const HASH_LEN: usize = 28;

/// The owner name of a local part's records. The local part is hashed as it is spelled: who spells it otherwise
/// gets another name.
pub(super) fn owner(local: &str, address: &MailAddress) -> Result<Name, String> {
    let digest = Digest::of(DigestAlgorithm::Sha256, local.as_bytes());
    let hash = digest.as_bytes().get(..HASH_LEN).unwrap_or_default();
    let prefix = format!("{}._smimecert", data_encoding::HEXLOWER.encode(hash));
    let prefix = Name::from_ascii(prefix).map_err(|error| error.to_string())?;
    // In A-labels as everything here has them: another mapping of the same letters is another zone.
    let domain = Name::from_ascii(address.ascii_domain()).map_err(|error| error.to_string())?;
    let mut name = prefix.append_domain(&domain).map_err(|error| error.to_string())?;
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_name_is_that_of_rfc_8162() {
        for (address, expected) in [
            // The example of RFC 8162 section 3.
            (
                "hugh@example.com",
                "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._smimecert.example.com.",
            ),
            (
                "hugh@exämple.com",
                "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._smimecert.xn--exmple-cua.com.",
            ),
            // Not the zone of strasse.example.
            (
                "hugh@straße.example",
                "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._smimecert.xn--strae-oqa.example.",
            ),
        ] {
            let address = MailAddress::parse(address).unwrap();
            assert_eq!(owner(address.local(), &address).unwrap().to_ascii(), expected);
        }
        let [exact, lower] =
            ["Hugh@example.com", "hugh@example.com"].map(|text| MailAddress::parse(text).unwrap());
        assert_ne!(owner(exact.local(), &exact).unwrap(), owner(lower.local(), &lower).unwrap());
        let long = MailAddress::parse(&format!("a@{}", ["x".repeat(60).as_str(); 4].join("."))).unwrap();
        assert!(owner(long.local(), &long).is_err());
    }
}
