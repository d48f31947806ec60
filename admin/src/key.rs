//! `hsmime key generate` and `hsmime key list`.

use std::io::Write;

use agent::settings::Tokens;
use anyhow::{Result, bail};
use data_encoding::HEXLOWER;
use hsmpool::{
    TokenSettings,
    keys::{self, KeyInfo, KeySpec},
};

use crate::{
    Done,
    arguments::{Curve, GenerateArguments},
    table::{Table, printable},
    token::chosen,
};

/// Makes a key pair and says how to go on.
pub(crate) fn generate(
    configured: &Tokens,
    arguments: &GenerateArguments,
    out: &mut dyn Write,
) -> Result<Done> {
    let token = chosen(configured, arguments.token.as_deref())?;
    let spec = match arguments.ec {
        None => KeySpec::Rsa(arguments.rsa),
        Some(Curve::P256) => KeySpec::P256,
        Some(Curve::P384) => KeySpec::P384,
        Some(Curve::P521) => KeySpec::P521,
        Some(Curve::Ed25519) => KeySpec::Ed25519,
        Some(Curve::X25519) => KeySpec::X25519,
    };
    let made = keys::generate(token, spec, &arguments.label, None)?;
    let (label, id) = (printable(&arguments.label), HEXLOWER.encode(&made.id));
    writeln!(out, "made key {label:?} on token {:?} with id {id}", token.label)?;
    if spec == KeySpec::X25519 {
        writeln!(
            out,
            "next: a CA that takes its public key by another way than a request, which it cannot sign"
        )?;
        return Ok(Done::All);
    }
    writeln!(out, "next: hsmime key csr --key {id} --address alice@example.org --out alice.csr")?;
    Ok(Done::All)
}

/// Lists private keys. A token that fails is named after the others' keys.
pub(crate) fn list(configured: &Tokens, label: Option<&str>, out: &mut dyn Write) -> Result<Done> {
    let tokens = some_tokens(configured, label)?;
    let mut table = Table::new(["TOKEN", "LABEL", "ID", "TYPE", "PRIVATE KEY", "CERTIFICATE"]);
    let mut failed = None;
    for token in tokens {
        match keys::list(token) {
            Ok(keys) => keys.iter().for_each(|key| table.row(row(configured, token, key))),
            Err(error) => failed = Some(error),
        }
    }
    table.write(out)?;
    failed.map_or(Ok(Done::All), |error| Err(error.into()))
}

/// The token of a label, or all there are.
pub(crate) fn some_tokens<'s>(configured: &'s Tokens, label: Option<&str>) -> Result<Vec<&'s TokenSettings>> {
    if label.is_some() {
        return Ok(vec![chosen(configured, label)?]);
    }
    if configured.tokens().is_empty() {
        bail!("there is no [[token]] in {}; write one", configured.path().display());
    }
    Ok(configured.tokens().iter().collect())
}

fn row(configured: &Tokens, token: &TokenSettings, key: &KeyInfo) -> [String; 6] {
    let size = key.size.map_or_else(String::new, |bits| format!(" {bits}"));
    [
        token.label.clone(),
        key.label.clone(),
        key.id.clone(),
        format!("{}{size}", key.key_type),
        protection(key).to_owned(),
        certificate(configured, key),
    ]
}

/// How well the private key is kept in.
fn protection(key: &KeyInfo) -> &'static str {
    if key.always_authenticate {
        "wants the PIN for each use"
    } else if key.extractable == Some(true) {
        "EXTRACTABLE"
    } else if key.sensitive == Some(false) {
        "NOT SENSITIVE"
    } else if key.extractable == Some(false) {
        "stays on the token"
    } else {
        "not told"
    }
}

/// The identities whose public key this is.
fn certificate(configured: &Tokens, key: &KeyInfo) -> String {
    let same_key = |identity: &&agent::settings::IdentitySettings| {
        key.public_key_info_der.as_deref() == Some(&identity.certificate.public_key_info()[..])
    };
    let mut files: Vec<String> = Vec::new();
    for identity in configured.identities().iter().filter(same_key) {
        files.push(identity.path.display().to_string());
    }
    if files.is_empty() { "none configured".to_owned() } else { files.join(", ") }
}
