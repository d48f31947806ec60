//! The results for readers, in Markdown.

use std::fmt::Write as _;

use super::results::Results;
use crate::{
    statistics::{Spread, spread},
    wanted,
};

impl Results {
    /// All of it in Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!(
            "# Archives\n\n{}; {}; {}. Archives on {}. Medians of {} rounds with the least and the most; who is compared \
             works in the same rounds on the same archive, one time before and one time after, each when the disk \
             is at rest, and what is read was just read once, where there is room. One message of what is \
             signed, opened or rekeyed is looked at by OpenSSL, or compared with what it was. Load average before: {}.\n\nAll programs are measured from \
             their start to their end, with all that makes the output durable. Mails have a median of 20 KB and some \
             5 MB, if nothing else is said.\n\n",
            self.machine,
            self.date,
            self.versions.join("; "),
            self.data,
            self.rounds,
            self.load_before
        );
        self.write_rows(&mut out);
        self.write_scaling(&mut out);
        self.write_memory(&mut out);
        wanted::write(&self.wanted(), &mut out);
        out
    }

    fn write_rows(&self, out: &mut String) {
        if self.rows.is_empty() {
            return;
        }
        out.push_str(
            "Beside the token, each message that is signed or decrypted is hashed as it is found, as it is signed and as it \
             is written, parsed, brought into the form that is signed or out of it, and written; a signature is checked. \
             \"The least\" is a loop of the same calls for each message, with a hash of each of these forms, one pass for line ends or \
             base64 and cipher, the check, a read and a write, by threads that take turns at nothing, and without all that \
             keeps mail safe (`benches/src/batch/least.rs`). The column µs is the processor's time for each message, the token's within the program included; the column busy is the share \
             of the time of all processors that the program itself used, from its start to its end. Where the token is far, no \
             program does more than its sessions allow, nor more than all processors can if a message takes what it takes of \
             \"the least\" in the same round: the smaller one is the limit, however busy a program is.\n\n\
             | what | messages | MB | messages/s | MB/s | µs | busy | MiB | beside | messages/s | µs | ratio |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |\n",
        );
        for row in &self.rows {
            let their_cpu = Spread::of(row.theirs.iter().map(|peer| peer.cpu)).median;
            let their_cpu = if their_cpu > 0.0 { format!("{their_cpu:.0}") } else { String::new() };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {:.0} | {:.0} | {:.2} | {:.0} | {} | {} | {their_cpu} | {} |",
                row.what,
                row.messages,
                row.octets / 1_000_000,
                spread(row.rate(), 0, ""),
                row.throughput().median,
                row.cpu().median,
                row.busy().median,
                row.peak(),
                row.peer,
                spread(row.peer_rate(), 0, ""),
                spread(row.ratio(), 2, ""),
            );
        }
        out.push('\n');
    }

    fn write_scaling(&self, out: &mut String) {
        if self.scaling.is_empty() {
            return;
        }
        out.push_str(
            "## Processors\n\nThe program, and the bare token with as many threads, are kept on so many of them; `scaling.svg`.\n\n\
             | what | processors | messages/s | bare token/s |\n| --- | ---: | ---: | ---: |\n",
        );
        for scaling in &self.scaling {
            let of = |rates: &[f64]| match rates {
                [] => String::new(),
                rates => spread(Spread::of(rates.iter().copied()), 0, ""),
            };
            let (ours, raw) = (of(&scaling.rates), of(&scaling.raw));
            let _ = writeln!(out, "| {} | {} | {ours} | {raw} |", scaling.what, scaling.cores);
        }
        out.push('\n');
    }

    fn write_memory(&self, out: &mut String) {
        if self.memory.is_empty() {
            return;
        }
        out.push_str(
            "## Memory\n\nThe most that was resident (`VmHWM`); `memory.svg`. All is written; outputs of more than 9 GB get holes 1 GiB \
             behind their ends.\n\n\
             | what | mbox, MB | MiB | seconds |\n| --- | ---: | ---: | ---: |\n",
        );
        for memory in &self.memory {
            let (peak, seconds) = (memory.cost.peak, memory.cost.seconds);
            let _ = writeln!(
                out,
                "| {} | {} | {peak:.1} | {seconds:.1} |",
                memory.what,
                memory.octets / 1_000_000
            );
        }
        out.push('\n');
    }
}
