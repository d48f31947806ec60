//! The signature of a report: a detached CMS object (RFC 5652 5) beside it, called `REPORT.p7s`.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use aws_lc_rs::digest::Context;
use smime::{
    Certificate,
    algorithm::{DigestAlgorithm, SignatureAlgorithm},
    cms::{self, Object, SignerInfo},
    key::{Digest, SignatureInput, Signer},
    public_key,
};

use crate::{
    error::BatchError,
    output::{new_file, parent, sync_folder},
};

/// Signs a report.
pub fn sign(
    report: &Path,
    signer: &dyn Signer,
    chain: &[Certificate],
    at: SystemTime,
) -> Result<PathBuf, BatchError> {
    let failed = |source| BatchError::Report { report: report.display().to_string(), source };
    let unsigned = |reason: String| BatchError::ReportNotSigned { reason };
    let Some(algorithm) = signer.algorithms().first().map(|algorithm| algorithm.digest()) else {
        return Err(unsigned(format!("the key of {} cannot sign", signer.certificate())));
    };
    let digest = digest_of(report, algorithm).map_err(failed)?;
    let digest = digest.ok_or_else(|| unsigned(format!("there is no {}", algorithm.micalg())))?;
    let object = cms::sign(|_| digest, signer, chain, at).map_err(|error| unsigned(error.to_string()))?;
    let path = beside(report);
    let written = new_file(&path).and_then(|mut file| {
        file.write_all(&object)?;
        file.sync_all()?;
        sync_folder(parent(&path))
    });
    written.map_err(|source| BatchError::Write { path: path.clone(), source })?;
    Ok(path)
}

/// Whose signatures of a report there are; `None` if nobody has signed it. An error tells in words what is wrong. Whether
/// the certificates are to be trusted is not looked at: `openssl cms -verify` tells.
pub(crate) fn signers(report: &Path) -> Result<Option<Result<Vec<String>, String>>, BatchError> {
    let path = beside(report);
    let failed = |path: &Path, source| BatchError::Read { origin: path.display().to_string(), source };
    let octets = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        octets => octets.map_err(|source| failed(&path, source))?,
    };
    let Ok(Object::SignedData(signed)) = Object::parse(&octets) else {
        return Ok(Some(Err("the signature of the report cannot be read".into())));
    };
    let certificates = signed.certificates();
    let mut names = Vec::new();
    for info in signed.signer_infos() {
        let certificate = certificates.iter().find(|certificate| info.names(certificate));
        match certificate.zip(algorithm(info)) {
            Some((certificate, algorithm))
                if is_of(report, info, certificate, algorithm)
                    .map_err(|source| failed(report, source))? =>
            {
                names.push(certificate.to_string());
            }
            _ => return Ok(Some(Err("the signature is not of this report".into()))),
        }
    }
    Ok(Some(if names.is_empty() {
        Err("the signature of the report has no signer".into())
    } else {
        Ok(names)
    }))
}

fn algorithm(info: &SignerInfo) -> Option<SignatureAlgorithm> {
    let digest = DigestAlgorithm::from_identifier(&info.digest_algorithm)?;
    SignatureAlgorithm::from_identifier(&info.signature_algorithm, digest)
}

/// Whether this is the signature of the report with the key of this certificate.
fn is_of(
    report: &Path,
    info: &SignerInfo,
    certificate: &Certificate,
    algorithm: SignatureAlgorithm,
) -> io::Result<bool> {
    let (Some(Ok(attributes)), Some(digest)) =
        (&info.signed_attributes, digest_of(report, algorithm.digest())?)
    else {
        return Ok(false);
    };
    let is_signed = |octets: &[u8]| {
        let input = SignatureInput::of(algorithm, octets);
        public_key::verify(certificate, algorithm, &input, &info.signature).is_ok()
    };
    Ok(attributes.message_digest() == digest.as_bytes() && attributes.signed_octets().any(is_signed))
}

/// The digest of a report, which may be longer than the memory; `None` if it cannot be made.
fn digest_of(report: &Path, algorithm: DigestAlgorithm) -> io::Result<Option<Digest>> {
    let Some(engine) = algorithm.engine() else { return Ok(None) };
    let mut context = Context::new(engine);
    let mut file = BufReader::with_capacity(1 << 20, File::open(report)?);
    loop {
        let octets = file.fill_buf()?;
        let length = octets.len();
        if length == 0 {
            break;
        }
        context.update(octets);
        file.consume(length);
    }
    Ok(Digest::from_value(algorithm, context.finish().as_ref()))
}

/// The name of a report's signature.
pub fn beside(report: &Path) -> PathBuf {
    let mut name = report.as_os_str().to_owned();
    name.push(".p7s");
    PathBuf::from(name)
}
