//! What a header says of the length of its body: in a field of its own (mboxcl, mboxcl2).

/// Takes in the lines of a header.
#[derive(Debug, Default)]
pub(crate) struct Length {
    /// What the first field says that has a number and nothing else, in one line.
    first: Option<u64>,
    /// The same of the field before, which the next line may go on with.
    last: Option<u64>,
}

impl Length {
    /// Takes in the next line.
    pub(crate) fn take_in(&mut self, line: &[u8]) {
        let last = self.last.take();
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return;
        }
        self.first = self.first.or(last);
        self.last = number(line);
    }

    /// What the whole header says.
    pub(crate) fn ended(&mut self) -> Option<u64> {
        self.first.or(self.last)
    }
}

/// Whether a line begins a field that may tell a length.
pub(crate) fn begins_length(line: &[u8]) -> bool {
    line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME))
}

fn number(line: &[u8]) -> Option<u64> {
    let value = line.get(NAME.len()..).filter(|_| begins_length(line))?;
    // Of a line without an end more may come.
    let digits = std::str::from_utf8(value.strip_suffix(b"\n")?).ok()?.trim_ascii();
    // `parse` would take a sign.
    digits.bytes().all(|octet| octet.is_ascii_digit()).then(|| digits.parse().ok())?
}

const NAME: &[u8] = b"Content-Length:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_that_of_the_first_field_with_a_number_in_one_line() {
        for (header, expected) in [
            ("Content-Length: 12\n", Some(12)),
            ("A: 1\r\ncontent-LENGTH:12 \r\nB: 2\r\n", Some(12)),
            ("Content-Length: 12\nContent-Length: 13\n", Some(12)),
            ("Content-Length: x\nContent-Length: 13\n", Some(13)),
            ("Content-Length: 12\n 3\n", None),
            ("Content-Length: 12\n \n", None),
            ("Content-Length: 12\n\t3\nContent-Length: 13\n", Some(13)),
            ("Content-Length:\n 12\n", None),
            ("Subject: x\n Content-Length: 12\n", None),
            ("Content-Length: +12\n", None),
            ("Content-Length: 12 13\n", None),
            ("Content-Length: 12", None),
            ("Content-Length: 99999999999999999999\n", None),
            ("X-Content-Length: 12\n", None),
        ] {
            let mut length = Length::default();
            header.split_inclusive('\n').for_each(|line| length.take_in(line.as_bytes()));
            assert_eq!(length.ended(), expected, "{header:?}");
        }
    }
}
