//! Who may read what is written: everybody may have a ciphertext, not the text that was in it.

use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use batch::{
    run::Output,
    task::{Done, Failed, Task, Work},
};

use crate::{
    child::{Pace, in_place},
    resume::maildir_folder,
    support::{Shout, options, run_with, sample_mbox},
};

/// Writes text that was encrypted, as it says.
struct Opening;

impl Task for Opening {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        Shout.run(work)
    }

    fn opens(&self) -> bool {
        true
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Every file below a folder, or the one, gets this mode.
fn set_modes(path: &Path, mode: u32) {
    for name in crate::resume::files(path).into_keys() {
        let file = if name.as_os_str().is_empty() { path.to_owned() } else { path.join(name) };
        fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
    }
}

fn modes(path: &Path) -> Vec<u32> {
    let files = crate::resume::files(path).into_keys();
    files
        .map(|name| mode(&if name.as_os_str().is_empty() { path.to_owned() } else { path.join(name) }))
        .collect()
}

/// Archives of all kinds whose files are kept as they are.
fn archives(folder: &Path) -> [&'static str; 5] {
    let path = |name: &str| folder.join(name);
    fs::write(path("mbox"), sample_mbox(5)).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&sample_mbox(5)).unwrap();
    fs::write(path("mbox.gz"), packed.finish().unwrap()).unwrap();
    fs::write(path("one.eml"), "Subject: x\n\nbody\n").unwrap();
    maildir_folder(&path("mail"), 5);
    for name in ["tree/a/1.eml", "tree/2.eml"] {
        fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        fs::write(path(name), "Subject: x\n\nbody\n").unwrap();
    }
    ["mbox", "mbox.gz", "one.eml", "mail", "tree"]
}

#[test]
fn text_that_was_encrypted_is_not_for_everybody_who_may_read_the_ciphertext() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in archives(folder.path()) {
        for (given, opened) in [(0o644, 0o640), (0o666, 0o660), (0o600, 0o600), (0o604, 0o600)] {
            set_modes(&path(name), given);
            for (task, expected, called) in
                [(&Opening as &dyn Task, opened, "opened"), (&Shout, given, "shouted")]
            {
                let output = path(&format!("{called}{given:o}-{name}"));
                let ran = run_with(&options(&[&path(name)], &output), task).unwrap();
                assert!(ran.totals.messages() > 0 && ran.totals.failed() == 0, "{name}");
                let found = modes(&output);
                assert!(
                    !found.is_empty() && found.iter().all(|mode| *mode == expected),
                    "{name} {called}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn of_another_kind_of_archive_everything_is_for_the_owner_alone_or_as_it_was_without_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in archives(folder.path()) {
        set_modes(&path(name), 0o644);
        for format in ["mboxo", "maildir", "eml"] {
            let output = path(&format!("{name}-{format}"));
            let mut options = options(&[&path(name)], &output);
            options.output = Output::Converted(output.clone(), format.parse().unwrap());
            run_with(&options, &Opening).unwrap();
            let found = modes(&output);
            assert!(
                !found.is_empty() && found.iter().all(|mode| mode % 8 == 0),
                "{name} {format}: {found:?}"
            );
        }
    }
}

#[test]
fn in_place_rights_stay_and_it_is_said_once_that_everybody_may_read_what_is_opened() {
    for (root, file, warnings) in [(0o755, 0o644, 1), (0o755, 0o640, 0), (0o700, 0o644, 0)] {
        for name in ["mbox", "one.eml", "mail"] {
            for pace in [Pace::Opening, Pace::Shouting] {
                let folder = tempfile::tempdir().unwrap();
                archives(folder.path());
                let input = folder.path().join(name);
                set_modes(&input, file);
                fs::set_permissions(folder.path(), Permissions::from_mode(root)).unwrap();
                let ran = in_place(pace, &input).output().unwrap();
                let said = String::from_utf8_lossy(&ran.stderr);
                assert!(ran.status.success(), "{said}");
                let expected = if matches!(pace, Pace::Opening) { warnings } else { 0 };
                assert_eq!(
                    said.matches("everybody may read").count(),
                    expected,
                    "{name} {root:o} {file:o}: {said}"
                );
                assert!(modes(&input).iter().all(|mode| *mode == file), "{name}");
            }
        }
    }
}
