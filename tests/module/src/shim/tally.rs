//! Counting in the mapped counter file.
#![expect(unsafe_code, reason = "a file is mapped, so that counts survive a crash and cost no system call")]

use std::{
    fs::File,
    path::Path,
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::mm::{self, MapFlags, ProtFlags};

use crate::{
    Function, ReturnValue, RuleId,
    counters::{WORDS, begun_word, forwarded_word, rule_word, size_word, value_words},
};

/// The words of the table, shared with every process that maps the same file.
#[derive(Debug)]
pub(super) struct Tally {
    words: &'static [AtomicU64],
}

impl Tally {
    /// Maps the file, or memory of this process if there is none.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, String> {
        let len = WORDS * size_of::<u64>();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let mapped = match path {
            Some(path) => {
                let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
                let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
                let file = file.map_err(|error| named(&error))?;
                let missing = file.metadata().map_err(|error| named(&error))?.len() < len as u64;
                if missing {
                    file.set_len(len as u64).map_err(|error| named(&error))?;
                }
                // SAFETY: the address is left to the kernel, so no other mapping is touched. The file is as
                // long as the mapping; tests replace or shorten it only before the module is loaded.
                unsafe { mm::mmap(ptr::null_mut(), len, access, MapFlags::SHARED, &file, 0) }
                    .map_err(|error| named(&error))?
            }
            // SAFETY: the address is left to the kernel, so no other mapping is touched.
            None => unsafe { mm::mmap_anonymous(ptr::null_mut(), len, access, MapFlags::PRIVATE) }
                .map_err(|error| format!("no memory for counters: {error}"))?,
        };
        let first = NonNull::new(mapped.cast::<AtomicU64>()).ok_or("counters mapped at address 0")?;
        // SAFETY: the mapping has `len` octets, begins at a page and so is aligned, is all zeros or counts
        // (every bit pattern is an integer), and is never unmapped. Others change it by atomic stores only,
        // and readers of the file do not write.
        let words = unsafe { slice::from_raw_parts(first.as_ptr(), WORDS) };
        Ok(Self { words })
    }

    pub(super) fn begin(&self, function: Function) {
        self.increment(begun_word(function));
    }

    pub(super) fn forward(&self, function: Function) {
        self.increment(forwarded_word(function));
    }

    /// Counts that a size was told.
    pub(super) fn tell_size(&self, function: Function) {
        self.increment(size_word(function));
    }

    pub(super) fn end(&self, function: Function, value: ReturnValue) {
        let wanted = value.0.wrapping_add(1);
        for place in value_words(function) {
            let Some(word) = self.words.get(place) else { return };
            let claimed = word.compare_exchange(0, wanted, Ordering::Relaxed, Ordering::Relaxed);
            if claimed.is_ok() || claimed == Err(wanted) {
                return self.increment(place + 1);
            }
        }
    }

    /// Counts that a rule was applied.
    pub(super) fn apply(&self, rule: RuleId) -> bool {
        self.increment(rule_word(rule));
        true
    }

    /// Counts it unless it has been applied that often.
    pub(super) fn apply_up_to(&self, rule: RuleId, limit: u64) -> bool {
        let below = |count: u64| (count < limit).then_some(count + 1);
        let word = self.words.get(rule_word(rule));
        word.is_some_and(|word| word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).is_ok())
    }

    fn increment(&self, place: usize) {
        if let Some(word) = self.words.get(place) {
            word.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Control, Counters};

    #[test]
    fn counts_are_read_as_they_are_made_by_several() {
        let directory = tempfile::tempdir().unwrap();
        let control = Control::new(directory.path()).unwrap();
        let [_, (_, path)] = Control::environment(directory.path());
        let one = Tally::open(Some(path.as_ref())).unwrap();
        let other = Tally::open(Some(path.as_ref())).unwrap();
        for tally in [&one, &other] {
            tally.begin(Function::Sign);
            tally.forward(Function::Sign);
            tally.end(Function::Sign, ReturnValue::CKR_OK);
        }
        one.begin(Function::Sign);
        one.end(Function::Sign, ReturnValue::CKR_DEVICE_ERROR);
        one.begin(Function::Sign);
        one.tell_size(Function::Sign);
        assert!(one.apply_up_to(RuleId(3), 2) && other.apply_up_to(RuleId(3), 2));
        assert!(!one.apply_up_to(RuleId(3), 2));
        let counters: Counters = control.counters().unwrap();
        assert_eq!(counters.begun(Function::Sign), 4);
        assert_eq!(counters.forwarded(Function::Sign), 2);
        assert_eq!(counters.running(Function::Sign), 1);
        assert_eq!(counters.returned_with(Function::Sign, ReturnValue::CKR_OK), 2);
        assert_eq!(counters.answered(Function::Sign), 1);
        assert_eq!(counters.begun(Function::SignInit), 0);
        assert_eq!(counters.applied(RuleId(3)), 2);
        assert_eq!(counters.to_string(), "C_Sign 4 calls, 2 forwarded: CKR_OK 2, CKR_DEVICE_ERROR 1\n");
    }
}
