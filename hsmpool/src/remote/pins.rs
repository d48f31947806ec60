//! What is known of PINs, told by a child process to its parent, so that it outlives the child; and kept in a file,
//! so that it outlives the parent.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    mem,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{TokenSettings, login::PinRecord, pin::PinSalt};

/// What a child tells its parent before and after it logs in. Before, it waits for the answer.
#[derive(Serialize, Deserialize)]
pub(crate) struct PinNotice {
    /// By which the answer names it.
    pub(crate) number: u64,
    /// Which of the child's tokens.
    pub(crate) token: u32,
    pub(crate) record: PinRecord,
}

/// The parent's memory.
pub(crate) struct PinMemory {
    pub(super) salt: PinSalt,
    known: Mutex<Known>,
    /// Where it is kept.
    file: Option<PathBuf>,
}

/// The tokens that are configured: paths as they are written, and labels.
#[derive(Default)]
pub(super) struct Configured(Vec<(PathBuf, String)>);

#[derive(Default)]
struct Known {
    records: HashMap<Place, PinRecord>,
    configured: Configured,
    /// Whether the log says that the file cannot be written.
    told: bool,
}

/// One record for each token, by module and label. Modules are those that paths lead to: another name of the same is no
/// other token, with tries of its own.
type Place = (PathBuf, String);

/// What the file holds. It is there only while something must be remembered.
#[derive(Serialize, Deserialize)]
struct Kept {
    salt: PinSalt,
    records: Vec<(PathBuf, String, PinRecord)>,
}

impl Default for PinMemory {
    fn default() -> Self {
        Self { salt: PinSalt::random(), known: Mutex::default(), file: None }
    }
}

impl PinMemory {
    /// Goes on with what the file holds. Where that cannot be read, nobody knows what may be tried.
    pub(super) fn kept_in(file: &Path) -> io::Result<Self> {
        let fresh = Self { file: Some(file.to_owned()), ..Self::default() };
        let octets = match fs::read(file) {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(fresh),
            Err(error) => return Err(error),
        };
        let damaged = |error: postcard::Error| {
            let told = format!(
                "{error}. Nothing is tried while nobody knows what was: make sure that the PINs are right, then remove \
                 this file and start again"
            );
            io::Error::new(io::ErrorKind::InvalidData, told)
        };
        let Kept { salt, records } = postcard::from_bytes(&octets).map_err(damaged)?;
        tracing::warn!(
            path = %file.display(),
            "PINs that were rejected before are not tried: write the right one, or remove this file and restart"
        );
        let records = records.into_iter().map(|(module, label, record)| (place(&module, &label), record));
        let known = Known { records: records.collect(), ..Known::default() };
        Ok(Self { salt, known: Mutex::new(known), ..fresh })
    }

    /// These tokens are configured from now on; gives what was before.
    pub(super) fn expect(&self, tokens: &[TokenSettings]) -> Configured {
        let of = |token: &TokenSettings| (token.module.clone(), token.label.clone());
        mem::replace(&mut self.lock().configured, Configured(tokens.iter().map(of).collect()))
    }

    /// What is configured stays as it was, since nothing could be made of the new.
    pub(super) fn expect_again(&self, before: Configured) {
        self.lock().configured = before;
    }

    /// Notes what a child tells. `false`: it would not be known after a restart.
    pub(super) fn note(&self, tokens: &[TokenSettings], notice: PinNotice) -> bool {
        let token = usize::try_from(notice.token).ok().and_then(|number| tokens.get(number));
        let Some(TokenSettings { module, label, .. }) = token else { return false };
        let mut known = self.lock();
        if notice.record.to_keep().is_none() {
            // It has been logged in to: what its module's file was called before does not matter any more.
            let configured = known.places();
            known.records.retain(|place, _| place.1 != *label || configured.contains(place));
        }
        known.records.insert(place(module, label), notice.record);
        self.keep(&mut known)
    }

    /// What is known of these tokens' PINs, in their order.
    pub(super) fn of(&self, tokens: &[TokenSettings]) -> Vec<PinRecord> {
        let known = self.lock();
        tokens.iter().map(|token| known.of(&token.module, &token.label)).collect()
    }

    fn keep(&self, known: &mut Known) -> bool {
        let Some(file) = &self.file else { return true };
        let kept = known
            .records
            .iter()
            .filter_map(|((module, label), record)| Some((module.clone(), label.clone(), record.to_keep()?)));
        let kept = Kept { salt: self.salt.clone(), records: kept.collect() };
        let written = write(file, &kept);
        if let Err(error) = &written
            && !known.told
        {
            let path = file.display();
            tracing::error!(%path, %error, fault = "operator", "which PINs were tried cannot be written: none is tried");
        }
        known.told = written.is_err();
        written.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What is known of a token. Under a label whose module is not configured any more it is the same token, by another
    /// version of its module: a file of another name.
    fn of(&self, module: &Path, label: &str) -> PinRecord {
        if let Some(record) = self.records.get(&place(module, label)) {
            return record.clone();
        }
        let configured = self.places();
        let earlier =
            self.records.iter().filter(|(place, _)| place.1 == label && !configured.contains(place));
        earlier
            .max_by_key(|(_, record)| record.is_rejection())
            .map(|(_, record)| record.clone())
            .unwrap_or_default()
    }

    fn places(&self) -> Vec<Place> {
        self.configured.0.iter().map(|(module, label)| place(module, label)).collect()
    }
}

/// The place of a token's record.
fn place(module: &Path, label: &str) -> Place {
    (module.canonicalize().unwrap_or_else(|_| module.to_owned()), label.to_owned())
}

/// Replaces the file as a whole; it is on the disk then.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    if kept.records.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_folder(path),
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
    file.sync_all()?;
    fs::rename(new, path)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
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
        memory.expect(&tokens);
        let hash = Pin::of(b"0000").hash(&memory.salt);
        let doubtful = PinRecord::default().after_doubt(&hash, "no answer");
        let rejected = doubtful.clone().after_doubt(&hash, "no answer");
        for record in [doubtful, rejected.clone()] {
            assert!(memory.note(&tokens, notice(record.clone())));
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(PinMemory::kept_in(&path).unwrap().of(&tokens), std::slice::from_ref(&record));
            let by_another_name = [TokenSettings { module: link.clone(), ..tokens[0].clone() }];
            assert_eq!(memory.of(&by_another_name), std::slice::from_ref(&record));
            let other = TokenSettings { label: "other".into(), ..tokens[0].clone() };
            assert_eq!(memory.of(&[other]), [PinRecord::default()]);
        }
        let again = PinMemory::kept_in(&path).unwrap();
        assert_eq!(Pin::of(b"0000").hash(&again.salt), hash, "the salt is the same");

        again.note(&tokens, notice(PinRecord::default()));
        assert!(!path.exists());
        again.note(&tokens, notice(rejected));
        for damaged in [&b"\xff"[..], b""] {
            fs::write(&path, damaged).unwrap();
            let error = PinMemory::kept_in(&path).err().unwrap();
            assert!(error.to_string().contains("remove this file"), "{error}");
        }
    }

    #[test]
    fn a_token_has_no_more_tries_by_another_file_of_its_module_but_another_token_has_its_own() {
        let token = |module: &str| TokenSettings {
            module: module.into(),
            label: "mail".into(),
            pin: PinSource::File("pin".into()),
            sessions: None,
            queue: 1,
            deadline: Duration::from_secs(1),
        };
        let [first, second, third] = ["m.so.1", "m.so.2", "m.so.3"].map(token);
        let memory = PinMemory::default();
        let hash = Pin::of(b"0000").hash(&memory.salt);
        let doubtful = PinRecord::default().after_doubt(&hash, "no answer");
        let of = |token: &TokenSettings| memory.of(std::slice::from_ref(token)).remove(0);
        memory.expect(&[first.clone(), third.clone()]);
        assert!(memory.note(std::slice::from_ref(&first), notice(doubtful.clone())));
        assert_eq!(of(&third), PinRecord::default(), "two tokens of one label");
        let before = memory.expect(std::slice::from_ref(&third));
        memory.expect_again(before);
        assert!(memory.note(std::slice::from_ref(&third), notice(PinRecord::default())));
        assert_eq!(of(&first), doubtful, "what came to nothing is not what is configured");
        memory.expect(&[second.clone(), third.clone()]);
        assert_eq!(of(&second), doubtful, "the module was replaced");
        assert!(memory.note(std::slice::from_ref(&second), notice(PinRecord::default())));
        assert_eq!(of(&first), PinRecord::default(), "it has been logged in to");
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gone").join("pins");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let memory = PinMemory::kept_in(&path).unwrap();
        fs::remove_dir(path.parent().unwrap()).unwrap();
        let tokens = [TokenSettings {
            module: "m.so".into(),
            label: "mail".into(),
            pin: PinSource::File("pin".into()),
            sessions: None,
            queue: 1,
            deadline: Duration::from_secs(1),
        }];
        let hash = Pin::of(b"0000").hash(&memory.salt);
        assert!(!memory.note(&tokens, notice(PinRecord::default().after_doubt(&hash, "no answer"))));
        assert!(memory.note(&tokens, notice(PinRecord::default())), "there is nothing to write");
    }

    fn notice(record: PinRecord) -> PinNotice {
        PinNotice { number: 1, token: 0, record }
    }
}
