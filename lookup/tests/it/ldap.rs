//! LDAP against slapd, and against servers that are none.

use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use certcache::{Cache, Chooser, Source, Take};
use data_encoding::BASE64;
use lookup::{
    Answer, CertificateSource, LookupError, Refill, Sources, files,
    ldap::{FilterTemplate, Ldap, LdapSettings, Password, Server},
};
use smime::{
    Certificate,
    algorithm::DigestAlgorithm,
    cms::{self, certificates_only},
    key::Digest,
    store::{RecipientCertificates, Waited},
    testing::fixtures,
};
use testkit::{
    Result, Workdir,
    slapd::{BASE, BIND_DN, PASSWORD, Slapd},
};

use super::{address, found, is_absent, unknown};

fn entry(name: &str, place: &str, mail: &[&str], attributes: &[(&str, &[u8])]) -> String {
    let mail: Vec<String> = mail.iter().map(|mail| format!("mail: {mail}\n")).collect();
    let values: Vec<String> =
        attributes.iter().map(|(name, value)| format!("{name}:: {}\n", BASE64.encode(value))).collect();
    format!(
        "dn: cn={name},ou={place},{BASE}\nobjectClass: inetOrgPerson\ncn: {name}\nsn: {name}\nuid: {name}\n{}{}\n",
        mail.concat(),
        values.concat()
    )
}

fn settings(url: &str) -> LdapSettings {
    LdapSettings {
        server: Server::parse(url, false).unwrap(),
        authorities: Vec::new(),
        base: BASE.to_owned(),
        filter: FilterTemplate::default(),
        attributes: Vec::new(),
        bind: None,
    }
}

fn source(settings: LdapSettings) -> Ldap {
    Ldap::new("directory", settings).unwrap()
}

/// An RSA certificate that slapd takes too.
fn real(name: &str) -> Certificate {
    fixtures::certificate(name)
}

struct Directory {
    slapd: Slapd,
    workdir: Workdir,
}

impl Directory {
    fn start() -> Result<Self> {
        let workdir = Workdir::new("ldap")?;
        let [alice, twin, bob, ca, carol] = ["alice", "alice-twin", "bob", "ca", "carol"].map(real);
        let bag = certificates_only(&[twin, ca])?;
        let plain = "userCertificate;binary";
        let entries = [
            entry(
                "alice",
                "people",
                &["alice@example.org", "a@example.org"],
                &[(plain, alice.der()), (plain, bob.der()), ("userSMIMECertificate", &bag)],
            ),
            entry("alice-2", "people", &["alice@example.org"], &[(plain, alice.der())]),
            entry("bob", "private", &["bob@example.org"], &[(plain, bob.der())]),
            entry("empty", "people", &["carol@example.org"], &[]),
            entry("other", "people", &["dave@example.org"], &[(plain, carol.der())]),
        ];
        let slapd = Slapd::start(&workdir, &entries.concat())?;
        Ok(Self { slapd, workdir })
    }

    fn authorities(&self) -> Result<Vec<Certificate>> {
        Ok(files::read(&files::load(self.slapd.authority())?)?.certificates)
    }
}

#[test]
fn a_directory_gives_all_certificates_of_all_entries_and_only_those_of_the_address() -> Result<()> {
    let directory = Directory::start()?;
    let ldap = source(settings(&directory.slapd.ldap()));
    let mut expected = [*real("alice").fingerprint(), *real("alice-twin").fingerprint()];
    for text in ["alice@example.org", "ALICE@example.org"] {
        let mut certificates: Vec<[u8; 32]> = found(&ldap, text).iter().map(|c| *c.fingerprint()).collect();
        certificates.sort_unstable();
        expected.sort_unstable();
        assert_eq!(certificates, expected);
    }
    // Nobody there, nothing there, somebody else's, and not to be read without a bind.
    for text in ["nobody@example.org", "carol@example.org", "dave@example.org", "bob@example.org"] {
        assert!(is_absent(&ldap, text), "{text}");
    }
    // A filter that leads elsewhere.
    let mut by_uid = settings(&directory.slapd.ldap());
    by_uid.filter = FilterTemplate::parse("(&(objectClass=inetOrgPerson)(uid={local}))").unwrap();
    assert_eq!(found(&source(by_uid), "alice@example.org").len(), 2);
    // What the server says is told.
    let mut wrong = settings(&directory.slapd.ldap());
    wrong.base = "dc=nowhere".to_owned();
    let error = unknown(&source(wrong), "alice@example.org");
    assert!(error.to_string().contains("noSuchObject"), "{error}");
    Ok(())
}

#[test]
fn an_address_that_looks_like_a_filter_finds_nothing() -> Result<()> {
    let directory = Directory::start()?;
    let ldap = source(settings(&directory.slapd.ldap()));
    assert_eq!(found(&ldap, "alice@example.org").len(), 2);
    for text in ["*@example.org", "*", "a*e@example.org", "\\2a@example.org", "alice\\00@example.org"] {
        let Ok(address) = smime::MailAddress::parse(text) else {
            continue;
        };
        let answer = ldap.find(&address, Instant::now() + Duration::from_secs(10));
        assert!(matches!(answer, Answer::Absent), "{text}: {answer:?}");
    }
    // This one is no address that is taken at all, and still may not do harm if it ever is: what matters is that the
    // octets of a value are no filter, which the unit tests of the filter show.
    assert!(smime::MailAddress::parse("*)(uid=*))(|(uid=*@example.org").is_err());
    assert!(is_absent(&ldap, "*|uid=*&mail=*@example.org"));
    Ok(())
}

#[test]
fn tls_is_spoken_with_whom_the_authority_vouches_for_and_nobody_else() -> Result<()> {
    let directory = Directory::start()?;
    let password = |name: &str, password: &str| -> Result<Password> {
        let file = directory.workdir.file(name, format!("{password}\n"))?;
        fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        Ok(Password::from_file(&file)?)
    };
    let bind = Some((BIND_DN.to_owned(), password("password", PASSWORD)?));
    let (ldap, ldaps) = (directory.slapd.ldap(), directory.slapd.ldaps());
    let secure = |url: &str, start_tls: bool, authorities: Vec<Certificate>| {
        let server = Server::parse(url, start_tls).unwrap();
        source(LdapSettings { server, authorities, bind: bind.clone(), ..settings(url) })
    };
    for (url, start_tls) in [(&ldap, true), (&ldaps, false)] {
        let good = secure(url, start_tls, directory.authorities()?);
        // Bound, so that what is private is read.
        assert_eq!(found(&good, "bob@example.org"), [real("bob")], "{url}");
        let wrong = secure(url, start_tls, vec![real("ca")]);
        let error = unknown(&wrong, "bob@example.org");
        assert!(error.to_string().contains("UnknownIssuer"), "{error}");
        // The certificate is for localhost.
        let other = secure(&url.replace("localhost", "127.0.0.1"), start_tls, directory.authorities()?);
        let error = unknown(&other, "bob@example.org");
        assert!(error.to_string().contains("not valid for name"), "{error}");
    }
    let bind = Some((BIND_DN.to_owned(), password("wrong", "wrong")?));
    let error = unknown(&source(LdapSettings { bind, ..settings(&ldap) }), "bob@example.org");
    assert!(error.to_string().contains("invalidCredentials"), "{error}");
    assert!(matches!(error, LookupError::Refused { .. }), "{error:?}");
    Ok(())
}

/// A server that does with each connection what it is told to.
fn server(behave: impl Fn(&mut dyn ReadWrite) + Send + 'static) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("ldap://{}", listener.local_addr()?);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // What is left unread would reset the connection, and take with it what was sent.
            let _ = stream.read(&mut [0; 512]);
            behave(&mut stream);
            let _ = stream.read(&mut [0; 512]);
        }
    });
    Ok(url)
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn a_server_that_is_down_silent_slow_or_hostile_is_unknown_within_the_budget() -> Result<()> {
    let gone = TcpListener::bind("127.0.0.1:0")?;
    let down = format!("ldap://{}", gone.local_addr()?);
    drop(gone);
    let mut nested = Vec::new();
    for level in (0..200_000_u32).rev() {
        nested.extend([0x30, 0x84]);
        nested.extend((level * 6).to_be_bytes());
    }
    // An entry without end: each message is good, and there is always another.
    let mut endless = vec![0x30, 0x84, 0, 1, 0, 9, 2, 1, 1, 0x64, 0x84, 0, 1, 0, 0];
    endless.resize(0x1_000F, 0);
    let silent = server(|_| thread::sleep(Duration::from_secs(30)))?;
    let slow = server(|stream| {
        // One octet at a time, each in time for a timeout that begins anew.
        while stream.write_all(&[0x30]).is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    })?;
    let dripping = server(|stream| {
        let _ = stream.write_all(&[0x30, 0x84, 0, 1, 0, 0]);
        while stream.write_all(&[0]).is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    })?;
    let mail = server(|stream| {
        let _ = stream.write_all(b"220 mail.example.org ESMTP\r\n");
    })?;
    let huge = server(|stream| {
        let _ = stream.write_all(&[0x30, 0x84, 0x7F, 0xFF, 0xFF, 0xFF]);
    })?;
    let nested = server(move |stream| {
        let _ = stream.write_all(&nested);
    })?;
    let endless = server(move |stream| while stream.write_all(&endless).is_ok() {})?;
    for (what, url, expected) in [
        ("down", down, "refused"),
        ("silent", silent, "the time is over"),
        ("slow", slow, ""),
        ("dripping", dripping, "the time is over"),
        ("mail", mail, "this is not LDAP"),
        ("huge", huge, "longer than anybody's"),
        ("nested", nested, "this is not LDAP"),
        ("endless", endless, ""),
    ] {
        let ldap = source(settings(&url));
        let started = Instant::now();
        let answer = ldap.find(&address("alice@example.org"), started + Duration::from_millis(600));
        let Answer::Unknown(error) = answer else {
            panic!("{what}: {answer:?}");
        };
        assert!(error.to_string().contains(expected), "{what}: {error}");
        assert!(started.elapsed() < Duration::from_secs(3), "{what} took {:?}", started.elapsed());
    }
    Ok(())
}

#[test]
fn that_there_is_none_is_believed_of_this_machine_or_over_tls_and_of_no_server_that_refers_to_others()
-> Result<()> {
    let directory = Directory::start()?;
    let ldap = directory.slapd.ldap();
    assert!(is_absent(&source(settings(&ldap)), "nobody@example.org"));
    let secure = LdapSettings {
        server: Server::parse(&ldap, true).unwrap(),
        authorities: directory.authorities()?,
        ..settings(&ldap)
    };
    assert!(is_absent(&source(secure), "nobody@example.org"));
    // An address of this machine that does not look like one.
    let remote = ldap.replace("localhost", "127.1");
    assert_ne!(remote, ldap);
    let far = source(settings(&remote));
    let error = unknown(&far, "nobody@example.org");
    assert!(matches!(error, LookupError::Unproven { .. }), "{error:?}");
    assert!(error.to_string().contains("without TLS"), "{error}");
    for (source, is_partial) in [(&far, true), (&source(settings(&ldap)), false)] {
        let Answer::Found(finding) = crate::ask(source, "alice@example.org") else { panic!("{source:?}") };
        assert_eq!((finding.certificates.len(), finding.is_partial), (2, is_partial));
    }

    // SearchResultReference, and that this was all.
    let referring = server(|stream| {
        let reference = [0x30, 16, 2, 1, 1, 0x73, 11, 4, 9];
        let done = [0x30, 12, 2, 1, 1, 0x65, 7, 10, 1, 0, 4, 0, 4, 0];
        let _ = stream.write_all(&[&reference[..], b"ldap://b/", &done].concat());
    })?;
    let error = unknown(&source(settings(&referring)), "alice@example.org");
    assert!(error.to_string().contains("refers to other servers"), "{error}");
    Ok(())
}

#[test]
fn what_follows_the_answer_to_start_tls_in_clear_is_not_taken_for_protected() -> Result<()> {
    let url = server(|stream| {
        // ExtendedResponse, success; and at once what could be the answer to the bind.
        let success = [0x30, 12, 2, 1, 1, 0x78, 7, 10, 1, 0, 4, 0, 4, 0];
        let bound = [0x30, 12, 2, 1, 2, 0x61, 7, 10, 1, 0, 4, 0, 4, 0];
        let _ = stream.write_all(&[success, bound].concat());
    })?;
    let server = Server::parse(&url, true).unwrap();
    let ldap = source(LdapSettings { server, authorities: vec![real("ca")], ..settings(&url) });
    let error = unknown(&ldap, "alice@example.org");
    assert!(error.to_string().contains("sends on after agreeing to TLS"), "{error}");
    Ok(())
}

#[test]
fn what_a_directory_s_signed_value_announces_is_kept_with_the_certificate_and_nothing_else() -> Result<()> {
    let workdir = Workdir::new("ldap-capabilities")?;
    let signed = |name: &str, at| {
        let digest = |algorithm: DigestAlgorithm| Digest::of(algorithm, b"");
        cms::sign(digest, &fixtures::key(name), &[real("ca")], at)
    };
    let (now, hour) = (fixtures::now(), Duration::from_hours(1));
    // Alice twice, the newer one counts; bob's is changed on the way, carol's in the future; and in the last entry
    // stands what Alice announces of hers.
    let mut forged = signed("bob", now)?;
    let aes_256 = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2A];
    let place = forged.windows(9).position(|octets| octets == aes_256).expect("AES-256 is announced");
    forged[place + 8] = 0x02;
    let value = "userSMIMECertificate";
    let entries = [
        ("alice", vec![(value, signed("alice", now - hour)?), (value, signed("alice", now - hour * 2)?)]),
        ("bob", vec![(value, forged)]),
        ("carol", vec![(value, signed("carol", now + hour)?)]),
        (
            "p256",
            vec![("userCertificate;binary", real("p256").der().to_vec()), (value, signed("alice", now)?)],
        ),
    ];
    let entries = entries.map(|(name, values)| {
        let mail = real(name).addresses().remove(0);
        let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        entry(name, "people", &[mail.as_str()], &values)
    });
    let slapd = Slapd::start(&workdir, &entries.concat())?;
    let cache = Arc::new(Cache::open(&workdir.path().join("cache"))?);
    let chooser = Arc::new(Chooser::new(Arc::clone(&cache), fixtures::trust(), Take::default()));
    let ldap: Arc<dyn CertificateSource> = Arc::new(source(settings(&slapd.ldap())));
    let refill = Refill::new(chooser, Sources::new(vec![ldap], Duration::from_secs(10)), Duration::ZERO);
    for (name, expected) in [("alice", Some(now - hour)), ("bob", None), ("carol", None), ("p256", None)] {
        let certificate = real(name);
        let found = refill.lookup(&certificate.addresses()[0], now, &mut Waited::default())?;
        assert!(!matches!(found, smime::store::Lookup::Unknown), "{name}: {found:?}");
        let kept = cache.by_fingerprint(certificate.fingerprint())?.expect(name);
        assert!(kept.sources.contains(Source::Ldap), "{name}");
        assert_eq!(kept.announced.map(|announced| announced.at), expected, "{name}");
        let ciphers = refill.capabilities(&certificate).map(|it| it.ciphers().count() > 0);
        assert_eq!(ciphers, expected.map(|_| true), "{name}");
    }
    Ok(())
}
