//! The rules in force: read from the control file, and again whenever it is another one.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::complain;
use crate::{Action, Rule, RuleId, rule};

/// What a control file says.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) rules: Vec<(RuleId, Rule)>,
    /// The file cannot be understood: every call fails, so that a mistake in it does not go unnoticed.
    pub(super) is_broken: bool,
    /// How many calls each rule has looked at in this process. Outlives changes of the file.
    calls: HashMap<RuleId, Arc<AtomicU64>>,
}

/// The plan, and the file to watch for another.
#[derive(Debug)]
pub(super) struct WatchedPlan {
    path: Option<PathBuf>,
    loaded: RwLock<(Option<Stamp>, Arc<Plan>)>,
}

/// By what a file is told from the one before: inode, seconds, nanoseconds, length.
type Stamp = (u64, i64, i64, u64);

impl Plan {
    /// The number of this call among those that a rule looks at, from 1.
    pub(super) fn number_of_call(&self, id: RuleId) -> u64 {
        self.calls.get(&id).map_or(0, |calls| calls.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The rules that take tokens away.
    pub(super) fn absent(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|(_, rule)| rule).filter(|rule| rule.action == Action::Absent)
    }

    pub(super) fn has_absent(&self) -> bool {
        self.absent().next().is_some()
    }

    /// Whether the token of this label has been taken away.
    pub(super) fn takes_away(&self, label: Option<&str>) -> bool {
        self.absent().any(|rule| rule.token.is_none() || rule.token.as_deref() == label)
    }

    fn after(text: &str, before: &Self) -> Self {
        let (rules, is_broken) = match rule::read(text) {
            Ok(rules) => (rules, false),
            Err(error) => {
                complain(&format!("control file: {error}"));
                (Vec::new(), true)
            }
        };
        let of = |id: &RuleId| before.calls.get(id).cloned().unwrap_or_default();
        let calls = rules.iter().map(|(id, _)| (*id, of(id))).collect();
        Self { rules, is_broken, calls }
    }
}

impl WatchedPlan {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path, loaded: RwLock::default() }
    }

    /// The plan now, and whether this call is the first to see it. Costs one `stat`.
    pub(super) fn current(&self) -> (Arc<Plan>, bool) {
        let Some(path) = &self.path else { return (Arc::default(), false) };
        let seen = stamp(path);
        {
            let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
            if loaded.0 == seen {
                return (Arc::clone(&loaded.1), false);
            }
        }
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have read it meanwhile, or even a later one: look again.
        let seen = stamp(path);
        if loaded.0 == seen {
            return (Arc::clone(&loaded.1), false);
        }
        // A file that is replaced between the two has a later stamp than noted, so it is read once more.
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => format!("{}: {error}", path.display()),
        };
        let plan = Arc::new(Plan::after(&text, &loaded.1));
        *loaded = (seen, Arc::clone(&plan));
        (plan, true)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some((data.ino(), data.mtime(), data.mtime_nsec(), data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Control;

    #[test]
    fn every_change_is_seen_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut control = Control::new(directory.path()).unwrap();
        let [(_, path), _] = Control::environment(directory.path());
        let plan = WatchedPlan::new(Some(path.into()));
        assert!(plan.current().0.rules.is_empty());
        // Many within one tick of the file system's clock, and of the same length.
        for _ in 0..200 {
            let id = control.add(Rule::hang()).unwrap();
            assert_eq!(plan.current().0.rules, [(id, Rule::hang())]);
            assert!(!plan.current().1);
            control.remove(id).unwrap();
            assert!(plan.current().0.rules.is_empty());
        }
    }

    #[test]
    fn a_rule_counts_on_when_another_is_added() {
        let directory = tempfile::tempdir().unwrap();
        let mut control = Control::new(directory.path()).unwrap();
        let [(_, path), _] = Control::environment(directory.path());
        let plan = WatchedPlan::new(Some(path.into()));
        let id = control.add(Rule::hang().from(2)).unwrap();
        assert_eq!(plan.current().0.number_of_call(id), 1);
        control.add(Rule::hang()).unwrap();
        assert_eq!(plan.current().0.number_of_call(id), 2);
    }

    #[test]
    fn a_file_that_is_not_understood_breaks_everything() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let plan = WatchedPlan::new(Some(path.clone()));
        assert!(!plan.current().0.is_broken, "no file, no rules");
        fs::write(&path, "1 hang").unwrap();
        assert!(plan.current().0.is_broken);
    }
}
