//! What lies in a Maildir outside of `cur` and `new`, and may be mail.

use std::{fs, path::Path};

use batch::{
    run::{Options, Output},
    task::Identity,
};

use crate::{
    resume::files,
    support::{options, run_with},
};

/// Writes messages below a root, each with its path in it.
fn put(root: &Path, paths: &[&str]) {
    for below in paths {
        let path = root.join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("Subject: {below}\n\nx\n")).unwrap();
    }
}

#[test]
fn a_tree_of_files_with_a_folder_called_new_or_cur_is_not_taken_for_a_maildir() {
    for (paths, doubt) in [
        (["2023/1.eml", "2024/2.eml", "new/3.eml"], Some("")),
        (["1.eml", "2.eml", "deep/below/cur/3.eml"], Some("deep/below")),
        (["1.eml", "cur/2.host:2,S", "new/3.host"], None),
        (["1.eml", "cur/2.host:2,S", "tmp/none"], Some("")),
        (["notes.txt", "cur/2.host:2,S", "cur/3.host:2,S"], None),
        (["cur/1.eml", "cur/2.eml", "cur/3.eml"], None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("mail"), folder.path().join("out"));
        put(&input, &paths);
        let before = files(&input);
        let runs = [
            options(&[&input], &output),
            Options { output: Output::InPlace, ..options(&[&input], &input) },
            Options { output: Output::None, ..options(&[&input], &output) },
        ];
        for options in runs {
            let ended = run_with(&options, &Identity);
            let Some(doubt) = doubt else {
                assert!(ended.is_ok(), "{paths:?}");
                continue;
            };
            let error = format!("{:#}", anyhow::Error::from(ended.err().unwrap().error));
            let named = input.join(doubt).display().to_string();
            assert!(error.contains(&named) && error.contains("give that folder another name"), "{error}");
            assert_eq!(files(&input), before);
            assert!(!output.exists());
        }
    }
}
