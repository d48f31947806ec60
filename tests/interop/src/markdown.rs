//! The matrix as Markdown, as it stands in `docs/interoperability.md`.

use std::fmt::Write as _;

use crate::{Cell, Matrix, peer::Name};

/// How many cells are of which kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// As they should be.
    pub good: usize,
    /// The peer cannot.
    pub cannot: usize,
    /// Not written here.
    pub not_written: usize,
    /// Not as they should be.
    pub red: usize,
}

impl Counts {
    /// Counts a matrix's cells.
    pub fn of(matrix: &Matrix) -> Self {
        let mut counts = Self::default();
        for (_, _, _, cell) in matrix.cells() {
            *match cell {
                Cell::Good(_) => &mut counts.good,
                Cell::Cannot(_) => &mut counts.cannot,
                Cell::NotWritten => &mut counts.not_written,
                Cell::Red(_) => &mut counts.red,
            } += 1;
        }
        counts
    }
}

/// The whole page.
pub fn page(matrix: &Matrix) -> String {
    let counts = Counts::of(matrix);
    let mut page = String::from(HEAD);
    let mut notes: Vec<(Name, &'static str)> = Vec::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        page,
        "Peers: {}. Of {} cells {} are good, {} are red; in {} the peer cannot, {} are of what is not written here.",
        Name::ALL
            .iter()
            .zip(&matrix.versions)
            .map(|(name, version)| format!("{} {version}", name.as_str()))
            .collect::<Vec<_>>()
            .join(", "),
        counts.good + counts.red + counts.cannot + counts.not_written,
        counts.good,
        counts.red,
        counts.cannot,
        counts.not_written
    );
    let mut group = "";
    for (row, peers) in matrix.rows.iter().zip(&matrix.cells) {
        if row.group != group {
            group = row.group;
            let _ = write!(page, "\n## {group}\n\n{}", table_head());
        }
        let _ = write!(page, "| {} |", row.name);
        for (name, cells) in Name::ALL.into_iter().zip(peers) {
            for cell in cells {
                let _ = match cell {
                    Cell::Good(word) => write!(page, " {word} |"),
                    Cell::NotWritten => write!(page, " – |"),
                    Cell::Red(_) => write!(page, " **RED** |"),
                    Cell::Cannot(words) => {
                        let known = notes.iter().position(|note| *note == (name, *words));
                        let at = known.unwrap_or_else(|| {
                            notes.push((name, *words));
                            notes.len() - 1
                        });
                        write!(page, " no [{}] |", at + 1)
                    }
                };
            }
        }
        page.push('\n');
    }
    page.push_str("\n## What the peers cannot, in their words\n\n");
    for (at, (name, words)) in notes.iter().enumerate() {
        let _ = writeln!(page, "{}. {}: “{words}”", at + 1, name.as_str());
    }
    page
}

fn table_head() -> String {
    let mut head = String::from("| |");
    for name in Name::ALL {
        let _ = write!(head, " {0} writes | {0} reads |", name.as_str());
    }
    head.push_str("\n|---|");
    head.push_str(&"---|".repeat(8));
    head.push('\n');
    head
}

const HEAD: &str = "\
# Interoperability

This page is made by `cargo run -p interop > docs/interoperability.md`, and a test holds it against a new run. Every cell
runs the peer: \"writes\" means that the peer writes and we read, \"reads\" that we write and the peer reads.

- `ok`: the same octets came out. `pass`, `policy`: they did, and that is our verdict (RFC 7281) on the signature;
  `policy` is the right one for what is too weak today or has no signed attributes. Before it is read, an object is held
  against its row: algorithms, how signers and recipients are named, lengths.
- `no [n]`: the peer cannot, and says so in the words below, or lists no option for it. When it can one day, the test
  fails. A message that one peer cannot read another one reads, so it is not our doing; but nobody here knows X25519 in
  CMS (RFC 8418), and nobody writes ChaCha20-Poly1305.
- `–`: not written here. We write DER only, one signer with signed attributes named by issuer and serial number, SHA-2,
  the salt of RSASSA-PSS as long as the hash, one hash and no label in RSAES-OAEP, the hash of key agreement as strong as
  the curve, no countersignature, and no old cipher.

What is encrypted must say that it is id-data, a MIME entity (RFC 8551 2.4.1): under any other content type nothing is
opened, also where it is a CMS object. Where MGF1 has a hash of its own, keys are decrypted by `openssl pkeyutl` here, in the
place of a token that can.

";
