//! Test mails: small, ugly, and of any size. All with CRLF line ends.

use std::fmt::Write as _;

use data_encoding::BASE64;

/// Who writes to whom, and how the mail is told from others.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// Header From, an address.
    pub from: &'a str,
    /// Header To, an address.
    pub to: &'a str,
    /// The subject; the Message-ID is made of it too.
    pub subject: &'a str,
}

impl Letter<'_> {
    /// The header fields that are not about the content.
    pub fn header(&self) -> String {
        let id = self.subject.replace(' ', "-");
        format!(
            "From: {}\r\nTo: {}\r\nSubject: {}\r\nDate: Fri, 20 Nov 2026 12:00:00 +0000\r\n\
             Message-ID: <{id}@test.invalid>\r\n",
            self.from, self.to, self.subject
        )
    }

    /// A line or two of US-ASCII without MIME fields.
    pub fn text(&self, text: &str) -> Vec<u8> {
        format!("{}\r\n{text}\r\n", self.header()).into_bytes()
    }

    /// A mail whose content is a MIME entity that came from elsewhere, with its line ends made CRLF.
    ///
    /// A MIME-Version field is added if the entity has none.
    pub fn carrying(&self, entity: &[u8]) -> Vec<u8> {
        let entity = crate::mime::crlf(entity);
        let has_version = crate::mime::field_names(&entity).iter().any(|name| name == "mime-version");
        let version = if has_version { "" } else { "MIME-Version: 1.0\r\n" };
        [self.header().as_bytes(), version.as_bytes(), &entity].concat()
    }

    /// All that a signature may stumble over, and an attachment of so many octets.
    pub fn ugly(&self, attachment: usize) -> Vec<u8> {
        self.carrying(&ugly_entity(attachment))
    }

    /// A text in 8-bit of about so many octets, different for each `seed`.
    pub fn of_size(&self, size: usize, seed: u64) -> Vec<u8> {
        let mut mail = format!(
            "{}MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 8bit\r\n\r\n",
            self.header()
        );
        let mut noise = Noise(seed | 1);
        while mail.len() < size {
            // Writing to a string does not fail.
            let _ = write!(mail, "Grüße {:016x} ", noise.next());
            if noise.next().is_multiple_of(4) {
                mail.push_str("\r\n");
            }
        }
        mail.push_str("\r\n");
        mail.into_bytes()
    }
}

/// What stands before the first and behind the last part of it.
pub const AROUND_PARTS: [&str; 2] = ["A preamble that nobody signs.", "An epilogue."];

/// The MIME entity of [`Letter::ugly`]: text in 8-bit, HTML, an attachment.
pub fn ugly_entity(attachment: usize) -> Vec<u8> {
    let [preamble, epilogue] = AROUND_PARTS;
    let long_line = "lang ".repeat(400);
    let text = format!(
        "Grüße aus Köln: äöüß €\r\nFrom here on a line begins like an mbox separator.\r\n\
         >From there too.\r\nTrailing blanks:   \r\nA trailing tab:\t\r\n{long_line}\r\n\
         .\r\n..\r\n.leading dot\r\n-- \r\nA signature line with its blank, then empty lines.\r\n\r\n\r\n"
    );
    let html = "<html><body><p>Grüße, <b>schön</b></p>\r\n<p>From here</p>   \r\n</body></html>\r\n";
    let mut octets = vec![0_u8; attachment];
    let mut noise = Noise(attachment as u64 | 1);
    for chunk in octets.chunks_mut(8) {
        let random = noise.next().to_le_bytes();
        for (octet, random) in chunk.iter_mut().zip(random) {
            *octet = random;
        }
    }
    let mut base64 = String::new();
    for line in octets.chunks(57) {
        base64.push_str(&BASE64.encode(line));
        base64.push_str("\r\n");
    }
    format!(
        "Content-Type: multipart/mixed; boundary=\"outer\"\r\n\r\n{preamble}\r\n\
         --outer\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n\
         --inner\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}\
         \r\n--inner\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{html}\
         \r\n--inner--\r\n\
         \r\n--outer\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=\"daten.bin\"\r\n\r\n{base64}\
         \r\n--outer--\r\n{epilogue}\r\n"
    )
    .into_bytes()
}

/// Numbers that look random and are the same in every run (xorshift64).
#[derive(Clone, Debug)]
pub struct Noise(pub u64);

impl Noise {
    /// A number from 0 up to but not including `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// The next one.
    #[expect(clippy::should_implement_trait, reason = "an iterator would be endless and tell nothing more")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mime;

    const LETTER: Letter<'_> = Letter { from: "a@example.org", to: "b@example.org", subject: "s" };

    #[test]
    fn the_ugly_mail_has_every_ugliness() {
        let mail = LETTER.ugly(100_000);
        let lines: Vec<&[u8]> = mail.split(|&octet| octet == b'\n').collect();
        assert!(lines.iter().any(|line| line.len() > 2000), "a line of 2,000 octets");
        assert!(lines.iter().any(|line| line.starts_with(b"From here")), "From at line start");
        assert!(lines.iter().any(|line| line.ends_with(b"  \r")), "trailing blanks");
        assert!(mail.iter().any(|octet| !octet.is_ascii()), "8-bit");
        assert!(!mime::lf(&mail).contains(&b'\r'), "CRLF only");
        let leaves = mime::leaves(&mail).unwrap();
        let types: Vec<&str> = leaves.iter().map(|leaf| leaf.media_type.as_str()).collect();
        assert_eq!(types, ["text/plain", "text/html", "application/octet-stream"]);
        assert_eq!(leaves[2].octets.len(), 100_000);
        assert_eq!(leaves[2].file_name.as_deref(), Some("daten.bin"));
    }

    #[test]
    fn sizes_are_about_right_and_seeds_differ() {
        for size in [4_000, 200_000] {
            let mail = LETTER.of_size(size, 7);
            assert!((size..size + 100).contains(&mail.len()), "{}", mail.len());
            assert_ne!(mail, LETTER.of_size(size, 9));
        }
    }

    #[test]
    fn an_entity_with_its_own_version_gets_no_second_one() {
        let mail = LETTER.carrying(b"MIME-Version: 1.0\nContent-Type: text/plain\n\nx\n");
        assert_eq!(mime::values(&mail, "mime-version"), ["1.0"]);
    }
}
