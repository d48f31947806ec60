//! `hsmime key generate` and `hsmime key list`.

use std::io::Write;

use agent::Settings;
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
    settings: &Settings,
    arguments: &GenerateArguments,
    out: &mut dyn Write,
) -> Result<Done> {
    let token = chosen(settings, arguments.token.as_deref())?;
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
pub(crate) fn list(settings: &Settings, label: Option<&str>, out: &mut dyn Write) -> Result<Done> {
    let tokens = some_tokens(settings, label)?;
    let mut table = Table::new(["TOKEN", "LABEL", "ID", "TYPE", "PRIVATE KEY", "CERTIFICATE"]);
    let mut failed = None;
    for token in tokens {
        match keys::list(token) {
            Ok(keys) => keys.iter().for_each(|key| table.row(row(settings, token, key))),
            Err(error) => failed = Some(error),
        }
    }
    table.write(out)?;
    failed.map_or(Ok(Done::All), |error| Err(error.into()))
}

/// The token of a label, or all there are.
pub(crate) fn some_tokens<'s>(settings: &'s Settings, label: Option<&str>) -> Result<Vec<&'s TokenSettings>> {
    if label.is_some() {
        return Ok(vec![chosen(settings, label)?]);
    }
    if settings.tokens().is_empty() {
        bail!("there is no [[token]] in {}; write one", settings.path().display());
    }
    Ok(settings.tokens().iter().collect())
}

fn row(settings: &Settings, token: &TokenSettings, key: &KeyInfo) -> [String; 6] {
    let size = key.size.map_or_else(String::new, |bits| format!(" {bits}"));
    [
        token.label.clone(),
        key.label.clone(),
        key.id.clone(),
        format!("{}{size}", key.key_type),
        protection(key).to_owned(),
        certificate(settings, key),
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
fn certificate(settings: &Settings, key: &KeyInfo) -> String {
    let same_key = |identity: &&agent::settings::IdentitySettings| {
        key.public_key_info_der.as_deref() == Some(&identity.certificate.public_key_info()[..])
    };
    let mut files: Vec<String> = Vec::new();
    for identity in settings.identities().iter().filter(same_key) {
        files.push(identity.path.display().to_string());
    }
    if files.is_empty() { "none configured".to_owned() } else { files.join(", ") }
}
