//! The results for readers: Markdown and a picture.

use std::fmt::Write as _;

use super::{
    cost::Cell,
    results::{Results, Row},
    site::Contender,
};
use crate::{
    pool::plot::{Figure, Line, Mark, Panel, Style},
    results::QUIET,
    statistics::{Spread, spread},
    wanted,
};

impl Results {
    /// All of it in Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!(
            "# The milter\n\n{}{}; {}; {}. SoftHSM 2 in the milter's process, with as many sessions as cores; what sends, Postfix, the milter and the token share the \
             cores; Postfix and the milters speak through {}. Medians of {} rounds with the least and the most, all contenders one after the other in each. Processors at \
             work before: {:.2}.\n\n{} delivered mails were looked at, before and after: signatures hold for `openssl cms -verify`, opened \
             mail is the text. Of all others the milter's log has to have the right word, message by message.\n\n",
            warning(self.busy_before),
            self.machine,
            self.postfix_version,
            self.date,
            self.socket.title(),
            self.rounds,
            self.busy_before,
            self.samples
        );
        out.push_str(
            "## The token\n\nBare PKCS#11 calls on the same cores: as many operations as it does, and the time of one where \
             there is one session.\n\n| operation | operations/s | one, ms |\n| --- | ---: | ---: |\n",
        );
        for contender in Contender::BAREST {
            let rates = || self.token.iter().filter_map(|token| token.of(contender));
            let (all, one) = (rates().map(|rate| rate.rate), rates().map(|rate| rate.one_ms));
            let (all, one) = (spread(Spread::of(all), 0, ""), spread(Spread::of(one), 2, ""));
            let _ = writeln!(out, "| {} | {all} | {one} |", contender.title());
        }
        out.push_str(
            "\n## Through Postfix\n\nMessages a second that `smtp-source -d` gets accepted; delivery is to `discard`. The null milter is \
             `milter/examples/null-milter`: indymilter that sees all of every message, gives the answers that ours gives, and accepts it. With \
             a new body it gives each a ready-made one as long as a signed one, and changes nothing else: what Postfix has to do for that. The \
             least is the same program that does beside, for each message, what is due and nothing else: the digests of the body and of signed \
             attributes, or the decoding and the cipher of what was encrypted, and the token's operation by bare PKCS#11 calls on as many \
             threads as cores; nothing is parsed, checked or decided. At a \
             site there are beside: the audit, the cache, harvesting, revocation, the spool for copies, and metrics.\n\n",
        );
        table(&self.postfix, |cell| cell.rate, &mut out);
        out.push_str(
            "\nAs a part of the null milter's rate, round by round; and as a part of what is left where the token's time for a message \
             is added to that of the null milter, or, where bodies are replaced, of the one that gives each message a ready-made body: all of \
             them take all of the processor, so that nothing can do more.\n\n",
        );
        self.parts(&mut out);
        out.push_str("\nAs a part of the least's rate, round by round:\n\n");
        parts_of_least(&self.postfix, &mut out);
        out.push_str("\nMicroseconds of processor time for a message, of all processes:\n\n");
        table(&self.postfix, |cell| cell.machine_us, &mut out);
        out.push_str("\nOf the milter alone, with its token:\n\n");
        table(&self.postfix, |cell| cell.milter_us, &mut out);
        out.push_str("\n## The milter alone\n\nMessages a second from a client that speaks the protocol as Postfix does.\n\n");
        table(&self.alone, |cell| cell.rate, &mut out);
        out.push_str("\nAs a part of the least's rate, round by round:\n\n");
        parts_of_least(&self.alone, &mut out);
        out.push_str("\nMicroseconds of the milter's processor time for a message:\n\n");
        table(&self.alone, |cell| cell.milter_us, &mut out);
        out.push_str(
            "\n## Latency\n\nMessages over the most connections that arrive independently of each other (a Poisson process: \
             some come close together) at half of what this milter did above: milliseconds from the first command to the last answer, and \
             from the arrival where all connections were taken, of the milter, of the least and of the null milter at the same rate and with \
             the same arrivals. A percentile of one round is told from as many messages at least. `token's` is what these arrivals would take if \
             there were nothing but the token, with a core for each session: computed, and less than anything can be here, where all share \
             the cores. Added is what is above the null milter's.\n\n| milter | | message | messages/s | messages | p50 | the least's | null's | \
             p99 | the least's | null's | token's | added to p99 | by the least |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        for one in &self.latencies {
            let median =
                |of: &dyn Fn(&super::results::Added) -> f64| Spread::of(one.rounds.iter().map(of)).median;
            let _ = writeln!(
                out,
                "| {} | {} | {} KB | {:.0} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {} | {} |",
                one.contender.title(),
                one.way.title(),
                one.octets / 1000,
                median(&|round| round.rate),
                one.messages(),
                median(&|round| round.ours.p50),
                median(&|round| round.least.p50),
                median(&|round| round.null.p50),
                median(&|round| round.ours.p99),
                median(&|round| round.least.p99),
                median(&|round| round.null.p99),
                median(&|round| round.token.p99),
                spread(one.added(), 2, ""),
                spread(one.added_by_least(), 2, ""),
            );
        }
        out.push('\n');
        wanted::write(&self.wanted(), &mut out);
        out
    }

    fn parts(&self, out: &mut String) {
        out.push_str("| message | connections |");
        for contender in Contender::OURS {
            let _ = write!(out, " {0}: of null | of what is left |", contender.title());
        }
        out.push_str("\n| ---: | ---: |");
        out.push_str(&" ---: |".repeat(2 * Contender::OURS.len()));
        out.push('\n');
        for row in &self.postfix {
            let _ = write!(out, "| {} KB | {} |", row.octets / 1000, row.connections);
            for contender in Contender::OURS {
                let of_null = row.part(contender, &self.token, |null, _| null);
                for part in [of_null, row.of_bound(contender, &self.token)] {
                    let _ = write!(out, " {} |", spread(part.unwrap_or_default(), 2, ""));
                }
            }
            out.push('\n');
        }
    }

    /// The rates by connections.
    pub fn picture(&self) -> String {
        let mut sizes: Vec<usize> = self.postfix.iter().map(|row| row.octets).collect();
        sizes.dedup();
        let panel = |title: String, rows: &[Row], size: usize| {
            let rows: Vec<&Row> = rows.iter().filter(|row| row.octets == size).collect();
            let lines =
                Contender::ALL.into_iter().filter(|one| rows.iter().any(|row| row.of(*one).is_some()));
            let lines = lines.map(|contender| {
                let points = rows.iter().enumerate().filter_map(|(at, row)| {
                    let cells = row.of(contender)?;
                    let Spread { median, min, max } = Spread::of(cells.iter().map(|cell| cell.rate));
                    Some((at, median, Some((min, max))))
                });
                Line { style: style(contender), points: points.collect() }
            });
            Panel {
                title,
                x_label: "connections".to_owned(),
                categories: rows.iter().map(|row| row.connections.to_string()).collect(),
                y_label: "messages per second".to_owned(),
                logarithmic: false,
                lines: lines.collect(),
                levels: Vec::new(),
            }
        };
        let mut panels = Vec::new();
        for size in sizes {
            panels.push(panel(format!("through Postfix, {} KB", size / 1000), &self.postfix, size));
            panels.push(panel(format!("the milter alone, {} KB", size / 1000), &self.alone, size));
        }
        Figure {
            title: "Milters".to_owned(),
            subtitle: format!("{}; {}", self.machine, self.date),
            panels,
            legend: Contender::ALL.map(|one| (one.title().to_owned(), style(one))).into(),
        }
        .svg()
    }
}

/// The first that a reader must know of what was measured while others were at work.
fn warning(busy_before: f64) -> String {
    if busy_before <= QUIET {
        return String::new();
    }
    format!(
        "**The machine was not quiet: {busy_before:.2} processors were at work before. Take what follows for no statement on rates and \
         latencies.**\n\n"
    )
}

fn table(rows: &[Row], value: impl Fn(&Cell) -> f64, out: &mut String) {
    let Some(first) = rows.first() else { return };
    out.push_str("| message | connections |");
    for (contender, _) in &first.cells {
        let _ = write!(out, " {} |", contender.title());
    }
    out.push_str("\n| ---: | ---: |");
    out.push_str(&" ---: |".repeat(first.cells.len()));
    out.push('\n');
    for row in rows {
        let _ = write!(out, "| {} KB | {} |", row.octets / 1000, row.connections);
        for (_, cells) in &row.cells {
            let _ = write!(out, " {} |", spread(Spread::of(cells.iter().map(&value)), 0, ""));
        }
        out.push('\n');
    }
}

fn parts_of_least(rows: &[Row], out: &mut String) {
    out.push_str("| message | connections |");
    for contender in Contender::OURS {
        let _ = write!(out, " {} |", contender.title());
    }
    out.push_str("\n| ---: | ---: |");
    out.push_str(&" ---: |".repeat(Contender::OURS.len()));
    out.push('\n');
    for row in rows {
        let _ = write!(out, "| {} KB | {} |", row.octets / 1000, row.connections);
        for contender in Contender::OURS {
            let _ = write!(out, " {} |", spread(row.of_least(contender).unwrap_or_default(), 2, ""));
        }
        out.push('\n');
    }
}

fn style(contender: Contender) -> Style {
    let (colour, dashes) = match contender {
        Contender::None => ("#57606a", "2 4"),
        Contender::Null => ("#57606a", ""),
        Contender::Replacing => ("#57606a", "6 3"),
        Contender::LeastP256 => ("#0969da", "2 4"),
        Contender::LeastRsa => ("#d4620a", "2 4"),
        Contender::LeastOpen => ("#1a7f37", "2 4"),
        Contender::SignP256 => ("#0969da", ""),
        Contender::SignRsa => ("#d4620a", ""),
        Contender::Open => ("#1a7f37", ""),
        Contender::SignP256AtSite => ("#0969da", "6 3"),
        Contender::OpenAtSite => ("#1a7f37", "6 3"),
    };
    Style { colour, dashes, mark: Mark::Disc }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::milter::results::tests::example;

    #[test]
    fn each_row_of_a_table_has_as_many_cells_as_its_head() {
        let markdown = example().markdown();
        let mut cells = None;
        for line in markdown.lines() {
            let count = line.starts_with('|').then(|| line.matches('|').count());
            assert!(cells.is_none() || count.is_none() || cells == count, "{line}");
            cells = count;
        }
        for told in
            ["by the least |", "| 2000 | 1.00 |", "| 1.50 (1.50..1.50) |", "at least 0.9 of the least's rate"]
        {
            assert!(markdown.contains(told), "{told}: {markdown}");
        }
    }

    #[test]
    fn what_was_measured_while_others_worked_says_so() {
        assert_eq!(warning(0.0), "");
        assert_eq!(warning(QUIET), "");
        assert!(warning(QUIET + 0.01).contains("0.26 processors"));
    }
}
