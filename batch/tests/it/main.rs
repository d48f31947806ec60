//! The archives of `hsmime-batch`, whole runs of it on files.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "this is all tests")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

/// The program's own, so that what is measured of memory is the program's.
#[global_allocator]
static ALLOCATOR: batch::scratch::Spilling<tikv_jemallocator::Jemalloc> =
    batch::scratch::Spilling(tikv_jemallocator::Jemalloc);

mod agents;
mod beside;
mod bydisk;
mod child;
mod corpora;
mod disk;
mod doubles;
mod filter;
mod folderdata;
mod fulldisk;
mod gone;
mod headless;
mod inplace;
mod interrupted;
mod kills;
mod large;
mod links;
mod maildir;
mod manifest;
mod mbox;
mod memory;
mod outage;
mod outside;
mod owner;
mod places;
mod powercut;
mod preamble;
mod progress;
mod readers;
mod rejected;
mod resume;
mod rights;
mod safety;
mod scan;
mod successors;
mod support;
mod turns;
mod twins;
