//! What is complained of: each mistake with its line, its key and its reason.

use super::*;

#[test]
fn every_check_tells_its_line_its_key_and_its_reason() {
    let missing = "No such file or directory (os error 2)";
    let file = "[[identity]]\ncertificate = ";
    for (text, expected) in [
        (
            format!("{TOKEN}{file}\"gone.pem\"\n"),
            format!("line 6: `certificate` in [[identity]]: gone.pem: {missing}"),
        ),
        (
            format!("{TOKEN}{file}\"pin\"\n"),
            "line 6: `certificate` in [[identity]]: pin: no BEGIN CERTIFICATE line: this is not a PEM file of \
             certificates"
                .to_owned(),
        ),
        (
            format!("{TOKEN}{file}\"nobody.pem\"\n"),
            format!(
                "line 6: `certificate` in [[identity]]: nobody.pem: \"CN=nobody\" (serial {}) names no mail \
                 address in its subjectAltName or subject",
                certificate("nobody").serial_hex()
            ),
        ),
        (
            format!("{TOKEN}{file}\"bob.pem\"\n\n{file}\"bob.pem\"\n"),
            "line 9: `certificate` in [[identity]]: bob.pem: it is the certificate of line 6 again".to_owned(),
        ),
        (
            format!("{file}\"bob.pem\"\n"),
            "there is an [[identity]] but no usable [[token]] that could hold its key".to_owned(),
        ),
        (
            TOKEN.replace("module.so", "gone.so"),
            format!("line 2: `module` in [[token]]: gone.so: {missing}"),
        ),
        (
            TOKEN.replace("\"mail\"", "\"\""),
            "line 3: `label` in [[token]] cannot be \"\": a token's label has 1 to 32 octets".to_owned(),
        ),
        (
            format!("{TOKEN}{TOKEN}"),
            "line 7: `label` in [[token]] cannot be \"mail\": another [[token]] is the same token".to_owned(),
        ),
        (
            "[trust]\nanchors = [\n\"root.pem\",\n\"gone.pem\"]\n".to_owned(),
            format!("line 4: `anchors` in [trust]: gone.pem: {missing}"),
        ),
        (
            "[trust]\ncrls = [\"root.pem\"]\n".to_owned(),
            "line 2: `crls` in [trust]: root.pem: no BEGIN X509 CRL line: this is not a PEM file of revocation \
             lists"
                .to_owned(),
        ),
        (
            "[cache]\npath = \"no/where\"\n".to_owned(),
            "line 2: `path` in [cache]: no/where: the folder it would be made in is not there".to_owned(),
        ),
        (
            milter("listen = \"127.0.0.1:8890\"\n"),
            "line 2: `listen` in [milter] cannot be \"127.0.0.1:8890\": did you mean inet:127.0.0.1:8890?"
                .to_owned(),
        ),
        (
            milter("socket-mode = \"660\"\n"),
            "line 2: `socket-mode` in [milter] cannot be \"660\": only a unix: socket has permissions"
                .to_owned(),
        ),
        (
            milter("authserv-id = \"mx example\"\n"),
            "line 2: `authserv-id` in [milter] cannot be \"mx example\": it is a name like mx.example.org: \
             letters, digits, dots and hyphens (RFC 8601 2.5)"
                .to_owned(),
        ),
        (
            milter("trusted-networks = [\"10.1.0.0/8\"]\n"),
            "line 2: `trusted-networks` in [milter] cannot be \"10.1.0.0/8\": there are bits beyond the prefix; \
             did you mean 10.0.0.0/8?"
                .to_owned(),
        ),
        (
            milter("trusted-networks = [\"localnet\"]\n"),
            "line 2: `trusted-networks` in [milter] cannot be \"localnet\": a network is written 10.0.0.0/8 or \
             2001:db8::/32"
                .to_owned(),
        ),
        (
            milter("recipient-delimiter = \"x\"\n"),
            "line 2: `recipient-delimiter` in [milter] cannot be \"x\": it holds characters like + or -, as \
             Postfix's recipient_delimiter does"
                .to_owned(),
        ),
        (
            "[[rule]]\nfrom = \"example.org\"\nsign = \"never\"\n".to_owned(),
            "line 2: `from` in [[rule]] cannot be \"example.org\": did you mean \"*@example.org\"?".to_owned(),
        ),
    ] {
        assert_eq!(complaints(&text), [expected], "{text}");
    }
}

#[test]
fn every_check_of_rules_and_copies_tells_its_line_its_key_and_its_reason() {
    for (text, expected) in [
        (
            milter("reinject = \"inet:127.0.0.1:10025\"\n"),
            "line 2: `reinject` needs `state`: the folder where copies are kept until they are taken".to_owned(),
        ),
        (
            milter("reinject = \"unix:s\"\nstate = \"s\"\n"),
            "line 2: `reinject` in [milter] cannot be \"unix:s\": the path of the socket must begin with /"
                .to_owned(),
        ),
        (
            "[[rule]]\nto = [\"*@a.example\", \"file:root.crl\"]\nsign = \"never\"\n".to_owned(),
            "line 2: `to` in [[rule]]: root.crl: line 1: it holds white space, and an address has an @".to_owned(),
        ),
        (
            "[[rule]]\nsign = \"never\"\nheader = \"Subject\"\n".to_owned(),
            "line 3: `header` in [[rule]] cannot be \"Subject\": it is written \"Name: value\", with * for any \
             text in the value"
                .to_owned(),
        ),
        (
            "[[rule]]\nsign = \"never\"\nencrypt = \"required\"\nunknown = \"plain\"\n".to_owned(),
            "line 4: `unknown = \"plain\"` would send what `encrypt = \"required\"` forbids".to_owned(),
        ),
        (
            "[[rule]]\nsign = \"never\"\nencrypt = \"required\"\nmixed = \"plain\"\n".to_owned(),
            "line 4: `mixed = \"plain\"` would send what `encrypt = \"required\"` forbids".to_owned(),
        ),
        (
            "[[rule]]\nsign = \"never\"\nheader-protection = \"hcp-baseline\"\n".to_owned(),
            "line 3: `header-protection` is for mail that is signed or encrypted".to_owned(),
        ),
        (
            "[[rule]]\nsign = \"never\"\nencrypt-to = [\"alice-signs.pem\"]\n".to_owned(),
            format!(
                "line 3: `encrypt-to` in [[rule]]: alice-signs.pem: {} is not for encryption (keyUsage)",
                certificate("alice-signs")
            ),
        ),
        (
            "[[rule]]\nsign = \"required\"\nidentity = \"bob.pem\"\n".to_owned(),
            format!(
                "line 3: `identity` in [[rule]]: bob.pem: {} is the certificate of no [[identity]]",
                certificate("bob")
            ),
        ),
    ] {
        assert_eq!(complaints(&text), [expected], "{text}");
    }
}

#[test]
fn the_sender_of_opened_mail_must_be_an_address() {
    for (sender, reason) in [
        ("postmaster", "there is no @"),
        ("", "there is no @"),
        ("<>", "there is no @"),
        ("a@example.org RET=FULL", "it holds white space or a control character"),
    ] {
        let expected = format!("line 2: `opened-mail-sender` in [milter] cannot be {sender:?}: {reason}");
        assert_eq!(complaints(&milter(&format!("opened-mail-sender = {sender:?}\n"))), [expected]);
    }
}

#[test]
fn mistakes_in_form_and_in_content_are_told_together_with_the_file() {
    let folder = folder();
    let text = "[[token]]\nmodul = \"gone.so\"\nlabel = \"mail\"\npin-file = \"gone\"\n[trust]\nanchors = [\"gone.pem\"]\n";
    let error = parse(&folder, text).unwrap_err().to_string();
    let name = folder.path().join("hsmime.toml").display().to_string();
    let places: Vec<&str> = error.lines().filter_map(|line| line.strip_prefix(&name)?.get(..9)).collect();
    assert_eq!(places, [": line 1:", ": line 2:", ": line 6:"], "{error}");
}

#[test]
fn a_pin_that_everybody_can_read_is_refused_by_whoever_reads_it() {
    let folder = folder();
    let pin = folder.path().join("pin");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).unwrap();
    let error = parse(&folder, TOKEN).unwrap_err().to_string();
    assert!(error.contains("line 4: `pin-file`") && error.contains("chmod o="), "{error}");
    // Elsewhere `hsmime-keyd` reads it.
    let served = format!("{TOKEN}[pool]\nsocket = \"keyd.sock\"\n");
    parse(&folder, &served).unwrap();
}
