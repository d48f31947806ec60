//! What is known of messages that were moved, went with their folder, or were put back.

use super::*;
use crate::{digest::Summed, maildir};

fn origin(file: &str) -> Origin {
    Origin { file: Path::new(file).into(), offset: None }
}

fn folders(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

/// A run that has done these files, in an input with these folders.
fn done(files: &[&str], had: &[&str]) -> Done {
    let mut done = Done::of(Path::new("/in"));
    done.had_folders(folders(had).into_iter().collect());
    let key = |file: &&str| Key::of(Path::new("/in"), &origin(file), &Content::Sum("sum")).to_string();
    done.add(Checkpoint { inputs: files.iter().map(key).collect(), ..Checkpoint::default() });
    done
}

/// That the message `1` with this sum became another.
fn became(name: &std::ffi::OsStr, sum: &str) -> String {
    let sum = Summed { size: 0, sha256: sum.to_owned() };
    Made::new(Half::of("1".as_ref(), &sum), Half::of(name, &Summed::of(b"x"))).to_string()
}

#[test]
fn each_message_of_a_folder_that_went_is_found_once_in_folders_that_came() {
    let there = ["/in/a/cur/1:2,S", "/in/b/cur/1:2,S", "/in/c/cur/1:2,S"];
    let mut done = done(&there[..2], &["a", "b", "kept"]);
    done.has_folders(&folders(&["kept", "c", "d", "e"]));
    assert_eq!(done.folders_gone(), folders(&["a", "b"]));
    assert_eq!(done.messages_gone(), 2);
    let sum = &Content::Sum("sum");
    // It was in two folders that went, so it is found in two that came, and in none that was there before.
    assert_eq!(done.meets(&origin("/in/kept/cur/1:2,S"), sum), Met::New);
    assert_eq!(done.meets(&origin("/in/c/cur/1:2,S"), &Content::Sum("another")), Met::New);
    assert_eq!(done.meets(&origin("/in/c/new/1"), sum), Met::Done);
    assert_eq!(done.meets(&origin("/in/d/cur/1:2,RS"), sum), Met::Done);
    assert_eq!(done.meets(&origin("/in/e/cur/1:2,S"), sum), Met::New);
    assert_eq!(done.moved(Extent::Whole), Moved { again: 2, ..Moved::default() });
}

#[test]
fn what_is_not_where_it_was_is_counted_where_its_folder_is_still_there() {
    let mut done = done(&["/in/a/cur/1", "/in/a/cur/2", "/in/b/cur/3"], &["a", "b"]);
    done.has_folders(&folders(&["a"]));
    assert_eq!(done.meets(&origin("/in/a/new/1"), &Content::Sum("sum")), Met::Done);
    assert_eq!(done.moved(Extent::Whole), Moved { missing: 1, ..Moved::default() });
    // As long as there is more to read, it may still come.
    assert_eq!(done.moved(Extent::UpToHere), Moved::default());
}

#[test]
fn what_is_only_like_a_message_that_is_done_or_was_put_back_is_done_again_and_counted() {
    let root = Path::new("/in");
    // Given a large message, one that was replaced and one that was not, in a folder that went,
    let mut done = done(&["/in/a/cur/1", "/in/a/cur/2", "/in/b/cur/1"], &["a", "b"]);
    let large = Key::of(root, &origin("/in/a/cur/3"), &Content::Size(9)).to_string();
    let name = maildir::successor("1".as_ref(), b"x");
    let outputs = ["a/cur", "b/cur"].map(|part| crate::journal::output_name(&Path::new(part).join(&name)));
    done.begin(&[became(&name, "sum")]);
    done.add(Checkpoint { inputs: vec![large], outputs: outputs.to_vec(), ..Checkpoint::default() });
    done.has_folders(&folders(&["b", "c"]));
    let sum = &Content::Sum("sum");
    // only a sum tells which message it is,
    assert_eq!(done.meets(&origin("/in/c/cur/3"), &Content::Size(9)), Met::New);
    assert_eq!(done.moved(Extent::Whole).alike, 1);
    // and in place only what has no successor is as it is to be, in whatever folder.
    done.is_in_place(root);
    assert_eq!(done.meets(&origin("/in/c/cur/2"), sum), Met::Done);
    // What was replaced and is there again takes the place of what was noted in one folder, each only once.
    assert_eq!(done.meets(&origin("/in/c/cur/1"), sum), Met::PutBack("a".into()));
    assert_eq!(done.meets(&origin("/in/c/new/1"), sum), Met::New);
    assert_eq!(done.meets(&origin("/in/b/cur/1"), sum), Met::PutBack("b".into()));
    assert_eq!(
        done.meets(&Origin { file: root.join("b/cur").join(&name).into(), offset: None }, sum),
        Met::Done
    );
    assert_eq!(done.moved(Extent::Whole), Moved { again: 1, missing: 0, alike: 1 });
    assert!(done.has_replaced(&origin("/in/b/cur/1"), sum));
}

#[test]
fn where_thousands_of_folders_went_a_message_that_was_put_back_is_found_no_slower() {
    const FOLDERS: usize = 5_000;
    let name = maildir::successor("1".as_ref(), b"x");
    let had: Vec<String> = (0..FOLDERS).map(|number| format!("had-{number}")).collect();
    // Given a message of the same name in each of so many folders, all of which have another name now,
    let message = |folder: usize| format!("sum of {folder}");
    let key = |number: usize| {
        let origin = origin(&format!("/in/{}/cur/1", had[number]));
        Key::of(Path::new("/in"), &origin, &Content::Sum(&message(number))).to_string()
    };
    let output = |folder: &String| crate::journal::output_name(&Path::new(folder).join("cur").join(&name));
    let mut done = Done::of(Path::new("/in"));
    done.had_folders(had.iter().map(PathBuf::from).collect());
    done.begin(&(0..FOLDERS).map(|number| became(&name, &message(number))).collect::<Vec<_>>());
    done.add(Checkpoint {
        inputs: (0..FOLDERS).map(key).collect(),
        outputs: had.iter().map(output).collect(),
        ..Checkpoint::default()
    });
    done.has_folders(&folders(&["now"]));
    done.is_in_place(Path::new("/in"));
    // when all are there as they were, each is found where it was.
    let began = std::time::Instant::now();
    for number in (0..FOLDERS).rev() {
        let found = done.meets(&origin("/in/now/cur/1"), &Content::Sum(&message(number)));
        assert_eq!(found, Met::PutBack(PathBuf::from(&had[number])));
    }
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
}
