//! `[pool]` and `[keyd]`: who serves keys to whom.

use std::time::SystemTime;

use super::*;

const KEYD: &str = "[pool]\nsocket = \"keyd.sock\"\n[keyd]\naudit = \"audit.jsonl\"\n\
                    [[keyd.client]]\nuser = \"postfix\"\noperations = [\"sign\"]\nlanes = [\"interactive\"]\n\
                    [[keyd.client]]\ngroup = \"archive\"\ncertificates = [\"alice-2025.pem\"]\n";

#[test]
fn with_a_socket_modules_and_pins_are_not_looked_for_but_by_who_uses_them() {
    let folder = folder();
    let token = TOKEN.replace("module.so", "away.so").replace("\"pin\"", "\"away/pin\"");
    let text = format!("{token}{KEYD}");
    let settings = parse(&folder, &text).unwrap();
    assert_eq!(settings.pool_socket(), Some(folder.path().join("keyd.sock").as_path()));
    let path = folder.path().join("hsmime.toml");
    fs::write(&path, text).unwrap();
    let Err(ConfigError::Invalid { complaints, .. }) = Settings::load_with_tokens(&path) else {
        panic!("no complaint")
    };
    assert_eq!(complaints.len(), 2, "{complaints:?}");
}

#[test]
fn clients_of_keyd_get_what_they_are_given_and_else_all() {
    let folder = folder();
    let identity = "[[identity]]\ncertificate = \"alice-2025.pem\"\n";
    let settings = parse(&folder, &format!("{TOKEN}{KEYD}{identity}")).unwrap();
    let keyd = settings.keyd().unwrap();
    assert_eq!((keyd.socket_mode, keyd.max_connections), (0o660, 512));
    let [postfix, archive] = keyd.clients.as_slice() else { panic!("{keyd:?}") };
    assert_eq!(
        (&postfix.peer, &archive.peer),
        (&Peer::User("postfix".into()), &Peer::Group("archive".into()))
    );
    assert_eq!((postfix.operations.len(), archive.operations.len()), (1, 2));
    assert_eq!((postfix.lanes.len(), archive.lanes.len()), (1, 2));
    assert_eq!(postfix.keys, archive.keys, "all identities are alice");
    assert_eq!(postfix.keys.to_string(), "1 keys");
    assert!(!postfix.keys.contain(&[0; 32]));
    let all = parse(&folder, &format!("{TOKEN}{KEYD}").replace("alice-2025.pem", "*")).unwrap();
    assert_eq!(all.keyd().unwrap().clients[1].keys, Keys::All);
    let none = &all.keyd().unwrap().clients[0].keys;
    assert_eq!(
        *none,
        Keys::Listed(Vec::new()),
        "there is no identity, and not to list any is not to list all"
    );
}

#[test]
fn a_keyd_that_serves_nobody_or_nowhere_is_complained_of() {
    let client = "[[keyd.client]]\nuser = \"a\"\n";
    for (text, expected) in [
        (
            format!("{TOKEN}[keyd]\n{client}"),
            "line 5: [keyd] needs the `socket` in [pool]: that is where it listens",
        ),
        (
            format!("{TOKEN}[pool]\nsocket = \"s\"\n[keyd]\n"),
            "line 7: [keyd] has no [[keyd.client]]: it would serve nobody",
        ),
        (
            format!("{TOKEN}[pool]\nsocket = \"s\"\n[keyd]\n{client}group = \"b\"\n"),
            "line 8: [[keyd.client]] needs either `user` or `group`",
        ),
        (
            format!("{TOKEN}[pool]\nsocket = \"s\"\n[keyd]\nsocket-mode = \"888\"\n{client}"),
            "line 8: `socket-mode` in [keyd] cannot be \"888\": it is three octal digits, like \"660\"",
        ),
    ] {
        assert_eq!(complaints(&text), [expected], "{text}");
    }
}

#[test]
fn an_audit_has_limits_that_hold_where_nothing_is_said() {
    let folder = folder();
    let milter = "[milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n";
    let usual = AuditFile::at(folder.path().join("audit.jsonl"));
    let own = AuditFile { max_bytes: 65_536, files: 3, ..usual.clone() };
    for (text, expected) in [
        ("", None),
        ("audit = \"audit.jsonl\"\n", Some(usual)),
        ("audit = \"audit.jsonl\"\naudit-max-bytes = 65536\naudit-files = 3\n", Some(own)),
    ] {
        let settings = parse(&folder, &format!("{TOKEN}{milter}{text}")).unwrap();
        assert_eq!(settings.milter().unwrap().audit, expected, "{text}");
    }
    assert_eq!(complaints(&format!("{TOKEN}{milter}audit = \"a\"\naudit-max-bytes = 100\n")).len(), 1);
    let limits = "audit-max-bytes = 65536\naudit-files = 3\n";
    for text in [
        format!("{TOKEN}{milter}{limits}"),
        format!("{TOKEN}{}", KEYD.replace("audit = \"audit.jsonl\"\n", limits)),
    ] {
        let found = complaints(&text);
        let needs = |key| found.iter().filter(|it| it.contains(&format!("`{key}` needs `audit`"))).count();
        assert_eq!([needs("audit-max-bytes"), needs("audit-files"), found.len()], [1, 1, 2], "{found:?}");
    }
}

/// A folder with RSA certificates as well: alice's, another of her key, one for encryption only.
fn folder_with_rsa() -> TempDir {
    let folder = folder();
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../smime/src/testing/data");
    for name in ["alice", "alice-twin", "bob", "encrypt-only"] {
        let name = format!("{name}.pem");
        fs::copy(format!("{fixtures}/{name}"), folder.path().join(format!("rsa-{name}"))).unwrap();
    }
    folder
}

#[test]
fn a_client_that_decrypts_with_rsa_keys_that_sign_is_warned_of() {
    let folder = folder_with_rsa();
    let warnings = |operations: &str, further: &str, certificate: &str| {
        let client = format!("[[keyd.client]]\nuser = \"archive\"\noperations = [{operations}]\n{further}");
        let identity = format!("[[identity]]\ncertificate = \"{certificate}.pem\"\n");
        let text = format!("{TOKEN}[pool]\nsocket = \"s\"\n[keyd]\n{client}{identity}");
        let settings = parse(&folder, &text).unwrap();
        let all = settings.warnings(SystemTime::now()).into_iter().map(|warning| warning.to_string());
        all.filter(|warning| warning.contains("RSA keys that also sign")).collect::<Vec<_>>()
    };
    let milter = "[[keyd.client]]\nuser = \"milter\"\n";
    let whose = "user archive, the [[keyd.client]] of line 8, may decrypt and not sign";
    let allowed = format!("allow-signing-keys = true\n{milter}");
    for (further, begins, ends) in [
        ("", ", but with RSA keys that also sign (", "Have another key for decryption"),
        (&allowed, ", but with RSA keys that also sign (", "Have another key for decryption"),
        (
            milter,
            ": it is refused what is encrypted by PKCS #1 v1.5 to RSA keys that also sign (",
            "where one key has to do both, write `allow-signing-keys = true` there",
        ),
    ] {
        let told = warnings("\"decrypt\"", further, "rsa-alice");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("{whose}{begins}")) && told[0].ends_with(ends), "{told:?}");
    }
    for (operations, certificate) in [
        ("\"sign\", \"decrypt\"", "rsa-alice"),
        ("\"sign\"", "rsa-alice"),
        ("\"decrypt\"", "rsa-encrypt-only"),
        ("\"decrypt\"", "alice-2025"),
    ] {
        assert_eq!(warnings(operations, milter, certificate), [""; 0], "{operations} {certificate}");
    }
}

#[test]
fn a_key_whose_certificate_does_not_say_what_it_is_for_is_kept_as_well() {
    let folder = folder_with_rsa();
    let path = folder.path().join("rsa-encrypt-only.pem");
    let text = "[keyd]\n[[keyd.client]]\nuser = \"archive\"\noperations = [\"decrypt\"]\n\
                [[keyd.client]]\nuser = \"milter\"\n[[identity]]\ncertificate = \"rsa-encrypt-only.pem\"\n";
    let is_kept = || {
        let certificate = Certificate::from_pem(&fs::read_to_string(&path).unwrap()).unwrap().remove(0);
        let settings = parse(&folder, &format!("{TOKEN}[pool]\nsocket = \"s\"\n{text}")).unwrap();
        let keyd = settings.keyd().unwrap();
        let modulus = hsmpool::server::modulus_sha256(&certificate.public_key_info()).unwrap();
        keyd.signing_keys().are_kept_from(&keyd.clients[0], &modulus)
    };
    assert!(!is_kept());
    let pem = fs::read_to_string(&path).unwrap();
    let lines = pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>();
    let mut der = data_encoding::BASE64.decode(lines.as_bytes()).unwrap();
    // The value of keyUsage: no BIT STRING any more.
    let identifier = [0x06, 0x03, 0x55, 0x1d, 0x0f];
    let place = der.windows(5).position(|octets| octets == identifier).unwrap();
    let value = der[place..].windows(4).position(|octets| octets == [0x04, 0x04, 0x03, 0x02]).unwrap();
    der[place + value + 2] = 0x04;
    let base64 = data_encoding::BASE64.encode(&der);
    fs::write(&path, format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")).unwrap();
    assert!(is_kept());
}

#[test]
fn a_key_that_some_client_signs_with_is_kept_from_one_that_only_decrypts() {
    let folder = folder_with_rsa();
    let modulus = |name: &str| {
        let pem = fs::read_to_string(folder.path().join(name)).unwrap();
        let certificate = Certificate::from_pem(&pem).unwrap().remove(0);
        hsmpool::server::modulus_sha256(&certificate.public_key_info()).unwrap()
    };
    let (alice, bob, encrypting) =
        (modulus("rsa-alice.pem"), modulus("rsa-bob.pem"), modulus("rsa-encrypt-only.pem"));
    assert_eq!(alice, modulus("rsa-alice-twin.pem"), "one key, two certificates");
    let unknown = [7; 32];
    // What the archive's entry has, those of others, and of alice, bob, the key for encryption and another which are kept.
    let table: &[(&str, &[&str], [bool; 4])] = &[
        ("", &[], [false, false, false, false]),
        ("", &["operations = [\"decrypt\"]"], [false, false, false, false]),
        ("", &[""], [true, false, false, false]),
        ("", &["operations = [\"sign\"]"], [true, false, false, false]),
        ("", &["lanes = [\"bulk\"]"], [true, false, false, false]),
        ("", &["certificates = [\"rsa-bob.pem\"]"], [false, true, false, false]),
        ("certificates = [\"rsa-bob.pem\"]", &[""], [true, false, false, false]),
        ("certificates = [\"*\"]", &["certificates = [\"rsa-alice-twin.pem\"]"], [true, false, false, false]),
        // Whose certificate is not known can be anything to who has all keys.
        ("", &["certificates = [\"*\"]"], [true, true, false, true]),
        ("certificates = [\"*\"]", &["", "certificates = [\"rsa-bob.pem\"]"], [true, true, false, false]),
        ("allow-signing-keys = true", &[""], [false, false, false, false]),
        ("allow-signing-keys = false", &[""], [true, false, false, false]),
    ];
    for (own, others, expected) in table {
        let entry = |user: &str, keys: &str| format!("[[keyd.client]]\nuser = \"{user}\"\n{keys}\n");
        let archive = entry("archive", &format!("operations = [\"decrypt\"]\n{own}"));
        let others: String = others.iter().map(|other| entry("milter", other)).collect();
        let identity = |name: &str| format!("[[identity]]\ncertificate = \"rsa-{name}.pem\"\n");
        let identities = ["alice", "encrypt-only"].map(identity).concat();
        let text = format!("{TOKEN}[pool]\nsocket = \"s\"\n[keyd]\n{archive}{others}{identities}");
        let settings = parse(&folder, &text).unwrap();
        let keyd = settings.keyd().unwrap();
        let signing = keyd.signing_keys();
        let kept = |from: &KeydClient| {
            [alice, bob, encrypting, unknown].map(|modulus| signing.are_kept_from(from, &modulus))
        };
        let (archive, rest) = keyd.clients.split_first().unwrap();
        assert_eq!(kept(archive), *expected, "{text}");
        for signer in rest.iter().filter(|client| client.may_sign()) {
            assert_eq!(kept(signer), [false; 4], "{text}");
        }
    }
}
