//! Certificates out of LDIF (RFC 2849), as directories export them.
//!
//! URLs in it (`attribute:< file://…`) are not followed.

use data_encoding::BASE64;
use lookup::files;
use smime::Certificate;

/// Attributes with certificates (RFC 4523, RFC 2798), without options, in lower case.
const ATTRIBUTES: [&str; 3] = ["usercertificate", "usersmimecertificate", "cacertificate"];

/// Whether a text begins as LDIF does.
pub(super) fn is_ldif(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| {
        let lower = line.trim_start_matches('\u{feff}').to_ascii_lowercase();
        lower.starts_with("dn:") || lower.starts_with("version:")
    })
}

/// All certificates of an LDIF file, and what was passed over.
pub(super) fn read(text: &str) -> Result<(Vec<Certificate>, Vec<String>), String> {
    let (mut certificates, mut skipped) = (Vec::new(), Vec::new());
    for (number, line) in unfold(text) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let base = name.split(';').next().unwrap_or_default().to_ascii_lowercase();
        if !ATTRIBUTES.contains(&base.as_str()) {
            continue;
        }
        let Some(base64) = value.strip_prefix(':') else {
            skipped.push(format!("line {number}: a {name} that is not in base64"));
            continue;
        };
        let octets = BASE64.decode(base64.trim().as_bytes());
        let octets = octets.map_err(|_| format!("line {number}: what follows {name}:: is not base64"))?;
        match files::read(&octets) {
            Ok(contents) => certificates.extend(contents.certificates),
            Err(error) => skipped.push(format!("line {number}: {name}: {error}")),
        }
    }
    Ok((certificates, skipped))
}

/// The lines with those that go on in the next one joined, and their numbers.
fn unfold(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        match (line.strip_prefix(' '), lines.last_mut()) {
            (Some(rest), Some((_, last))) => last.push_str(rest),
            _ => lines.push((at + 1, line.to_owned())),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_out_of_folded_lines_and_the_rest_is_named() {
        let alice = include_str!("../../../smime/src/testing/data/alice.pem");
        let certificate = Certificate::from_pem(alice).unwrap().remove(0);
        let base64 = BASE64.encode(certificate.der());
        let folded: Vec<&str> =
            base64.as_bytes().chunks(70).map(|c| std::str::from_utf8(c).unwrap()).collect();
        let text = format!(
            "version: 1\n# a comment\ndn: cn=alice\nmail: alice@example.org\nuserCertificate;binary:: {}\n\n\
             dn: cn=bob\nUserCertificate;binary:: AAAA\nuserCertificate:< file:///etc/passwd\njpegPhoto:: AAAA\n",
            folded.join("\r\n ")
        );
        assert!(is_ldif(&text) && is_ldif("\n# x\nDN: cn=x\n"));
        assert!(!is_ldif("-----BEGIN CERTIFICATE-----\n") && !is_ldif(""));
        let (certificates, skipped) = read(&text).unwrap();
        assert_eq!(certificates, [certificate]);
        assert_eq!(skipped.len(), 2, "{skipped:?}");
        assert!(skipped[1].contains("userCertificate that is not in base64"), "{skipped:?}");
        let error = read("dn: x\nuserCertificate;binary:: A*\n").unwrap_err();
        assert_eq!(error, "line 2: what follows userCertificate;binary:: is not base64");
    }
}
