//! Messages without a header on their way into an mbox, where their neighbours must stay messages of their own.

use std::fs;

use batch::{
    manifest::check,
    report::Report,
    run::{Output, run},
    task::Identity,
};

use crate::support::{options, run_on};

#[test]
fn a_message_whose_first_line_is_no_field_does_not_melt_into_the_one_before_it() {
    let large = format!("\n{}", "a long line\n".repeat(2_000));
    let odd = [
        "",
        "\nbody only\n",
        " odd first line\nFrom: a@b\n\nx\n",
        "no header\n",
        "From x\n\nx\n",
        ">>From x: y\n\nx\n",
        "\r\nx\r\n",
        &large,
    ];
    for format in ["mboxrd", "mboxo", "mboxcl", "mboxcl2"] {
        for folder_of in ["cur", ""] {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let mut messages = 0;
            let mut put = |text: &str| {
                messages += 1;
                let name = if folder_of.is_empty() {
                    format!("{messages:03}.eml")
                } else {
                    format!("{messages:03}.host:2,")
                };
                fs::create_dir_all(path("in").join(folder_of)).unwrap();
                fs::write(path("in").join(folder_of).join(name), text).unwrap();
            };
            for odd in odd {
                put("Subject: honest\n\nwords\n");
                put(odd);
            }
            put("Subject: honest\n\nwords\n");
            let mut options = options(&[&path("in")], &path("out"));
            options.output = Output::Converted(path("out"), format.parse().unwrap());
            options.max_message = 10_000;
            let report = Report::create(&path("report")).unwrap();
            run(&options, &Identity, report, &std::sync::atomic::AtomicBool::new(false)).unwrap();
            let checked = check(&path("report"), &[path("out")]).unwrap();
            assert_eq!((checked.good, checked.count), (messages, 0), "{format}: {:?}", checked.problems);
            let ran = run_on(&path("out"), &path("again"), &Identity);
            assert_eq!((ran.totals.messages(), ran.totals.failed()), (messages, 0), "{format} {folder_of}");
        }
    }
}

#[test]
fn a_quoted_line_in_front_of_a_header_is_no_from_line_without_its_quoting() {
    let from = "From alice@example.org Fri Sep 16 22:26:51 2016\n";
    let relay = ">From relay@example.org Fri Sep 16 22:00:00 2016\n";
    for (case, body) in [("small", "x\n".to_owned()), ("large", "a long line\n".repeat(2_000))] {
        let message = |number, before: &str| format!("{from}{before}Subject: {number}\n\n{body}\n");
        let mbox = [message(1, ""), message(2, relay), message(3, "")].concat();
        for format in ["mboxrd", "mboxo", "mboxcl", "mboxcl2"] {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            fs::write(path("in"), &mbox).unwrap();
            let mut options = options(&[&path("in")], &path("out"));
            options.output = Output::Converted(path("out"), format.parse().unwrap());
            options.max_message = 10_000;
            let report = Report::create(&path("report")).unwrap();
            run(&options, &Identity, report, &std::sync::atomic::AtomicBool::new(false)).unwrap();
            let checked = check(&path("report"), &[path("out")]).unwrap();
            assert_eq!((checked.good, checked.count), (3, 0), "{case} {format}: {:?}", checked.problems);
            let ran = run_on(&path("out"), &path("again"), &Identity);
            assert_eq!((ran.totals.messages(), ran.totals.failed()), (3, 0), "{case} {format}");
        }
    }
}
