//! What OpenSC's pkcs11-tool does for every maker's token.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use data_encoding::BASE64;

use super::{Tokens, said};

pub(super) fn command(tokens: &Tokens) -> Result<Command> {
    let mut command = tokens.command("pkcs11-tool")?;
    command.arg("--module").arg(tokens.module()?);
    Ok(command)
}

pub(super) fn init(tokens: &Tokens, slot: usize, label: &str, so_pin: &str, pin: &str) -> Result<()> {
    let slot = slot.to_string();
    let mut init = command(tokens)?;
    init.args(["--slot", &slot, "--init-token", "--label", label, "--so-pin", so_pin]);
    said(PACKAGE, &mut init)?;
    let mut set_pin = command(tokens)?;
    set_pin.args(["--slot", &slot, "--login", "--login-type", "so", "--so-pin", so_pin]);
    said(PACKAGE, set_pin.args(["--init-pin", "--pin", pin])).map(drop)
}

/// Both halves of a key pair, as `softhsm2-util --import` brings both.
pub(super) fn import(
    tokens: &Tokens,
    token: &str,
    pin: &str,
    key: &Path,
    key_label: &str,
    id: &str,
) -> Result<()> {
    let (private, public) = (tokens.directory.join("import.der"), tokens.directory.join("import-public.der"));
    for (file, options) in
        [(&private, &["-outform", "DER"][..]), (&public, &["-pubout", "-outform", "DER"][..])]
    {
        let mut convert = tokens.command("openssl")?;
        said("openssl", convert.args(["pkey", "-in"]).arg(key).args(options).arg("-out").arg(file))?;
    }
    for (kind, file, usage) in [
        ("privkey", &private, &["--usage-sign", "--usage-decrypt", "--usage-derive"][..]),
        ("pubkey", &public, &["--usage-sign"][..]),
    ] {
        let mut write = command(tokens)?;
        write.args(["--token-label", token, "--login", "--pin", pin, "--label", key_label, "--id", id]);
        said(PACKAGE, write.args(["--type", kind]).args(usage).arg("--write-object").arg(file))?;
    }
    Ok(())
}

/// Whether a key is of RFC 5480's kind.
pub(super) fn is_ec(key: &Path) -> Result<bool> {
    // id-ecPublicKey, in the PKCS #8 structure that OpenSSL writes.
    const OID: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let text = fs::read_to_string(key)?;
    let base64: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = BASE64.decode(base64.as_bytes()).with_context(|| format!("{} is no PEM", key.display()))?;
    Ok(memchr::memmem::find(&der, OID).is_some())
}

pub(super) fn offers(tokens: &Tokens, mechanism: &str, for_what: &str) -> Result<bool> {
    let mut list = command(tokens)?;
    let first = tokens.labels()?.into_iter().next().unwrap_or_default();
    let text = said(PACKAGE, list.args(["--token-label", &first, "--list-mechanisms"]))?;
    // "  ECDSA, keySize={256,521}, sign, verify"
    let offers = |line: &str| {
        let mut words = line.trim().split(", ");
        words.next() == Some(mechanism) && words.any(|word| word == for_what)
    };
    Ok(text.lines().any(offers))
}

const PACKAGE: &str = "opensc";
