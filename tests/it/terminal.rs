//! The archive tool on a terminal: a bar that tells how far it is and how busy the token is, and that is gone at the end.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
    time::Duration,
};

use crate::site::{Deed, Form, Site};

/// What takes the last line of a terminal away.
const ERASED: &str = "\r\u{1b}[K";

/// The number before a word.
fn number(text: &str, before: &str) -> Option<u64> {
    text.split_once(before)?.0.rsplit(' ').next()?.parse().ok()
}

#[test]
fn on_a_terminal_a_bar_tells_how_far_it_is_and_how_busy_the_token_is() {
    // 60 operations, of which four at a time take so long: more than a second in all.
    let site = Site::new("batchbar", Duration::from_millis(100));
    let (input, output) = (site.lab.workdir.join("in"), site.lab.workdir.join("out"));
    Form::Mbox.write(&input, &Deed::Sign.mails(&site, 90, 2_000));
    let on_terminal = |arguments: &[&OsStr]| {
        let batch = site.batch(arguments);
        let words = [batch.get_program()].into_iter().chain(batch.get_args());
        let words: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
        let mut script = Command::new("script");
        script.args(["-qec", &format!("stty cols 200; exec {}", words.join(" ")), "/dev/null"]);
        script.envs(batch.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ended = script.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(ended.stdout).unwrap();
        assert!(ended.status.success(), "{said}");
        said
    };
    let said = on_terminal(&["sign".as_ref(), input.as_os_str(), "--output".as_ref(), output.as_os_str()]);
    // It is one line, always written anew, below what is said for good.
    let (before, drawn) = said.split_once(ERASED).unwrap();
    assert!(before.contains("90 messages, read as mboxrd"), "{said:?}");
    let (bars, after) = drawn.rsplit_once(ERASED).unwrap();
    let bars: Vec<&str> = bars.split(ERASED).collect();
    assert!(bars.len() > 2 && bars.iter().all(|bar| !bar.contains('\n') && bar.len() < 200), "{said:?}");
    let reached: Vec<u64> = bars.iter().map(|bar| number(bar, " messages  ").unwrap()).collect();
    assert!(reached.is_sorted() && reached.last() > reached.first(), "{said:?}");
    for (bar, messages) in bars.iter().zip(&reached) {
        let share = number(bar, " %").unwrap();
        let filled = bar.matches('#').count() as u64;
        assert!(bar.starts_with('[') && filled == share / 5, "{bar}");
        assert!(share.abs_diff(100 * messages / 90) < 5, "{bar}");
        // The token has nothing else to do, and at the beginning not all that it will have.
        let busy = number(bar, " % busy").unwrap();
        assert!(busy <= 100 && bar.contains("  token "), "{bar}");
    }
    let last = bars.last().unwrap();
    assert!(last.contains(" left  ") && number(last, " % busy") > Some(20), "{last}");
    assert!(number(last, " messages/s").unwrap() > 0, "{last}");
    // What is left is the table; no line of the report is among it.
    assert!(
        after.contains("signed") && after.contains("messages/s") && !after.contains(['#', '{']),
        "{said:?}"
    );

    assert_eq!(on_terminal(&["verify".as_ref(), input.as_os_str(), "--quiet".as_ref()]), "");
}
