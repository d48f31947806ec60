//! One table of what the programs beside this one have measured: for `scripts/bench`.
//!
//! Takes a directory with one below it for each of them, and writes `results.md` and `results.json` with what was wanted of
//! each and what came of it, and puts it into a README where one is named. Ends with 1 where there is nothing of one.

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
    /// A file in Markdown that shall have it too, between its marks.
    #[arg(long)]
    readme: Option<PathBuf>,
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
    let Arguments { directory, parts, about, busy, readme } = Arguments::parse();
    let parts = parts.into_iter().map(|name| Part::read(&directory, name)).collect::<Result<_>>()?;
    let summary = Summary { machine: machine(), date: results::date()?, about, busy_before: busy, parts };
    let markdown = summary.markdown();
    results::write(&directory, &markdown, &summary)?;
    if let Some(file) = readme {
        let before = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let after = between_marks(&before, &summary.brief(&directory))
            .with_context(|| format!("{} has no {BEGIN} with {END} behind it", file.display()))?;
        fs::write(&file, after)?;
    }
    println!("{markdown}");
    Ok(())
}

/// Where what was measured begins in a README.
const BEGIN: &str = "<!-- measured -->\n";

/// Where it ends.
const END: &str = "<!-- /measured -->\n";

/// So many lines with one limit are shown as one, by the worst, if all are met.
const MANY: usize = 8;

/// The text with that between its marks in place of what is there.
fn between_marks(text: &str, new: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{new}{END}{after}"))
}

impl Row {
    /// The first number of what was measured.
    fn number(&self) -> f64 {
        let number = self.measured.split([' ', '/', ':']).next();
        number.and_then(|it| it.parse().ok()).unwrap_or(f64::NAN)
    }

    /// The line in a table.
    fn line(&self, first: &str, what: &str) -> String {
        let verdict = if self.met { "ok" } else { "**short**" };
        format!("| {first} | {what} | {} | {} | {verdict} |\n", self.limit, self.measured)
    }
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

    /// The table's lines, with many of one kind as one.
    fn brief(&self) -> String {
        let mut out = String::new();
        let mut rest = self.wanted.as_slice();
        while let Some(first) = rest.first() {
            let alike = rest.iter().take_while(|row| row.limit == first.limit && row.met).count();
            if alike < MANY {
                out.push_str(&first.line(&self.name, &first.what));
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let (group, others) = rest.split_at(alike);
            let at_most = first.limit.starts_with("at most");
            let worst = group.iter().max_by(|one, other| {
                let order = one.number().total_cmp(&other.number());
                if at_most { order } else { order.reverse() }
            });
            if let Some(worst) = worst {
                let which = if at_most { "most" } else { "least" };
                out.push_str(&worst.line(&self.name, &format!("the {which} of {alike}: {}", worst.what)));
            }
            rest = others;
        }
        out
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
            "# Measured side by side\n\n{}; {}; {}. Processors at work before: {:.2}. Medians of rounds (least..most), \
             all contenders of a measurement in the same rounds; how many there were is said of each part.\n\n| | what | wanted | measured | |\n| --- | --- | --- | --- | \
             --- |\n",
            self.machine, self.date, self.about, self.busy_before
        );
        for part in &self.parts {
            let name = format!("[{0}]({0}/results.md)", part.name);
            out.extend(part.wanted.iter().map(|row| row.line(&name, &row.what)));
        }
        for part in &self.parts {
            for picture in &part.pictures {
                let _ = write!(out, "\n![{0}: {picture}]({0}/{picture})\n", part.name);
            }
        }
        out
    }

    /// What a README has of it: how much is met, and behind that the table.
    fn brief(&self, directory: &Path) -> String {
        let directory = directory.display();
        let mut out = format!(
            "{}; {}; {}. [All of it]({directory}/results.md), with what else was measured and pictures.\n\n| | wanted | met \
             |\n| --- | ---: | ---: |\n",
            self.machine, self.date, self.about
        );
        for Part { name, wanted, .. } in &self.parts {
            let met = wanted.iter().filter(|row| row.met).count();
            let _ = writeln!(out, "| [{name}]({directory}/{name}/results.md) | {} | {met} |", wanted.len());
        }
        out.push_str("\n<details>\n<summary>The whole table</summary>\n\n");
        out.push_str("| | what | wanted | measured | |\n| --- | --- | --- | --- | --- |\n");
        out.extend(self.parts.iter().map(Part::brief));
        out.push_str("\n</details>\n");
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

    #[test]
    fn what_is_between_the_marks_is_replaced_and_nothing_else() {
        let text = format!("one\n{BEGIN}old\n{END}two\n");
        assert_eq!(between_marks(&text, "new\n"), Some(format!("one\n{BEGIN}new\n{END}two\n")));
        assert_eq!(between_marks("one\n", "new\n"), None);
        assert_eq!(between_marks(&format!("{END}{BEGIN}"), "new\n"), None);
    }

    #[test]
    fn many_of_one_kind_are_told_by_the_worst_and_what_is_short_by_itself() {
        let row = |limit: &str, number: f64, met| Row {
            what: format!("thing {number}"),
            limit: limit.into(),
            measured: format!("{number:.2} (0.10..9.00)"),
            met,
        };
        let mut wanted: Vec<Row> = (0..9_u8).map(|n| row("at least 1.0", 9.0 - f64::from(n), true)).collect();
        wanted.push(row("at least 1.0", 0.5, false));
        wanted.extend((0..8_u8).map(|n| row("at most 20 MiB", f64::from(n), true)));
        let part = Part { name: "things".into(), wanted, pictures: Vec::new() };
        assert_eq!(
            part.brief(),
            "| things | the least of 9: thing 1 | at least 1.0 | 1.00 (0.10..9.00) | ok |\n\
             | things | thing 0.5 | at least 1.0 | 0.50 (0.10..9.00) | **short** |\n\
             | things | the most of 8: thing 7 | at most 20 MiB | 7.00 (0.10..9.00) | ok |\n"
        );
    }
}
