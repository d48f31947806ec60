//! Mixed mail in both directions, each by its number: what is sent, and what is to arrive.

use testkit::mail::{Letter, Noise};
use testkit::peers::{OpenSsl, Recipient};
use testkit::pki::{Key, Person, Profile};
use testkit::sink::Delivered;
use testkit::smtp::Origin;
use testkit::{Lab, mime, wait};

use crate::common::{assert_same_content, assert_untouched, verdict};

const NOBODY: &str = "nobody@elsewhere.example";

/// Who writes to whom besides the lab's people, and what comes from outside.
pub(crate) struct Traffic {
    kinds: &'static [usize],
    dora: Person,
    /// What is sent, and what it says.
    sealed: Vec<(Vec<u8>, Vec<u8>)>,
    signed: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A mail as it is sent.
pub(crate) struct Mail {
    pub(crate) origin: Origin,
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) octets: Vec<u8>,
}

/// A mail for one of its recipients.
pub(crate) type ForOne = (usize, String);

/// A lab with a key server, which is not started yet, a cache, and copies. Of the kinds of [`Traffic::mail`] one comes after
/// the other.
pub(crate) fn prepare(name: &str, kinds: &'static [usize]) -> (Lab, Traffic) {
    let mut lab = Lab::new(name).unwrap();
    let dora = lab.pki.issue(&Profile::new("dora", "dora@partner.example", Key::Rsa2048)).unwrap();
    lab.config.anchors = vec![lab.pki.root(), lab.pki.issuing()];
    lab.config.keyd_socket = Some(lab.workdir.join("keyd.sock"));
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.reinjection = Some((wait::free_port().unwrap(), lab.workdir.join("state")));
    lab.config.first_rules =
        "\n[[rule]]\nto = \"*@partner.example\"\nsign = \"required\"\nencrypt = \"required\"\n".to_owned();
    let files = [&lab.erin, &dora].map(|person| person.certificate.to_str().unwrap());
    let imported = lab.admin(&[&["cert", "import"], &files[..]].concat()).unwrap();
    assert!(imported.success(), "{imported:?}");
    let openssl = lab.openssl().unwrap();
    let content = |size: usize| {
        let text = "So lang wie der Tag.\r\n".repeat(size);
        format!("Content-Type: text/plain\r\n\r\n{size}\r\n{text}").into_bytes()
    };
    let contents = || [1, 30, 200, 900, 20_000].into_iter().map(content);
    let sealed = contents().map(|content| {
        (openssl.encrypt(&content, &[Recipient::pkcs1(&lab.bob)], &["-aes-256-gcm"]).unwrap(), content)
    });
    let sealed = sealed.collect();
    let signed = contents().map(|content| (openssl.sign(&content, &lab.erin).unwrap(), content)).collect();
    (lab, Traffic { kinds, dora, sealed, signed })
}

impl Traffic {
    fn kind(&self, number: usize) -> usize {
        self.kinds[number % self.kinds.len()]
    }

    pub(crate) fn mail(&self, lab: &Lab, number: usize) -> Mail {
        let kind = self.kind(number);
        let subject = format!("Mail {number}");
        let of = |from: &str, to: &[&str], octets: Vec<u8>| Mail {
            origin: if kind < 4 { Origin::login(from) } else { Origin::remote() },
            from: from.to_owned(),
            to: to.iter().map(|&to| to.to_owned()).collect(),
            octets,
        };
        let (alice, bob) = (lab.alice.address.as_str(), lab.bob.address.as_str());
        let (carol, erin) = (lab.carol.address.as_str(), lab.erin.address.as_str());
        let text = |from, to| {
            let mut noise = Noise(number as u64 * 2 + 1);
            // Now and then one that is too long to stay in memory.
            let size = if noise.below(40) == 0 { 700_000 } else { 1_000 + noise.below(20_000) };
            Letter { from, to, subject: &subject }.of_size(usize::try_from(size).unwrap(), noise.next())
        };
        let from_outside = |entities: &[(Vec<u8>, Vec<u8>)]| {
            let (entity, _) = &entities[number / self.kinds.len() % entities.len()];
            Letter { from: erin, to: bob, subject: &subject }.carrying(entity)
        };
        match kind {
            0 => of(alice, &[NOBODY], text(alice, NOBODY)),
            1 => of(carol, &[NOBODY], text(carol, NOBODY)),
            2 => of(carol, &[erin], text(carol, erin)),
            // Dora is named nowhere, and gets a copy of her own.
            3 => of(alice, &[erin, &self.dora.address], text(alice, erin)),
            4 => of(erin, &[bob], from_outside(&self.sealed)),
            5 => of(erin, &[bob], from_outside(&self.signed)),
            // It is encrypted to bob, and opened for him alone.
            6 => of(erin, &[alice, bob], from_outside(&self.sealed)),
            // Short lines: Postfix would fold long ones.
            _ => {
                let line = format!("So lang wie der Tag, zum {number}. Mal.\r\n");
                let text = line.repeat(10 + number % 500);
                of(erin, &[alice, bob], Letter { from: erin, to: bob, subject: &subject }.text(&text))
            }
        }
    }

    /// What arrived has the form that its number stands for. Gives that, with each of its recipients.
    pub(crate) fn check(&self, lab: &Lab, openssl: &OpenSsl, mail: &Delivered) -> Vec<ForOne> {
        let subject = mime::values(&mail.octets, "subject").remove(0);
        let number: usize = subject.strip_prefix("Mail ").unwrap().parse().unwrap();
        let sent = self.mail(lab, number);
        let content =
            |entities: &[(Vec<u8>, Vec<u8>)]| entities[number / self.kinds.len() % entities.len()].1.clone();
        match self.kind(number) {
            0 | 1 => assert_same_content(&openssl.verify(&mail.octets).unwrap(), &sent.octets),
            2 | 3 => {
                let person = if mail.to == [lab.erin.address.as_str()] { &lab.erin } else { &self.dora };
                assert_eq!(mail.to, [person.address.as_str()], "{number}");
                assert_eq!(openssl.count_recipients(&mail.octets).unwrap(), 1, "{number}");
                let opened = openssl.decrypt(&mail.octets, person).unwrap();
                assert_same_content(&openssl.verify(&opened).unwrap(), &sent.octets);
            }
            6 if mail.to == [lab.alice.address.as_str()] => assert_untouched(mail, &sent.octets),
            4 | 6 => {
                assert_eq!(mail.to, [lab.bob.address.as_str()], "{number}");
                assert_same_content(&mail.octets, &content(&self.sealed));
            }
            5 => {
                assert_eq!(verdict(mail), "pass", "{number}");
                assert_same_content(&openssl.verify(&mail.octets).unwrap(), &content(&self.signed));
            }
            _ => assert!(mail.octets.ends_with(&sent.octets), "{number} was changed: {mail:?}"),
        }
        mail.to.iter().map(|to| (number, to.clone())).collect()
    }
}

/// Whether a mail is a copy, which came by the server for these.
pub(crate) fn is_copy(mail: &Delivered) -> bool {
    mime::values(&mail.octets, "received").first().is_some_and(|received| received.contains("[127.0.0.1]"))
}
