//! `hsmime cache`: the certificate cache as a whole.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
    sync::OnceLock,
    time::SystemTime,
};

use agent::Settings;
use anyhow::{Context as _, Result, bail};
use certcache::{BackupFile, Cache, Which};
use serde_json::json;

use crate::{
    Done,
    cert::write_json,
    table::{Table, count},
    time::moment,
};

/// Who root has become to open the cache.
static BECAME: OnceLock<String> = OnceLock::new();

/// The user that this process works as since root has opened somebody else's cache.
pub(crate) fn became() -> Option<&'static str> {
    BECAME.get().map(String::as_str)
}

/// The configured cache's folder.
pub(crate) fn folder(settings: &Settings) -> Result<&Path> {
    let Some(path) = settings.cache() else {
        bail!("there is no [cache] in {}; write one with a path", settings.path().display());
    };
    Ok(path)
}

/// The configured cache. Root becomes whoever else may write to it, for good: files that only root may read or make are
/// opened before.
pub(crate) fn open(settings: &Settings) -> Result<Cache> {
    let path = folder(settings)?;
    if let Some(user) = Cache::become_owner(path)? {
        let _ = BECAME.set(user);
    }
    Ok(Cache::open(path)?)
}

/// Says how much is in the cache.
pub(crate) fn stat(settings: &Settings, json: bool, out: &mut dyn Write) -> Result<Done> {
    let cache = open(settings)?;
    let stat = cache.stat()?;
    if json {
        let value = json!({
            "folder": cache.path(),
            "certificates": stat.certificates,
            "addresses": stat.addresses,
            "absent": stat.absent,
            "crls": stat.crls,
            "ocsp": stat.ocsp,
            "choices": stat.choices,
            "readers": stat.readers,
            "octets": stat.file_octets,
            "limit_octets": stat.map_octets,
        });
        write_json(out, &value)?;
        return Ok(Done::All);
    }
    writeln!(out, "folder        {}", cache.path().display())?;
    writeln!(out, "certificates  {}", stat.certificates)?;
    writeln!(out, "addresses     {}", stat.addresses)?;
    writeln!(out, "known absent  {}", stat.absent)?;
    writeln!(out, "CRLs          {}", stat.crls)?;
    writeln!(out, "OCSP answers  {}", stat.ocsp)?;
    writeln!(out, "choices       {} remembered", stat.choices)?;
    writeln!(out, "readers       {}", stat.readers)?;
    writeln!(out, "size          {} KiB of {} GiB", stat.file_octets >> 10, stat.map_octets >> 30)?;
    Ok(Done::All)
}

/// Looks at everything, and mends what can be mended if that is wanted.
pub(crate) fn check(settings: &Settings, repair: bool, json: bool, out: &mut dyn Write) -> Result<Done> {
    let cache = open(settings)?;
    let mut report = cache.check()?;
    let mut mended = None;
    if repair && !report.is_good() {
        mended = Some(cache.reindex()?);
        report = cache.check()?;
    }
    if json {
        let named: Vec<_> = report
            .named
            .iter()
            .map(|fault| json!({"table": fault.table, "key": fault.key, "fault": fault.what}))
            .collect();
        let value = json!({
            "certificates": report.certificates,
            "index_entries": report.index_entries,
            "values": report.values,
            "faults": report.faults,
            "named": named,
            "repaired": mended.map(|mended| json!({"kept": mended.kept, "dropped": mended.dropped})),
        });
        write_json(out, &value)?;
    } else {
        if let Some(mended) = mended {
            let kept = count(mended.kept, "certificate", "certificates");
            let dropped = count(mended.dropped, "record that cannot be read", "records that cannot be read");
            writeln!(out, "made the indexes anew: {kept} kept, {dropped} taken out")?;
        }
        let mut table = Table::new(["TABLE", "FAULT", "KEY"]);
        for fault in &report.named {
            table.row([fault.table.to_owned(), fault.what.to_owned(), fault.key.clone()]);
        }
        if !report.named.is_empty() {
            table.write(out)?;
        }
        let faults = count(usize::try_from(report.faults).unwrap_or(usize::MAX), "fault", "faults");
        writeln!(
            out,
            "{} certificates, {} index entries, {} other values: {faults}",
            report.certificates, report.index_entries, report.values
        )?;
        if !report.is_good() && !repair {
            writeln!(out, "export what is left (hsmime cache export), then run hsmime cache check --repair")?;
        }
    }
    Ok(if report.is_good() { Done::All } else { Done::Partly })
}

/// Writes everything as lines of JSON.
pub(crate) fn export(
    settings: &Settings,
    file: Option<&Path>,
    decided: bool,
    out: &mut dyn Write,
) -> Result<Done> {
    folder(settings)?;
    let which = if decided { Which::Decided } else { Which::All };
    let Some(path) = file else {
        open(settings)?.export(which, out)?;
        return Ok(Done::All);
    };
    let file = File::create_new(path).with_context(|| path.display().to_string())?;
    let lines = write_export(settings, which, &file).inspect_err(|_| {
        // Half an export is none, also where this process may not take it away any more.
        let _ = file.set_len(0);
        let _ = std::fs::remove_file(path);
    })?;
    writeln!(out, "{} in {}", count(lines.saturating_sub(1), "line", "lines"), path.display())?;
    Ok(Done::All)
}

fn write_export(settings: &Settings, which: Which, file: &File) -> Result<usize> {
    let mut written = BufWriter::new(file);
    let lines = open(settings)?.export(which, &mut written)?;
    written.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(lines)
}

/// Reads what `export` wrote.
pub(crate) fn import(settings: &Settings, file: &Path, now: SystemTime, out: &mut dyn Write) -> Result<Done> {
    folder(settings)?;
    let mut read: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).with_context(|| file.display().to_string())?))
    };
    let cache = open(settings)?;
    let inserted = cache.import(&mut read, now)?;
    cache.keep_decided()?;
    writeln!(out, "{} new, {} known already", inserted.new, inserted.known)?;
    Ok(Done::All)
}

/// Copies the cache while it is used.
pub(crate) fn backup(settings: &Settings, to: &Path, out: &mut dyn Write) -> Result<Done> {
    // What root makes is root's, whose folder it is.
    let own = Cache::is_of_another(folder(settings)?) && !Cache::is_of_another(to);
    let made = own.then(|| BackupFile::create(to)).transpose()?;
    let cache = open(settings)?;
    cache.backup(made.map_or_else(|| BackupFile::create(to), Ok)?)?;
    writeln!(out, "copied {} to {}", cache.path().display(), to.display())?;
    Ok(Done::All)
}

/// Takes out what has ended.
pub(crate) fn sweep(settings: &Settings, now: SystemTime, out: &mut dyn Write) -> Result<Done> {
    let swept = open(settings)?.sweep(now)?;
    writeln!(out, "{} taken out", count(swept, "entry", "entries"))?;
    Ok(Done::All)
}

/// Lists the last changes.
pub(crate) fn log(settings: &Settings, limit: usize, json: bool, out: &mut dyn Write) -> Result<Done> {
    let events = open(settings)?.events(limit)?;
    if json {
        let rows: Vec<_> = events
            .iter()
            .map(|event| {
                json!({
                    "number": event.number,
                    "at": moment(event.at),
                    "action": event.action,
                    "subject": event.subject,
                    "reason": event.reason,
                })
            })
            .collect();
        write_json(out, &json!({"events": rows}))?;
        return Ok(Done::All);
    }
    let mut table = Table::new(["WHEN", "ACTION", "SUBJECT", "REASON"]);
    for event in events {
        let subject: String = event.subject.chars().take(16).collect();
        table.row([moment(event.at), event.action, subject, event.reason]);
    }
    table.write(out)?;
    Ok(Done::All)
}
