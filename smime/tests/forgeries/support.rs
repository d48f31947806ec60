//! What the forgeries are made with, and the two verifiers that look at them: this crate and OpenSSL.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use const_oid::db::rfc5911;
use smime::{
    Certificate,
    ber::Tag,
    cms::{self},
    key::{Digest, SignatureInput, Signer},
    message::{AuthResult, Verdict, verify},
    mime::{Message, encode_base64, single_originator},
    path::Trust,
    testing::{
        Node,
        fixtures::{certificate, data, key, now, trust},
    },
};
use testkit::Workdir;

/// What alice signed.
pub(crate) const TEXT: &str = "Content-Type: text/plain\r\n\r\nHello, Bob.\r\n";
/// What she did not.
pub(crate) const FORGED: &str = "Content-Type: text/plain\r\n\r\nPay Mallory.\r\n";
pub(crate) const ALICE: &str = "alice@example.org";

pub(crate) fn base64(octets: &[u8]) -> String {
    String::from_utf8(encode_base64(octets)).unwrap()
}

/// A mail with this entity as its root.
pub(crate) fn mail(from: &str, entity: &str) -> String {
    format!("From: {from}\r\nTo: bob@example.org\r\nMIME-Version: 1.0\r\n{entity}")
}

/// A `multipart/signed` entity around `content`.
pub(crate) fn clear(content: &str, object: &[u8]) -> String {
    format!(
        "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=b\r\n\
         \r\n--b\r\n{content}\r\n--b\r\n\
         Content-Type: application/pkcs7-signature; name=smime.p7s\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
        base64(object)
    )
}

/// An `application/pkcs7-mime` entity.
pub(crate) fn opaque(smime_type: &str, object: &[u8]) -> String {
    format!(
        "Content-Type: application/pkcs7-mime; smime-type={smime_type}; name=smime.p7m\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        base64(object)
    )
}

/// What this crate says of a mail.
pub(crate) fn verdict_with(mail: &str, trust: &Trust) -> Verdict {
    let message = Message::from_stored(mail.as_bytes());
    let entity = message.entity();
    verify(&entity, single_originator(&entity), trust, now()).0
}

pub(crate) fn verdict(mail: &str) -> Verdict {
    verdict_with(mail, &trust())
}

/// The verdict must be this word for a reason that says this, and never `pass`.
#[track_caller]
pub(crate) fn refused(what: &str, verdict: &Verdict, result: AuthResult, reason: &str) {
    assert_ne!(verdict.result(), AuthResult::Pass, "{what}");
    assert_eq!(verdict.result(), result, "{what}: {}", verdict.reason());
    assert!(verdict.reason().to_string().contains(reason), "{what}: {}", verdict.reason());
}

/// A detached SignedData over `content`, with the signer's certificate and that of its CA.
pub(crate) fn signature(signer: &str, content: &str) -> Vec<u8> {
    let issuer = if signer == "mallory" { "other-root" } else { "ca" };
    let digest = |algorithm| Digest::of(algorithm, content.as_bytes());
    cms::sign(digest, &key(signer), &[certificate(issuer)], now()).unwrap()
}

/// A SignedData to be changed: the paths into it are those of RFC 5652 section 5.
#[derive(Clone)]
pub(crate) struct Signed(pub(crate) Node);

const SIGNED_DATA: [usize; 2] = [1, 0];

impl Signed {
    pub(crate) fn of(object: &[u8]) -> Self {
        Self(Node::parse(object))
    }

    fn field(&mut self, position: usize) -> &mut Node {
        self.0.at(&SIGNED_DATA).at(&[position])
    }

    pub(crate) fn digest_algorithms(&mut self) -> &mut Vec<Node> {
        self.field(1).nodes()
    }

    /// The certificates, which must be there.
    pub(crate) fn certificates(&mut self) -> &mut Vec<Node> {
        self.field(3).nodes()
    }

    pub(crate) fn signers(&mut self) -> &mut Vec<Node> {
        self.field(4).nodes()
    }

    /// version, sid, digestAlgorithm, signedAttrs, signatureAlgorithm, signature of the first signer.
    pub(crate) fn signer(&mut self) -> &mut Vec<Node> {
        self.signers().first_mut().unwrap().nodes()
    }

    pub(crate) fn attributes(&mut self) -> &mut Vec<Node> {
        self.signer()[3].nodes()
    }

    /// The one attribute of a type.
    pub(crate) fn attribute(&mut self, oid: der::asn1::ObjectIdentifier) -> &mut Node {
        let oid = Node::oid(oid);
        self.attributes().iter_mut().find(|attribute| *attribute.get(&[0]) == oid).unwrap()
    }

    /// Puts a content into it, or takes it out.
    pub(crate) fn with_content(mut self, content: Option<&[u8]>) -> Self {
        let mut fields = vec![Node::oid(rfc5911::ID_DATA)];
        let octets = content.map(Node::octet_string);
        fields.extend(octets.map(|octets| Node::constructed(Tag::context(0), [octets])));
        *self.field(2) = Node::sequence(fields);
        self
    }

    /// Signs the attributes as they are now with a key, in DER's order.
    pub(crate) fn sign_again(mut self, signer: &str) -> Self {
        self.attributes().sort_by_key(Node::to_der);
        let attributes = self.signer()[3].tagged(Tag::SET).to_der();
        let key = key(signer);
        let algorithm = key.algorithms()[0];
        let signature = key.sign(&SignatureInput::of(algorithm, &attributes), algorithm).unwrap();
        self.signer()[5] = Node::octet_string(signature.0);
        self
    }

    pub(crate) fn to_der(&self) -> Vec<u8> {
        self.0.to_der()
    }
}

/// What OpenSSL made of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpenSsl {
    /// It is content, and this is what it gave.
    Accepts(Vec<u8>),
    /// It is not, and this is what it had written before it found out.
    Refuses(Vec<u8>),
}

impl OpenSsl {
    #[track_caller]
    pub(crate) fn accepts(&self, what: &str, content: &str) {
        let Self::Accepts(octets) = self else { unreachable!("OpenSSL refuses {what}: {self:?}") };
        let text = String::from_utf8_lossy(octets).replace("\r\n", "\n");
        assert!(text.contains(&content.replace("\r\n", "\n")), "{what}: {text}");
        println!("OpenSSL accepts {what}; refused here");
    }

    #[track_caller]
    pub(crate) fn refuses(&self, what: &str) {
        assert!(matches!(self, Self::Refuses(_)), "OpenSSL accepts {what}: {self:?}");
        println!("OpenSSL refuses {what}, as is done here");
    }

    /// For what depends on the release: it is said what the one on this machine does.
    pub(crate) fn is_told(&self, what: &str) {
        let word = if matches!(self, Self::Accepts(_)) { "accepts" } else { "refuses" };
        println!("OpenSSL {} {word} {what}; refused here", openssl_version().join("."));
    }
}

/// Major, minor and patch.
fn openssl_version() -> [String; 3] {
    let output = Command::new("openssl").arg("version").output().unwrap().stdout;
    let output = String::from_utf8(output).unwrap();
    let mut numbers = output.split([' ', '.']).skip(1).map(str::to_owned);
    [(); 3].map(|()| numbers.next().unwrap_or_default())
}

/// Whether this is a 3.0 before the release with the fixes of January to June 2026 for CMS.
pub(crate) fn openssl_is_before_3_0_20() -> bool {
    let [major, minor, patch] = openssl_version();
    major == "3" && minor == "0" && patch.parse::<u32>().is_ok_and(|patch| patch < 20)
}

/// A file among the fixtures.
pub(crate) fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testing/data").join(file)
}

fn openssl(name: &str, input: &[u8], command: &mut Command) -> OpenSsl {
    let workdir = Workdir::new(name).unwrap();
    let (from, to) = (workdir.file("in", input).unwrap(), workdir.join("out"));
    let finished = command.arg("-in").arg(from).arg("-out").arg(&to).output().unwrap();
    let written = std::fs::read(to).unwrap_or_default();
    if finished.status.success() { OpenSsl::Accepts(written) } else { OpenSsl::Refuses(written) }
}

fn cms_command() -> Command {
    let mut command = Command::new("openssl");
    command.env("OPENSSL_CONF", "/dev/null").arg("cms");
    command
}

/// `openssl cms -verify` of a mail, with the fixtures' root as the only anchor.
pub(crate) fn openssl_verifies(name: &str, mail: &str, options: &[&str]) -> OpenSsl {
    openssl_verifies_with(name, mail, &[certificate("root")], options)
}

/// The same with other anchors.
pub(crate) fn openssl_verifies_with(
    name: &str,
    mail: &str,
    anchors: &[Certificate],
    options: &[&str],
) -> OpenSsl {
    let workdir = Workdir::new(&format!("{name}-anchors")).unwrap();
    let mut pem = String::new();
    for anchor in anchors {
        let text: Vec<_> = base64(anchor.der()).split_whitespace().map(str::to_owned).collect();
        pem.extend(["-----BEGIN CERTIFICATE-----\n", &text.join("\n"), "\n-----END CERTIFICATE-----\n"]);
    }
    let file = workdir.file("anchors.pem", pem).unwrap();
    let seconds = now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string();
    let mut command = cms_command();
    command.args(["-verify", "-attime", &seconds, "-CAfile"]).arg(file).args(options);
    openssl(name, mail.as_bytes(), &mut command)
}

/// `openssl cms -decrypt` of an object with a fixture's key.
pub(crate) fn openssl_decrypts(name: &str, object: &[u8], recipient: &str) -> OpenSsl {
    let mut command = cms_command();
    command.args(["-decrypt", "-binary", "-inform", "DER", "-keyform", "DER", "-recip"]);
    command.arg(fixture(&format!("{recipient}.pem")));
    command.arg("-inkey").arg(fixture(&format!("{recipient}.p8")));
    openssl(name, object, &mut command)
}

/// The fixtures' text is the one that is signed and encrypted here.
#[test]
fn the_fixtures_hold_the_text_that_is_forged() {
    assert_eq!(data("entity.txt"), TEXT.as_bytes());
    assert_eq!(verdict(&mail(ALICE, &clear(TEXT, &signature("alice", TEXT)))).result(), AuthResult::Pass);
    assert_eq!(Signed::of(&signature("alice", TEXT)).sign_again("alice").to_der(), signature("alice", TEXT));
    assert!(now() > SystemTime::UNIX_EPOCH);
}
