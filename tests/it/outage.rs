//! A token that goes away in the middle of an archive, and comes back.

use std::fs;
use std::time::Duration;

use testkit::mail::Letter;
use testkit::{Lab, archive, programs, wait};

#[test]
fn an_archive_whose_token_goes_away_in_the_middle_is_gone_on_with_when_it_is_back() {
    let lab = Lab::new("batchoutage").unwrap();
    let mail = |number: u64| {
        let from = if number.is_multiple_of(4) { &lab.alice.address } else { "friend@partner.example" };
        let subject = format!("Archived {number}");
        Letter { from, to: "friend@partner.example", subject: &subject }.of_size(3_000, number)
    };
    let mails: Vec<Vec<u8>> = (0..6_000).map(mail).collect();
    let input = lab.workdir.file("in.mbox", archive::mbox(&mails)).unwrap();
    let [output, partial, report] =
        ["out.mbox", "out.mbox.hsmime-partial", "report"].map(|name| lab.workdir.join(name));
    let configuration = lab.write_config().unwrap();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let sign = |more: &[&str]| {
        let mut sign = programs::command("hsmime-batch", &lab.token, &configuration).unwrap();
        sign.args(["sign", &text(&input), "--output", &text(&output), "--report", &text(&report)]).args(more);
        sign.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        sign
    };
    // Given a run in the middle of which the token goes away,
    let running = sign(&[]).spawn().unwrap();
    let is_on_its_way = || Ok(fs::metadata(&partial).is_ok_and(|there| there.len() > 1 << 20).then_some(()));
    wait::until("a part is written", Duration::from_mins(1), is_on_its_way).unwrap();
    lab.token.stop().unwrap();
    let ended = running.wait_with_output().unwrap();
    // it ends, though most of the mail needs no token,
    assert_eq!(ended.status.code(), Some(2), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(!output.exists(), "nothing half done is shown");
    // and goes on when that is back: no mail of ours is left without a signature.
    lab.token.start().unwrap();
    let ended = sign(&["--resume"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    let lines = fs::read_to_string(&report).unwrap();
    let signed = lines.lines().filter(|line| line.contains("\"action\":\"signed\"")).count();
    assert_eq!((lines.lines().count(), signed), (6_000, 1_500));
}
