//! The results for readers, in Markdown.

use std::fmt::Write as _;

use super::{
    contender::Contender,
    results::{Results, Row, size},
};
use crate::wanted;

impl Results {
    /// All of it in Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!(
            "# Whole messages\n\n{}; {}; {}. One thread, keys in software; medians of {} rounds of {} s for each, all \
             contenders in the same rounds. Load average before: {}.\n\n",
            self.machine,
            self.date,
            self.versions.join("; "),
            self.rounds,
            self.seconds,
            self.load_before
        );
        self.write_times(&mut out);
        self.write_memory(&mut out);
        wanted::write(&self.wanted(), &mut out);
        out
    }

    fn write_times(&self, out: &mut String) {
        let is_there = |contender: &Contender| self.rows.iter().any(|row| row.of(*contender).is_some());
        let columns: Vec<Contender> = Contender::ALL.into_iter().filter(is_there).collect();
        if columns.is_empty() {
            return;
        }
        out.push_str(
            "Microseconds per message, from MIME entity to S/MIME message with its base64 and back, with the \
             certification path. Limit: hash, cipher and base64 alone, in the processor's cache, and one operation of \
             the key. OpenSSL: `SMIME_write_CMS` and `SMIME_read_CMS` in the same process, streaming; it makes line \
             ends canonical, and with `CMS_BINARY` does not. \
             Checked: as with a key on a token, whose signatures are checked before they are used; OpenSSL checks none. \
             `openssl cms`: a process for each message, from file to \
             file. `gpgsm`: a process for each, too, beside its agent, and CMS objects without their MIME; `cryptography`: one \
             process in a loop, and no path is checked. –: what it cannot do (gpgsm 2.2: GCM, own keys on curves; `cryptography`: \
             verification, GCM, key agreement; neither checks what it signs).\n\n| operation | key | message |",
        );
        for contender in &columns {
            let _ = write!(out, " {} |", contender.title());
        }
        out.push_str(
            " of limit | × OpenSSL | × binary | × process | × gpgsm | × Python |\n| --- | --- | ---: |",
        );
        out.push_str(&" ---: |".repeat(columns.len() + 6));
        out.push('\n');
        for row in &self.rows {
            write_row(row, &columns, out);
        }
        out.push('\n');
    }

    fn write_memory(&self, out: &mut String) {
        if self.memory.is_empty() {
            return;
        }
        out.push_str(
            "## Memory\n\nThe most that was allocated at once, beside the message that went in, in parts of it.\n\n\
             | what | message in | times the message |\n| --- | ---: | ---: |\n",
        );
        for cost in &self.memory {
            let _ = writeln!(out, "| {} | {} | {:.2} |", cost.what, size(cost.input), cost.ratio());
        }
        out.push('\n');
    }
}

fn write_row(row: &Row, columns: &[Contender], out: &mut String) {
    let _ = write!(out, "| {} | {} | {} |", row.operation.title(), row.key.title(), size(row.size));
    for contender in columns {
        let _ = match row.of(*contender) {
            Some(spread) => {
                write!(out, " {} ({}..{}) |", time(spread.median), time(spread.min), time(spread.max))
            }
            None => write!(out, " – |"),
        };
    }
    let limit = row.ratio(Contender::Limit).map_or_else(String::new, |ratio| format!("{:.2}", ratio.median));
    let _ = write!(out, " {limit} |");
    let others = [
        Contender::Openssl,
        Contender::OpensslBinary,
        Contender::Process,
        Contender::Gpgsm,
        Contender::Python,
    ];
    for contender in others {
        let ratio = row.ratio(contender);
        let _ = match ratio {
            Some(ratio) => write!(out, " {:.2} ({:.2}..{:.2}) |", ratio.median, ratio.min, ratio.max),
            None => write!(out, " – |"),
        };
    }
    out.push('\n');
}

/// Microseconds with three digits that say something.
fn time(microseconds: f64) -> String {
    if microseconds < 100.0 { format!("{microseconds:.1}") } else { format!("{microseconds:.0}") }
}
