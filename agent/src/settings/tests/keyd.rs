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

#[test]
fn a_client_that_decrypts_with_rsa_keys_that_sign_is_warned_of() {
    let folder = folder();
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../smime/src/testing/data");
    for name in ["alice", "encrypt-only"] {
        let name = format!("{name}.pem");
        fs::copy(format!("{fixtures}/{name}"), folder.path().join(format!("rsa-{name}"))).unwrap();
    }
    let warnings = |operations: &str, certificate: &str| {
        let client = format!("[[keyd.client]]\nuser = \"archive\"\noperations = [{operations}]\n");
        let identity = format!("[[identity]]\ncertificate = \"{certificate}.pem\"\n");
        let text = format!("{TOKEN}[pool]\nsocket = \"s\"\n[keyd]\n{client}{identity}");
        let settings = parse(&folder, &text).unwrap();
        let all = settings.warnings(SystemTime::now()).into_iter().map(|warning| warning.to_string());
        all.filter(|warning| warning.contains("RSA keys that also sign")).collect::<Vec<_>>()
    };
    let told = warnings("\"decrypt\"", "rsa-alice").remove(0);
    assert!(
        told.starts_with("user archive, the [[keyd.client]] of line 8, may decrypt and not sign"),
        "{told}"
    );
    for (operations, certificate) in [
        ("\"sign\", \"decrypt\"", "rsa-alice"),
        ("\"sign\"", "rsa-alice"),
        ("\"decrypt\"", "rsa-encrypt-only"),
        ("\"decrypt\"", "alice-2025"),
    ] {
        assert_eq!(warnings(operations, certificate), [""; 0], "{operations} {certificate}");
    }
}
