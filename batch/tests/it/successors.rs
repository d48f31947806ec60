//! What messages of a Maildir are called when they change.

use std::{fs, sync::atomic::AtomicBool};

use batch::{
    digest::Summed,
    manifest::check,
    report::Report,
    run::{Options, Output, run},
    task::{Done, Failed, Task, Work},
};

use crate::{
    resume::files,
    support::{Shout, options, run_with},
    twins::{bodies, replace},
};

#[test]
fn no_name_is_too_long_for_what_the_message_becomes() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(input.join(part)).unwrap();
    }
    for name in [
        format!("cur/1.M1P2.{}:2,FRS", "x".repeat(238)),
        format!("cur/2.M1P2.{},S=17,W=20:2,", "x".repeat(229)),
        format!("new/{}", "x".repeat(255)),
        format!("cur/3.host:2,{}", "x".repeat(240)),
    ] {
        fs::write(input.join(&name), format!("Subject: x\n\n{}\n", name.split_at(8).0)).unwrap();
    }
    for in_place in [false, true] {
        let mail = if in_place {
            replace(&input, "-", true).unwrap();
            &input
        } else {
            let ran = run_with(&options(&[&input], &output), &Shout).unwrap();
            assert_eq!((ran.totals.messages(), ran.totals.failed()), (4, 0));
            &output
        };
        assert_eq!(bodies(mail), ["CUR/1.M1\n", "CUR/2.M1\n", "CUR/3.HO\n", "NEW/XXXX\n"]);
        assert!(files(mail).keys().any(|name| name.to_str().unwrap().ends_with(":2,FRS")));
    }
    let checked = check(&input.with_extension("report"), std::slice::from_ref(&input)).unwrap();
    assert_eq!((checked.good, checked.count), (4, 0), "{:?}", checked.problems);
}

/// Does something with those alone that are in the clear.
struct Plain;

impl Task for Plain {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        if work.message.body().starts_with(b"plain") { Shout.run(work) } else { Ok(Done::unchanged("kept")) }
    }
}

#[test]
fn a_copy_gives_no_message_a_name_that_another_has_that_stays() {
    // As a run in place leaves them that was cut off, or a backup that was put back beside what it had made.
    let [of, info] = ["1.a.host", ":2,S"].map(|text| Summed::of(text.as_bytes()).sha256);
    let replaced = format!("1.aR{of:.16}.host:2,S");
    let of_twin = format!("1.aT{of:.16}{info:.8}.host:2,S");
    for there in [vec![&replaced], vec![&replaced, &of_twin]] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("in/cur")).unwrap();
        fs::write(path("in/cur/1.a.host:2,S"), "Subject: x\n\nplain\n").unwrap();
        for name in &there {
            fs::write(path("in/cur").join(name), format!("Subject: x\n\n{name}\n")).unwrap();
        }
        let report = Report::create(&path("report")).unwrap();
        let options = options(&[&path("in")], &path("out"));
        let totals = run(&options, &Plain, report, &AtomicBool::new(false)).unwrap();
        let messages = there.len() as u64 + 1;
        assert_eq!((totals.messages(), totals.failed()), (messages, 0));
        for name in there {
            let kept = fs::read_to_string(path("out/cur").join(name)).unwrap();
            assert_eq!(kept, format!("Subject: x\n\n{name}\n"));
        }
        assert!(bodies(&path("out")).contains(&"PLAIN\n".to_owned()));
        let checked = check(&path("report"), &[path("out")]).unwrap();
        assert_eq!((checked.good, checked.count), (messages, 0), "{:?}", checked.problems);
        // What came out is worked on in place like any other.
        let in_place = Options { inputs: vec![path("out")], output: Output::InPlace, ..options };
        assert_eq!(run_with(&in_place, &Shout).unwrap().totals.failed(), 0);
    }
}
