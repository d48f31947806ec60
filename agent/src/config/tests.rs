//! What is complained of in a file: unknown keys, wrong kinds, what is missing; and what holds where nothing is said.

use super::*;

fn complaints(text: &str) -> Vec<String> {
    let mut report = Report::default();
    Config::parse(text, &mut report);
    report.into_complaints().iter().map(ToString::to_string).collect()
}

#[test]
fn every_mistake_is_told_with_line_key_and_what_was_meant() {
    let token = "[[token]]\nmodule = \"m\"\nlabel = \"l\"\npin-file = \"p\"\n";
    let token_keys = "`module`, `label`, `pin-file`, `pin-credential`, `sessions`, `queue`, `deadline-ms`";
    for (text, expected) in [
        (
            format!("{token}\n\nsesions = 8\n"),
            "line 7: unknown key `sesions` in [[token]]; did you mean `sessions`?".to_owned(),
        ),
        (
            format!("{token}colour = 8\n"),
            format!("line 5: unknown key `colour` in [[token]]; its keys are {token_keys}"),
        ),
        (
            format!("{token}sessions = \"8\"\n"),
            "line 5: `sessions` in [[token]] must be a whole number, but is a text".to_owned(),
        ),
        (
            format!("{token}sessions = 0\n"),
            "line 5: `sessions` in [[token]] cannot be 0: it must be from 1 to 1000".to_owned(),
        ),
        (
            format!("{token}sessions = -3\n"),
            "line 5: `sessions` in [[token]] cannot be -3: it must be from 1 to 1000".to_owned(),
        ),
        (
            "\n[[token]]\nmodule = \"m\"\nlabel = \"l\"\n".to_owned(),
            "line 2: [[token]] needs `pin-file` or `pin-credential`".to_owned(),
        ),
        // Whoever wrote one of them is not told of the other.
        (
            "[[token]]\nmodule = \"m\"\nlabel = \"l\"\npin-credential = 7\n".to_owned(),
            "line 4: `pin-credential` in [[token]] must be a text in quotes, but is a whole number".to_owned(),
        ),
        (
            "[token]\nmodule = \"m\"\n".to_owned(),
            "line 1: this section must be written [[token]]".to_owned(),
        ),
        (
            "\n[[milter]]\nlisten = \"m\"\n".to_owned(),
            "line 2: this section must be written [milter]".to_owned(),
        ),
        (
            "[miltr]\nlisten = \"m\"\n".to_owned(),
            "line 1: unknown section [miltr]; did you mean `[milter]`?".to_owned(),
        ),
        (
            "[[quotas]]\n".to_owned(),
            "line 1: unknown section [quotas]; the sections are `[[token]]`, `[pool]`, `[keyd]`, `[cache]`, `[trust]`, \
             `[[source]]`, `[lookup]`, `[revocation]`, `[milter]`, `[limits]`, `[metrics]`, \
             `[[identity]]`, `[[rule]]`, `[[incoming]]`, `[log]`"
                .to_owned(),
        ),
        ("listen = 1\n".to_owned(), "line 1: `listen` stands outside of any section".to_owned()),
        (
            "[[rule]]\nfrom = \"*\"\nsign = \"requierd\"\n".to_owned(),
            "line 3: `sign` in [[rule]] cannot be \"requierd\"; did you mean `required`?".to_owned(),
        ),
        (
            "[[rule]]\nfrom = \"*\"\nsign = \"yes\"\n".to_owned(),
            "line 3: `sign` in [[rule]] cannot be \"yes\"; it takes `required`, `when-possible`, `never`"
                .to_owned(),
        ),
        (
            "[trust]\nrevocation = \"soft\"\n".to_owned(),
            "line 2: `revocation` in [trust] cannot be \"soft\"; did you mean `soft-fail`?".to_owned(),
        ),
        (
            "[trust]\nanchors = \"a.pem\"\n".to_owned(),
            "line 2: `anchors` in [trust] must be a list of texts, like [\"one\", \"two\"], but is a text"
                .to_owned(),
        ),
        (
            "[trust]\nanchors = [\n  \"a.pem\",\n  7,\n]\n".to_owned(),
            "line 4: `anchors` in [trust] must be a list of texts, like [\"one\", \"two\"], but is a whole \
             number"
                .to_owned(),
        ),
        (
            format!("{token}pin-credential = \"c\"\n"),
            "line 5: `pin-credential` in [[token]] cannot be \"c\": the PIN is in `pin-file` already; give \
             one of them"
                .to_owned(),
        ),
        (
            "[keyd]\n[[keyd.client]]\nuser = \"mail\"\noperations = [\"sing\"]\n".to_owned(),
            "line 4: `operations` in [[keyd.client]] cannot be \"sing\"; did you mean `sign`?".to_owned(),
        ),
        (
            "[keyd]\n[[keyd.client]]\nuesr = \"mail\"\n".to_owned(),
            "line 3: unknown key `uesr` in [[keyd.client]]; did you mean `user`?".to_owned(),
        ),
        (
            "[keyd]\nclient = 3\n".to_owned(),
            "line 2: this section must be written [[keyd.client]]".to_owned(),
        ),
        (
            "[cache]\npath = true\n".to_owned(),
            "line 2: `path` in [cache] must be a text in quotes, but is true or false".to_owned(),
        ),
    ] {
        assert_eq!(complaints(&text), [expected], "{text}");
    }
}

#[test]
fn a_list_of_nothing_is_not_taken_for_all() {
    let client = "[keyd]\n[[keyd.client]]\nuser = \"mail\"\n";
    for (section, text, key) in [
        ("[[rule]]", "[[rule]]\n".to_owned(), "to"),
        ("[[rule]]", "[[rule]]\n".to_owned(), "login"),
        ("[[incoming]]", "[[incoming]]\n".to_owned(), "sender"),
        ("[[keyd.client]]", client.to_owned(), "operations"),
        ("[[keyd.client]]", client.to_owned(), "lanes"),
        ("[[keyd.client]]", client.to_owned(), "certificates"),
    ] {
        let expected = format!("`{key}` in {section} is empty, which would mean the same as without it: all");
        let found = complaints(&format!("{text}{key} = []\n"));
        assert!(found.iter().any(|found| found.contains(&expected)), "{found:#?}");
    }
}

#[test]
fn mistakes_in_a_rule_or_the_cache_are_told_in_the_same_way() {
    for (text, expected) in [
        (
            "[[rule]]\nfrom = 7\nsign = \"never\"\n".to_owned(),
            "line 2: `from` in [[rule]] must be a text in quotes or a list of them, but is a whole number"
                .to_owned(),
        ),
        (
            "[[rule]]\nsign = \"never\"\nencrypt-to-sender = \"yes\"\n".to_owned(),
            "line 3: `encrypt-to-sender` in [[rule]] must be true or false, but is a text".to_owned(),
        ),
        (
            "[[rule]]\nsign = \"never\"\nprofile = \"standart\"\n".to_owned(),
            "line 3: `profile` in [[rule]] cannot be \"standart\"; did you mean `standard`?".to_owned(),
        ),
        (
            "[cache]\npath = \"c\"\nharvest = \"yes\"\n".to_owned(),
            "line 3: `harvest` in [cache] must be true or false, but is a text".to_owned(),
        ),
        (
            "[cache]\npath = \"c\"\nharvst = true\n".to_owned(),
            "line 3: unknown key `harvst` in [cache]; did you mean `harvest`?".to_owned(),
        ),
    ] {
        assert_eq!(complaints(&text), [expected], "{text}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_in_its_order() {
    let text = "[[rule]]\nform = \"*\"\nsign = \"maybe\"\n[[token]]\nlabel = 1\n[cashe]\npath = \"x\"\n";
    let found = complaints(text);
    let lines: Vec<&str> = found.iter().filter_map(|c| c.split(':').next()).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 4", "line 4", "line 5", "line 6"], "{found:#?}");
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let found = complaints("[log]\nformat = \"text\"\nfilter = info\n");
    assert!(found[0].starts_with("line 3: this is not TOML: "), "{found:?}");
}

#[test]
fn absent_keys_have_their_documented_defaults() {
    let text = "[[token]]\nmodule=\"m\"\nlabel=\"l\"\npin-file=\"p\"\n\
                [milter]\nlisten=\"inet:h:1\"\nauthserv-id=\"mx\"\n";
    let mut report = Report::default();
    let config = Config::parse(text, &mut report);
    assert_eq!(report.into_complaints(), []);
    let token = &config.tokens[0];
    assert_eq!((token.sessions, token.queue, token.deadline_ms), (None, 1024, 20_000));
    let milter = config.milter.unwrap();
    assert_eq!((milter.max_connections, milter.max_message_bytes), (1024, 104_857_600));
    let limits = config.limits;
    assert_eq!((limits.memory, limits.disk, limits.messages), (1 << 30, 8 << 30, None));
    assert_eq!(limits.folder, PathBuf::from("/var/tmp"));
    assert_eq!(config.trust.revocation, smime::path::RevocationMode::SoftFail);
    assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Text, "info"));
}
