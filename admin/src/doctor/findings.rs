//! What was found, as lines for people that fit their terminal, and as JSON for programs.

use std::io::{self, Write};

use rustix::termios::tcgetwinsize;
use serde_json::{Value, json};

use crate::table::{count, printable};

/// How something is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It works.
    Ok,
    /// It works, but may not be meant so.
    Warn,
    /// It does not work.
    Fail,
}

/// What was found, in the order it was looked at.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) rows: Vec<(Health, String, String)>,
}

impl Findings {
    /// An error that begins with what it is about is said without that.
    pub(super) fn add(&mut self, health: Health, what: impl Into<String>, detail: impl Into<String>) {
        let (what, detail) = (what.into(), detail.into());
        let rest =
            detail.strip_prefix(&what).and_then(|rest| rest.strip_prefix(": ").or(rest.strip_prefix(' ')));
        let detail = rest.map_or_else(|| detail.clone(), str::to_owned);
        self.rows.push((health, what, detail));
    }

    pub(super) fn how_many(&self, health: Health) -> usize {
        self.rows.iter().filter(|(of, ..)| *of == health).count()
    }

    /// Writes a paragraph for each, and how many are bad.
    pub(super) fn write(&self, width: usize, out: &mut dyn Write) -> io::Result<()> {
        for (health, what, detail) in &self.rows {
            let health = match health {
                Health::Ok => "OK",
                Health::Warn => "WARN",
                Health::Fail => "FAIL",
            };
            let text = printable(&format!("{what}: {detail}")).replace('\n', " ");
            for (number, line) in folded(&text, width.saturating_sub(INDENT)).into_iter().enumerate() {
                writeln!(out, "{:INDENT$}{line}", if number == 0 { health } else { "" })?;
            }
        }
        let failures = count(self.how_many(Health::Fail), "failure", "failures");
        writeln!(out, "{failures}, {}", count(self.how_many(Health::Warn), "warning", "warnings"))
    }

    pub(super) fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|(health, what, detail)| {
            let state = match health {
                Health::Ok => "ok",
                Health::Warn => "warn",
                Health::Fail => "fail",
            };
            json!({"state": state, "what": what, "found": detail})
        });
        json!({
            "findings": rows.collect::<Vec<_>>(),
            "failures": self.how_many(Health::Fail),
            "warnings": self.how_many(Health::Warn),
        })
    }
}

/// Room for the longest state and two blanks.
const INDENT: usize = 6;

/// What is readable everywhere, where nobody knows better.
const WIDTH: usize = 80;

/// How wide the terminal is.
pub(super) fn width() -> usize {
    let columns = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    // Some terminals say 0.
    if columns > 2 * INDENT { columns } else { WIDTH }
}

/// Lines of whole words. A word that is longer stays whole: it may be a path to copy.
fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_terminal_unless_one_word_is() {
        let mut findings = Findings::default();
        findings.add(
            Health::Fail,
            "token \"mail\"",
            "token \"mail\" has seen a wrong PIN; it is not tried again",
        );
        findings.add(Health::Ok, "cache", "/a/path/that/is/wider/than/the/whole/terminal\u{1b}[2J\nx");
        let mut out = Vec::new();
        findings.write(32, &mut out).unwrap();
        let expected = "FAIL  token \"mail\": has seen a\n      wrong PIN; it is not tried\n      again\n\
                        OK    cache:\n      /a/path/that/is/wider/than/the/whole/terminal\u{fffd}[2J\n      x\n\
                        1 failure, 0 warnings\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
