//! `hsmime key csr`: a PKCS#10 request (RFC 2986) for a mail certificate, signed on the token.
//!
//! It asks for what RFC 8550 wants to see: the addresses as rfc822Names, keyUsage and extKeyUsage. The CA
//! decides what of it gets into the certificate.

use std::{fs::File, io::Write, str::FromStr, time::Duration};

use agent::settings::Tokens;
use anyhow::{Context, Result, bail};
use const_oid::db::{rfc5280::ID_KP_EMAIL_PROTECTION, rfc5912, rfc8410::ID_ED_25519};
use der::{
    Decode, Encode,
    asn1::{Any, BitString, Ia5String, Null, OctetString, SetOfVec},
    flagset::FlagSet,
    oid::AssociatedOid,
};
use hsmpool::{
    Pool, RawTokenKey, TokenSettings,
    keys::{self, KeyInfo},
};
use smime::{
    MailAddress,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    key::SignatureInput,
};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::{
    attr::Attribute,
    ext::{
        Extension,
        pkix::{ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName, name::GeneralName},
    },
    name::Name,
    request::{CertReq, CertReqInfo, ExtensionReq, Version},
};

use crate::{Done, arguments::CsrArguments, key::some_tokens, table::printable};

/// A token is given this long to be there; a person waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a request and writes it as PEM.
pub(crate) fn request(configured: &Tokens, arguments: &CsrArguments, out: &mut dyn Write) -> Result<Done> {
    let subject = match &arguments.subject {
        Some(text) => Name::from_str(text).with_context(|| {
            format!("--subject {text:?} is not a name like \"CN=Alice,O=Example\" (RFC 4514)")
        })?,
        None => Name::default(),
    };
    let (token, key) = find(configured, arguments)?;
    let Some(public_key_info) = &key.public_key_info_der else {
        bail!(
            "token {:?} does not show the public key of {:?}; it has no public key object",
            token.label,
            key.label
        );
    };
    let info = request_info(subject, &arguments.address, public_key_info)?;
    let pool = Pool::start(std::slice::from_ref(token))?;
    pool.ready(PATIENCE)?;
    let request = sign(info, &pool.key_by_public_key(public_key_info))?;
    let pem = pem(&request.to_der()?);
    match &arguments.out {
        None => out.write_all(pem.as_bytes())?,
        Some(path) => {
            // A request is made once more in a second; what stands in the file may be somebody's only copy.
            let file = File::create_new(path);
            let written = file.and_then(|mut file| file.write_all(pem.as_bytes()));
            written.with_context(|| format!("cannot write the request to {}", path.display()))?;
            writeln!(
                out,
                "wrote the request to {}\nnext: have a CA certify it, write the certificate (with the CA's behind it) into a \
                 file, name that in an [[identity]] of {}, then hsmime doctor",
                printable(&path.display().to_string()),
                configured.path().display()
            )?;
        }
    }
    Ok(Done::All)
}

/// The one key that is meant. An id counts before a label.
fn find<'s>(configured: &'s Tokens, arguments: &CsrArguments) -> Result<(&'s TokenSettings, KeyInfo)> {
    let wanted = &arguments.key;
    let mut all = Vec::new();
    for token in some_tokens(configured, arguments.token.as_deref())? {
        all.extend(keys::list(token)?.into_iter().map(|key| (token, key)));
    }
    let by_id = |key: &KeyInfo| !key.id.is_empty() && key.id == wanted.to_lowercase();
    let has_id = all.iter().any(|(_, key)| by_id(key));
    let is_meant = |key: &KeyInfo| if has_id { by_id(key) } else { key.label == *wanted };
    let mut found: Vec<_> = all.into_iter().filter(|(_, key)| is_meant(key)).collect();
    match (found.pop(), found.len()) {
        (Some(found), 0) => Ok(found),
        (Some(_), others) => {
            bail!(
                "{} keys are called {wanted:?}; say --key with an id or --token; see hsmime key list",
                others + 1
            )
        }
        (None, _) => bail!("no key has the label or id {wanted:?}; see hsmime key list"),
    }
}

fn request_info(subject: Name, addresses: &[MailAddress], public_key_info: &[u8]) -> Result<CertReqInfo> {
    let public_key = SubjectPublicKeyInfoOwned::from_der(public_key_info)?;
    let mut names = Vec::new();
    for address in addresses {
        let name = Ia5String::new(address.as_str())
            .with_context(|| format!("{address} is not ASCII, and an rfc822Name must be"))?;
        names.push(GeneralName::Rfc822Name(name));
    }
    let wrapping: Option<FlagSet<KeyUsages>> = match public_key.algorithm.oid {
        rfc5912::RSA_ENCRYPTION => Some(KeyUsages::KeyEncipherment.into()),
        // It signs and no more (RFC 8410 5).
        ID_ED_25519 => None,
        _ => Some(KeyUsages::KeyAgreement.into()),
    };
    let usage = KeyUsage(FlagSet::from(KeyUsages::DigitalSignature) | wrapping.unwrap_or_default());
    // RFC 5280 4.2.1.6: without a subject the alternative name is all there is, and critical.
    let extensions = ExtensionReq(vec![
        extension(&SubjectAltName(names), subject.is_empty())?,
        extension(&usage, true)?,
        extension(&ExtendedKeyUsage(vec![ID_KP_EMAIL_PROTECTION]), false)?,
    ]);
    let attributes = SetOfVec::from_iter([Attribute::try_from(extensions)?])?;
    Ok(CertReqInfo { version: Version::V1, subject, public_key, attributes })
}

fn extension<T: AssociatedOid + Encode>(value: &T, critical: bool) -> Result<Extension> {
    Ok(Extension { extn_id: T::OID, critical, extn_value: OctetString::new(value.to_der()?)? })
}

fn sign(info: CertReqInfo, key: &RawTokenKey) -> Result<CertReq> {
    let Some(algorithm) = key.algorithms().first().copied() else {
        bail!(
            "the key does not sign, so it cannot sign a request either; RSA, P-256, P-384, P-521 and Ed25519 do. \
             For an X25519 key the CA must take the public key by another way"
        );
    };
    let octets = info.to_der()?;
    let signature = key.sign(&SignatureInput::of(algorithm, &octets), algorithm)?;
    let identifier = identifier(algorithm)
        .with_context(|| format!("there is no identifier for {algorithm:?} in a certificate request"))?;
    Ok(CertReq { info, algorithm: identifier, signature: BitString::from_bytes(&signature.0)? })
}

/// The identifier outside of CMS, where for RSA the digest is named with it (RFC 4055 5, RFC 5758 3.2).
fn identifier(algorithm: SignatureAlgorithm) -> Option<AlgorithmIdentifierOwned> {
    let oid = match algorithm {
        SignatureAlgorithm::RsaPkcs1(DigestAlgorithm::Sha256) => rfc5912::SHA_256_WITH_RSA_ENCRYPTION,
        SignatureAlgorithm::RsaPkcs1(DigestAlgorithm::Sha384) => rfc5912::SHA_384_WITH_RSA_ENCRYPTION,
        SignatureAlgorithm::RsaPkcs1(DigestAlgorithm::Sha512) => rfc5912::SHA_512_WITH_RSA_ENCRYPTION,
        SignatureAlgorithm::Ecdsa(_) | SignatureAlgorithm::Ed25519 => return Some(algorithm.identifier()),
        _ => return None,
    };
    Some(AlgorithmIdentifierOwned { oid, parameters: Some(Any::from(Null)) })
}

/// RFC 7468 7.
fn pem(der: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE REQUEST-----\n".to_owned();
    for (place, c) in base64.chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem + "\n-----END CERTIFICATE REQUEST-----\n"
}
