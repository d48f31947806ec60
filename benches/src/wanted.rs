//! What is wanted of a measurement, and what came of it.

use std::fmt::Write as _;

use serde::Serialize;

/// What is wanted, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Wanted {
    /// In words.
    pub what: String,
    /// The limit in words.
    pub limit: String,
    /// What was measured, in words.
    pub measured: String,
    /// Whether it is met.
    pub met: bool,
}

/// All of them as a section in Markdown; nothing if nothing is wanted.
pub fn write(all: &[Wanted], out: &mut String) {
    if all.is_empty() {
        return;
    }
    out.push_str("## What is wanted\n\n| what | limit | measured | |\n| --- | --- | --- | --- |\n");
    for one in all {
        let verdict = if one.met { "ok" } else { "**short**" };
        let _ = writeln!(out, "| {} | {} | {} | {verdict} |", one.what, one.limit, one.measured);
    }
    out.push('\n');
}
