//! A folder of certificate files, read again when something in it has changed.
//!
//! Who a certificate is for is said by the addresses in it, not by the file's name.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use smime::{Certificate, MailAddress};

use crate::{
    Answer, CertificateSource, Finding, Kind, LookupError,
    answer::{MAX_ISSUERS, is_ca},
    files,
};

/// A folder of PEM, DER and PKCS#7 files; folders in it and hidden files are passed over.
#[derive(Debug)]
pub struct Directory {
    name: String,
    path: PathBuf,
    known: Mutex<Known>,
}

/// What was in the folder when it was last looked at.
#[derive(Debug, Default)]
struct Known {
    files: HashMap<PathBuf, File>,
    by_address: HashMap<String, Vec<Certificate>>,
    /// CA certificates by their subject as it is written.
    authorities: HashMap<String, Vec<Certificate>>,
}

#[derive(Debug)]
struct File {
    state: State,
    contents: Result<Vec<Certificate>, String>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
    changed: (i64, i64),
}

/// How many files are looked at.
const MAX_FILES: usize = 100_000;

impl Directory {
    /// A source of the files in a folder.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into(), known: Mutex::default() }
    }

    /// The files that hold no certificate, and why: for people. They are passed over.
    pub fn faults(&self) -> Result<Vec<(PathBuf, String)>, LookupError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.refresh(&self.path)?;
        let faults = known.files.iter().filter_map(|(path, file)| {
            let reason = file.contents.as_ref().err()?;
            Some((path.clone(), reason.clone()))
        });
        let mut faults: Vec<_> = faults.collect();
        faults.sort();
        Ok(faults)
    }
}

impl CertificateSource for Directory {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::Directory
    }

    fn find(&self, address: &MailAddress, _: Instant) -> Answer {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = known.refresh(&self.path) {
            return Answer::Unknown(error);
        }
        match known.by_address.get(&address.folded()) {
            Some(certificates) => Answer::Found(Finding {
                certificates: certificates.clone(),
                issuers: known.issuers_of(certificates),
                ..Finding::default()
            }),
            None => Answer::Absent,
        }
    }
}

impl Known {
    /// Reads what is new or has changed. A file that cannot be read makes the folder unreadable, since anybody's
    /// certificate may be in it; one that holds none is nobody's.
    fn refresh(&mut self, folder: &Path) -> Result<(), LookupError> {
        let states = states(folder)?;
        let before = self.files.len();
        self.files.retain(|path, file| states.get(path) == Some(&file.state));
        let mut is_same = self.files.len() == before;
        for (path, state) in states {
            if self.files.contains_key(&path) {
                continue;
            }
            is_same = false;
            let contents = if state.len > files::MAX_FILE {
                Err(files::FormatError::TooLong.to_string())
            } else {
                let octets = files::load(&path).map_err(unreadable(&path))?;
                let contents = files::read(&octets);
                contents.map(|contents| contents.certificates).map_err(|error| error.to_string())
            };
            self.files.insert(path, File { state, contents });
        }
        if !is_same {
            self.index();
        }
        Ok(())
    }

    fn index(&mut self) {
        self.by_address.clear();
        self.authorities.clear();
        for certificate in self.files.values().filter_map(|file| file.contents.as_ref().ok()).flatten() {
            if is_ca(certificate) {
                let of_name = self.authorities.entry(certificate.subject().to_string()).or_default();
                of_name.push(certificate.clone());
            }
            for address in certificate.addresses() {
                let of_address = self.by_address.entry(address.folded()).or_default();
                if !of_address.contains(certificate) {
                    of_address.push(certificate.clone());
                }
            }
        }
        for of_address in self.by_address.values_mut() {
            of_address.sort_by_key(|c| (std::cmp::Reverse(c.not_before()), *c.fingerprint()));
        }
    }
}

impl Known {
    /// The CA certificates in the folder that may have issued these, and those that may have issued them.
    fn issuers_of(&self, certificates: &[Certificate]) -> Vec<Certificate> {
        let mut issuers: Vec<Certificate> = Vec::new();
        let mut names: Vec<String> = certificates.iter().map(|c| c.issuer().to_string()).collect();
        while let Some(name) = names.pop() {
            for authority in self.authorities.get(&name).into_iter().flatten() {
                if issuers.len() < MAX_ISSUERS && !issuers.contains(authority) {
                    names.push(authority.issuer().to_string());
                    issuers.push(authority.clone());
                }
            }
        }
        issuers
    }
}

fn states(folder: &Path) -> Result<HashMap<PathBuf, State>, LookupError> {
    use std::os::unix::fs::MetadataExt;

    let mut states = HashMap::new();
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let entry = entry.map_err(unreadable(folder))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // Taken away in between, or a link to nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(&path)(error)),
        };
        // Reading from a pipe or a device would never end.
        if !metadata.is_file() {
            continue;
        }
        if states.len() == MAX_FILES {
            let reason = io::Error::other(format!("there are more than {MAX_FILES} files in it"));
            return Err(unreadable(folder)(reason));
        }
        let state = State {
            modified: metadata.modified().ok(),
            len: metadata.len(),
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        states.insert(path, state);
    }
    Ok(states)
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> LookupError {
    let path = path.to_owned();
    move |reason| LookupError::Unreadable { path: path.clone(), reason }
}

#[cfg(test)]
mod tests {
    use smime::{cms::certificates_only, testing::fixtures};

    use super::*;

    fn found(directory: &Directory, address: &str) -> Option<usize> {
        let address = MailAddress::parse(address).unwrap();
        match directory.find(&address, Instant::now()) {
            Answer::Found(finding) => {
                assert!(finding.certificates.iter().all(|c| c.addresses().contains(&address)));
                Some(finding.certificates.len())
            }
            Answer::Absent => None,
            Answer::Unknown(error) => panic!("{error}"),
        }
    }

    #[test]
    fn certificates_are_found_by_the_addresses_in_them_and_files_are_read_again_when_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, octets: &[u8]| fs::write(folder.path().join(name), octets).unwrap();
        let directory = Directory::new("files", folder.path());
        assert_eq!(found(&directory, "alice@example.org"), None);
        write("bob.pem", &fixtures::data("alice.pem"));
        write(".hidden.pem", &fixtures::data("bob.pem"));
        fs::create_dir(folder.path().join("below")).unwrap();
        assert_eq!(found(&directory, "Alice@Example.ORG"), Some(1));
        assert_eq!(found(&directory, "bob@example.org"), None);
        write("bob.pem", &fixtures::data("bob.pem"));
        assert_eq!(found(&directory, "alice@example.org"), None);
        assert_eq!(found(&directory, "bob@example.org"), Some(1));
        let two = ["alice", "alice-twin"].map(fixtures::certificate);
        write("more.p7c", &certificates_only(&two).unwrap());
        write("again.crt", two[0].der());
        assert_eq!(found(&directory, "alice@example.org"), Some(2));
        write("authorities.pem", &fixtures::data("ca.pem"));
        let alice = MailAddress::parse("alice@example.org").unwrap();
        let Answer::Found(finding) = directory.find(&alice, Instant::now()) else {
            panic!("alice is gone");
        };
        assert_eq!(finding.issuers, [fixtures::certificate("ca")]);
        fs::remove_file(folder.path().join("more.p7c")).unwrap();
        assert_eq!(found(&directory, "alice@example.org"), Some(1));
    }

    #[test]
    fn a_file_without_a_certificate_spoils_nothing_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("alice.pem"), fixtures::data("alice.pem")).unwrap();
        fs::write(folder.path().join("notes.txt"), "hello").unwrap();
        let directory = Directory::new("files", folder.path());
        assert_eq!(found(&directory, "alice@example.org"), Some(1));
        let faults = directory.faults().unwrap();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].0.ends_with("notes.txt") && faults[0].1.contains("neither PEM"), "{faults:?}");
    }

    #[test]
    fn a_folder_that_is_gone_is_unknown_not_absent() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new("files", folder.path().join("nowhere"));
        let address = MailAddress::parse("alice@example.org").unwrap();
        let Answer::Unknown(error) = directory.find(&address, Instant::now()) else {
            panic!("a folder that is not there answered");
        };
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}
