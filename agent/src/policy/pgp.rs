//! Whether text is armour of OpenPGP from its first line to its last (RFC 9580 section 6 and 7, RFC 3156).
//!
//! Enough is read to tell what is signed or encrypted from what only looks so; no packet is opened.

use smime::mime::{MimeEntity, decode_base64};

/// Packets that encrypted messages begin with (RFC 9580 10.3): encrypted session keys, encrypted data.
const ENCRYPTED: &[u8] = &[1, 3, 9, 18, 20];
/// Packets that signed messages begin with: a signature, or the announcement of one.
const SIGNED: &[u8] = &[2, 4];
/// What a detached signature is.
const SIGNATURE: &[u8] = &[2];
/// More header lines than any program writes.
const MAX_HEADERS: usize = 5;

/// Whether a body is one encrypted or signed message, or one text with its signature, and nothing else.
pub(super) fn is_inline(body: &[u8]) -> bool {
    let lines = lines(body);
    is_armour(&lines, "MESSAGE", ENCRYPTED) || is_armour(&lines, "MESSAGE", SIGNED) || is_cleartext(&lines)
}

/// Whether a body is one encrypted message and nothing else.
pub(super) fn is_inline_ciphertext(body: &[u8]) -> bool {
    is_armour(&lines(body), "MESSAGE", ENCRYPTED)
}

/// RFC 3156 section 4: the version, and the armoured message.
pub(super) fn is_encrypted(multipart: &MimeEntity<'_>) -> bool {
    parts(multipart, "application/pgp-encrypted").is_some_and(|[version, message]| {
        let is = |part: &MimeEntity<'_>, media| part.content_type().is_ok_and(|known| known.is(media));
        is(&version, "application/pgp-encrypted")
            && version.decoded_body().is_ok_and(|text| lines(&text) == [b"Version: 1"])
            && is(&message, "application/octet-stream")
            && message.decoded_body().is_ok_and(|text| is_armour(&lines(&text), "MESSAGE", ENCRYPTED))
    })
}

/// RFC 3156 section 5: any entity, and its armoured signature.
pub(super) fn is_signed(multipart: &MimeEntity<'_>) -> bool {
    parts(multipart, "application/pgp-signature").is_some_and(|[_, signature]| {
        signature.content_type().is_ok_and(|known| known.is("application/pgp-signature"))
            && signature.decoded_body().is_ok_and(|text| is_armour(&lines(&text), "SIGNATURE", SIGNATURE))
    })
}

/// The two parts of a multipart of this protocol, if every program cuts it alike.
fn parts<'a>(multipart: &MimeEntity<'a>, protocol: &str) -> Option<[MimeEntity<'a>; 2]> {
    let header = multipart.header();
    // Comments, quoted pairs and RFC 2231's asterisks are read by some programs and not by others.
    let in_doubt = |octet: &u8| b"(\\*".contains(octet);
    if header.all("Content-Type").any(|field| field.value().iter().any(in_doubt)) {
        return None;
    }
    let content_type = multipart.content_type().ok()?;
    let cut = multipart.multipart().ok().filter(|cut| cut.closed && !cut.ambiguous)?;
    let around = [cut.preamble, cut.epilogue];
    if around.iter().any(|text| lines(text).iter().any(|line| line.starts_with(b"--"))) {
        return None;
    }
    content_type.parameter("protocol").filter(|named| named.eq_ignore_ascii_case(protocol))?;
    <[_; 2]>::try_from(multipart.parts().ok()?).ok()
}

/// The lines without blanks at their ends, from the first that is not empty to the last.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.trim_ascii().split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii_end).collect()
}

/// RFC 9580 6.2: one whole block whose data begins with one of the packets.
fn is_armour(lines: &[&[u8]], kind: &str, packets: &[u8]) -> bool {
    let [first, inside @ .., last] = lines else {
        return false;
    };
    if *first != format!("-----BEGIN PGP {kind}-----").as_bytes()
        || *last != format!("-----END PGP {kind}-----").as_bytes()
    {
        return false;
    }
    let mut parts = inside.splitn(2, |line| line.is_empty());
    let (Some(headers), Some(data)) = (parts.next(), parts.next()) else {
        return false;
    };
    let is_header = |line: &&[u8]| line.windows(2).any(|octets| octets == b": ");
    if headers.len() > MAX_HEADERS || !headers.iter().all(is_header) {
        return false;
    }
    let data = match data {
        [data @ .., checksum] if checksum.starts_with(b"=") => data,
        data => data,
    };
    // The decoder skips blanks; armour has none, and prose has.
    let has_no_blanks = data.iter().all(|line| !line.is_empty() && line.iter().all(u8::is_ascii_graphic));
    let octets = decode_base64(&data.concat()).unwrap_or_default();
    has_no_blanks && octets.first().copied().and_then(packet).is_some_and(|tag| packets.contains(&tag))
}

/// The type of the packet that begins with this octet, in either format (RFC 9580 4.2).
fn packet(octet: u8) -> Option<u8> {
    match octet {
        0..0x80 => None,
        0x80..0xC0 => Some((octet & 0x3C) >> 2),
        0xC0.. => Some(octet & 0x3F),
    }
}

/// RFC 9580 7: text up to its signature, where no line of the text can be taken for armour.
fn is_cleartext(lines: &[&[u8]]) -> bool {
    let Some((&b"-----BEGIN PGP SIGNED MESSAGE-----", rest)) = lines.split_first() else {
        return false;
    };
    let Some(end) = rest.iter().position(|line| line.starts_with(b"-----")) else {
        return false;
    };
    let (text, signature) = rest.split_at(end);
    let mut parts = text.splitn(2, |line| line.is_empty());
    let has_text = matches!((parts.next(), parts.next()), (Some(headers), Some(_))
        if headers.iter().all(|line| line.starts_with(b"Hash: ") || line.starts_with(b"SaltedHash: ")));
    has_text && is_armour(signature, "SIGNATURE", SIGNATURE)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Made by GnuPG.
    pub(in crate::policy) const MESSAGE: &str = "-----BEGIN PGP MESSAGE-----\n\n\
        jA0ECQMCvKO7LDasqh//0jkBzbr0/QAO1u6f2hdvuLaClCUgEcrrv7yp1ZFg7mqg\n\
        JliNe2f+soL3vh5Nz3LxyETQ3HwdA2pErZY=\n=+wVK\n-----END PGP MESSAGE-----\n";
    pub(in crate::policy) const DETACHED: &str = "-----BEGIN PGP SIGNATURE-----\nVersion: GnuPG v2\n\n\
        iHUEABYIAB0WIQTBJMnL78AzEPKhOOL/ARyo74x9ogUCawDxyQAKCRD/ARyo74x9\n\
        ov8GAQC5wOYYTa4nMcxGH/Zwx75WuaRhM9WXVQO0+tY4+IuD8gD/d11XjAKLsaFG\n\
        DKFrRJyfwOu9jNQ79oWBZnNR6S/eIQQ=\n=0ItF\n-----END PGP SIGNATURE-----\n";
    pub(in crate::policy) const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n\
        mDMEawDxxxYJKwYBBAHaRw8BAQdAYXspEoYKQNYLO93XThtN+pF6Uj1h8ylgKXAc\n=rdVv\n\
        -----END PGP PUBLIC KEY BLOCK-----\n";

    pub(in crate::policy) fn clearsigned() -> String {
        format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nhi\n- -- \nme\n{DETACHED}")
    }

    #[test]
    fn armour_counts_if_it_is_all_there_is() {
        let clear = clearsigned();
        let named = |name: &str| MESSAGE.replace("MESSAGE", name);
        let armoured =
            |data: &str| format!("-----BEGIN PGP MESSAGE-----\n\n{data}-----END PGP MESSAGE-----\n");
        let headers = |count| MESSAGE.replace("-\n\n", &format!("-\n{}\n", "Comment: x\n".repeat(count)));
        for (name, text, expected) in [
            ("encrypted", MESSAGE.to_owned(), true),
            ("signed", clear.clone(), true),
            (
                "with blanks around and at line ends",
                format!("\n\n{} \n\n", MESSAGE.replace('\n', " \n")),
                true,
            ),
            ("with CRLF", clear.replace('\n', "\r\n"), true),
            ("a packet in the new format", armoured("wcBMAw==\n"), true),
            ("one line without a checksum", armoured("jA0ECQMC\n"), true),
            ("an empty line in the data", armoured("jA0E\n\nCQMC\n"), false),
            ("a blank in the data", armoured("jA0E CQMC\n"), false),
            ("as many armour headers as any program writes", headers(5), true),
            ("a key", KEY.to_owned(), false),
            ("a detached signature", DETACHED.to_owned(), false),
            ("text behind", format!("{MESSAGE}and text\n"), false),
            ("text in front", format!("text\n{MESSAGE}"), false),
            ("text behind the signature", format!("{clear}and text\n"), false),
            ("no signature", clear.split(DETACHED).next().unwrap().to_owned(), false),
            ("another signature", format!("{clear}{DETACHED}"), false),
            ("text between two signatures", clear.replace("- -- \n", &format!("{DETACHED}x\n")), false),
            ("no end", MESSAGE.replace("-----END PGP MESSAGE-----", ""), false),
            ("another end", MESSAGE.replace("END PGP MESSAGE", "END PGP SIGNATURE"), false),
            ("another name", named("MESSAGES"), false),
            (
                "prose as data",
                "-----BEGIN PGP MESSAGE-----\n\n7words of prose\n-----END PGP MESSAGE-----".into(),
                false,
            ),
            ("no data", "-----BEGIN PGP MESSAGE-----\n\n-----END PGP MESSAGE-----".into(), false),
            ("a literal packet", MESSAGE.replace("jA0", "yA0"), false),
            ("a compressed packet", MESSAGE.replace("jA0", "yA0").replace("yA0", "oA0"), false),
            ("prose as armour header", MESSAGE.replace("-\n\n", "-\nsome prose\n\n"), false),
            ("many armour headers", headers(6), false),
            ("", String::new(), false),
        ] {
            assert_eq!(is_inline(text.as_bytes()), expected, "{name}");
        }
    }
}
