//! One process `gpgsm` for each message, from file to file, with its agent running.
//!
//! It makes and reads CMS objects, not MIME: the entity is its content as it is, and what it reads was taken out of its
//! message before.

use std::{ffi::OsString, fs};

use anyhow::{Context as _, Result, bail, ensure};
use smime::{message::Wrapped, mime::MimeEntity};
use testkit::{Person, Pki, Workdir, mime, peers::Gpgsm};

use super::{contender::Run, material::Task, operation::Operation};

/// Prepares a task.
pub fn prepare<'t>(task: &'t Task<'_>) -> Result<Run<'t>> {
    let gpgsm = task.material.gpgsm()?;
    let output = task.material.output_file();
    let mut arguments: Vec<OsString> = vec!["--yes".into(), "--output".into(), output.clone().into()];
    let address = &task.person.files.address;
    match task.operation {
        Operation::Sign => {
            arguments.extend(["--base64", "--detach-sign", "-u", address].map(Into::into));
            arguments.push(task.file.clone().into());
        }
        Operation::EncryptCbc => {
            let words = ["--base64", "--cipher-algo", "AES256", "--encrypt", "-r", address];
            arguments.extend(words.map(Into::into));
            arguments.push(task.file.clone().into());
        }
        Operation::Verify => {
            let signed = mime::signed(&task.input)?;
            let (signature, content) = (task.material.input_file("p7s"), task.material.input_file("signed"));
            fs::write(&signature, signed.signature)?;
            fs::write(&content, signed.content)?;
            arguments = vec!["--verify".into(), signature.into(), content.into()];
        }
        Operation::DecryptCbc => {
            let Some(Wrapped::Opaque(object)) = Wrapped::read(&MimeEntity::parse(&task.input))? else {
                bail!("not S/MIME")
            };
            let file = task.material.input_file("p7m");
            fs::write(&file, &object)?;
            arguments.extend(["--decrypt".into(), file.into()]);
        }
        Operation::SignChecked | Operation::EncryptGcm | Operation::DecryptGcm => bail!("gpgsm cannot"),
    }
    let writes = task.operation != Operation::Verify;
    Ok(Box::new(move || {
        let words: Vec<_> = arguments.iter().map(OsString::as_os_str).collect();
        let done = gpgsm.call(&words)?;
        ensure!(done.success(), "gpgsm: {}", done.stderr);
        Ok(if writes { usize::try_from(output.metadata().context("nothing came out")?.len())? } else { 0 })
    }))
}

/// Whether it can. Debian 12's release has no GCM and no key agreement, crashes where it is to import a key on a curve, and
/// checks no signature that it makes.
pub fn can(task: &Task<'_>) -> bool {
    match task.operation {
        Operation::Verify => true,
        Operation::Sign | Operation::EncryptCbc | Operation::DecryptCbc => task.person.is_rsa(),
        Operation::SignChecked | Operation::EncryptGcm | Operation::DecryptGcm => false,
    }
}

/// Its home in a directory of its own, with this person's key.
pub fn home(workdir: &Workdir, pki: &Pki, own: &Person) -> Result<Gpgsm> {
    let gpgsm = Gpgsm::new(workdir, pki, Some(own))?;
    gpgsm.know(own)?;
    Ok(gpgsm)
}
