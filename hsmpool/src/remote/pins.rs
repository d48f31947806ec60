//! What is known of PINs, told by a child process to its parent, so that it outlives the child; and kept in a file,
//! so that it outlives the parent.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{TokenSettings, login::PinRecord, pin::PinSalt};

/// What a child tells its parent before and after it logs in.
#[derive(Serialize, Deserialize)]
pub(crate) struct PinNotice {
    /// Which of the child's tokens.
    pub(crate) token: u32,
    pub(crate) record: PinRecord,
}

/// The parent's memory.
pub(crate) struct PinMemory {
    pub(super) salt: PinSalt,
    records: Mutex<Records>,
    /// Where it is kept.
    file: Option<PathBuf>,
}

/// One record for each token, by module and label. Modules are those that paths lead to: another name of the same is no
/// other token, with tries of its own.
type Records = HashMap<(PathBuf, String), PinRecord>;

/// What the file holds. It is there only while something must be remembered.
#[derive(Serialize, Deserialize)]
struct Kept {
    salt: PinSalt,
    records: Vec<(PathBuf, String, PinRecord)>,
}

impl Default for PinMemory {
    fn default() -> Self {
        Self { salt: PinSalt::random(), records: Mutex::default(), file: None }
    }
}

impl PinMemory {
    /// Goes on with what the file holds.
    pub(super) fn kept_in(file: &Path) -> io::Result<Self> {
        let fresh = Self { file: Some(file.to_owned()), ..Self::default() };
        let octets = match fs::read(file) {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(fresh),
            Err(error) => return Err(error),
        };
        let path = file.display();
        match postcard::from_bytes::<Kept>(&octets) {
            Ok(Kept { salt, records }) => {
                tracing::warn!(%path, "PINs that were rejected before are not tried: write the right one, or remove \
                    this file and restart");
                let records =
                    records.into_iter().map(|(module, label, record)| (of(&module, &label), record));
                Ok(Self { salt, records: Mutex::new(records.collect()), ..fresh })
            }
            Err(error) => {
                tracing::warn!(%path, %error, "which PINs were rejected cannot be read: they may be tried once more");
                Ok(fresh)
            }
        }
    }

    pub(super) fn note(&self, tokens: &[TokenSettings], notice: PinNotice) {
        let token = usize::try_from(notice.token).ok().and_then(|number| tokens.get(number));
        if let Some(TokenSettings { module, label, .. }) = token {
            let mut records = self.lock();
            records.insert(of(module, label), notice.record);
            self.keep(&records);
        }
    }

    /// What is known of these tokens' PINs, in their order.
    pub(super) fn of(&self, tokens: &[TokenSettings]) -> Vec<PinRecord> {
        let records = self.lock();
        let of = |token: &TokenSettings| records.get(&of(&token.module, &token.label)).cloned();
        tokens.iter().map(|token| of(token).unwrap_or_default()).collect()
    }

    fn keep(&self, records: &Records) {
        let Some(file) = &self.file else { return };
        let kept = records
            .iter()
            .filter_map(|((module, label), record)| Some((module.clone(), label.clone(), record.to_keep()?)));
        let kept = Kept { salt: self.salt.clone(), records: kept.collect() };
        if let Err(error) = write(file, &kept) {
            let path = file.display();
            tracing::error!(%path, %error, fault = "operator", "a rejected PIN would be tried again after a restart");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a token's record.
fn of(module: &Path, label: &str) -> (PathBuf, String) {
    (module.canonicalize().unwrap_or_else(|_| module.to_owned()), label.to_owned())
}

/// Replaces the file as a whole.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    if kept.records.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let octets = postcard::to_allocvec(kept).map_err(io::Error::other)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // One that an earlier process has left may have another mode.
    let _ = fs::remove_file(&new);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&octets)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Duration};

    use super::*;
    use crate::{PinSource, pin::Pin};

    #[test]
    fn what_was_rejected_outlives_the_process_and_nothing_else_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pins");
        let [module, link] = ["m.so", "link.so"].map(|name| directory.path().join(name));
        fs::write(&module, "").unwrap();
        std::os::unix::fs::symlink(&module, &link).unwrap();
        let tokens = [TokenSettings {
            module,
            label: "mail".into(),
            pin: PinSource::File("pin".into()),
            sessions: None,
            queue: 1,
            deadline: Duration::from_secs(1),
        }];
        let memory = PinMemory::kept_in(&path).unwrap();
        let hash = Pin::of(b"0000").hash(&memory.salt);
        let doubtful = PinRecord::default().after_doubt(&hash, "no answer");
        let rejected = doubtful.clone().after_doubt(&hash, "no answer");
        for record in [doubtful, rejected.clone()] {
            memory.note(&tokens, PinNotice { token: 0, record: record.clone() });
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(PinMemory::kept_in(&path).unwrap().of(&tokens), std::slice::from_ref(&record));
            let by_another_name = [TokenSettings { module: link.clone(), ..tokens[0].clone() }];
            assert_eq!(memory.of(&by_another_name), [record]);
        }
        let again = PinMemory::kept_in(&path).unwrap();
        assert_eq!(Pin::of(b"0000").hash(&again.salt), hash, "the salt is the same");

        again.note(&tokens, PinNotice { token: 0, record: PinRecord::default() });
        assert!(!path.exists());
        again.note(&tokens, PinNotice { token: 0, record: rejected });
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(PinMemory::kept_in(&path).unwrap().of(&tokens), [PinRecord::default()]);
    }
}
