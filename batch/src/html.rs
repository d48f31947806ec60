//! A summary for people: one HTML file with tables and plots, which needs nothing from elsewhere and runs nothing.
//!
//! Names in it come from messages that strangers wrote; all of them are escaped, and nothing in the file is a link.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write},
};

use crate::{
    log::{Octets, Totals},
    statistics::Statistics,
};

/// The page.
pub(crate) fn page(statistics: &Statistics, totals: &Totals) -> String {
    let mut page = Page(HEAD.to_owned());
    // Into a string, writing does not fail.
    let _ = page.write_all(statistics, totals);
    page.0
}

struct Page(String);

impl Page {
    fn write_all(&mut self, statistics: &Statistics, totals: &Totals) -> fmt::Result {
        let (messages, failed) = (totals.messages(), totals.failed());
        let (class, words) = match failed {
            0 => ("good", "Nothing failed."),
            _ => ("bad", "What failed was left as it was."),
        };
        writeln!(
            self.0,
            "<h1>hsmime-batch</h1>\n<p class=\"{class}\">{messages} messages, {failed} failed. {words}</p>\n\
             <p>{} read in {:.1} seconds.</p>",
            Octets(totals.octets()),
            totals.elapsed().as_secs_f64()
        )?;
        if statistics.messages < messages {
            writeln!(
                self.0,
                "<p>Of {} of them only the next table tells: they were done before this summary was asked for, or in the \
                 last minutes before a run was killed.</p>",
                messages - statistics.messages
            )?;
        }
        self.actions(totals)?;
        self.throughput(statistics)?;
        self.bars("Verdicts", &statistics.verdicts)?;
        self.algorithms(&statistics.years)?;
        self.bars("Signers", &statistics.signers)?;
        self.bars("Keys that were used", &statistics.keys)?;
        self.bars("Why messages failed", &statistics.errors)?;
        self.failures(statistics)?;
        self.0.push_str("</body></html>\n");
        Ok(())
    }

    fn actions(&mut self, totals: &Totals) -> fmt::Result {
        self.0
            .push_str("<h2>What was done</h2>\n<table><tr><th>action<th>result<th>messages<th>octets</tr>\n");
        for (action, what, messages, octets) in totals.rows() {
            writeln!(
                self.0,
                "<tr><td>{}<td>{}<td class=\"n\">{messages}<td class=\"n\">{}</tr>",
                Escaped(action),
                Escaped(what),
                Octets(octets)
            )?;
        }
        self.0.push_str("</table>\n");
        Ok(())
    }

    /// Messages and octets in a second, over time.
    fn throughput(&mut self, statistics: &Statistics) -> fmt::Result {
        let per_second = 1.0 / statistics.step.as_secs_f64();
        let rates = |of: fn(&(u64, u64)) -> u64| -> Vec<f64> {
            statistics.steps.iter().map(|step| number(of(step)) * per_second).collect()
        };
        let seconds = statistics.step.as_secs_f64() * number(statistics.steps.len() as u64);
        self.0.push_str("<h2>Throughput</h2>\n");
        self.plot("messages in a second", &rates(|step| step.0), seconds, |rate| format!("{rate:.0}/s"))?;
        self.plot("octets in a second", &rates(|step| step.1), seconds, |rate| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "three digits are shown"
            )]
            let octets = rate as u64;
            format!("{}/s", Octets(octets))
        })
    }

    fn plot(
        &mut self,
        label: &str,
        rates: &[f64],
        seconds: f64,
        name: impl Fn(f64) -> String,
    ) -> fmt::Result {
        let most = rates.iter().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let width = PLOT.0 / number(rates.len().max(1) as u64);
        self.begin_svg(PLOT.0 + 110.0, PLOT.1 + 44.0, label)?;
        writeln!(self.0, "<text x=\"0\" y=\"12\">{label}</text>")?;
        for share in [0.0, 0.5, 1.0] {
            let y = TOP + PLOT.1 * (1.0 - share);
            writeln!(
                self.0,
                "<line class=\"grid\" x1=\"0\" x2=\"{0}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{1}\" y=\"{2:.1}\">{3}</text>",
                PLOT.0,
                PLOT.0 + 6.0,
                y + 4.0,
                name(most * share)
            )?;
        }
        for (at, rate) in rates.iter().enumerate().filter(|(_, rate)| **rate > 0.0) {
            let height = rate / most * PLOT.1;
            writeln!(
                self.0,
                "<rect class=\"bar\" x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{height:.2}\"><title>{}</title></rect>",
                number(at as u64) * width,
                TOP + PLOT.1 - height,
                (width * 0.85).max(0.5),
                name(*rate)
            )?;
        }
        let y = TOP + PLOT.1 + 16.0;
        for (x, anchor, at) in [(0.0, "start", 0.0), (0.5, "middle", 0.5), (1.0, "end", 1.0)] {
            writeln!(
                self.0,
                "<text x=\"{:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{:.1} s</text>",
                PLOT.0 * x,
                seconds * at
            )?;
        }
        self.0.push_str("</svg>\n");
        Ok(())
    }

    /// Messages of each year, by algorithm.
    fn algorithms(&mut self, years: &BTreeMap<u64, BTreeMap<String, u64>>) -> fmt::Result {
        let mut all: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, messages) in years.values().flatten() {
            *all.entry(name).or_default() += messages;
        }
        if all.is_empty() {
            return Ok(());
        }
        let mut names: Vec<(&str, u64)> = all.into_iter().collect();
        names.sort_by_key(|(_, messages)| std::cmp::Reverse(*messages));
        // The plot has so many colours; the table has all.
        let shown: Vec<&str> = names.iter().take(COLOURS.len()).map(|(name, _)| *name).collect();
        self.0.push_str("<h2>Algorithms by year</h2>\n<p class=\"legend\">");
        for (name, colour) in shown.iter().zip(COLOURS) {
            writeln!(
                self.0,
                "<span><svg width=\"12\" height=\"12\"><rect width=\"12\" height=\"12\" fill=\"{colour}\"/></svg> {}</span>",
                Escaped(name)
            )?;
        }
        self.0.push_str("</p>\n");
        self.stacks(years, &shown)?;
        self.0.push_str(
            "<details><summary>as a table</summary><table><tr><th>year<th>algorithm<th>messages</tr>\n",
        );
        for (year, of_year) in years {
            for (name, messages) in of_year {
                let name = Escaped(name);
                writeln!(self.0, "<tr><td>{}<td>{name}<td class=\"n\">{messages}</tr>", Year(*year))?;
            }
        }
        self.0.push_str("</table></details>\n");
        Ok(())
    }

    /// For each year a bar of as many parts as there are algorithms with a colour.
    fn stacks(&mut self, years: &BTreeMap<u64, BTreeMap<String, u64>>, shown: &[&str]) -> fmt::Result {
        let sum = |of_year: &BTreeMap<String, u64>| shown.iter().filter_map(|name| of_year.get(*name)).sum();
        let most: u64 = years.values().map(sum).max().unwrap_or(0).max(1);
        self.begin_svg(PLOT.0 + 110.0, number(years.len() as u64) * LINE, "algorithms by year")?;
        for (row, (year, of_year)) in years.iter().enumerate() {
            let y = number(row as u64) * LINE;
            writeln!(self.0, "<text x=\"0\" y=\"{:.0}\">{}</text>", y + 14.0, Year(*year))?;
            let mut x = 70.0;
            for (name, colour) in shown.iter().zip(COLOURS) {
                let Some(messages) = of_year.get(*name) else { continue };
                let width = number(*messages) / number(most) * (PLOT.0 - 70.0);
                writeln!(
                    self.0,
                    "<rect x=\"{x:.2}\" y=\"{y:.0}\" width=\"{width:.2}\" height=\"18\" fill=\"{colour}\"><title>{}: \
                     {messages}</title></rect>",
                    Escaped(name)
                )?;
                x += width;
            }
            let messages: u64 = sum(of_year);
            writeln!(self.0, "<text x=\"{:.1}\" y=\"{:.0}\">{messages}</text>", x + 6.0, y + 14.0)?;
        }
        self.0.push_str("</svg>\n");
        Ok(())
    }

    /// A table with a bar for each row, the longest first.
    fn bars(&mut self, title: &str, rows: &BTreeMap<String, u64>) -> fmt::Result {
        let most = rows.values().copied().max().unwrap_or(0);
        if most == 0 {
            return Ok(());
        }
        let rows: BTreeSet<_> =
            rows.iter().map(|(name, messages)| (std::cmp::Reverse(messages), name)).collect();
        writeln!(self.0, "<h2>{title}</h2>\n<table>")?;
        for (std::cmp::Reverse(messages), name) in rows {
            writeln!(
                self.0,
                "<tr><td>{}<td class=\"n\">{messages}<td><svg width=\"300\" height=\"14\"><rect class=\"bar\" \
                 width=\"{:.1}\" height=\"14\"/></svg></tr>",
                Escaped(name),
                number(*messages) / number(most) * 300.0
            )?;
        }
        self.0.push_str("</table>\n");
        Ok(())
    }

    fn failures(&mut self, statistics: &Statistics) -> fmt::Result {
        let Statistics { failures, errors, .. } = statistics;
        let failed: u64 = errors.values().sum();
        if failed == 0 {
            return Ok(());
        }
        writeln!(
            self.0,
            "<h2>Messages that failed</h2>\n<table><tr><th>no.<th>where<th>Message-ID<th>why</tr>"
        )?;
        for failure in failures {
            writeln!(
                self.0,
                "<tr><td class=\"n\">{}<td>{}<td>{}<td>{}</tr>",
                failure.index,
                Escaped(&failure.source),
                Escaped(&failure.message_id),
                Escaped(&failure.reason)
            )?;
        }
        self.0.push_str("</table>\n");
        let more = failed.saturating_sub(failures.len() as u64);
        if more > 0 {
            writeln!(self.0, "<p>{more} more are named in the report.</p>")?;
        }
        Ok(())
    }

    fn begin_svg(&mut self, width: f64, height: f64, label: &str) -> fmt::Result {
        writeln!(
            self.0,
            "<svg class=\"plot\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
             role=\"img\" aria-label=\"{label}\">"
        )
    }
}

/// A text that a stranger may have written.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Also what changes the direction of writing, so that no text looks like another.
                character if character.is_control() || is_format(character) => f.write_char('\u{FFFD}')?,
                character => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

fn is_format(character: char) -> bool {
    matches!(
        character,
        '\u{AD}' | '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
    )
}

struct Year(u64);

impl fmt::Display for Year {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("unknown") } else { self.0.fmt(f) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a plot")]
fn number(count: u64) -> f64 {
    count as f64
}

/// Width and height of a plot.
const PLOT: (f64, f64) = (720.0, 130.0);
/// What is above a plot.
const TOP: f64 = 22.0;
/// The height of a bar and the space below it.
const LINE: f64 = 22.0;
const COLOURS: [&str; 8] =
    ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999933", "#777777"];

/// The policy allows styles of the file itself, and nothing else.
const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>hsmime-batch</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #222; background: #fff }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 1.8em }
table { border-collapse: collapse } th, td { padding: .2em .9em .2em 0; text-align: left; border-bottom: 1px solid #ddd }
td { overflow-wrap: anywhere; vertical-align: top } td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.bar { fill: #4477aa } .grid { stroke: #ddd } .plot { display: block; max-width: 100%; height: auto; margin: .6em 0 }
.legend span { margin-right: 1.2em; white-space: nowrap } .good { color: #1a6b2a } .bad { color: #a3122b; font-weight: bold }
text { font-size: 12px; fill: #444 }
</style></head><body>
"#;

#[cfg(test)]
pub(crate) mod tests {
    use std::{path::Path, time::Duration};

    use smime::Fault;

    use super::*;
    use crate::{
        digest::Summed,
        inspect::Layer,
        report::{ErrorRecord, Record},
        stored::Origin,
    };

    const HOSTILE: &str = "<script>alert(1)</script>\" onload='x' &amp; \u{202E}\u{1b}[31m";

    pub(crate) fn record(year: Option<u64>, algorithm: &str, verdict: &str, error: Option<&str>) -> Record {
        Record {
            year,
            layers: vec![Layer {
                form: "signed-data",
                algorithms: vec![algorithm.into()],
                recipients: Vec::new(),
                signers: Vec::new(),
                attached: false,
            }],
            action: "verified",
            verdict: Some(verdict.into()),
            signers: vec![verdict.into()],
            error: error.map(|reason| ErrorRecord { fault: Fault::Message, reason: reason.into() }),
            ..Record::new(1, Origin { file: Path::new("in").into(), offset: None }, Summed::of(b"12345"))
        }
    }

    #[test]
    fn what_strangers_wrote_is_text_in_the_page_and_nothing_comes_from_elsewhere() {
        let mut statistics = Statistics::new();
        let hostile = Record {
            message_id: Some(HOSTILE.into()),
            key: Some(HOSTILE.into()),
            source: Origin { file: Path::new(HOSTILE).into(), offset: None },
            ..record(Some(2009), HOSTILE, HOSTILE, Some(HOSTILE))
        };
        for _ in 0..3 {
            statistics.add(&hostile, Duration::from_secs(1));
        }
        let mut totals = Totals::default();
        totals.add(&Record { error: None, ..hostile });
        let page = page(&statistics, &totals);
        let text =
            "&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&#39;x&#39; &amp;amp; \u{FFFD}\u{FFFD}[31m";
        // What was done, the verdict, the signer, the key, the algorithm in legend, plot and table, the reason; and for
        // each of three that failed its file, its Message-ID and the reason.
        assert_eq!(page.matches(text).count(), 8 + 3 * 3);
        for never in [
            "<script", "onload='", "http:", "https:", "src=", "href", "url(", "@import", "\u{202E}", "\u{1b}",
        ] {
            assert!(!page.contains(never), "{never}");
        }
        assert_eq!(page.matches('<').count(), page.matches('>').count());
    }

    #[test]
    fn the_plots_show_what_was_counted() {
        let mut statistics = Statistics::new();
        for (year, algorithm, verdict, at) in [
            (Some(1999), "3DES", "pass", 0),
            (Some(2024), "AES-256-GCM", "pass", 100),
            (Some(2024), "AES-256-GCM", "fail", 3_600),
            (None, "3DES", "pass", 3_600),
        ] {
            statistics.add(&record(year, algorithm, verdict, None), Duration::from_secs(at));
        }
        let page = page(&statistics, &Totals::default());
        for row in [
            "<tr><td>1999<td>3DES<td class=\"n\">1</tr>",
            "<tr><td>2024<td>AES-256-GCM<td class=\"n\">2</tr>",
            "<tr><td>unknown<td>3DES<td class=\"n\">1</tr>",
            "<tr><td>pass<td class=\"n\">3<td>",
            "<tr><td>fail<td class=\"n\">1<td>",
            "<title>AES-256-GCM: 2</title>",
        ] {
            assert!(page.contains(row), "{row}");
        }
        // Three steps of the hour have messages, in each of the two plots.
        assert_eq!(page.matches("/s</title>").count(), 6);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
