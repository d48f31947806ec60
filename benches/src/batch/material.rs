//! Archives that look like real ones: the same in each run, of any length.
//!
//! Sizes are log-normal with a median of 20 KB, and one mail in 2,500 has 5 MB. Texts are words, some of them with
//! letters beyond ASCII; what is larger has an attachment in base64 of octets that nothing compresses.

use std::{
    f64::consts::TAU,
    fs::{self, File},
    io::{self, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use base64_simd::STANDARD;

/// An archive on the disk.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The file or folder.
    pub path: PathBuf,
    /// How many messages are in it.
    pub messages: u64,
    /// How many octets.
    pub octets: u64,
}

/// How long mails are in the middle.
const MEDIAN: f64 = 20_000.0;
/// The standard deviation of the logarithm of their length.
const SIGMA: f64 = 0.75;
/// How long some are.
const LARGE: usize = 5_000_000;
/// One in so many.
const LARGE_IN: u64 = 2_500;
/// Mails longer than this have an attachment.
const TEXT_LIMIT: usize = 12_000;

/// A sequence that only looks like chance (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or_default()
    }

    /// Between 0 and 1, never 0.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// The length of a mail.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive length")]
    fn length(&mut self) -> usize {
        if self.next().is_multiple_of(LARGE_IN) {
            return LARGE;
        }
        let normal = (-2.0 * self.share().ln()).sqrt() * (TAU * self.share()).cos();
        (MEDIAN * (SIGMA * normal).exp()).clamp(500.0, 4e6) as usize
    }
}

/// Makes mails.
pub struct Writer {
    chance: Chance,
    plain: Vec<u8>,
    beyond: Vec<u8>,
    base64: Vec<u8>,
}

impl Writer {
    /// The same mails for the same number.
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let plain = text(&mut chance, &PLAIN);
        let beyond = text(&mut chance, &BEYOND);
        let noise: Vec<u8> = (0..ATTACHED / 8).flat_map(|_| chance.next().to_le_bytes()).collect();
        let encoded = STANDARD.encode_to_string(&noise).into_bytes();
        let base64 = encoded.chunks(76).flat_map(|line| [line, b"\n"].concat()).collect();
        Self { chance, plain, beyond, base64 }
    }

    /// A mail of about so many octets, with LF.
    pub fn mail(&mut self, number: u64, length: usize) -> Vec<u8> {
        self.mail_from(SENDER, number, length)
    }

    /// The same from somebody else.
    pub fn mail_from(&mut self, sender: &str, number: u64, length: usize) -> Vec<u8> {
        let day = self.chance.below(28) + 1;
        let mut mail = format!(
            "Return-Path: <{sender}>\nReceived: from mail.example.org (mail.example.org [192.0.2.7])\n\tby \
             mx.example.net (Postfix) with ESMTPS id {:010X}\n\tfor <friend@example.net>; Mon, {day} Jun 2020 \
             10:00:00 +0000 (UTC)\nFrom: Alice Example <{sender}>\nTo: A Friend <friend@example.net>\n\
             Subject: About number {number}\nDate: Mon, {day} Jun 2020 10:00:00 +0000\n\
             Message-ID: <{:016x}.{number}@example.org>\nMIME-Version: 1.0\n",
            self.chance.next() >> 24,
            self.chance.next()
        )
        .into_bytes();
        let is_beyond = self.chance.below(10) == 0;
        if length <= TEXT_LIMIT {
            let encoding = if is_beyond { "8bit" } else { "7bit" };
            mail.extend_from_slice(
                format!("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: {encoding}\n\n")
                    .as_bytes(),
            );
            self.add_text(&mut mail, is_beyond, length);
            return mail;
        }
        mail.extend_from_slice(
            b"Content-Type: multipart/mixed; boundary=\"=_part\"\n\n--=_part\n\
              Content-Type: text/plain; charset=utf-8\n\n",
        );
        self.add_text(&mut mail, false, 3_000);
        mail.extend_from_slice(
            b"\n--=_part\nContent-Type: application/pdf; name=\"paper.pdf\"\n\
              Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=\"paper.pdf\"\n\n",
        );
        let lines = self.base64.len() / LINE;
        while mail.len() < length {
            let from = self.chance.below(lines) * LINE;
            let wanted = (length - mail.len()).div_ceil(LINE) * LINE;
            let octets = self.base64.get(from..).unwrap_or_default();
            mail.extend_from_slice(octets.get(..wanted.min(octets.len())).unwrap_or_default());
        }
        mail.extend_from_slice(b"\n--=_part--\n");
        mail
    }

    fn add_text(&mut self, mail: &mut Vec<u8>, is_beyond: bool, length: usize) {
        let text = if is_beyond { &self.beyond } else { &self.plain };
        let from = self.chance.below(text.len() / 2);
        let rest = text.get(from..).unwrap_or_default();
        let begin = memchr::memchr(b'\n', rest).map_or(0, |at| at + 1);
        let rest = rest.get(begin..).unwrap_or_default();
        let end = rest.get(length.min(rest.len())..).and_then(|after| memchr::memchr(b'\n', after));
        let end = end.map_or(rest.len(), |at| length + at + 1);
        mail.extend_from_slice(rest.get(..end).unwrap_or_default());
    }
}

/// Whose mails they are.
pub const SENDER: &str = "alice@example.org";
/// A line of base64 with its end.
const LINE: usize = 77;
/// How many octets there are to attach.
const ATTACHED: usize = 4 << 20;

const PLAIN: [&str; 16] = [
    "the", "of", "paper", "contract", "meeting", "and", "a", "please", "number", "was", "to", "price", "we",
    "delivery", "Monday", "answer",
];
const BEYOND: [&str; 12] =
    ["für", "über", "Grüße", "garçon", "señor", "and", "the", "Straße", "naïve", "czwórka", "of", "答え"];

/// Words in lines of at most 72 octets.
fn text(chance: &mut Chance, words: &[&str]) -> Vec<u8> {
    let mut text = Vec::with_capacity(1 << 20);
    let mut line = String::new();
    while text.len() < 1 << 20 {
        let word = words.get(chance.below(words.len())).copied().unwrap_or_default();
        if line.len() + word.len() > 71 {
            text.extend_from_slice(line.trim_end().as_bytes());
            text.push(b'\n');
            line.clear();
        }
        line.push_str(word);
        line.push(' ');
    }
    text
}

/// An mbox of so many mails.
pub fn mbox(path: &Path, messages: u64) -> Result<Archive> {
    mbox_from(path, messages, |_| SENDER.to_owned())
}

/// The same, each mail from whom `sender` says by its number.
pub fn mbox_from(path: &Path, messages: u64, sender: impl Fn(u64) -> String) -> Result<Archive> {
    let mut writer = Writer::new(7);
    let mut file = create(path)?;
    for number in 0..messages {
        let length = writer.chance.length();
        file.write_all(b"From alice@example.org Mon Jun  1 10:00:00 2020\n")?;
        file.write_all(&writer.mail_from(&sender(number), number, length))?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    Ok(Archive { path: path.to_owned(), messages, octets: fs::metadata(path)?.len() })
}

/// An mbox of at least so many octets, made by repetition of another.
pub fn repeated(path: &Path, of: &Archive, octets: u64) -> Result<Archive> {
    let times = octets.div_ceil(of.octets.max(1));
    let mut file = create(path)?;
    for _ in 0..times {
        let from = File::open(&of.path)?;
        io::copy(&mut from.take(of.octets), &mut file)?;
    }
    file.flush()?;
    Ok(Archive { path: path.to_owned(), messages: of.messages * times, octets: of.octets * times })
}

/// A Maildir of so many mails of about so many octets each.
pub fn maildir(path: &Path, messages: u64, length: usize) -> Result<Archive> {
    let mut writer = Writer::new(8);
    for below in ["tmp", "new", "cur"] {
        fs::create_dir_all(path.join(below))?;
    }
    for number in 0..messages {
        let mail = writer.mail(number, length);
        fs::write(path.join(format!("cur/1590000{number:05}.M{number}P1.bench:2,S")), mail)?;
    }
    of_tree(path)
}

/// A Maildir that is there.
pub fn of_tree(path: &Path) -> Result<Archive> {
    let (mut messages, mut octets) = (0, 0);
    for below in ["new", "cur"] {
        for entry in fs::read_dir(path.join(below))? {
            messages += 1;
            octets += entry?.metadata()?.len();
        }
    }
    ensure!(messages > 0, "{} is empty", path.display());
    Ok(Archive { path: path.to_owned(), messages, octets })
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_all_mails_have_twenty_kilobytes_and_some_five_megabytes() {
        let mut chance = Chance(7);
        let mut lengths: Vec<usize> = (0..20_000).map(|_| chance.length()).collect();
        lengths.sort_unstable();
        assert!((19_000..21_000).contains(&lengths[10_000]), "{}", lengths[10_000]);
        assert!((2..20).contains(&lengths.iter().filter(|length| **length == LARGE).count()));
    }

    #[test]
    fn mails_have_about_their_length_are_the_same_again_and_have_no_line_that_an_mbox_would_quote() {
        let (mut one, mut other) = (Writer::new(3), Writer::new(3));
        for length in [900, 5_000, 20_000, 2_000_000] {
            let mail = one.mail(1, length);
            assert!(mail.len().abs_diff(length) < 1_500, "{length}: {}", mail.len());
            assert_eq!(mail, other.mail(1, length));
            assert!(memchr::memmem::find(&mail, b"\nFrom ").is_none());
        }
    }
}
