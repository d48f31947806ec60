//! What is foreseen of outgoing mail is what becomes of it: held against the agent that has the keys.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::{fs, sync::Arc};

use agent::{
    Agent, AgentError, Asking, Envelope, Foreseen, Foresight, Identities, Identity, Settings,
    settings::Logins, store_of,
};
use certcache::{Cache, Insertion, Source};
use lookup::Instead;
use smime::{
    mime::{Message, MimeEntity},
    testing::{
        authority::{Authority, Wanted},
        fixtures::{certificate, data, key, now},
    },
};

const MAIL: &str = "From: alice@example.org\r\nTo: bob@partner.example, new@partner.example, x@example.net\r\n\
                    Subject: x\r\n\r\nhi\r\n";

/// A site whose alice writes to bob, who has a certificate, to old, whose certificate has ended, and to others, by one rule.
struct Site {
    settings: Settings,
    cache: Arc<Cache>,
    _folder: tempfile::TempDir,
}

impl Site {
    /// With these keys of the rule and of `[milter]`. A source is a folder, which may be missing.
    fn new(rule: &str, milter: &str, source: Option<bool>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let root = Authority::root("Root", "bob");
        fs::write(at("root.pem"), pem(root.certificate().der())).unwrap();
        fs::write(at("alice.pem"), data("alice.pem")).unwrap();
        fs::create_dir(at("cache")).unwrap();
        fs::create_dir(at("files")).unwrap();
        let keys = source.map_or("", |_| "[[source]]\nkind = \"directory\"\npath = \"files\"\n");
        let text = format!(
            "[pool]\nsocket = \"keyd.sock\"\n[cache]\npath = \"cache\"\n\
             [trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n{keys}\
             [milter]\nlisten = \"inet:127.0.0.1:8890\"\nauthserv-id = \"mx.example.org\"\n{milter}\
             [[identity]]\ncertificate = \"alice.pem\"\n[[rule]]\n{rule}\n"
        );
        let settings = Settings::parse(&text, &at("hsmime.toml")).unwrap();
        if source == Some(false) {
            fs::remove_dir(at("files")).unwrap();
        }
        let cache = Arc::new(Cache::open(settings.cache().unwrap()).unwrap());
        let people = [
            root.issue(&Wanted { addresses: &["bob@partner.example"], ..Wanted::default() }),
            root.issue(&Wanted {
                addresses: &["old@partner.example"],
                serial: 2,
                until: now() - std::time::Duration::from_hours(1),
                ..Wanted::default()
            }),
        ];
        for person in &people {
            cache.put(&[Insertion::new(person, Source::Imported)], now()).unwrap();
        }
        Self { settings, cache, _folder: folder }
    }

    fn foreseen(&self, to: &[&str], asking: Asking) -> Foreseen {
        let mut foresight = Foresight::new(&self.settings, Some(&self.cache));
        foresight.of(&envelope(to), &Message::from_stored(MAIL.as_bytes()), asking, now()).unwrap()
    }

    /// What the agent does, that has the keys.
    fn treated(&self, to: &[&str]) -> Result<Vec<String>, AgentError> {
        let identity = Identity::new(
            certificate("alice"),
            Vec::new(),
            Logins::Address,
            Arc::new(key("alice")),
            Arc::new(key("alice")),
        );
        let mut agent = Agent::with_identities(&self.settings, Identities::from_parts([identity], ""));
        let store = store_of(&self.settings, Arc::clone(&self.cache), agent.trust()).unwrap();
        if let Some(store) = store {
            agent = agent.with_certificates(store);
        }
        if self.settings.milter().unwrap().reinject.is_some() {
            agent = agent.with_copies();
        }
        let (message, envelope) = (Message::from_stored(MAIL.as_bytes()), envelope(to));
        let outcome = agent.treat(&envelope, &message, now())?;
        let copied: Vec<&String> = outcome.copies.iter().flat_map(|copy| &copy.recipients).collect();
        let stay = envelope.recipients.iter().filter(|one| !copied.contains(one)).cloned().collect();
        let main = outcome.edits.apply(&message);
        let mut forms = vec![form(main.octets(), stay)];
        forms.extend(outcome.copies.into_iter().map(|copy| form(&copy.octets, copy.recipients)));
        forms.sort();
        Ok(forms)
    }
}

fn pem(der: &[u8]) -> String {
    let base64 = String::from_utf8(smime::mime::encode_base64(der)).unwrap().replace('\r', "");
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64.trim_end())
}

fn envelope(to: &[&str]) -> Envelope {
    Envelope {
        sender: "alice@example.org".to_owned(),
        recipients: to.iter().map(|one| (*one).to_owned()).collect(),
        login: Some("alice".to_owned()),
        ..Envelope::default()
    }
}

/// Who gets what, as it can be seen from outside.
fn form(octets: &[u8], mut recipients: Vec<String>) -> String {
    recipients.sort();
    let entity = MimeEntity::parse(octets);
    let header = String::from_utf8_lossy(entity.header_octets()).to_lowercase();
    let kind = match entity.content_type() {
        Ok(known) if known.is("application/pkcs7-mime") && !header.contains("signed-data") => "sealed",
        Ok(known) if known.is("multipart/signed") || known.is("application/pkcs7-mime") => "signed",
        _ => "plain",
    };
    format!("{kind} {}", recipients.join(" "))
}

fn words(seen: &Foreseen) -> Result<Vec<String>, String> {
    let forms = seen.forms.as_ref().map_err(ToString::to_string)?;
    let mut words: Vec<String> = forms
        .iter()
        .map(|form| {
            let mut recipients = form.recipients.clone();
            recipients.sort();
            let kind = match (form.is_encrypted, form.is_signed) {
                (true, _) => "sealed",
                (false, true) => "signed",
                (false, false) => "plain",
            };
            format!("{kind} {}", recipients.join(" "))
        })
        .collect();
    words.sort();
    Ok(words)
}

const BOB: &str = "bob@partner.example";
const OLD: &str = "old@partner.example";
const NEW: &str = "new@partner.example";

#[test]
fn what_is_foreseen_is_what_becomes_of_it() {
    let [required, possible] = ["required", "when-possible"]
        .map(|encrypt| move |more: &str| format!("sign = \"required\"\nencrypt = \"{encrypt}\"\n{more}"));
    let reinject = "reinject = \"inet:127.0.0.1:10026\"\nstate = \"copies\"\n";
    for rule in [
        "sign = \"required\"".to_owned(),
        "sign = \"never\"".to_owned(),
        "from = \"*@elsewhere.example\"\nsign = \"required\"".to_owned(),
        "sign = \"required\"\nsignature = \"opaque\"".to_owned(),
        required(""),
        required("no-certificate = \"refuse\""),
        required("no-certificate = \"refuse\"\nencrypt-to-sender = true"),
        possible(""),
        possible("unknown = \"plain\""),
        possible("mixed = \"plain\""),
        possible("mixed = \"refuse\""),
        possible("mixed = \"defer\"\nunknown = \"plain\""),
        possible("").replace("sign = \"required\"", "sign = \"never\""),
        possible("header-protection = \"hcp-baseline\""),
    ] {
        for milter in ["", reinject] {
            for source in [None, Some(true), Some(false)] {
                let site = Site::new(&rule, milter, source);
                for to in [
                    &[BOB][..],
                    &[NEW],
                    &[OLD],
                    &[BOB, NEW],
                    &[BOB, OLD],
                    &["alice@example.org", BOB],
                    &["hidden@example.net"],
                    &["\"no address\""],
                ] {
                    let seen = site.foreseen(to, Asking::Sources);
                    let done = site.treated(to);
                    let about = format!("{rule}\n{milter}{source:?} {to:?}\n{done:?}");
                    assert_eq!(words(&seen), done.as_ref().map_err(ToString::to_string).cloned(), "{about}");
                    if let (Err(seen), Err(done)) = (&seen.forms, &done) {
                        assert_eq!(seen.fault(), done.fault(), "{about}");
                    }
                }
            }
        }
    }
}

#[test]
fn sources_that_are_not_asked_are_named_for_whom_they_would_have_been_asked() {
    let site = Site::new("sign = \"required\"\nencrypt = \"required\"", "", Some(true));
    let unasked = |to: &[&str], instead| {
        let seen = site.foreseen(to, Asking::Nobody(instead));
        let of = seen.unasked.iter().map(|address| address.as_str().to_owned()).collect::<Vec<_>>();
        (of, seen.forms)
    };
    let (of, forms) = unasked(&[BOB], Instead::Silence);
    assert!(of.is_empty() && forms.is_ok(), "{of:?} {forms:?}");
    let (of, forms) = unasked(&[BOB, NEW], Instead::Silence);
    assert_eq!(of, [NEW]);
    assert!(matches!(forms, Err(AgentError::UnknownCertificate { .. })), "{forms:?}");
    let (of, forms) = unasked(&[BOB, NEW], Instead::Nothing);
    assert_eq!(of, [NEW]);
    assert!(matches!(forms, Err(AgentError::NoCertificate { .. })), "{forms:?}");
    // Nobody was asked: nothing is remembered of anybody.
    assert!(!site.cache.is_absent(&smime::MailAddress::parse(NEW).unwrap(), None, now()).unwrap());
    // And once they are asked, what they say holds.
    let seen = site.foreseen(&[NEW], Asking::Sources);
    assert!(matches!(seen.forms, Err(AgentError::NoCertificate { .. })), "{:?}", seen.forms);
    let (of, _) = unasked(&[NEW], Instead::Silence);
    assert!(of.is_empty(), "{of:?}");
}
