//! `hsmime cache stat`, and opening the configured cache.

use std::io::Write;

use agent::Settings;
use anyhow::{Result, bail};
use certcache::Cache;

use crate::Done;

/// The configured cache.
pub(crate) fn open(settings: &Settings) -> Result<Cache> {
    let Some(path) = settings.cache() else {
        bail!("there is no [cache] in {}; write one with a path", settings.path().display());
    };
    Ok(Cache::open(path)?)
}

/// Says how much is in the cache.
pub(crate) fn stat(settings: &Settings, out: &mut dyn Write) -> Result<Done> {
    let cache = open(settings)?;
    let stat = cache.stat()?;
    writeln!(out, "folder        {}", cache.path().display())?;
    writeln!(out, "certificates  {}", stat.certificates)?;
    writeln!(out, "addresses     {}", stat.addresses)?;
    writeln!(out, "known absent  {}", stat.absent)?;
    writeln!(out, "size          {} KiB of {} GiB", stat.file_octets >> 10, stat.map_octets >> 30)?;
    Ok(Done::All)
}
