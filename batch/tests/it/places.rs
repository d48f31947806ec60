//! A report tells the place of each message and the kind of what was written, and the output is held against that, too.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use batch::{
    manifest::check,
    report::Report,
    run::{Output, run},
    task::Identity,
};

use crate::{
    manifest::{Attack, swap},
    resume::{maildir, maildir_folder},
    support::{Shout, options, sample_mbox},
};

/// Files and folders (that end with `/`) of an input, a format, and what is done to the output in vain.
type Placed = (&'static str, &'static [&'static [u8]], &'static str, Attack);

const PLACED: [Placed; 12] = [
    ("all files of a tree are in one folder, and move up", &[b"a/1.eml", b"a/2.eml"], "", |out| {
        for name in ["1.eml", "2.eml"] {
            fs::rename(out.join("a").join(name), out.join(name)).unwrap();
        }
    }),
    (
        "all mail is in one folder, and moves up",
        &[b"cur/", b".Archive/cur/1:2,S", b".Archive/cur/2:2,S"],
        "",
        |out| {
            fs::rename(out.join(".Archive/cur"), out.join("cur2")).unwrap();
            fs::remove_dir(out.join("cur")).unwrap();
            fs::rename(out.join("cur2"), out.join("cur")).unwrap();
        },
    ),
    ("the same as files", &[b"cur/", b".Archive/cur/1:2,S", b".Archive/cur/2:2,S"], "eml", |out| {
        for name in ["1.eml", "2.eml"] {
            fs::rename(out.join(".Archive").join(name), out.join(name)).unwrap();
        }
    }),
    ("names that are not UTF-8 change places", &[b"a/\xfc.eml", b"a/\xfd.eml"], "", |out| {
        swap(&out.join(octets(b"a/\xfc.eml")), &out.join(octets(b"a/\xfd.eml")));
    }),
    ("folders that are not UTF-8 change places", &[b"cur/1", b".\xfc/cur/2", b".\xfd/cur/3"], "eml", |out| {
        swap(&out.join(octets(b".\xfc")), &out.join(octets(b".\xfd")));
    }),
    (
        "a folder with mail becomes one without",
        &[b"cur/1", b"cur/2", b".Sent/cur/", b".Trash/new/"],
        "mbox",
        |out| {
            swap(&out.join("INBOX.mbox"), &out.join("Sent.mbox"));
        },
    ),
    (
        "an mbox becomes the empty one beside it",
        &[b"cur/1", b"Archive/cur/", b"Archive/INBOX/cur/2"],
        "mbox",
        |out| {
            swap(&out.join("INBOX.mbox"), &out.join("Archive.mbox"));
        },
    ),
    ("two mboxes of one name change places", &[b"cur/1", b"Archive/INBOX/cur/2"], "mbox", |out| {
        swap(&out.join("INBOX.mbox"), &out.join("Archive/INBOX.mbox"));
    }),
    ("a file of a tree is called by its number", &[b"a/1.eml", b"b/2.eml", b"b/3.eml"], "", |out| {
        fs::rename(out.join("b/2.eml"), out.join("00000002.eml")).unwrap();
    }),
    ("a Maildir of a tree is another folder of it", &[b"a/1.eml", b"b/2.eml"], "maildir", |out| {
        fs::create_dir(out.join(".Else")).unwrap();
        fs::rename(out.join("new"), out.join(".Else/new")).unwrap();
    }),
    ("the only file has another name", &[b"a/1.eml"], "", |out| {
        fs::rename(out.join("a/1.eml"), out.join("a/2.eml")).unwrap();
    }),
    ("the only message of a Maildir has another name", &[b"cur/1:2,S"], "eml", |out| {
        fs::rename(out.join("1.eml"), out.join("2.eml")).unwrap();
    }),
];

fn octets(path: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path))
}

/// Makes an input, runs on it, and gives the report, the output and how many messages there are.
fn placed(folder: &Path, called: &[u8], files: &[&[u8]], format: &str) -> (PathBuf, PathBuf, u64) {
    let (input, output) = (folder.join(octets(called)), folder.join("out"));
    let mut messages = 0;
    for (number, name) in files.iter().enumerate() {
        let path = input.join(octets(name));
        fs::create_dir_all(if name.ends_with(b"/") { &path } else { path.parent().unwrap() }).unwrap();
        if !name.ends_with(b"/") {
            messages += 1;
            fs::write(path, format!("Subject: {number}\n\nx\n")).unwrap();
        }
    }
    let mut options = options(&[&input], &output);
    if !format.is_empty() {
        options.output = Output::Converted(output.clone(), format.parse().unwrap());
    }
    let report = folder.join("report");
    run(&options, &Shout, Report::create(&report).unwrap(), &AtomicBool::new(false)).unwrap();
    (report, output, messages)
}

#[test]
fn each_message_has_its_place_and_name_wherever_in_the_input_it_was() {
    let both = PLACED.into_iter().flat_map(|placed| [(&b"in"[..], placed), (b"M\xfcller", placed)]);
    for (called, (name, files, format, attack)) in both {
        let folder = tempfile::tempdir().unwrap();
        let (report, output, messages) = placed(folder.path(), called, files, format);
        let checked = check(&report, std::slice::from_ref(&output)).unwrap();
        let told = (checked.good, checked.count, checked.untold);
        assert_eq!(told, (messages, 0, 0), "before {name}: {:?}", checked.problems);
        let named: Vec<PathBuf> =
            crate::resume::files(&output).into_keys().map(|file| output.join(file)).collect();
        if format == "mbox" {
            assert_eq!(check(&report, &named).unwrap().problems, Vec::<String>::new(), "{name}: all named");
        }
        attack(&output);
        let checked = check(&report, &[output]);
        assert!(checked.is_err() || checked.unwrap().count > 0, "{name}: nothing was found");
        if format == "mbox" {
            let checked = check(&report, &named);
            assert!(checked.is_err() || checked.unwrap().count > 0, "{name}: nothing was found, all named");
        }
    }
}

#[test]
fn an_output_of_another_kind_is_found_though_each_message_is_in_it() {
    const KINDS: [&str; 3] = ["maildir", "eml", "mbox"];
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("in/cur")).unwrap();
    for number in 0..3 {
        fs::write(path(&format!("in/cur/{number}.host:2,S")), format!("Subject: {number}\n\nx\n")).unwrap();
    }
    for kind in KINDS {
        let input = path("in");
        let mut options = options(&[&input], &path(kind));
        options.output = Output::Converted(path(kind), kind.parse().unwrap());
        let report = Report::create(&path(&format!("{kind}.report"))).unwrap();
        run(&options, &Identity, report, &AtomicBool::new(false)).unwrap();
    }
    for (written, there) in KINDS.iter().flat_map(|one| KINDS.map(|other| (*one, other))) {
        let checked = check(&path(&format!("{written}.report")), &[path(there)]).unwrap();
        assert_eq!(checked.count == 0, written == there, "{written}, {there}: {:?}", checked.problems);
        let told = format!("of kind {there}; the report says that {written} was written");
        let is_told = checked.problems.iter().any(|problem| problem.ends_with(&told));
        assert_eq!(is_told, written != there, "{written}, {there}: {:?}", checked.problems);
    }
}

/// Has a report be one of an earlier version, whose lines did not have these.
fn write_as_before(report: &Path, missing: &[&str]) {
    let (mut old, mut previous) = (String::new(), String::new());
    for line in fs::read_to_string(report).unwrap().lines() {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        for member in missing {
            assert!(line.as_object_mut().unwrap().remove(*member).is_some(), "{member}");
        }
        if !previous.is_empty() {
            line["previous"] = previous.into();
        }
        let line = line.to_string();
        previous = batch::digest::Summed::of(line.as_bytes()).sha256;
        old += &(line + "\n");
    }
    fs::write(report, old).unwrap();
}

/// Moves the second message of an mbox, and what comes behind, into another.
fn move_tail(from: &Path, to: &Path) {
    let text = fs::read_to_string(from).unwrap();
    let (head, tail) = text.split_at(text.find("\n\nFrom ").unwrap() + 2);
    fs::write(from, head).unwrap();
    fs::write(to, tail).unwrap();
}

#[test]
fn mboxes_of_one_maildir_may_be_named_with_the_folders_that_others_are_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (below, messages) in [("mail", 1), ("mail/Sent", 2), ("mail/Lists/rust", 3)] {
        maildir_folder(&path(below), messages);
    }
    let mut options = options(&[&path("mail")], &path("out"));
    options.output = Output::Converted(path("out"), "mbox".parse().unwrap());
    let report = path("report");
    run(&options, &Identity, Report::create(&report).unwrap(), &AtomicBool::new(false)).unwrap();
    let outputs = ["out/INBOX.mbox", "out/Lists", "out/Sent.mbox"].map(&path);
    for is_old in [false, true] {
        if is_old {
            write_as_before(&report, &["inputs"]);
        }
        let checked = check(&report, &outputs).unwrap();
        assert_eq!((checked.good, checked.problems), (6, Vec::new()), "{is_old}");
        swap(&outputs[0], &outputs[2]);
        let problems = check(&report, &outputs).unwrap().count;
        swap(&outputs[0], &outputs[2]);
        assert!(problems > 0, "{is_old}: in another folder's mbox");
    }
}

#[test]
fn of_several_inputs_each_has_an_output_of_its_own_whichever_had_messages() {
    type Make = fn(&Path, usize);
    let mbox: Make = |path, messages| fs::write(path, sample_mbox(messages)).unwrap();
    let inputs: Vec<(&str, &str, Make, Make, &str)> = vec![
        ("two mboxes", "B", mbox, mbox, ""),
        ("two mboxes", "B", mbox, mbox, "mbox"),
        ("Maildirs of one folder", "B", maildir_folder, maildir_folder, "mbox"),
        ("Maildirs of two folders", "B", maildir, maildir, "mbox"),
        ("a Maildir and an mbox", "B", maildir_folder, mbox, "mbox"),
        ("a Maildir and the mbox of an inbox", "INBOX.mbox", maildir_folder, mbox, "mbox"),
    ];
    for (what, second, make_first, make_second, format) in inputs {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        make_first(&path("A"), 3);
        make_second(&path(second), 0);
        let (inputs, output) = ([path("A"), path(second)], path("out"));
        let mut options = options(&[&inputs[0], &inputs[1]], &output);
        if !format.is_empty() {
            options.output = Output::Converted(output.clone(), format.parse().unwrap());
        }
        let report = path("report");
        run(&options, &Identity, Report::create(&report).unwrap(), &AtomicBool::new(false)).unwrap();
        let outputs = [output.join("A"), output.join(second)];
        let problems = || check(&report, &outputs).unwrap().problems;
        let written = fs::read(outputs.iter().find(|output| output.is_file()).unwrap_or(&report)).unwrap();
        for is_old in [false, true] {
            // An earlier version did not tell how many inputs there were, and nobody can tell these apart.
            if is_old && second == "INBOX.mbox" {
                continue;
            }
            if is_old {
                write_as_before(&report, &["inputs"]);
            }
            assert_eq!(problems(), Vec::<String>::new(), "{what}, {format}, {is_old}");
            if outputs[0].is_file() {
                move_tail(&outputs[0], &outputs[1]);
                assert_ne!(
                    problems(),
                    Vec::<String>::new(),
                    "{what}, {format}, {is_old}: in another's output"
                );
                fs::write(&outputs[0], &written).unwrap();
                fs::write(&outputs[1], "").unwrap();
            }
        }
    }
}

#[test]
fn a_report_that_does_not_say_where_messages_were_is_held_to_their_octets_and_that_is_told() {
    for (files, format) in
        [(&[&b"a/1.eml"[..], b"a/2.eml"][..], ""), (&[b".A/cur/1", b".A/cur/2", b"cur/3"], "eml")]
    {
        let folder = tempfile::tempdir().unwrap();
        let (report, output, messages) = placed(folder.path(), b"in", files, format);
        write_as_before(&report, &["below", "kind", "inputs"]);
        let checked = check(&report, std::slice::from_ref(&output)).unwrap();
        assert_eq!(
            (checked.good, checked.count, checked.untold),
            (messages, 0, messages),
            "{:?}",
            checked.problems
        );
        let of = crate::resume::files(&output).into_keys().next().unwrap();
        fs::write(output.join(of), "Subject: other\n\nx\n").unwrap();
        assert_eq!(check(&report, &[output]).unwrap().count, 2);
    }
}
