//! OpenSSL's CMS in this process, from octets to octets, in the fastest way its interface has: streaming.
//!
//! The crate `openssl` cannot write S/MIME messages and copies what it reads; so its keys and certificates are used
//! and OpenSSL's own functions called.
#![expect(
    unsafe_code,
    reason = "SMIME_write_CMS and reading in place are not to be had from the crate openssl"
)]

use std::{ffi::c_int, ptr, slice};

use anyhow::{Context as _, Result, ensure};
use foreign_types::ForeignType as _;
use openssl::{
    error::ErrorStack,
    pkey::{PKey, Private},
    stack::Stack,
    x509::{
        X509,
        store::{X509Store, X509StoreBuilder},
    },
};
use openssl_sys as ffi;

use super::{contender::Run, material::Task, operation::Operation};

unsafe extern "C" {
    fn SMIME_write_CMS(
        out: *mut ffi::BIO,
        cms: *mut ffi::CMS_ContentInfo,
        data: *mut ffi::BIO,
        flags: c_int,
    ) -> c_int;
}

/// Prepares a task. `binary` leaves line ends as they are.
pub fn prepare<'t>(task: &'t Task<'_>, binary: bool) -> Result<Run<'t>> {
    let (certificate, key) = task.person.openssl()?;
    let input = &task.input;
    let flags = if binary { ffi::CMS_BINARY } else { 0 };
    Ok(match task.operation {
        Operation::Sign | Operation::SignChecked => {
            let mut chain = Stack::new()?;
            for one in &task.material.chain {
                chain.push(X509::from_der(one.der())?)?;
            }
            let flags = flags | ffi::CMS_STREAM | ffi::CMS_DETACHED;
            Box::new(move || {
                let data = Bio::reading(input)?;
                // SAFETY: all pointers are of objects that outlive the call, which takes none of them over.
                let cms = Cms::new(unsafe {
                    ffi::CMS_sign(certificate.as_ptr(), key.as_ptr(), chain.as_ptr(), data.0, flags)
                })?;
                cms.written(&data, flags)
            })
        }
        Operation::EncryptCbc | Operation::EncryptGcm => {
            let mut recipients = Stack::new()?;
            recipients.push(certificate)?;
            let flags = flags | ffi::CMS_STREAM;
            let is_gcm = task.operation == Operation::EncryptGcm;
            Box::new(move || {
                let data = Bio::reading(input)?;
                // SAFETY: as above; ciphers are static. With GCM it makes an AuthEnvelopedData.
                let cms = Cms::new(unsafe {
                    let cipher = if is_gcm { ffi::EVP_aes_256_gcm() } else { ffi::EVP_aes_256_cbc() };
                    ffi::CMS_encrypt(recipients.as_ptr(), data.0, cipher, flags)
                })?;
                cms.written(&data, flags)
            })
        }
        Operation::Verify => {
            let store = store(task)?;
            Box::new(move || verify(input, &store, flags))
        }
        Operation::DecryptCbc | Operation::DecryptGcm => {
            Box::new(move || decrypt(input, &certificate, &key, flags))
        }
    })
}

fn store(task: &Task<'_>) -> Result<X509Store> {
    let mut store = X509StoreBuilder::new()?;
    for anchor in &task.material.trust.anchors {
        store.add_cert(X509::from_der(anchor.der())?)?;
    }
    Ok(store.build())
}

fn verify(input: &[u8], store: &X509Store, flags: u32) -> Result<usize> {
    let data = Bio::reading(input)?;
    let mut content = ptr::null_mut();
    // SAFETY: reads from the BIO and makes another for the content, which is ours.
    let cms = Cms::new(unsafe { ffi::SMIME_read_CMS(data.0, &raw mut content) })?;
    let content = Bio::new(content)?;
    // SAFETY: all pointers are of objects that outlive the call; without certificates and output.
    let good = unsafe {
        let none = ptr::null_mut();
        ffi::CMS_verify(cms.0, none, store.as_ptr(), content.0, ptr::null_mut(), flags)
    };
    ensure!(good == 1, "CMS_verify: {}", ErrorStack::get());
    Ok(0)
}

fn decrypt(input: &[u8], certificate: &X509, key: &PKey<Private>, flags: u32) -> Result<usize> {
    let data = Bio::reading(input)?;
    // SAFETY: reads from the BIO; no content is detached.
    let cms = Cms::new(unsafe { ffi::SMIME_read_CMS(data.0, ptr::null_mut()) })?;
    let out = Bio::writing()?;
    // SAFETY: all pointers are of objects that outlive the call; the content is not detached.
    let good =
        unsafe { ffi::CMS_decrypt(cms.0, key.as_ptr(), certificate.as_ptr(), ptr::null_mut(), out.0, flags) };
    ensure!(good == 1, "CMS_decrypt: {}", ErrorStack::get());
    Ok(out.written().len())
}

/// A CMS object that is freed.
struct Cms(*mut ffi::CMS_ContentInfo);

impl Cms {
    fn new(cms: *mut ffi::CMS_ContentInfo) -> Result<Self> {
        ensure!(!cms.is_null(), "no CMS object: {}", ErrorStack::get());
        Ok(Self(cms))
    }

    /// The length of the S/MIME message, whose content passes through here on its way.
    fn written(&self, data: &Bio, flags: u32) -> Result<usize> {
        let out = Bio::writing()?;
        let flags = c_int::try_from(flags).context("no such flags")?;
        // SAFETY: object and BIOs outlive the call.
        let good = unsafe { SMIME_write_CMS(out.0, self.0, data.0, flags) };
        ensure!(good == 1, "SMIME_write_CMS: {}", ErrorStack::get());
        Ok(out.written().len())
    }
}

impl Drop for Cms {
    fn drop(&mut self) {
        // SAFETY: it is ours and not null.
        unsafe { ffi::CMS_ContentInfo_free(self.0) }
    }
}

/// A BIO in memory that is freed.
struct Bio(*mut ffi::BIO);

impl Bio {
    fn new(bio: *mut ffi::BIO) -> Result<Self> {
        ensure!(!bio.is_null(), "no BIO: {}", ErrorStack::get());
        Ok(Self(bio))
    }

    /// Reads octets where they are; the caller drops it before them.
    fn reading(octets: &[u8]) -> Result<Self> {
        let len = c_int::try_from(octets.len()).context("too long for OpenSSL")?;
        // SAFETY: the octets are as many as is said, and a read-only BIO copies and changes none.
        Self::new(unsafe { ffi::BIO_new_mem_buf(octets.as_ptr().cast(), len) })
    }

    fn writing() -> Result<Self> {
        // SAFETY: the method is static.
        Self::new(unsafe { ffi::BIO_new(ffi::BIO_s_mem()) })
    }

    /// What was written, where it is.
    fn written(&self) -> &[u8] {
        let mut octets = ptr::null_mut();
        // SAFETY: the BIO is one in memory and gives its buffer, which lives as long as it does.
        unsafe {
            let len = ffi::BIO_get_mem_data(self.0, &raw mut octets);
            match usize::try_from(len) {
                Ok(len) if !octets.is_null() => slice::from_raw_parts(octets.cast::<u8>(), len),
                _ => &[],
            }
        }
    }
}

impl Drop for Bio {
    fn drop(&mut self) {
        // SAFETY: it is ours and not null.
        unsafe { ffi::BIO_free_all(self.0) }
    }
}
