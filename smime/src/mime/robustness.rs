//! Tests with messages that nobody wrote by hand: corpora of others, mutations, and inputs that would
//! take for ever if anything were quadratic.
//!
//! What must hold for each: nothing panics; the canonical form survives transport, by a check that
//! shares no code with the one under test; every leaf means what it meant; making it canonical again
//! changes nothing; and a message that is safe already is never refused.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    Canonical, CanonicalError, Message, MimeEntity, TransferEncoding, is_smime_or_pgp, originators, special,
};

/// Checks all of that for one message.
fn check(name: &str, stored: &[u8]) -> Result<(), CanonicalError> {
    let message = Message::from_stored(stored);
    let entity = message.entity();
    let _ = (originators(&entity), special(&entity), is_smime_or_pgp(&entity), entity.file_name());
    let made = Canonical::from_entity(&entity);
    if transport_fault(message.octets()).is_none() {
        assert!(made.is_ok(), "{name}: {made:?}");
    }
    let made = made?;
    assert_eq!(transport_fault(made.octets()), None, "{name}");
    let after = MimeEntity::parse(made.octets());
    compare(name, true, &entity, &after);
    let again = Canonical::from_entity(&after).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(again == made, "{name}: canonical octets changed when made canonical again");
    Ok(())
}

/// Where and why octets are no 7-bit lines, octet by octet. What must not be changed may have lines of 998.
fn transport_fault(octets: &[u8]) -> Option<(usize, &'static str)> {
    let mut column = 0;
    for (at, &octet) in octets.iter().enumerate() {
        match octet {
            0 => return Some((at, "NUL")),
            128.. => return Some((at, "8-bit")),
            b'\r' if octets.get(at + 1) != Some(&b'\n') => return Some((at, "bare CR")),
            b'\n' if at == 0 || octets[at - 1] != b'\r' => return Some((at, "bare LF")),
            b'\r' => {}
            b'\n' => column = 0,
            _ if column == 998 => return Some((at, "long line")),
            _ => column += 1,
        }
    }
    None
}

/// Whether some line begins with `From ` or ends in a blank.
fn storage_fault(octets: &[u8]) -> bool {
    String::from_utf8_lossy(octets)
        .split("\r\n")
        .any(|line| line.starts_with("From ") || line.ends_with(' ') || line.ends_with('\t'))
}

/// Whether `after` means what `before` meant.
fn compare(name: &str, is_root: bool, before: &MimeEntity<'_>, after: &MimeEntity<'_>) {
    let media = before.content_type().map(|known| known.media().to_owned()).unwrap_or_default();
    let is_identity = before.transfer_encoding().is_ok_and(TransferEncoding::is_identity);
    if !is_root && before.header().fields().any(|field| field.name().is_empty()) {
        assert!(before.octets() == after.octets(), "{name}: an entity with a doubtful header was changed");
        return;
    }
    let fields = |entity: &MimeEntity<'_>| -> Vec<Vec<u8>> {
        let changes = ["content-transfer-encoding", "content-type", "mime-version"];
        let header = entity.header();
        let kept = header.fields().filter(|field| {
            let name = field.name().to_ascii_lowercase();
            name.starts_with("content-")
                && !changes.contains(&name.as_str())
                && transport_fault(field.octets()).is_none()
        });
        kept.map(|field| field.octets().to_vec()).collect()
    };
    for field in fields(before) {
        let end_missing = !field.ends_with(b"\r\n");
        assert!(end_missing || fields(after).contains(&field), "{name}: a field is lost");
    }
    match media.as_str() {
        "multipart/signed" | "multipart/encrypted" => {
            assert!(before.body() == after.body(), "{name}: {media} was changed");
        }
        "message/rfc822" if is_identity && before.has_empty_line() => {
            if after.content_type().is_ok_and(|known| known.is("message/global")) {
                assert!(before.body() == &*after.decoded_body().unwrap(), "{name}: message/global differs");
            } else if let (Ok(before), Ok(after)) = (before.embedded(), after.embedded()) {
                compare(name, false, &before, &after);
            }
        }
        _ => match before.multipart() {
            Ok(cut) if !cut.ambiguous && !cut.parts.is_empty() => {
                let (before, after) = (before.parts().unwrap(), after.parts().unwrap());
                assert_eq!(before.len(), after.len(), "{name}: number of parts");
                for (before, after) in before.iter().zip(&after) {
                    compare(name, false, before, after);
                }
            }
            _ => compare_leaf(name, &media, before, after),
        },
    }
}

fn compare_leaf(name: &str, media: &str, before: &MimeEntity<'_>, after: &MimeEntity<'_>) {
    let Ok(was) = before.decoded_body() else {
        assert!(before.body() == after.body(), "{name}: {media} that cannot be decoded was changed");
        return;
    };
    let is = after.decoded_body().unwrap();
    let lines = |octets: &[u8]| Message::from_stored(&[b"\r\n", octets].concat()).body().to_vec();
    let same = if media.starts_with("text/") {
        lines(&was) == lines(&is) || (was.is_empty() && *is == *b"\r\n")
    } else {
        was == is
    };
    assert!(same, "{name}: {media} means something else");
    let may_be_encoded =
        !media.starts_with("multipart/") && !media.starts_with("message/") && !media.is_empty();
    if may_be_encoded {
        assert!(!storage_fault(after.body()), "{name}: {media} has From or blanks");
    }
}

#[test]
fn messages_of_others_become_canonical() {
    let mut files = Vec::new();
    if let Some(root) = std::env::var_os("HSMIME_CORPORA") {
        collect(Path::new(&root), &mut files);
    }
    if files.is_empty() {
        skip();
        return;
    }
    let mut refused = Vec::new();
    let mut count = 0;
    for file in &files {
        let octets = std::fs::read(file).unwrap();
        let name = file.display().to_string();
        let mut messages = vec![octets.as_slice()];
        if name.contains("mbox") {
            let starts: Vec<_> = memchr::memmem::find_iter(&octets, "\nFrom ").map(|at| at + 1).collect();
            let ends = starts.iter().copied().chain([octets.len()]);
            messages = [0].iter().chain(&starts).zip(ends).map(|(start, end)| &octets[*start..end]).collect();
        }
        for message in messages {
            count += 1;
            if let Err(error) = check(&name, message) {
                refused.push(format!("{name}: {error}"));
            }
        }
    }
    assert!(refused.len() * 20 < count, "{} of {count} refused: {refused:#?}", refused.len());
}

/// Files that hold a message or a mailbox.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "eml" || end == "txt") {
            files.push(path);
        }
    }
}

#[expect(clippy::print_stdout, reason = "whoever runs the tests must see that this one did nothing")]
fn skip() {
    println!("skipped: HSMIME_CORPORA names no folder with corpora");
}

const SEEDS: &[&[u8]] = &[
    b"From: \"A, B\" <a@example.org>\nSubject: =?utf-8?q?x?=\nMIME-Version: 1.0\n\
      Content-Type: multipart/mixed; boundary=\"aa\"\nContent-Transfer-Encoding: 8bit\n\npre\n--aa\n\
      Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nFrom \xc3\xbc \n.\n-- \n\n--aa\n\
      Content-Type: multipart/alternative; boundary*0=b; boundary*1=b\n\n--bb\nContent-Type: text/html\n\
      Content-Transfer-Encoding: quoted-printable\n\n<p>=C3=BC =\n=2D-aa=20\n--bb\n\n\xff\n--bb--\n--aa\n\
      Content-Type: image/png; name*=utf-8''%c3%bc\nContent-Transfer-Encoding: base64\n\niVBORw0KGgo= \n--aa--\npost\n",
    b"Content-Type: multipart/digest; boundary=d\n\n--d\n\nSubject: one\nFrom: x@y.org\n\n\xc3\xbc\n--d\n\n\
      Subject: \xc3\xbc\n\ntwo \n--d\nContent-Type: message/rfc822; name=\"x y\"\nContent-Transfer-Encoding: binary\n\n\
      From a b\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=e\n\n--e\n\nx\n--e\n\
      Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=\"\xc3\xbc\"\n\n\0\r\n--e--\n--d--\n",
    b"Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: multipart/signed; boundary=s;\n\
      protocol=\"application/pkcs7-signature\"\n\n--s\n\nsigned \n--s\nContent-Type: application/pkcs7-signature;\n\
      name=smime.p7s\nContent-Transfer-Encoding: base64\n\nMIIB\n--s--\n\n--m\nContent-Type: message/delivery-status\n\n\
      Reporting-MTA: dns; x\n\nAction: failed \n--m\nContent-Type: text/plain\n\nfooter \xe9\n--m--\n",
    b"Subject: x\nContent-Description: \xc3\xbc\nContent-Transfer-Encoding: 8bit\n\n=\n--\n. \n\xe9\r\r\n",
];

const PIECES: &[&[u8]] = &[
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xc3\xbc",
    b"\n\n",
    b"--aa",
    b"\n--aa\n",
    b"\n--bb--\n",
    b"\n--d",
    b"=",
    b"=\n",
    b"=2D",
    b"\"",
    b"\\",
    b"(",
    b";",
    b"*0*=",
    b" ",
    b" \n",
    b"\nFrom x",
    b"\n.\n",
    b":",
    b"boundary=aa",
    b"--",
    b"Content-Type: message/rfc822\n",
    b"Content-Type: multipart/mixed; boundary=aa\n",
    b"<a@b.org>",
    b",",
    b"Content-Transfer-Encoding: base64\n",
    b"Content-Transfer-Encoding: x\n",
    b"\nMIME-Version: 1.0",
    b"AAAA",
];

/// Marsaglia's xorshift: the same mutations in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit.max(1)
    }
}

#[test]
fn mutated_messages_become_canonical_or_are_refused() {
    let mut random = Random(0x5eed_cafe_f00d_0001);
    let (mut made, mut refused) = (0, 0);
    for round in 0..8_000 {
        let mut octets = SEEDS[random.below(SEEDS.len())].to_vec();
        for _ in 0..=random.below(6) {
            let at = random.below(octets.len());
            let end = (at + random.below(40)).min(octets.len());
            let piece = match random.below(4) {
                0 => PIECES[random.below(PIECES.len())].to_vec(),
                1 => octets[at..end].repeat(2),
                2 => "x".repeat(random.below(1_200)).into_bytes(),
                _ => Vec::new(),
            };
            let end = if random.below(2) == 0 { at } else { end };
            octets.splice(at..end, piece);
        }
        let name = format!("round {round}: {:?}", String::from_utf8_lossy(&octets));
        match check(&name, &octets) {
            Ok(()) => made += 1,
            Err(_) => refused += 1,
        }
    }
    // Both ways are taken often, or the test tests little.
    assert!(made > 2_000 && refused > 500, "{made} made, {refused} refused");
}

#[test]
fn hostile_messages_take_linear_time() {
    const SIZE: usize = 100_000;
    let fill = |piece: &str| piece.repeat(SIZE / piece.len());
    let typed = |value: &str| format!("Content-Type: {value}\n\n\u{fc}");
    let mixed = |body: &str| format!("Content-Type: multipart/mixed; boundary=b\n\n\u{fc}\n{body}");
    let mut cases =
        vec![fill("A:\n"), fill("A: b\n \n"), fill("\n"), fill("x"), format!("A: {}\n\nb", fill(" "))];
    for piece in ["(", "(\\", "a", ";", ";a=b", ";a*0=b", "\"", "\"\\", "a/b;", " ", "\n ", "="] {
        cases.push(typed(&fill(piece)));
        cases.push(typed(&format!("a/b; x=\"{}", fill(piece))));
        cases.push(format!("From: {}\n\n", fill(piece)));
        cases.push(format!("Content-Description: \u{fc} {}\n\n", fill(piece)));
    }
    for piece in ["a,", "<", "<a@b>,", "@", ".", "a.", "a@b.c,", "\"\" "] {
        cases.push(format!("From: {}\n\n", fill(piece)));
    }
    for piece in [
        "--b\n",
        "--b ",
        "--b--",
        "\n--b--x",
        "--b\n\n\u{fc}\n",
        "-",
        "--",
        "\n-",
        "--b\nContent-Type: a/b;;\n",
    ] {
        cases.push(mixed(&fill(piece)));
    }
    for piece in ["=", "=\n", "= ", " ", " \n", ".", ".\n", "From ", "\n", "\r", "--", "=3"] {
        cases.push(format!("Content-Transfer-Encoding: quoted-printable\n\n{} \n", fill(piece)));
        cases.push(format!("Content-Transfer-Encoding: base64\n\n{} \n", fill(piece)));
        cases.push(format!("\n{}\u{fc}", fill(piece)));
    }
    let many = format!(
        "{}Content-Type: multipart/mixed; boundary=b\n\n{}--b--",
        fill("X: y\n"),
        "--b\n\n\u{fc}\n".repeat(999)
    );
    cases.push(many);
    cases.push(fill("Content-Type: message/rfc822\n\n") + "\u{fc}");
    let levels = (0..12).fold(String::new(), |levels, level| {
        levels + &format!("Content-Type: multipart/mixed; boundary=b{level}x\n\n--b{level}x\n")
    });
    cases.push(levels + "\n" + &fill("\u{fc} \n"));
    for case in cases {
        let start = Instant::now();
        let _ = check("hostile", case.as_bytes());
        let elapsed = start.elapsed();
        // Anything quadratic would take minutes.
        let name: String = case.chars().take(80).collect();
        assert!(elapsed < Duration::from_secs(5), "{name:?} took {elapsed:?}");
    }
}
