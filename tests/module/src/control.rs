//! Steering the module from a test.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    CONTROL, COUNTERS, Counters, Rule, RuleId,
    counters::{RULES, WORDS},
    rule,
};

/// The rules that a module obeys at the moment, and its counters. A rule holds for every call that begins
/// after the method that set it has returned.
#[derive(Debug)]
pub struct Control {
    directory: PathBuf,
    rules: Vec<(RuleId, Rule)>,
    next: usize,
    written: SystemTime,
}

impl Control {
    /// Makes both files new in this directory, without rules and with all counters at zero. Before the
    /// module is loaded, and once per directory.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let mut control = Self {
            directory: directory.to_owned(),
            rules: Vec::new(),
            next: 0,
            written: SystemTime::UNIX_EPOCH,
        };
        fs::write(counters_in(directory), vec![0; WORDS * 8])?;
        control.write()?;
        Ok(control)
    }

    /// The variables that make a module in another process use the files in this directory.
    pub fn environment(directory: &Path) -> [(&'static str, OsString); 2] {
        [(CONTROL, control_in(directory).into()), (COUNTERS, counters_in(directory).into())]
    }

    /// Adds a rule. All that apply to a call are applied in this order, until one ends it.
    pub fn add(&mut self, rule: Rule) -> io::Result<RuleId> {
        if self.next >= RULES {
            return Err(io::Error::other(format!("{RULES} rules have been used up")));
        }
        let id = RuleId(self.next);
        self.next += 1;
        self.rules.push((id, rule));
        self.write()?;
        Ok(id)
    }

    /// Removes a rule. Calls that hang by it go on.
    pub fn remove(&mut self, id: RuleId) -> io::Result<()> {
        self.rules.retain(|(other, _)| *other != id);
        self.write()
    }

    /// Removes all rules.
    pub fn clear(&mut self) -> io::Result<()> {
        self.rules.clear();
        self.write()
    }

    /// The counters as they stand now.
    pub fn counters(&self) -> io::Result<Counters> {
        Ok(Counters::from_octets(&fs::read(counters_in(&self.directory))?))
    }

    /// Replaces the file in one step, with a time of its own: by that the module sees the change.
    fn write(&mut self) -> io::Result<()> {
        let path = control_in(&self.directory);
        let temporary = path.with_extension("new");
        fs::write(&temporary, rule::write(&self.rules))?;
        // The file system's own clock may stand still between two writes.
        self.written = SystemTime::now().max(self.written + Duration::from_micros(1));
        File::options().write(true).open(&temporary)?.set_modified(self.written)?;
        fs::rename(temporary, path)
    }
}

fn control_in(directory: &Path) -> PathBuf {
    directory.join("module-control")
}

fn counters_in(directory: &Path) -> PathBuf {
    directory.join("module-counters")
}
