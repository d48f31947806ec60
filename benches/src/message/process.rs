//! One process `openssl cms` for each message, from file to file.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{contender::Run, material::Task, operation::Operation};

/// Prepares a task.
pub fn prepare<'t>(task: &'t Task<'_>) -> Result<Run<'t>> {
    let output = task.material.output_file();
    let [root, issuing] = &task.material.authorities;
    let files = &task.person.files;
    let (certificate, key) = (files.certificate.as_path(), files.key.as_path());
    let (flags, named): (&[&str], Vec<(&str, &Path)>) = match task.operation {
        Operation::Sign | Operation::SignChecked => {
            (&["-sign"], vec![("-signer", certificate), ("-inkey", key), ("-certfile", issuing.as_path())])
        }
        Operation::Verify => (&["-verify"], vec![("-CAfile", root.as_path())]),
        Operation::EncryptCbc => (&["-encrypt", "-stream", "-aes-256-cbc"], vec![("-recip", certificate)]),
        Operation::EncryptGcm => (&["-encrypt", "-stream", "-aes-256-gcm"], vec![("-recip", certificate)]),
        Operation::DecryptCbc | Operation::DecryptGcm => {
            (&["-decrypt"], vec![("-recip", certificate), ("-inkey", key)])
        }
    };
    let mut arguments = Vec::new();
    for (flag, path) in named {
        arguments.push((flag, path.to_owned()));
    }
    arguments.push(("-in", task.file.clone()));
    arguments.push(("-out", output.clone()));
    Ok(Box::new(move || {
        let mut command = Command::new("openssl");
        command.arg("cms").args(flags).env("OPENSSL_CONF", "/dev/null").stdin(Stdio::null());
        for (flag, path) in &arguments {
            command.arg(flag).arg(path);
        }
        let done = command.output().context("openssl cannot be run; install the package openssl")?;
        ensure!(done.status.success(), "openssl cms: {}", String::from_utf8_lossy(&done.stderr));
        Ok(usize::try_from(output.metadata()?.len())?)
    }))
}
