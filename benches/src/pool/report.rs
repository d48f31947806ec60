//! The results for readers, in Markdown.

use std::fmt::Write as _;

use super::{
    contender::{Contender, Shape},
    operation::Operation,
    results::{Rate, Results},
    site::Token,
    statistics::spread,
};
use crate::wanted;

impl Results {
    /// All of it in Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!(
            "# The pool beside the raw token\n\n{}; {}; {}. {} rounds of {} s for each rate, all contenders in \
             the same rounds; medians (least..greatest). Load average before: {}.\n\n",
            self.machine,
            self.date,
            self.versions.join("; "),
            self.rounds,
            self.seconds,
            self.load_before
        );
        wanted::write(&self.wanted(), &mut out);
        self.write_limits(&mut out);
        self.write_rates(&mut out);
        self.write_lanes(&mut out);
        self.write_starts(&mut out);
        out
    }

    fn write_limits(&self, out: &mut String) {
        if self.limits.is_empty() {
            return;
        }
        out.push_str("## The processor's own limit: `openssl speed`, signatures per second\n\n");
        out.push_str("| key | processes | rate |\n| --- | ---: | ---: |\n");
        for limit in &self.limits {
            let rate = spread(limit.rate, 0, "");
            let _ = writeln!(out, "| {} | {} | {rate} |", limit.key, limit.processes);
        }
        out.push('\n');
    }

    fn write_rates(&self, out: &mut String) {
        for token in Token::ALL {
            for operation in Operation::ALL {
                let rates: Vec<&Rate> =
                    Contender::ALL.iter().flat_map(|one| self.of(operation, token, *one)).collect();
                if rates.is_empty() {
                    continue;
                }
                let _ = writeln!(out, "## {}, {}\n", operation.title(), token.title());
                out.push_str("| who | callers | per second | p50 ms | p99 ms | processor µs | of raw |\n");
                out.push_str("| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
                let best = self.best(operation, token, Contender::Raw).map(|best| best.rate().median);
                for rate in rates {
                    let callers = match rate.shape {
                        Shape::Callers(callers) => callers.to_string(),
                        Shape::Window(width) => format!("1, {width} under way"),
                    };
                    let of_raw = best.map_or_else(String::new, |best| {
                        format!("{:.2}", rate.rate().median / best.max(f64::MIN_POSITIVE))
                    });
                    let _ = writeln!(
                        out,
                        "| {} | {callers} | {} | {:.3} | {:.3} | {:.0} | {of_raw} |",
                        rate.contender.title(),
                        spread(rate.rate(), 0, ""),
                        rate.p50().median,
                        rate.p99().median,
                        rate.cpu().median
                    );
                }
                out.push('\n');
            }
        }
        if !self.rates.is_empty() {
            out.push_str(
                "Processor time is that of the measuring process alone; what hsmime-keyd takes comes on top.\n\n",
            );
        }
    }

    fn write_lanes(&self, out: &mut String) {
        if self.lanes.is_empty() {
            return;
        }
        out.push_str("## Interactive requests beside bulk work, milliseconds\n\n");
        out.push_str(
            "| token | operation | who | p50 idle | p50 busy | p99 idle | p99 busy | bulk per second |\n",
        );
        out.push_str("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |\n");
        for one in &self.lanes {
            let [idle, busy] = one.p50;
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                one.token.title(),
                one.operation.title(),
                one.contender.title(),
                spread(idle, 2, ""),
                spread(busy, 2, ""),
                spread(one.idle, 2, ""),
                spread(one.busy, 2, ""),
                spread(one.bulk_rate, 0, "")
            );
        }
        out.push('\n');
    }

    fn write_starts(&self, out: &mut String) {
        if self.starts.is_empty() {
            return;
        }
        out.push_str("## Many keys on the token: P-256, SoftHSM as it is, one caller\n\n");
        out.push_str(
            "| who | keys | start ms | p50 ms | processor µs |\n| --- | ---: | ---: | ---: | ---: |\n",
        );
        for one in &self.starts {
            let ready =
                if one.contender == Contender::Raw { String::new() } else { spread(one.ready, 0, "") };
            let _ = writeln!(
                out,
                "| {} | {} | {ready} | {} | {} |",
                one.contender.title(),
                one.keys,
                spread(one.p50, 3, ""),
                spread(one.cpu, 1, "")
            );
        }
        out.push('\n');
    }
}
