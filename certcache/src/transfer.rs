//! Export and import as lines of JSON, and live backup.
//!
//! The cache can be lost: what cannot be fetched or harvested again is what an administrator decided, and
//! [`Cache::keep_decided`] writes that beside it.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use data_encoding::BASE64;
use heed::CompactionOption;
use serde_json::{Value, json};
use smime::{Certificate, MailAddress};

use crate::{
    Announced, Cache, CacheError, Entry, Inserted, Insertion, Source, TrustState,
    codec::{seconds, time_of},
    owner::refuse_root,
    place::{DATA, prepare},
};

/// The copy of what an administrator decided, in the cache's folder.
pub const DECIDED: &str = "decided.jsonl";
/// How long a line of an export may be.
const MAX_LINE: usize = 1 << 20;
/// How many certificates are imported in one transaction.
const STEP: usize = 500;

/// What to export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All certificates and rules.
    All,
    /// What an administrator decided: certificates that were imported, pinned, distrusted or assigned, and rules.
    Decided,
}

impl Which {
    fn has(self, entry: &Entry) -> bool {
        self == Self::All
            || entry.sources.contains(Source::Imported)
            || matches!(entry.state, TrustState::Pinned | TrustState::Distrusted)
            || !entry.assigned.is_empty()
    }
}

impl Cache {
    /// Writes certificates with all that is known of them, and distrust rules, one JSON object a line. CRLs and
    /// OCSP answers are fetched again. Returns how many lines there are.
    pub fn export(&self, which: Which, out: &mut dyn Write) -> Result<usize, CacheError> {
        let io = |reason| CacheError::Folder { path: self.path().to_owned(), reason };
        let mut lines = 1;
        let mut failed = None;
        writeln!(out, "{}", json!({"type": "hsmime-certcache", "version": 1})).map_err(io)?;
        self.for_each(|entry| {
            let written = entry.and_then(|entry| {
                if which.has(&entry) {
                    lines += 1;
                    writeln!(out, "{}", to_json(&entry)).map_err(io)?;
                }
                Ok(())
            });
            failed = written.err();
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for rule in self.rules()? {
            lines += 1;
            let rule = json!({
                "type": "rule",
                "issuer": BASE64.encode(&rule.issuer),
                "after": rule.after.map(seconds),
                "comment": rule.comment,
            });
            writeln!(out, "{rule}").map_err(io)?;
        }
        Ok(lines)
    }

    /// Reads what `export` wrote. Certificates that are there already keep what an administrator decided of
    /// them. A line that cannot be taken ends the import; those before it stay.
    pub fn import(&self, read: &mut dyn BufRead, now: SystemTime) -> Result<Inserted, CacheError> {
        let mut done = Inserted::default();
        let mut rows: Vec<Row> = Vec::new();
        let known_rules = self.rules()?;
        let mut number = 0;
        loop {
            let line = read_line(read).map_err(|reason| self.import_error(number + 1, reason))?;
            if let Some(line) = &line {
                number += 1;
                let value: Value = serde_json::from_str(line)
                    .map_err(|error| self.import_error(number, format!("no JSON: {error}")))?;
                match value.get("type").and_then(Value::as_str) {
                    Some("hsmime-certcache") => {}
                    Some("certificate") => {
                        let row = Row::read(&value).ok_or_else(|| {
                            self.import_error(number, "a field is missing or wrong".to_owned())
                        })?;
                        rows.push(row);
                    }
                    Some("rule") => {
                        let rule = read_rule(&value).ok_or_else(|| {
                            self.import_error(number, "a field is missing or wrong".to_owned())
                        })?;
                        let (issuer, after, comment) = rule;
                        if !known_rules.iter().any(|known| known.issuer == issuer && known.after == after) {
                            self.add_rule(&issuer, after, &comment, now)?;
                        }
                    }
                    _ => return Err(self.import_error(number, "its type is not known".to_owned())),
                }
            }
            if rows.len() >= STEP || (line.is_none() && !rows.is_empty()) {
                let step = self.put_rows(&rows, now)?;
                done.new += step.new;
                done.known += step.known;
                rows.clear();
            }
            if line.is_none() {
                return Ok(done);
            }
        }
    }

    fn put_rows(&self, rows: &[Row], now: SystemTime) -> Result<Inserted, CacheError> {
        let insertions: Vec<Insertion<'_>> = rows.iter().flat_map(Row::insertions).collect();
        let copies = insertions.len() - rows.len();
        let mut done = self.put(&insertions, now)?;
        done.known -= copies;
        // Less than trusted is decided by nobody's coming again, so it is set.
        for row in rows.iter().filter(|row| row.state == TrustState::Distrusted) {
            self.set_state(row.certificate.fingerprint(), row.state, "imported", now)?;
        }
        Ok(done)
    }

    fn import_error(&self, line: usize, reason: String) -> CacheError {
        CacheError::Import { path: self.path().to_owned(), line, reason }
    }

    /// Writes what an administrator decided to `decided.jsonl` in the cache's folder, whole or not at all. To be
    /// called after each such change: a new cache in that folder begins with it.
    pub fn keep_decided(&self) -> Result<usize, CacheError> {
        let io = |reason| CacheError::Folder { path: self.path().to_owned(), reason };
        let temporary = self.path().join(format!("{DECIDED}.{}", std::process::id()));
        let file = File::create(&temporary).map_err(io)?;
        let mut out = BufWriter::new(file);
        let lines = self.export(Which::Decided, &mut out)?;
        let file = out.into_inner().map_err(|error| io(error.into_error()))?;
        file.sync_all().map_err(io)?;
        fs::rename(&temporary, self.path().join(DECIDED)).map_err(io)?;
        File::open(self.path()).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(lines)
    }

    /// Puts what `keep_decided` wrote into a new cache, all of it: who was distrusted must not come in again.
    pub(crate) fn begin_with_decided(&self) -> Result<(), CacheError> {
        let path = self.path().join(DECIDED);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(reason) => return Err(CacheError::Decided { path, reason: reason.to_string() }),
        };
        match self.import(&mut BufReader::new(file), SystemTime::now()) {
            Ok(_) => Ok(()),
            Err(CacheError::Import { line, reason, .. }) => {
                Err(CacheError::Decided { path, reason: format!("line {line}: {reason}") })
            }
            Err(other) => Err(other),
        }
    }

    /// Copies the cache, without its free pages, while others use it. What they write meanwhile is not in the copy, and
    /// makes the file grow.
    pub fn backup(&self, into: BackupFile) -> Result<(), CacheError> {
        let BackupFile { folder, mut file } = into;
        let copied = self.store().copying(|env| env.copy_to_file(&mut file, CompactionOption::Enabled));
        let fail = |reason| CacheError::Folder { path: folder.clone(), reason };
        copied.and_then(|()| file.sync_all().map_err(fail)).inspect_err(|_| {
            // Half a copy is none, also where this process may not take it away any more.
            let _ = file.set_len(0);
            let _ = fs::remove_file(folder.join(DATA));
        })
    }
}

/// A new file for a copy of a cache, in a folder that holds none.
#[derive(Debug)]
pub struct BackupFile {
    folder: PathBuf,
    file: File,
}

impl BackupFile {
    /// Makes the file, and the folder if it is not there. Root makes nothing in somebody else's folder.
    pub fn create(folder: &Path) -> Result<Self, CacheError> {
        refuse_root(folder)?;
        prepare(folder)?;
        let file = File::create_new(folder.join(DATA));
        let file = file.map_err(|reason| CacheError::Folder { path: folder.to_owned(), reason })?;
        Ok(Self { folder: folder.to_owned(), file })
    }
}

fn to_json(entry: &Entry) -> Value {
    json!({
        "type": "certificate",
        "der": BASE64.encode(entry.certificate.der()),
        "sources": entry.sources.names().collect::<Vec<_>>(),
        "state": entry.state.name(),
        "first_seen": seconds(entry.first_seen),
        "last_seen": seconds(entry.last_seen),
        "message_id": entry.message_id,
        "announced": entry.announced.as_ref().map(|announced| json!({
            "at": seconds(announced.at),
            "capabilities": BASE64.encode(&announced.capabilities),
        })),
        "preferred": entry.preferred.map(seconds),
        "assigned": entry.assigned,
        "only": entry.only,
    })
}

/// A line of an export.
struct Row {
    certificate: Certificate,
    sources: Vec<Source>,
    state: TrustState,
    message_id: Option<String>,
    announced: Option<Announced>,
    preferred: Option<SystemTime>,
    assigned: Vec<String>,
    only: Vec<MailAddress>,
}

impl Row {
    fn read(value: &Value) -> Option<Self> {
        let der = BASE64.decode(value.get("der")?.as_str()?.as_bytes()).ok()?;
        let names = value.get("sources")?.as_array()?.iter();
        let announced = match value.get("announced") {
            None | Some(Value::Null) => None,
            Some(announced) => Some(Announced {
                at: time_of(announced.get("at")?.as_i64()?)?,
                capabilities: BASE64.decode(announced.get("capabilities")?.as_str()?.as_bytes()).ok()?,
            }),
        };
        let texts = |name: &str| match value.get(name) {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(list) => list.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        };
        Some(Self {
            certificate: Certificate::from_der(&der).ok()?,
            sources: names
                .map(|name| name.as_str().and_then(Source::from_name))
                .collect::<Option<Vec<_>>>()
                .filter(|sources| !sources.is_empty())?,
            state: TrustState::from_name(value.get("state")?.as_str()?)?,
            message_id: value.get("message_id").and_then(Value::as_str).map(str::to_owned),
            announced,
            preferred: optional_time(value.get("preferred"))?,
            assigned: texts("assigned")?,
            only: texts("only")?
                .iter()
                .map(|text| MailAddress::parse(text))
                .collect::<Result<_, _>>()
                .ok()?,
        })
    }

    /// One for each source and address, so that all of them are kept.
    fn insertions(&self) -> impl Iterator<Item = Insertion<'_>> {
        let only = self.only.iter().map(Some).chain(self.only.is_empty().then_some(None));
        let each = self.sources.iter().flat_map(move |source| only.clone().map(move |only| (source, only)));
        each.map(|(source, only)| Insertion {
            only,
            state: self.state,
            message_id: self.message_id.as_deref(),
            announced: self.announced.clone(),
            preferred: self.preferred,
            assigned: self.assigned.clone(),
            reason: "from an export",
            ..Insertion::new(&self.certificate, *source)
        })
    }
}

fn read_rule(value: &Value) -> Option<(Vec<u8>, Option<SystemTime>, String)> {
    let issuer = BASE64.decode(value.get("issuer")?.as_str()?.as_bytes()).ok()?;
    let comment = value.get("comment").and_then(Value::as_str).unwrap_or_default();
    Some((issuer, optional_time(value.get("after"))?, comment.to_owned()))
}

#[expect(clippy::option_option, reason = "outside: whether it can be read, inside: whether it is there")]
fn optional_time(value: Option<&Value>) -> Option<Option<SystemTime>> {
    match value {
        None | Some(Value::Null) => Some(None),
        Some(value) => value.as_i64().and_then(time_of).map(Some),
    }
}

/// The next line without its end, `None` at the end. A line too long is an error, not memory.
fn read_line(read: &mut dyn BufRead) -> Result<Option<String>, String> {
    let mut line = Vec::new();
    let mut limited = io::Read::take(read, MAX_LINE as u64);
    limited.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && line.len() >= MAX_LINE {
        return Err(format!("it is longer than {MAX_LINE} octets"));
    }
    String::from_utf8(line).map(Some).map_err(|_| "it is not UTF-8".to_owned())
}
