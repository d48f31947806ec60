//! Certificates out of whatever file an administrator was given.

mod ldif;
mod password;
pub(crate) mod pkcs12;

use std::{io::Read as _, path::Path};

use lookup::files;
use smime::{
    Certificate,
    ber::{Tag, Tree},
};

pub(crate) use password::Passwords;

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Its certificates, in its order.
    pub(crate) certificates: Vec<Certificate>,
    /// What else is in it, for people.
    pub(crate) skipped: Vec<String>,
}

/// Reads a file, `-` for stdin. Passwords are asked for only where one is needed.
pub(crate) fn read(path: &Path, passwords: &mut Passwords) -> Result<Contents, String> {
    let octets = if path == Path::new("-") { stdin() } else { files::load(path) };
    let octets = octets.map_err(|error| error.to_string())?;
    if octets.len() as u64 > files::MAX_FILE {
        return Err(files::FormatError::TooLong.to_string());
    }
    if octets.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if is_pkcs12(&octets) {
        let password = passwords.of(path)?;
        let bags = pkcs12::read(&octets, &password).map_err(|error| error.to_string())?;
        let skipped = match bags.private_keys {
            0 => Vec::new(),
            1 => vec!["a private key, which was not read".to_owned()],
            keys => vec![format!("{keys} private keys, which were not read")],
        };
        return some(bags.certificates, skipped);
    }
    if let Ok(text) = std::str::from_utf8(&octets)
        && ldif::is_ldif(text)
    {
        let (certificates, skipped) = ldif::read(text)?;
        return some(certificates, skipped);
    }
    let files::Contents { certificates, skipped, .. } =
        files::read(&octets).map_err(|error| match error {
            files::FormatError::Unknown => "it is neither PEM, DER, PKCS#7, PKCS#12 nor LDIF".to_owned(),
            error => error.to_string(),
        })?;
    Ok(Contents { certificates, skipped })
}

fn some(certificates: Vec<Certificate>, skipped: Vec<String>) -> Result<Contents, String> {
    if certificates.is_empty() {
        let besides =
            if skipped.is_empty() { String::new() } else { format!(", only {}", skipped.join(", ")) };
        return Err(format!("there is no certificate in it{besides}"));
    }
    Ok(Contents { certificates, skipped })
}

fn stdin() -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    std::io::stdin().lock().take(files::MAX_FILE + 1).read_to_end(&mut octets)?;
    Ok(octets)
}

/// `PFX` begins with version 3 (RFC 7292 section 4), a certificate with a SEQUENCE, `ContentInfo` with an OID.
fn is_pkcs12(octets: &[u8]) -> bool {
    octets.first() == Some(&0x30)
        && Tree::parse(octets).is_ok_and(|tree| {
            let first = tree.root().children().next();
            first.is_some_and(|element| element.tag() == Tag::INTEGER && element.content() == [3])
        })
}
