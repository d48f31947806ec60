//! Certificates out of files: PEM, DER, and PKCS#7 with certificates only (RFC 8551 3.8), in DER, BER or PEM.
//!
//! Not in here: PKCS#12 and LDIF, which only an administrator imports.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::Path,
};

use data_encoding::BASE64;
use smime::{Certificate, certificate::CertificateError, cms::Object};

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Its certificates, in the file's order, each once.
    pub certificates: Vec<Certificate>,
    /// Objects that somebody signed, in which the owner of one of them may say what it can open.
    pub signed: Vec<Vec<u8>>,
    /// What else is in it, and was passed over: for people.
    pub skipped: Vec<String>,
}

/// Why a file gives no certificates.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Nothing that is known.
    #[error("it is neither PEM nor DER nor PKCS#7 of certificates")]
    Unknown,
    /// A form that is known, without a certificate in it.
    #[error("there is no certificate in it, only {0}")]
    NoCertificate(String),
    /// A PEM block that has no end or is no base64.
    #[error("line {line}: {reason}")]
    Pem {
        /// Where the block begins, counted from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A certificate that does not decode.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// PKCS#7 that does not decode.
    #[error("it begins like PKCS#7, but: {0}")]
    Cms(String),
    /// More than anybody has.
    #[error("it is longer than {} MiB", MAX_FILE >> 20)]
    TooLong,
}

/// No file of certificates is longer.
pub const MAX_FILE: u64 = 64 << 20;

/// The octets of a file, no more than [`read`] takes and one.
pub fn load(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut octets)?;
    Ok(octets)
}

/// Reads certificates, in whatever form they are.
pub fn read(octets: &[u8]) -> Result<Contents, FormatError> {
    if octets.len() as u64 > MAX_FILE {
        return Err(FormatError::TooLong);
    }
    let mut contents = Contents::default();
    if octets.first() == Some(&0x30) {
        contents.take_der(octets)?;
    } else {
        let text = String::from_utf8_lossy(octets);
        if text.contains("-----BEGIN ") {
            contents.take_pem(&text)?;
        } else {
            // Windows exports PKCS#7 as bare base64, too.
            let packed: Vec<u8> = octets.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
            match BASE64.decode(&packed) {
                Ok(der) if der.first() == Some(&0x30) => contents.take_der(&der)?,
                _ => return Err(FormatError::Unknown),
            }
        }
    }
    let mut seen = HashSet::new();
    contents.certificates.retain(|certificate| seen.insert(*certificate.fingerprint()));
    if contents.certificates.is_empty() {
        let what =
            if contents.skipped.is_empty() { "nothing".to_owned() } else { contents.skipped.join(", ") };
        return Err(FormatError::NoCertificate(what));
    }
    Ok(contents)
}

impl Contents {
    /// A certificate, or PKCS#7: `ContentInfo` begins with an object identifier, a certificate with a SEQUENCE.
    fn take_der(&mut self, der: &[u8]) -> Result<(), FormatError> {
        let is_content_info = smime::ber::Tree::parse(der).ok().is_some_and(|tree| {
            let first = tree.root().children().next();
            first.is_some_and(|element| element.tag() == smime::ber::Tag::OBJECT_IDENTIFIER)
        });
        if is_content_info {
            self.take_cms(der)
        } else {
            // A file may be padded; what is signed is not.
            let trimmed = der.trim_ascii_end();
            let certificate = Certificate::from_der(der).or_else(|_| Certificate::from_der(trimmed));
            self.certificates.push(certificate?);
            Ok(())
        }
    }

    fn take_cms(&mut self, octets: &[u8]) -> Result<(), FormatError> {
        match Object::parse(octets) {
            Ok(Object::SignedData(signed)) => {
                self.certificates.extend(signed.certificates());
                if !signed.signer_infos().is_empty() {
                    self.signed.push(octets.to_vec());
                }
                if !signed.crls().is_empty() {
                    self.skipped.push("revocation lists".to_owned());
                }
                Ok(())
            }
            Ok(_) => {
                Err(FormatError::Cms("it is encrypted or compressed, not a set of certificates".to_owned()))
            }
            Err(error) => Err(FormatError::Cms(error.to_string())),
        }
    }

    fn take_pem(&mut self, text: &str) -> Result<(), FormatError> {
        let mut lines = text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let label = line.trim().strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
            let Some(label) = label else {
                continue;
            };
            let end = format!("-----END {label}-----");
            let mut base64 = String::new();
            let mut is_whole = false;
            for (_, line) in lines.by_ref() {
                let line = line.trim();
                if line == end {
                    is_whole = true;
                    break;
                }
                base64.extend(line.chars().filter(|c| !c.is_whitespace()));
            }
            let wrong = |reason| FormatError::Pem { line: at + 1, reason };
            if !is_whole {
                return Err(wrong("a -----BEGIN without its -----END"));
            }
            let decoded =
                || BASE64.decode(base64.as_bytes()).map_err(|_| wrong("what follows is not base64"));
            match label {
                "CERTIFICATE" | "X509 CERTIFICATE" => {
                    self.certificates.push(Certificate::from_der(&decoded()?)?);
                }
                "PKCS7" | "CMS" | "PKCS #7 SIGNED DATA" => self.take_cms(&decoded()?)?,
                // Never read further than its name.
                other if other.ends_with("PRIVATE KEY") => self.skipped.push("a private key".to_owned()),
                other => self.skipped.push(format!("a block {other:?}")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use smime::{cms::certificates_only, testing::fixtures};

    use super::*;

    fn names(octets: &[u8]) -> Result<Vec<String>, String> {
        let contents = read(octets).map_err(|error| error.to_string())?;
        Ok(contents.certificates.iter().map(|c| c.subject().to_string()).collect())
    }

    fn pem(label: &str, octets: &[u8]) -> String {
        format!("-----BEGIN {label}-----\r\n{}\r\n-----END {label}-----\r\n", BASE64.encode(octets))
    }

    #[test]
    fn every_form_gives_the_same_certificates() {
        let [alice, ca] = ["alice", "ca"].map(fixtures::certificate);
        let both = certificates_only(&[alice.clone(), ca.clone()]).unwrap();
        let pem_of = |certificate: &Certificate| pem("CERTIFICATE", certificate.der());
        let mut in_pem =
            names(format!("Bag attributes\n{}{}", pem_of(&alice), pem_of(&ca)).as_bytes()).unwrap();
        in_pem.sort();
        assert_eq!(in_pem.len(), 2);
        for octets in [
            both.clone(),
            pem("PKCS7", &both).into_bytes(),
            pem("CMS", &both).into_bytes(),
            BASE64.encode(&both).into_bytes(),
            format!("{}{}", pem("X509 CERTIFICATE", alice.der()), pem("PKCS7", &both)).into_bytes(),
        ] {
            let mut found = names(&octets).unwrap();
            found.sort();
            assert_eq!(found, in_pem);
        }
        assert_eq!(names(alice.der()).unwrap().len(), 1);
        assert_eq!(names(&[alice.der(), b"\n"].concat()).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_certificate_is_named_and_a_private_key_is_only_named() {
        let alice = fixtures::certificate("alice");
        let with_key = pem("PRIVATE KEY", b"secret") + &pem("CERTIFICATE", alice.der());
        let contents = read(with_key.as_bytes()).unwrap();
        assert_eq!((contents.certificates.len(), contents.skipped), (1, vec!["a private key".to_owned()]));
        for (octets, expected) in [
            (&b""[..], "neither PEM nor DER"),
            (b"hello\n", "neither PEM nor DER"),
            (b"\x00\x01\x02", "neither PEM nor DER"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "line 1: a -----BEGIN without its -----END"),
            (
                b"x\n-----BEGIN CERTIFICATE-----\nA*\n-----END CERTIFICATE-----\n",
                "line 2: what follows is not",
            ),
            (pem("CERTIFICATE", b"0\x03abc").as_bytes(), "not an X.509 certificate"),
            (pem("RSA PRIVATE KEY", b"k").as_bytes(), "no certificate in it, only a private key"),
            (&fixtures::data("der.p7m"), "it is encrypted"),
            (&certificates_only(&[]).unwrap(), "no certificate in it, only nothing"),
            (&alice.der()[..200], "not an X.509 certificate"),
        ] {
            let error = read(octets).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
