//! A SoftHSM token in a directory of its own, that can be taken away and brought back.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, Finished};
use crate::token::{Kind, Tokens};
use crate::workdir::Workdir;

/// One initialised token with a PIN file beside it.
#[derive(Debug)]
pub struct SoftHsm {
    tokens: Tokens,
    folder: PathBuf,
    pin_file: PathBuf,
}

impl SoftHsm {
    /// What the token is called.
    pub const LABEL: &str = "mail";
    /// Its user PIN.
    pub const PIN: &str = "4711-test";

    /// Initialises a token below `workdir`.
    pub fn new(workdir: &Workdir) -> Result<Self> {
        let tokens = Tokens::new(Kind::SoftHsm, workdir.path())?;
        tokens.init(Self::LABEL, Self::PIN)?;
        let folder = tokens.removable().context("SoftHSM keeps its tokens in a folder")?;
        let token = Self { tokens, folder, pin_file: workdir.join("pin") };
        token.write_pin(Self::PIN)?;
        Ok(token)
    }

    /// Brings a private key made by OpenSSL (PKCS #8, PEM) into the token, as `label` with `CKA_ID` `id` (hex).
    pub fn import(&self, key: &Path, label: &str, id: &str) -> Result<()> {
        self.tokens.import(Self::LABEL, Self::PIN, key, label, id)
    }

    /// Lists the objects on the token, as pkcs11-tool sees them.
    pub fn objects(&self) -> Result<Finished> {
        let mut list = self.tokens.command("pkcs11-tool")?;
        list.args(["--module", Self::MODULE, "--token-label", Self::LABEL]);
        list.args(["--login", "--pin", Self::PIN, "--list-objects"]);
        command::succeed("opensc", &mut list)
    }

    /// The PKCS #11 module.
    pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

    /// The file the product reads the PIN from.
    pub fn pin_file(&self) -> &Path {
        &self.pin_file
    }

    /// Writes another PIN into that file; the token's own stays as it is.
    pub fn write_pin(&self, pin: &str) -> Result<()> {
        fs::write(&self.pin_file, format!("{pin}\n"))?;
        fs::set_permissions(&self.pin_file, fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    /// The environment that leads a process to this token.
    pub fn environment(&self) -> Result<Vec<(&'static str, OsString)>> {
        self.tokens.environment()
    }

    /// Takes the token away, as if its cable were pulled: no call that needs its objects succeeds from now on.
    pub fn stop(&self) -> Result<()> {
        fs::rename(&self.folder, self.away()).context("the token is already away")
    }

    /// Brings it back.
    pub fn start(&self) -> Result<()> {
        ensure!(!self.folder.exists(), "the token is not away");
        Ok(fs::rename(self.away(), &self.folder)?)
    }

    fn away(&self) -> PathBuf {
        self.folder.with_extension("away")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Key, generate_key};

    #[test]
    fn imported_keys_are_on_the_token_until_it_is_taken_away() {
        let workdir = Workdir::new("softhsm").unwrap();
        let token = SoftHsm::new(&workdir).unwrap();
        for (label, id, key) in [("alice", "a1", Key::Rsa2048), ("carol", "c1", Key::P256)] {
            let file = workdir.join(label);
            generate_key(key, &file).unwrap();
            token.import(&file, label, id).unwrap();
        }
        let listed = token.objects().unwrap().text();
        assert!(listed.contains("alice") && listed.contains("carol"), "{listed}");

        token.stop().unwrap();
        assert!(token.objects().is_err());
        token.start().unwrap();
        assert_eq!(token.objects().unwrap().text(), listed);
    }
}
