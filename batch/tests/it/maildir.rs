//! Runs on Maildirs: names, flags, times, folders, and what is not mail.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, FileTimes},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::{Duration, SystemTime},
};

use batch::{
    manifest::check,
    report::Report,
    run::{Options, Output, run},
    task::Identity,
};

use crate::support::{Shout, Unlucky, options, run_on, run_with};

/// All files below a folder with octets, time and mode.
fn files(root: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime, u32)> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_dir() {
                open.push(path);
            } else if metadata.is_file() {
                let below = path.strip_prefix(root).unwrap().to_owned();
                let state =
                    (fs::read(&path).unwrap(), metadata.modified().unwrap(), metadata.permissions().mode());
                found.insert(below, state);
            }
        }
    }
    found
}

fn put(root: &Path, name: impl AsRef<Path>, octets: &[u8], age: u64) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, octets).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + age);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
}

/// A Maildir++ with a bit of everything that is copied.
fn sample(root: &Path) {
    put(root, "cur/1.host,S=20,W=23:2,FRSabX", b"Subject: one\n\nbody\n\n", 1);
    put(root, "new/2.host", b"Subject: two\r\n\r\nbody", 2);
    put(root, Path::new("cur").join(OsStr::from_bytes(b"3.\xff\xfe:2,")), b"Subject: 3\n\nx\n", 3);
    put(root, ".Sent.2020/cur/4.host:2,S", b"Subject: four\n\nFrom here\n", 4);
    put(root, ".Sent.2020/maildirfolder", b"", 4);
    put(root, "nested/Archive/cur/5.host:2,S", b"Subject: five\n\nx\n", 5);
    put(root, "dovecot-keywords", b"0 $Work\n", 6);
    put(root, "subscriptions", b"Sent\n", 7);
    for part in ["tmp", ".Sent.2020/new", ".Sent.2020/tmp", ".Empty/cur"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
}

#[test]
fn names_flags_octets_times_and_folders_are_kept_whatever_the_task_does() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    sample(&input);
    let before = files(&input);
    for (name, task) in [("identity", &Identity as &dyn batch::task::Task), ("unlucky", &Unlucky)] {
        let output = folder.path().join(name);
        let ran = run_on(&input, &output, task);
        assert_eq!(ran.totals.messages(), 5);
        let mut after = files(&output);
        for not_mail in ["dovecot-keywords", "subscriptions", ".Sent.2020/maildirfolder"] {
            assert_eq!(after.remove(Path::new(not_mail)).unwrap().0, before[Path::new(not_mail)].0);
        }
        let mail = |path: &&PathBuf| {
            path.components().any(|part| ["cur", "new"].iter().any(|n| part.as_os_str() == *n))
        };
        let expected: BTreeMap<_, _> = before
            .iter()
            .filter(|(path, _)| mail(path))
            .map(|(path, state)| (path.clone(), state.clone()))
            .collect();
        assert_eq!(after, expected, "{name}");
        assert!(output.join(".Empty/cur").is_dir() && output.join(".Empty/tmp").is_dir());
    }
    assert_eq!(files(&input), before);
}

#[test]
fn changed_messages_keep_line_ends_time_and_flags_and_get_the_sizes_in_their_names_right() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    sample(&input);
    run_on(&input, &output, &Shout);
    let after = files(&output);
    // To a server another message is one with another name; sizes and flags are in it as before.
    let named = |folder: &str, number: &str, rest: &str| {
        let mut found = after.iter().filter(|(path, _)| path.parent() == Some(Path::new(folder)));
        let found =
            found.find(|(path, _)| path.file_name().unwrap().as_bytes().starts_with(number.as_bytes()));
        let name = found.unwrap().0.file_name().unwrap().to_str().unwrap();
        assert!(name.ends_with(rest) && name.contains(".R"), "{name}");
        found.unwrap().1.clone()
    };
    let one = named("cur", "1.", ",S=33,W=38:2,FRSabX");
    assert_eq!(one.0, b"X-Shout: yes\nSubject: one\n\nBODY\n\n");
    assert_eq!(one.1, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_001));
    assert_eq!(named("new", "2.", "").0, b"X-Shout: yes\r\nSubject: two\r\n\r\nBODY");
    assert_eq!(named(".Sent.2020/cur", "4.", ":2,S").0, b"X-Shout: yes\nSubject: four\n\nFROM HERE\n");
}

#[test]
fn what_is_in_tmp_and_what_is_not_mail_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    sample(&input);
    put(&input, "tmp/9.host", b"half a mess", 1);
    put(&input, "cur/.hidden", b"no mail", 1);
    put(&input, "dovecot.index.cache", b"of the old sizes", 1);
    put(&input, "maildirsize", b"1000S\n", 1);
    let ran = run_on(&input, &output, &Identity);
    assert_eq!(ran.totals.messages(), 5);
    for path in ["tmp/9.host", "cur/.hidden", "dovecot.index.cache", "maildirsize"] {
        assert!(input.join(path).exists() && !output.join(path).exists(), "{path}");
    }
}

#[test]
fn large_and_compressed_messages_are_copied_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let large = "Subject: large\n\n".to_owned() + &"line\n".repeat(20_000);
    put(&input, "cur/1.host,S=1:2,S", large.as_bytes(), 1);
    put(&input, "cur/2.host,S=900:2,SZ", b"\x1f\x8b\x08\x00squeezed", 2);
    let mut options = options(&[&input], &output);
    options.max_message = 10_000;
    let ran = run_with(&options, &Shout).unwrap();
    assert_eq!((ran.totals.messages(), ran.totals.failed()), (2, 2));
    assert_eq!(files(&output), files(&input));
}

#[test]
fn a_message_that_cannot_be_read_stops_the_run_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    sample(&input);
    std::os::unix::fs::symlink("/nowhere", input.join("cur/broken.host:2,S")).unwrap();
    let stopped = run_with(&options(&[&input], &output), &Identity).err().unwrap();
    assert!(stopped.error.to_string().contains("broken.host"), "{}", stopped.error);
    assert!(!output.exists() && stopped.partial.is_some());

    // A run that only looks goes on, and names it.
    let looks = Options { output: Output::None, ..options(&[&input], Path::new("")) };
    let ran = run_with(&looks, &Identity).unwrap();
    assert_eq!((ran.totals.messages(), ran.totals.failed()), (6, 1));
}

#[test]
fn a_link_is_not_followed_out_of_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    sample(&input);
    let secret = folder.path().join("secret");
    fs::write(&secret, "Subject: of somebody else\n\nx\n").unwrap();
    std::os::unix::fs::symlink(&secret, input.join("cur/0.host:2,S")).unwrap();
    let stopped = run_with(&options(&[&input], &output), &Identity).err().unwrap();
    let error = format!("{:?}", stopped.error);
    assert!(error.contains("0.host") && error.contains("not followed"), "{error}");
    assert!(!output.exists());
}

#[test]
fn a_fifo_among_the_messages_does_not_hang_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    sample(&input);
    let made = std::process::Command::new("mkfifo").arg(input.join("cur/7.host:2,S")).status().unwrap();
    assert!(made.success());
    let stopped = run_with(&options(&[&input], &output), &Identity).err().unwrap();
    assert!(stopped.error.to_string().contains("7.host"), "{}", stopped.error);
}

#[test]
fn names_that_are_too_long_with_an_ending_are_cut_and_known_again() {
    let folder = tempfile::tempdir().unwrap();
    let mail = folder.path().join("mail");
    let [long, shorter] = [254, 250].map(|count| "x".repeat(count));
    let below = mail.join(format!(".{long}"));
    let names = [format!("{long}a"), format!("{long}b"), format!("{shorter}:2,S"), format!("{shorter}:2,F")];
    for place in [&mail, &below] {
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(place.join(part)).unwrap();
        }
        for (number, name) in names.iter().enumerate() {
            fs::write(place.join("cur").join(name), format!("Subject: {number}\n\nx\n")).unwrap();
        }
    }
    for (format, count) in [("eml", 8), ("mbox", 2), ("maildir", 8)] {
        let [report, output] =
            ["report", "output"].map(|name| folder.path().join(format!("{name}.{format}")));
        let options = Options {
            output: Output::Converted(output.clone(), format.parse().unwrap()),
            ..options(&[&mail], &output)
        };
        run(&options, &Identity, Report::create(&report).unwrap(), &AtomicBool::new(false)).unwrap();
        assert_eq!(files(&output).len(), count, "{format}");
        let checked = check(&report, std::slice::from_ref(&output)).unwrap();
        assert_eq!((checked.good, checked.count), (8, 0), "{format}: {:?}", checked.problems);
        if format == "eml" {
            let of = |number: usize| {
                let text = format!("Subject: {number}\n\nx\n").into_bytes();
                let mut here = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().path());
                here.find(|path| path.is_file() && fs::read(path).unwrap() == text).unwrap()
            };
            let ([one, other], aside) = ([of(0), of(1)], output.join("aside"));
            for (from, to) in [(&one, &aside), (&other, &one), (&aside, &other)] {
                fs::rename(from, to).unwrap();
            }
            assert_eq!(check(&report, &[output]).unwrap().count, 4, "each has the other's name");
        }
    }
}
