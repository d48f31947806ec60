//! One table of what the programs beside this one have measured: for `scripts/bench`.
//!
//! Takes a directory with one below it for each of them, and writes `results.md` and `results.json` with what was wanted of
//! each and what came of it. Ends with 1 where there is nothing of one.

#![expect(clippy::print_stdout, reason = "its output is the table")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use benches::{machine, results};
use clap::Parser;
use serde::Serialize;

/// Puts results together.
#[derive(Debug, Parser)]
struct Arguments {
    /// The directory of results, and where the table goes.
    directory: PathBuf,
    /// What was measured: the names of directories below it, in order.
    #[arg(required = true)]
    parts: Vec<String>,
    /// What else is to be known of it, such as the system and the commit.
    #[arg(long)]
    about: String,
    /// How many processors were at work before.
    #[arg(long)]
    busy: f64,
}

/// All of it.
#[derive(Debug, Serialize)]
struct Summary {
    machine: String,
    date: String,
    about: String,
    busy_before: f64,
    parts: Vec<Part>,
}

/// What one program measured.
#[derive(Debug, Serialize)]
struct Part {
    name: String,
    wanted: Vec<Row>,
    pictures: Vec<String>,
}

/// A line of its table of what is wanted.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    what: String,
    limit: String,
    measured: String,
    met: bool,
}

fn main() -> Result<()> {
    let Arguments { directory, parts, about, busy } = Arguments::parse();
    let parts = parts.into_iter().map(|name| Part::read(&directory, name)).collect::<Result<_>>()?;
    let summary = Summary { machine: machine(), date: results::date()?, about, busy_before: busy, parts };
    let markdown = summary.markdown();
    results::write(&directory, &markdown, &summary)?;
    println!("{markdown}");
    Ok(())
}

impl Part {
    fn read(directory: &Path, name: String) -> Result<Self> {
        let directory = directory.join(&name);
        let file = directory.join("results.md");
        let markdown = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let wanted = wanted(&markdown);
        ensure!(!wanted.is_empty(), "nothing was wanted in {}", file.display());
        let mut pictures = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            pictures.extend(Path::new(&file).extension().is_some_and(|it| it == "svg").then_some(file));
        }
        pictures.sort();
        Ok(Self { name, wanted, pictures })
    }
}

/// The table of what is wanted, out of what `benches::wanted` wrote.
fn wanted(markdown: &str) -> Vec<Row> {
    let Some((_, section)) = markdown.split_once("## What is wanted\n") else { return Vec::new() };
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [what, limit, measured, verdict] = cells.as_slice() else { return None };
        let met = match *verdict {
            "ok" => true,
            "**short**" => false,
            _ => return None,
        };
        Some(Row { what: (*what).into(), limit: (*limit).into(), measured: (*measured).into(), met })
    })
    .collect()
}

impl Summary {
    fn markdown(&self) -> String {
        let mut out = format!(
            "# Measured side by side\n\n{}; {}; {}. Processors at work before: {:.2}. Medians of several rounds (least..most), all \
             contenders of a measurement in the same rounds.\n\n| | what | wanted | measured | |\n| --- | --- | --- | --- | \
             --- |\n",
            self.machine, self.date, self.about, self.busy_before
        );
        for part in &self.parts {
            for Row { what, limit, measured, met } in &part.wanted {
                let verdict = if *met { "ok" } else { "**short**" };
                let name = &part.name;
                let _ = writeln!(
                    out,
                    "| [{name}]({name}/results.md) | {what} | {limit} | {measured} | {verdict} |"
                );
            }
        }
        for part in &self.parts {
            for picture in &part.pictures {
                let _ = write!(out, "\n![{0}: {picture}]({0}/{picture})\n", part.name);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use benches::wanted::{Wanted, write};

    use super::*;

    #[test]
    fn what_is_written_of_what_is_wanted_is_read() {
        let one =
            |what: &str, met| Wanted { what: what.into(), limit: "1.0".into(), measured: "0.9".into(), met };
        let mut markdown = "# Things\n\n| a | b | c | ok |\n\n".to_owned();
        write(&[one("fast", false), one("small", true)], &mut markdown);
        markdown.push_str("## More\n\n| a | b | c | ok |\n");
        let row =
            |what: &str, met| Row { what: what.into(), limit: "1.0".into(), measured: "0.9".into(), met };
        assert_eq!(wanted(&markdown), [row("fast", false), row("small", true)]);
        assert_eq!(wanted("# Things\n"), []);
    }
}
