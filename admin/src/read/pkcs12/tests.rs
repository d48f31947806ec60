//! PKCS#12 as OpenSSL writes it, old and new, and as nobody should.

use std::{fs, path::Path, process::Command};

use super::*;

/// Makes a PKCS#12 file of alice's key and certificate, with the CA's.
fn export(folder: &Path, arguments: &str, password: &str) -> Vec<u8> {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../smime/src/testing/data");
    let out = folder.join("out.p12");
    let key = folder.join("alice.key");
    let run = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let p8 = format!("{data}/alice.p8");
    run(&["pkey", "-inform", "DER", "-in", &p8, "-out", key.to_str().unwrap()]);
    let (alice, ca) = (format!("{data}/alice.pem"), format!("{data}/ca.pem"));
    let password = format!("pass:{password}");
    let mut whole = vec!["pkcs12", "-export", "-in", &alice, "-certfile", &ca, "-passout", &password];
    whole.extend(["-out", out.to_str().unwrap()]);
    if !arguments.contains("-nokeys") {
        whole.extend(["-inkey", key.to_str().unwrap()]);
    }
    whole.extend(arguments.split(' ').filter(|word| !word.is_empty()));
    run(&whole);
    fs::read(out).unwrap()
}

#[test]
fn old_and_new_files_are_read_with_their_password_only() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, password, keys) in [
        ("", "secret", 1),
        ("-legacy", "secret", 1),
        ("-legacy -certpbe PBE-SHA1-3DES", "s\u{e4}cret \u{20ac}\u{1f511}", 1),
        ("-legacy -certpbe PBE-SHA1-2DES", "secret", 1),
        ("-legacy -certpbe PBE-SHA1-RC2-128", "secret", 1),
        ("-certpbe AES-128-CBC -macalg sha512", "secret", 1),
        ("-certpbe AES-192-CBC -macalg sha384 -iter 1", "secret", 1),
        ("-certpbe DES-EDE3-CBC", "secret", 1),
        ("-certpbe NONE -keypbe NONE", "secret", 1),
        ("-nokeys", "", 0),
        ("-legacy -nokeys", "", 0),
        ("-nomac", "secret", 1),
    ] {
        let octets = export(folder.path(), arguments, password);
        let bags = read(&octets, password).unwrap_or_else(|error| panic!("{arguments}: {error}"));
        let names: Vec<String> = bags.certificates.iter().map(|c| c.subject().to_string()).collect();
        assert_eq!((names.len(), bags.private_keys), (2, keys), "{arguments}: {names:?}");
        if arguments == "-nomac" {
            // Nothing is encrypted then but the key.
            continue;
        }
        let wrong = read(&octets, "other");
        assert!(matches!(wrong, Err(Pkcs12Error::Password)), "{arguments}: {wrong:?}");
    }
}

#[test]
fn the_mac_is_checked_before_anything_else_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let octets = export(folder.path(), "-certpbe NONE -keypbe NONE", "secret");
    // An octet of a certificate that nobody encrypted.
    let at = octets.windows(17).position(|window| window == b"alice@example.org").unwrap();
    let mut changed = octets.clone();
    changed[at] ^= 1;
    assert!(matches!(read(&changed, "secret"), Err(Pkcs12Error::Password)));
}

#[test]
fn hostile_files_are_refused_soon_and_without_falling() {
    let folder = tempfile::tempdir().unwrap();
    let octets = export(folder.path(), "-legacy -iter 2048", "secret");
    // The rounds of the MAC, last in the file: 2048 become two thousand million.
    let (rest, rounds) = octets.split_at(octets.len() - 4);
    assert_eq!(rounds, [2, 2, 0x08, 0x00]);
    let mut slow = [rest, &[2, 4, 0x7F, 0xFF, 0xFF, 0xFF]].concat();
    let whole = u16::from_be_bytes([slow[2], slow[3]]) + 2;
    slow[2..4].copy_from_slice(&whole.to_be_bytes());
    // A sequence up to the end of the file, with a sequence in it; what is encrypted before it has any octets.
    let is_mac_data = |at: &usize| {
        let [tag, length, inner, ..] = octets[*at..] else { return false };
        (tag, inner) == (0x30, 0x30) && usize::from(length) == octets.len() - at - 2
    };
    let mac_data = (octets.len() - 120..octets.len()).find(is_mac_data).unwrap();
    slow[mac_data + 1] += 2;
    let started = std::time::Instant::now();
    assert!(matches!(read(&slow, "secret"), Err(Pkcs12Error::TooSlow)), "{:?}", read(&slow, "secret"));
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
    for at in (0..octets.len()).step_by(7) {
        let mut changed = octets.clone();
        changed[at] ^= 0x81;
        let _ = read(&changed, "secret");
        assert!(read(&octets[..at], "secret").is_err());
    }
    for octets in [b"".to_vec(), b"0".to_vec(), vec![0x30, 3, 2, 1, 3], vec![0x30; 100_000]] {
        assert!(read(&octets, "").is_err());
    }
}
