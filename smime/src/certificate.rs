//! An X.509 certificate beside its exact octets.
//!
//! The octets are kept because decoding and encoding again may change them, and signatures and
//! fingerprints are over the octets. Which paths to trust is not decided here but in [`crate::path`].

mod met;

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    hash,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use der::{Decode, Encode, asn1::ObjectIdentifier, oid::AssociatedOid};
use x509_cert::{
    ext::pkix::{
        AuthorityKeyIdentifier, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
        name::GeneralName,
    },
    name::Name,
};

use crate::{
    MailAddress,
    address::is_invisible,
    algorithm::DigestAlgorithm,
    ber::{BerError, Tag, Tree, write_header},
    key::Digest,
    path::PreparedName,
    public_key::KnownKey,
};

/// A certificate. Cloning shares it.
#[derive(Clone)]
pub struct Certificate {
    inner: Arc<Inner>,
}

struct Inner {
    der: Vec<u8>,
    decoded: x509_cert::Certificate,
    fingerprint: [u8; 32],
    /// The subject's and the issuer's name, once they were compared.
    prepared: OnceLock<[PreparedName; 2]>,
    /// How it is shown, once it was.
    shown: OnceLock<String>,
    /// What was found out of its public key.
    key: KnownKey,
    /// Its mail addresses, once they were asked for; `None` where there are too many to be kept.
    addresses: OnceLock<Option<Vec<MailAddress>>>,
}

/// Why octets are not a certificate.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// They do not decode.
    #[error("not an X.509 certificate: {0}")]
    Malformed(der::Error),
    /// The PEM text holds no certificate.
    #[error("no BEGIN CERTIFICATE line: this is not a PEM file of certificates")]
    Empty,
    /// A PEM block does not end.
    #[error("a BEGIN CERTIFICATE line without its END CERTIFICATE")]
    Unterminated,
    /// A PEM block is not base64.
    #[error("between BEGIN CERTIFICATE and END CERTIFICATE is no base64: {0}")]
    Base64(data_encoding::DecodeError),
}

impl Certificate {
    /// Decodes one certificate, unless it was met before.
    pub fn from_der(octets: &[u8]) -> Result<Self, CertificateError> {
        met::or_decode(octets, || Self::decode(octets.to_vec()))
    }

    /// Decodes one certificate as if it had never been met, and does not remember it: for those of which there are very
    /// many, as of recipients. Where each is another one, to remember them costs more than to decode them.
    pub fn decode(octets: Vec<u8>) -> Result<Self, CertificateError> {
        let decoded = x509_cert::Certificate::from_der(&octets)
            .or_else(|error| decode_from_1970(&octets).ok_or(error))
            .map_err(CertificateError::Malformed)?;
        let digest = Digest::of(DigestAlgorithm::Sha256, &octets);
        let fingerprint = digest.as_bytes().try_into().unwrap_or([0; 32]);
        Ok(Self {
            inner: Arc::new(Inner {
                der: octets,
                decoded,
                fingerprint,
                prepared: OnceLock::new(),
                shown: OnceLock::new(),
                key: KnownKey::default(),
                addresses: OnceLock::new(),
            }),
        })
    }

    /// Decodes all certificates of a PEM file, in its order; text around them is passed over.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, CertificateError> {
        let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
        let chain: Vec<Self> = blocks
            .map(|block| {
                let (base64, _) =
                    block.split_once("-----END CERTIFICATE-----").ok_or(CertificateError::Unterminated)?;
                let packed: Vec<u8> = base64.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
                let der = data_encoding::BASE64.decode(&packed).map_err(CertificateError::Base64)?;
                Self::from_der(&der)
            })
            .collect::<Result<_, _>>()?;
        if chain.is_empty() { Err(CertificateError::Empty) } else { Ok(chain) }
    }

    /// The exact octets.
    pub fn der(&self) -> &[u8] {
        &self.inner.der
    }

    /// The decoded structure.
    pub fn decoded(&self) -> &x509_cert::Certificate {
        &self.inner.decoded
    }

    /// SHA-256 over the octets.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.inner.fingerprint
    }

    /// What was found out of its public key so far.
    pub(crate) fn known_key(&self) -> &KnownKey {
        &self.inner.key
    }

    /// The subject's name.
    pub fn subject(&self) -> &Name {
        self.decoded().tbs_certificate().subject()
    }

    /// The issuer's name.
    pub fn issuer(&self) -> &Name {
        self.decoded().tbs_certificate().issuer()
    }

    fn prepared(&self) -> &[PreparedName; 2] {
        self.inner.prepared.get_or_init(|| [self.subject(), self.issuer()].map(PreparedName::of))
    }

    /// The subject's name, for comparisons (RFC 5280 7.1).
    pub(crate) fn prepared_subject(&self) -> &PreparedName {
        let [subject, _] = self.prepared();
        subject
    }

    /// The issuer's name, for comparisons (RFC 5280 7.1).
    pub(crate) fn prepared_issuer(&self) -> &PreparedName {
        let [_, issuer] = self.prepared();
        issuer
    }

    /// Whether this is the issuer's name, as RFC 5280 7.1 compares names: a CA may spell its name in several ways.
    pub fn is_issued_by(&self, name: &Name) -> bool {
        PreparedName::of(name).is(self.prepared_issuer())
    }

    /// Whether another certificate is of the same name and the same key, as a cross certificate is.
    pub fn is_same_authority(&self, other: &Self) -> bool {
        self.public_key() == other.public_key() && self.prepared_subject().is(other.prepared_subject())
    }

    /// Whether issuer and subject have the same name (RFC 5280 3.2). The keys may still be different.
    pub fn is_self_issued(&self) -> bool {
        self.prepared_subject().is(self.prepared_issuer())
    }

    /// The serial number's octets.
    pub fn serial_number(&self) -> &[u8] {
        self.decoded().tbs_certificate().serial_number().as_bytes()
    }

    /// The serial number in hexadecimal, as logs and reports show it.
    pub fn serial_hex(&self) -> String {
        data_encoding::HEXUPPER.encode(self.serial_number())
    }

    /// `IssuerAndSerialNumber` (RFC 5652 10.2.4) in the octets of the certificate.
    pub(crate) fn issuer_and_serial_number(&self) -> Result<Vec<u8>, BerError> {
        let tree = Tree::parse(self.der())?;
        let signed = tree.root().children().required("tbsCertificate")?;
        let mut fields = signed.children();
        fields.optional_context(0);
        let serial = fields.required("serialNumber")?;
        fields.required("signature")?;
        let parts = [fields.required("issuer")?.octets(), serial.octets()].concat();
        let mut out = Vec::with_capacity(parts.len() + 4);
        write_header(Tag::SEQUENCE, parts.len(), &mut out);
        out.extend(parts);
        Ok(out)
    }

    /// The first moment of the validity period (RFC 5280 4.1.2.5).
    pub fn not_before(&self) -> SystemTime {
        self.decoded().tbs_certificate().validity().not_before.to_system_time()
    }

    /// The last moment of the validity period (RFC 5280 4.1.2.5).
    pub fn not_after(&self) -> SystemTime {
        self.decoded().tbs_certificate().validity().not_after.to_system_time()
    }

    /// Whether a time lies in the validity period, which says nothing of the path or of revocation.
    pub fn is_valid_at(&self, at: SystemTime) -> bool {
        self.not_before() <= at && at <= self.not_after()
    }

    /// The `SubjectPublicKeyInfo` in DER.
    pub fn public_key_info(&self) -> Vec<u8> {
        self.decoded().tbs_certificate().subject_public_key_info().to_der().unwrap_or_default()
    }

    /// Octets of the subject public key's BIT STRING: `RSAPublicKey`, or an EC point.
    pub fn public_key(&self) -> &[u8] {
        self.decoded().tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes()
    }

    /// The algorithm of the subject public key.
    pub fn key_algorithm(&self) -> ObjectIdentifier {
        self.decoded().tbs_certificate().subject_public_key_info().algorithm.oid
    }

    /// An extension, decoded. `None` where it is absent, an error where it is malformed.
    pub fn extension<T: AssociatedOid + for<'a> Decode<'a, Error = der::Error>>(
        &self,
    ) -> Result<Option<T>, der::Error> {
        let extensions = self.decoded().tbs_certificate().extensions();
        match extensions.into_iter().flatten().find(|e| e.extn_id == T::OID) {
            Some(extension) => T::from_der(extension.extn_value.as_bytes()).map(Some),
            None => Ok(None),
        }
    }

    /// The subjectKeyIdentifier extension's octets.
    pub fn subject_key_identifier(&self) -> Option<Vec<u8>> {
        let identifier: SubjectKeyIdentifier = self.extension().ok()??;
        Some(identifier.0.into_bytes().into())
    }

    /// The key identifier of its issuer, as the authorityKeyIdentifier extension gives it: a hint (RFC 5280 4.2.1.1).
    pub fn authority_key_identifier(&self) -> Option<Vec<u8>> {
        let identifier: AuthorityKeyIdentifier = self.extension().ok()??;
        Some(identifier.key_identifier?.into_bytes().into())
    }

    /// The mail addresses (RFC 8550 section 3): rfc822Names and SmtpUTF8Mailboxes of subjectAltName and, where it has
    /// neither, the emailAddress attributes of the subject. What is no address in its exact form is left out.
    pub fn addresses(&self) -> Vec<MailAddress> {
        self.known_addresses().into_owned()
    }

    /// Whether this is one of its addresses.
    pub(crate) fn has_address(&self, address: &MailAddress) -> bool {
        self.known_addresses().contains(address)
    }

    fn known_addresses(&self) -> Cow<'_, [MailAddress]> {
        let few = || Some(self.read_addresses()).filter(|addresses| addresses.len() <= MAX_KEPT_ADDRESSES);
        match self.inner.addresses.get_or_init(few) {
            Some(known) => Cow::Borrowed(known),
            None => Cow::Owned(self.read_addresses()),
        }
    }

    fn read_addresses(&self) -> Vec<MailAddress> {
        let Ok(names) = self.extension::<SubjectAltName>() else { return Vec::new() };
        let mut has_mail = false;
        let mut addresses = Vec::new();
        for name in names.iter().flat_map(|names| &names.0) {
            let address = match name {
                GeneralName::Rfc822Name(text) => MailAddress::parse_exact(text.as_str()).ok(),
                GeneralName::OtherName(other) if other.type_id == SMTP_UTF8_MAILBOX => {
                    smtp_utf8_mailbox(&other.value)
                }
                _ => continue,
            };
            has_mail = true;
            addresses.extend(address);
        }
        if has_mail { addresses } else { self.subject_addresses() }
    }

    /// At most 255 characters of ASCII (RFC 8550 section 3), in whatever type of string.
    fn subject_addresses(&self) -> Vec<MailAddress> {
        let attributes = self.subject().iter().filter(|attribute| attribute.oid == EMAIL_ADDRESS);
        attributes
            .map(|attribute| attribute.value.value())
            .filter(|octets| octets.is_ascii() && octets.len() <= MAX_EMAIL_ADDRESS)
            .filter_map(|octets| MailAddress::parse_exact(std::str::from_utf8(octets).ok()?).ok())
            .collect()
    }

    /// Whether keyUsage allows signatures on content (RFC 8550 4.4.2): digitalSignature or
    /// nonRepudiation, or no keyUsage at all.
    pub fn may_sign(&self) -> bool {
        self.key_usage_allows(KeyUsages::DigitalSignature | KeyUsages::NonRepudiation)
    }

    /// Whether keyUsage allows wrapping keys: keyEncipherment or keyAgreement, or no keyUsage at all.
    pub fn may_encrypt(&self) -> bool {
        self.key_usage_allows(KeyUsages::KeyEncipherment | KeyUsages::KeyAgreement)
    }

    fn key_usage_allows(&self, any_of: der::flagset::FlagSet<KeyUsages>) -> bool {
        match self.extension::<KeyUsage>() {
            Ok(Some(usage)) => !(usage.0 & any_of).is_empty(),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Whether extKeyUsage allows e-mail protection (RFC 8550 4.4.4): emailProtection or
    /// anyExtendedKeyUsage, or no extKeyUsage at all.
    pub fn is_for_email(&self) -> bool {
        use const_oid::db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_EMAIL_PROTECTION};
        match self.extension::<ExtendedKeyUsage>() {
            Ok(Some(usage)) => {
                usage.0.iter().any(|oid| *oid == ID_KP_EMAIL_PROTECTION || *oid == ANY_EXTENDED_KEY_USAGE)
            }
            Ok(None) => true,
            Err(_) => false,
        }
    }
}

/// id-on-SmtpUTF8Mailbox (RFC 9598 section 3).
pub(crate) const SMTP_UTF8_MAILBOX: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.9");
/// id-emailAddress (RFC 5280 4.1.2.6).
pub(crate) const EMAIL_ADDRESS: ObjectIdentifier = const_oid::db::rfc3280::EMAIL_ADDRESS;
/// ub-emailaddress-length.
const MAX_EMAIL_ADDRESS: usize = 255;

/// The address of an SmtpUTF8Mailbox, which is for local parts beyond ASCII only (RFC 9598 section 3). Certificates by
/// RFC 8398 may have U-labels in it.
pub(crate) fn smtp_utf8_mailbox(value: &der::Any) -> Option<MailAddress> {
    let text: String = value.decode_as().ok()?;
    MailAddress::parse_exact(&text).ok().filter(MailAddress::is_internationalized)
}

/// Decodes a certificate whose validity begins between 1950 and 1969, which the type does not hold, as if that were the
/// first moment of 1970: no time that is asked for is before.
fn decode_from_1970(octets: &[u8]) -> Option<x509_cert::Certificate> {
    const UTC_TIME: Tag = Tag(0x17);
    let tree = Tree::parse(octets).ok()?;
    let mut fields = tree.root().children().next()?.children();
    fields.optional_context(0);
    let validity = fields.nth(3)?;
    let not_before = validity.children().next()?.expect(UTC_TIME, "UTCTime").ok()?.content();
    let year: u8 = std::str::from_utf8(not_before.get(..2)?).ok()?.parse().ok()?;
    let is_early = (50..70).contains(&year) && not_before.len() == FIRST_OF_1970.len();
    let time = octets.windows(validity.octets().len()).position(|window| window == validity.octets())?;
    let time = time + validity.octets().len() - validity.content().len();
    let mut decoded = octets.to_vec();
    // After the header of the time itself, which is of two octets.
    decoded.get_mut(time + 2..)?.get_mut(..FIRST_OF_1970.len())?.copy_from_slice(FIRST_OF_1970);
    is_early.then(|| x509_cert::Certificate::from_der(&decoded).ok())?
}

const FIRST_OF_1970: &[u8] = b"700101000000Z";

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der() == other.der()
    }
}

impl Eq for Certificate {}

impl hash::Hash for Certificate {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.fingerprint().hash(state);
    }
}

/// Subject, or address where there is none, and serial number: enough for a person to find it. At most
/// about 200 characters without controls, whatever the certificate holds: this is for logs.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.inner.shown.get_or_init(|| self.show()))
    }
}

impl Certificate {
    fn show(&self) -> String {
        let mut name = Short { text: String::new(), left: MAX_SHOWN_NAME };
        // The only error is the end of the room.
        let written = match self.subject() {
            subject if !subject.is_empty() => write!(name, "{subject}"),
            _ => self.addresses().first().map_or(Ok(()), |address| write!(name, "{address}")),
        };
        let (name, more) = (name.text, if written.is_err() { "..." } else { "" });
        let serial = self.serial_number();
        let shown = serial.get(..MAX_SHOWN_SERIAL).unwrap_or(serial);
        let end = if shown.len() < serial.len() { "..." } else { "" };
        format!("\"{name}{more}\" (serial {}{end})", data_encoding::HEXUPPER.encode(shown))
    }
}

/// How many addresses are kept in memory: people have few, and strangers choose what comes.
const MAX_KEPT_ADDRESSES: usize = 16;
/// How many characters of a name are shown.
const MAX_SHOWN_NAME: usize = 120;
/// How many octets of a serial number are shown; RFC 5280 4.1.2.2 allows 20.
const MAX_SHOWN_SERIAL: usize = 32;

/// Takes so many characters and then no more; controls and what hides or turns text become U+FFFD.
struct Short {
    text: String,
    left: usize,
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            let hidden = c.is_control() || is_invisible(c) || matches!(c, '\u{2028}' | '\u{2029}');
            self.text.push(if hidden { char::REPLACEMENT_CHARACTER } else { c });
        }
        Ok(())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({self})")
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use crate::testing::{fixtures::certificate, hostile};

    #[test]
    fn a_mailbox_in_angle_brackets_is_no_address() {
        for (text, addresses) in [
            ("alice@example.org", 1),
            ("<alice@example.org>", 0),
            ("Alice <alice@example.org>", 0),
            ("alice@example.org ", 0),
        ] {
            assert_eq!(hostile::of_mailbox(text).addresses().len(), addresses, "{text}");
        }
    }

    #[test]
    fn a_certificate_is_shown_on_one_short_line_whatever_its_name() {
        assert!(certificate("alice").to_string().starts_with("\"CN=Alice\" (serial "));
        let no_subject = hostile::of_name(None);
        assert!(no_subject.to_string().starts_with("\"alice@example.org\" (serial "));
        let long = hostile::of_name(Some(&"\u{fc}".repeat(1_000_000))).to_string();
        assert!(long.contains("\u{fc}...\" (serial ") && long.chars().count() <= 200, "{long}");
        let controls = hostile::of_name(Some("a\r\nb\u{85}c\u{202e}d\u{2028}e\u{200b}f\"g")).to_string();
        assert!(
            controls.starts_with("\"CN=a\\0d\\0ab\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}f\\\"g\" "),
            "{controls}"
        );
    }
}
