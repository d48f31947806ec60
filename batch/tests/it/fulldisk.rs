//! A disk that gets full anywhere in a run: the run stops and says where, nothing is lost, and with room it goes on.
//!
//! `HSMIME_FULL=100 cargo nextest run -p batch full_disk` tries so many sizes of each kind; a few otherwise.

use std::{fs, path::Path};

use batch::manifest::check;

use crate::{
    child::{Pace, command, in_place},
    disk::Disk,
    powercut::KINDS,
    resume::{chance, files, maildir},
    support::sample_mbox,
};

const MESSAGES: usize = 200;

fn make(kind: &str, at: &Path) {
    match kind {
        "mbox" => fs::write(at, sample_mbox(MESSAGES)).unwrap(),
        _ => maildir(at, MESSAGES / 2),
    }
}

#[test]
fn a_full_disk_at_any_point_loses_nothing_and_the_run_goes_on_when_there_is_room() {
    let sizes = std::env::var("HSMIME_FULL").ok().map_or(3, |sizes| sizes.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (mut state, mut full, mut rounds) = (4, 0, 0);
    for (kind, replaces) in KINDS {
        let start = folder.path().join(kind);
        make(kind, &start);
        let whole = folder.path().join(format!("{kind}-{replaces}"));
        if replaces {
            make(kind, &whole);
            assert!(in_place(Pace::Shouting, &whole).status().unwrap().success());
        } else {
            assert!(command(Pace::Shouting, &start, &whole).status().unwrap().success());
        }
        let (before, expected) = (files(&start), files(&whole));
        // A file takes whole pages.
        let pages = |files: &std::collections::BTreeMap<_, Vec<u8>>| {
            files.values().map(|octets| octets.len().div_ceil(4096) as u64 + 1).sum::<u64>()
        };
        let (there, more) = (
            if replaces { pages(&before) + 4 } else { 4 },
            if replaces && kind == "mail" { 50 } else { pages(&expected) + 20 },
        );
        for _ in 0..sizes {
            rounds += 1;
            let size = 4096 * (there + chance(&mut state) % more);
            let case = format!("{kind}, in place: {replaces}, a disk of {size}");
            let Some(disk) = Disk::small(64 << 20) else { return };
            let (input, output) = if replaces {
                (disk.path().join(kind), disk.path().join(kind))
            } else {
                (start.clone(), disk.path().join("out"))
            };
            if replaces {
                make(kind, &input);
            }
            disk.resize(size);
            // The report is on the same disk.
            let run = || {
                let mut run = if replaces {
                    in_place(Pace::Shouting, &input)
                } else {
                    command(Pace::Shouting, &input, &output)
                };
                run.env("BATCH_RESUME", disk.path().join("report")).output().unwrap()
            };
            let ran = run();
            if !ran.status.success() {
                full += 1;
                let words = String::from_utf8_lossy(&ran.stderr).into_owned();
                let named = format!("cannot write {}", disk.path().display());
                let named_report = format!("cannot write the report {}", disk.path().display());
                assert!(words.contains(&named) || words.contains(&named_report), "{case}: {words}");
                assert!(words.contains("No space left"), "{case}: {words}");
                if replaces && kind == "mbox" {
                    assert!(files(&input) == before, "{case}: it was changed");
                } else if replaces {
                    let there = files(&input);
                    let is_there = |subject: usize| {
                        let ends = format!("Subject: {subject}\n\nbody\n").to_ascii_lowercase();
                        let found = there.iter().filter(|(path, octets)| {
                            !path.to_string_lossy().contains("tmp/")
                                && octets.to_ascii_lowercase().ends_with(ends.as_bytes())
                        });
                        found.count() >= 2
                    };
                    assert!((0..MESSAGES / 2).all(is_there), "{case}: messages are lost");
                } else {
                    assert!(files(&input) == before && !output.exists(), "{case}");
                }
                disk.resize(64 << 20);
                let ran = run();
                assert!(ran.status.success(), "{case}: {}", String::from_utf8_lossy(&ran.stderr));
            }
            assert!(files(&output) == expected, "{case}: the outputs differ");
            let checked = check(&disk.path().join("report"), &[output]).unwrap();
            assert_eq!((checked.good, checked.count), (MESSAGES as u64, 0), "{case}: {:?}", checked.problems);
        }
    }
    eprintln!("the disk got full in {full} of {rounds} runs");
    assert!(full * 5 > rounds, "the disk got full in {full} of {rounds} runs only");
}
