//! `hsmime-batch` as a filter: what comes out, and by which code of `sysexits.h` it ends.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Command, Output, Stdio},
};

use smime::testing::fixtures::data;

const MAIL: &[u8] = b"From: alice@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\n\r\nHello\r\n";

/// A folder with a configuration without tokens, and certificates.
pub(crate) fn desk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("root.pem"), data("root.pem")).unwrap();
    fs::write(path("bob.pem"), data("bob.pem")).unwrap();
    fs::write(path("there"), "precious").unwrap();
    let trust = "[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n";
    fs::write(path("plain.toml"), trust).unwrap();
    fs::write(path("typo.toml"), "[trusty]\n").unwrap();
    fs::create_dir(path("tokens")).unwrap();
    fs::write(path("softhsm2.conf"), format!("directories.tokendir = {}\n", path("tokens").display()))
        .unwrap();
    fs::write(path("pin"), "1234").unwrap();
    fs::set_permissions(path("pin"), fs::Permissions::from_mode(0o600)).unwrap();
    let token =
        "[[token]]\nmodule = \"/usr/lib/softhsm/libsofthsm2.so\"\nlabel = \"away\"\npin-file = \"pin\"\n";
    fs::write(path("away.toml"), format!("{trust}{token}")).unwrap();
    folder
}

pub(crate) fn filter(folder: &Path, line: &str, input: &[u8], stdout: Option<File>) -> Output {
    let (config, arguments) = line.split_once(' ').unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hsmime-batch"))
        .arg("--config")
        .arg(folder.join(format!("{config}.toml")))
        .args(arguments.split(' '))
        .current_dir(folder)
        .env("SOFTHSM2_CONF", folder.join("softhsm2.conf"))
        .stdin(Stdio::piped())
        .stdout(stdout.map_or_else(Stdio::piped, Stdio::from))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that ends early does not read it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn a_limit_of_files_ends_no_filter_by_a_signal() {
    let folder = desk();
    let mail = [MAIL, "a line\r\n".repeat(400_000).as_bytes()].concat();
    // Fewer octets than the message has, and more than the disk is tried with.
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -c 0; ulimit -f 3000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_hsmime-batch")])
        .args("--config plain.toml encrypt - --to-certificate bob.pem --in-memory 1000000".split(' '))
        .current_dir(folder.path())
        .env("TMPDIR", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(&mail);
    let ended = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(78), 0), "{words}");
    assert!(words.contains("there is no disk to work on it"), "{words}");
}

#[test]
fn a_filter_ends_by_sysexits_and_writes_only_what_is_done() {
    let folder = desk();
    let signed = [
        b"From: a@b\r\nMIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; smime-type=signed-data\r\n\
        Content-Transfer-Encoding: base64\r\n\r\n"
            .as_slice(),
        b"bm90IENNUw==\r\n",
    ]
    .concat();
    let small = zstd::encode_all(MAIL, 0).unwrap();
    let cut = &small[..small.len() - 5];
    for (what, line, input, code, writes) in [
        ("what is not signed is no failure; its report", "plain verify -", MAIL, 0, true),
        ("encrypted", "plain encrypt - --to-certificate bob.pem", MAIL, 0, true),
        ("as it is, after a look", "plain verify - -o -", MAIL, 0, true),
        ("damaged S/MIME; its report", "plain verify -", &signed, 65, true),
        ("damaged S/MIME is not passed on", "plain verify - --output -", &signed, 65, false),
        ("too large", "plain encrypt - --max-message 10 --to-certificate bob.pem", MAIL, 77, false),
        ("compressed", "plain encrypt - --to-certificate bob.pem", &small, 0, true),
        ("cut off while compressed", "plain encrypt - --to-certificate bob.pem", cut, 65, false),
        ("nothing", "plain encrypt - --to-certificate bob.pem", b"", 66, false),
        ("a wrong word", "plain encrypts -", MAIL, 64, false),
        ("a wrong argument", "plain sign - --jobs none", MAIL, 64, false),
        ("two inputs", "plain verify - there --dry-run", MAIL, 2, false),
        ("the output is there", "plain verify - --output there", MAIL, 73, false),
        ("a folder that is not there", "plain verify - --output nowhere/out", MAIL, 73, false),
        ("the report is there", "plain verify - --report there", MAIL, 73, false),
        ("no configuration", "none verify -", MAIL, 78, false),
        ("a typo in it", "typo verify -", MAIL, 78, false),
        ("no token configured", "plain sign -", MAIL, 78, false),
        ("a certificate that is none", "plain encrypt - --to-certificate there", MAIL, 78, false),
        ("help", "plain sign - --help", MAIL, 0, true),
    ] {
        let ended = filter(folder.path(), line, input, None);
        let words = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{what}: {words}");
        assert_eq!(!ended.stdout.is_empty(), writes, "{what}: {words}");
        if code != 0 {
            assert!(!words.is_empty(), "{what}: nobody knows why");
        }
    }
    assert_eq!(fs::read(folder.path().join("there")).unwrap(), b"precious");
    let two = b"From: a@b\nSubject: x\n\nFirst\n\nFrom b Mon Jun  1 12:00:00 2026\nSubject: y\n\nSecond\n";
    let mbox = [b"From b Mon Jun  1 12:00:00 2026\n", &two[..]].concat();
    let ended = filter(folder.path(), "plain encrypt - --to-certificate bob.pem", &mbox, None);
    let words = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(65), "{words}");
    assert!(words.contains("octet 61 looks like the beginning of a second message"), "{words}");
    assert!(ended.stdout.is_empty());
    // One message may have such a line in it, as a patch has.
    let ended = filter(folder.path(), "plain verify - -o -", two, None);
    assert_eq!((ended.status.code(), &ended.stdout[..]), (Some(0), &two[..]), "{ended:?}");
    let ended = filter(folder.path(), "plain check root.pem there", b"", None);
    assert!(String::from_utf8_lossy(&ended.stderr).contains("the report comes first"), "{ended:?}");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ended = filter(folder.path(), "plain verify - -o -", MAIL, Some(full));
    assert_eq!(ended.status.code(), Some(74), "{ended:?}");
}

#[test]
fn root_does_not_open_the_cache_of_another() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = desk();
    let cached =
        fs::read_to_string(folder.path().join("plain.toml")).unwrap() + "[cache]\npath = \"cache\"\n";
    fs::write(folder.path().join("cached.toml"), cached).unwrap();
    assert!(filter(folder.path(), "cached verify - -o -", MAIL, None).status.success());
    for name in ["", "data.mdb", "lock.mdb"] {
        chown(folder.path().join("cache").join(name), Some(4711), None).unwrap();
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let ended = filter(folder.path(), "cached verify - -o -", MAIL, None);
    let words = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), ended.stdout.is_empty()), (Some(78), true), "{words}");
    assert!(words.contains("Run it as: runuser -u 4711 -- "), "{words}");
}

#[test]
fn a_message_leaves_a_filter_compressed_as_it_came_and_with_its_from_line() {
    let folder = desk();
    let same = |mail: &[u8]| filter(folder.path(), "plain verify - -o -", mail, None).stdout;
    let framed = [b"From a@b Fri Sep 16 22:26:51 2016\n".as_slice(), MAIL].concat();
    assert_eq!(same(&framed), framed);
    let small = zstd::encode_all(&framed[..], 0).unwrap();
    assert_eq!(zstd::decode_all(&same(&small)[..]).unwrap(), framed);
    let encrypted = filter(folder.path(), "plain encrypt - --to-certificate bob.pem", &small, None).stdout;
    let encrypted = String::from_utf8(zstd::decode_all(&encrypted[..]).unwrap()).unwrap();
    assert!(encrypted.starts_with("From a@b") && encrypted.contains("enveloped-data"), "{encrypted}");
    assert!(!encrypted.contains("Hello"));

    // A file with one message is compressed as the output's name says, or in place as it was.
    fs::write(folder.path().join("one.eml.zst"), zstd::encode_all(MAIL, 0).unwrap()).unwrap();
    let ended = filter(folder.path(), "plain verify one.eml.zst --output two.eml", b"", None);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(fs::read(folder.path().join("two.eml")).unwrap(), MAIL);
    let ended =
        filter(folder.path(), "plain encrypt one.eml.zst --in-place --to-certificate bob.pem", b"", None);
    assert!(ended.status.success(), "{ended:?}");
    let octets = fs::read(folder.path().join("one.eml.zst")).unwrap();
    assert!(String::from_utf8(zstd::decode_all(&octets[..]).unwrap()).unwrap().contains("enveloped-data"));
}

#[test]
fn a_filter_whose_token_is_away_asks_to_be_called_again() {
    let folder = desk();
    let ended = filter(folder.path(), "away sign -", MAIL, None);
    assert_eq!(ended.status.code(), Some(75), "{ended:?}");
    assert!(ended.stdout.is_empty());
}

#[test]
fn a_filter_that_encrypts_passes_nothing_on_that_others_can_read() {
    const ARMOUR: &str =
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF\n-----END PGP PUBLIC KEY BLOCK-----\n";
    let folder = desk();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/it/cases");
    // What stays as it is, of those; and what fails. All others leave encrypted.
    let kept = [
        "encrypted-as-octet-stream",
        "encrypted-by-pgp",
        "encrypted-by-smime",
        "encrypted-from-outside",
        "inline-pgp",
    ];
    let fails = ["claims-smime"];
    let mail = |head: &str, body: &str| {
        format!("From: a@example.org\r\nMIME-Version: 1.0\r\n{head}\r\n\r\n{body}\r\n").into_bytes()
    };
    let mut mails: Vec<(String, Vec<u8>, &str)> = Vec::new();
    for entry in fs::read_dir(cases).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let becomes = match name.as_str() {
            name if kept.contains(&name) => "kept",
            name if fails.contains(&name) => "failed",
            _ => "encrypted",
        };
        mails.push((name, fs::read(path).unwrap(), becomes));
    }
    assert!(mails.len() > 30);
    for stem in kept.iter().chain(&fails) {
        assert!(mails.iter().any(|(name, ..)| name == stem), "{stem}");
    }
    let text = "multipart/signed; protocol=\"application/pgp-signature\"; boundary=b";
    for (name, head, body, becomes) in [
        ("a PGP key", "Content-Type: text/plain", ARMOUR, "encrypted"),
        ("a line of armour", "X: y", "-----BEGIN PGP MESSAGE-----\r\nand text", "encrypted"),
        ("clear-signed, not really", "X: y", "-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\ntext", "encrypted"),
        ("a name", "Content-Type: application/octet-stream; name=smime.p7m", "text", "encrypted"),
        ("HTML of that name", "Content-Type: text/html; name=x.p7s", "<p>text", "encrypted"),
        ("a type", "Content-Type: application/pkcs7-mime; smime-type=certs-only", "text", "failed"),
        ("signed, not really", &format!("Content-Type: {text}"), "--b\r\n\r\ntext\r\n--b--", "failed"),
        ("two types", "Content-Type: text/plain\r\nContent-Type: application/pkcs7-mime", "text", "failed"),
    ] {
        mails.push((name.to_owned(), mail(head, body), becomes));
    }
    for (name, mail, becomes) in &mails {
        let ended = filter(folder.path(), "plain encrypt - --to-certificate bob.pem", mail, None);
        let words = String::from_utf8_lossy(&ended.stderr);
        let code = if *becomes == "failed" { 65 } else { 0 };
        assert_eq!(ended.status.code(), Some(code), "{name}: {words}");
        match *becomes {
            "kept" => assert!(ended.stdout == *mail, "{name}"),
            "failed" => assert!(ended.stdout.is_empty(), "{name}: clear text is passed on"),
            _ => {
                let sealed = String::from_utf8_lossy(&ended.stdout);
                assert!(sealed.contains("smime-type=enveloped-data"), "{name}: clear text is passed on");
                let body = mail.trim_ascii_end().rsplit(|octet| *octet == b'\n').next().unwrap().trim_ascii();
                let body = String::from_utf8_lossy(body);
                assert!(!sealed.contains(&*body), "{name}: {body} is passed on");
            }
        }
    }
}
