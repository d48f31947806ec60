//! An allocator that knows how much memory was in use at most.
#![expect(unsafe_code, reason = "an allocator is unsafe by its trait; all of it is the system's")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Counts what passes through it to the system's allocator.
#[derive(Debug)]
pub struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Forgets the peak so far; returns what is in use now.
pub fn mark() -> usize {
    let now = IN_USE.load(Relaxed);
    PEAK.store(now, Relaxed);
    now
}

/// The most that was in use since the last [`mark`].
pub fn peak() -> usize {
    PEAK.load(Relaxed)
}

fn more(octets: usize) {
    let now = IN_USE.fetch_add(octets, Relaxed) + octets;
    PEAK.fetch_max(now, Relaxed);
}

// SAFETY: every call goes on to `System` unchanged, whose contract is the same; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, octets: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(octets, layout) }
    }

    unsafe fn realloc(&self, octets: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it moves both are there.
        more(size);
        // SAFETY: the caller's.
        let moved = unsafe { System.realloc(octets, layout, size) };
        IN_USE.fetch_sub(layout.size(), Relaxed);
        moved
    }
}
