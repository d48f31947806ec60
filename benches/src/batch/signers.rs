//! Many signers: certificates of one authority for as many addresses.
//!
//! All have one key, so that one token signs for them; what is remembered of a signer is remembered by certificate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use openssl::{
    asn1::Asn1Integer,
    bn::BigNum,
    hash::MessageDigest,
    pkey::PKey,
    x509::{
        X509, X509Name,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
            SubjectKeyIdentifier,
        },
    },
};
use testkit::pki::Person;

/// The address of a signer, by number.
pub fn address(number: u64) -> String {
    format!("signer-{number:04}@example.org")
}

/// So many certificates like a person's, by the authority with this certificate and the key beside it.
pub fn issue(folder: &Path, model: &Person, issuing: &Path, count: u64) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let model = X509::from_pem(&fs::read(&model.certificate)?)?;
    let issuer = X509::from_pem(&fs::read(issuing)?)?;
    let key = PKey::private_key_from_pem(&fs::read(issuing.with_extension("key"))?)?;
    let mut certificates = Vec::new();
    for number in 0..count {
        let mut name = X509Name::builder()?;
        name.append_entry_by_text("CN", &format!("Signer {number}"))?;
        let mut made = X509::builder()?;
        made.set_version(2)?;
        let serial = Asn1Integer::from_bn(&*BigNum::from_dec_str(&(0x100_0000 + number).to_string())?)?;
        made.set_serial_number(&serial)?;
        made.set_subject_name(&name.build())?;
        made.set_issuer_name(issuer.subject_name())?;
        made.set_not_before(model.not_before())?;
        made.set_not_after(model.not_after())?;
        made.set_pubkey(&*model.public_key()?)?;
        let context = made.x509v3_context(Some(&issuer), None);
        let extensions = [
            BasicConstraints::new().critical().build()?,
            KeyUsage::new().critical().digital_signature().key_encipherment().build()?,
            ExtendedKeyUsage::new().email_protection().build()?,
            SubjectAlternativeName::new().email(&address(number)).build(&context)?,
            SubjectKeyIdentifier::new().build(&context)?,
            AuthorityKeyIdentifier::new().keyid(true).build(&context)?,
        ];
        for extension in extensions {
            made.append_extension(extension)?;
        }
        made.sign(&key, MessageDigest::sha256())?;
        let path = folder.join(format!("{number}.pem"));
        fs::write(&path, made.build().to_pem()?)?;
        certificates.push(path);
    }
    Ok(certificates)
}
