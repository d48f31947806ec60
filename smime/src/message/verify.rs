//! What a signed message is worth: the rules of RFC 8551, RFC 8550 and of what went wrong elsewhere.
//!
//! `pass` needs all of this: the root is the signed entity; every signer's signature covers exactly that
//! entity, with signed attributes; every signer's certificate leads to an anchor for e-mail and is not
//! revoked; and one of them has the single From address. Everything else has a word of its own.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use super::{
    AuthResult, Finding, Form, LayerReport, Reason, Signature, SignerReport, Verdict, Wrapped,
    layer::{head, joined_if_smime, kept_if_smime},
    signed_octets,
    signer::{Examiner, MAX_CANDIDATES},
};
use crate::{
    Certificate, MailAddress, Room,
    capabilities::Capabilities,
    cms::{EncryptionKeyPreference, Object, SignedAttributes, SignedData},
    mime::{Claimed, MAX_DEPTH, MimeEntity, TransferEncoding},
    path::{Budget, PathError, RevocationMode, Trust, ValidPath},
    revocation::Evidence,
};

/// A signer whose signature, certificate and path were checked: only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedSigner {
    pub(super) certificate: Certificate,
    pub(super) path: ValidPath,
    pub(super) attributes: Option<Arc<SignedAttributes>>,
    /// All certificates of the message.
    pub(super) certificates: Arc<[Certificate]>,
    /// Those of them that the signer wants to be encrypted to, once somebody has asked.
    pub(super) encryption_certificates: OnceLock<Vec<Certificate>>,
}

impl VerifiedSigner {
    /// The signer's certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its path.
    pub fn path(&self) -> &ValidPath {
        &self.path
    }

    /// What the signer says its mail program can open, where it does (RFC 8551 2.5.2).
    pub fn capabilities(&self) -> Option<&Capabilities> {
        self.attributes.as_ref()?.capabilities()
    }

    /// When the signer says it signed (RFC 8551 2.5.1). The signer chooses it freely.
    pub fn signing_time(&self) -> Option<SystemTime> {
        self.attributes.as_ref()?.signing_time()
    }

    /// The certificate that the signer wants to be encrypted to, by its name, where it says so (RFC 8551 2.5.3).
    pub fn encryption_key_preference(&self) -> Option<&EncryptionKeyPreference> {
        self.attributes.as_ref()?.encryption_key_preference()
    }

    /// The certificates of the message that have the name in [`Self::encryption_key_preference`]: most often the
    /// signer's own, or another of the same person.
    ///
    /// Only the name is signed. Whether one of these is a good certificate, of this signer's address and for
    /// encryption, is to be found out like for any other: [`crate::path::validate`], [`crate::cms::RecipientKey`]. There
    /// are several only where one is a forgery, or a certification authority gave a number or a key twice.
    pub fn encryption_certificates(&self) -> &[Certificate] {
        self.encryption_certificates.get_or_init(|| {
            let Some(named) = self.encryption_key_preference() else { return Vec::new() };
            let preferred = self.certificates.iter().filter(|other| named.names(other));
            preferred.take(MAX_CANDIDATES).cloned().collect()
        })
    }

    /// The same with nothing else of the message than what can be asked of this: it may be kept for long.
    #[must_use]
    pub fn settled(mut self) -> Self {
        self.encryption_certificates();
        self.certificates = Arc::default();
        self.attributes = self.attributes.map(|attributes| Arc::new(attributes.settled()));
        self
    }

    fn is(&self, sender: &MailAddress) -> bool {
        self.certificate.has_address(sender)
    }
}

/// Verifies an entity's signature for who the message says it is from, at the time `at`: the mailbox in From, or as
/// [`Claimed::of`] has it.
///
/// The outermost signature decides: it covers all that is shown. Around it there may be compression, which
/// anybody can undo. What is inside it is looked at and reported, layer by layer, as far as no key is needed.
///
/// The signers that were found good are returned beside the verdict, which may still not be `pass`:
/// none of them need be the sender.
pub fn verify(
    entity: &MimeEntity<'_>,
    claimed: impl Into<Claimed>,
    trust: &Trust,
    at: SystemTime,
) -> (Verdict, Vec<VerifiedSigner>) {
    let room = Room::of(entity.octets().len());
    verify_within(&mut Budget::default(), room, entity, claimed, trust, at)
}

/// Like [`verify`], with the budget in the caller's hands, and in the room that is left of the message that the entity was
/// found in. Where the budget is exceeded the verdict is never `pass`: not everything was looked at.
pub fn verify_within(
    budget: &mut Budget,
    room: Room,
    entity: &MimeEntity<'_>,
    claimed: impl Into<Claimed>,
    trust: &Trust,
    at: SystemTime,
) -> (Verdict, Vec<VerifiedSigner>) {
    verdict_of(budget, claimed.into(), trust, at, |walk| walk.look(entity, 0, room))
}

/// Like [`verify_within`], of a message whose outermost layer was read before.
pub fn verify_read(
    budget: &mut Budget,
    signature: &Signature<'_, '_>,
    claimed: impl Into<Claimed>,
    trust: &Trust,
    at: SystemTime,
) -> (Verdict, Vec<VerifiedSigner>) {
    verdict_of(budget, claimed.into(), trust, at, |walk| walk.look_at_clear(signature, 0))
}

fn verdict_of(
    budget: &mut Budget,
    claimed: Claimed,
    trust: &Trust,
    at: SystemTime,
    look: impl FnOnce(&mut Walk<'_>),
) -> (Verdict, Vec<VerifiedSigner>) {
    let mut walk = Walk { budget, claimed, trust, at, layers: Vec::new(), decided: None };
    look(&mut walk);
    let Walk { budget, layers, decided, .. } = walk;
    let Decided { reason, part, sender, verified } = decided.unwrap_or(Decided::without(Reason::NotSigned));
    let mut verdict = Verdict::new(reason, part, layers);
    if let Some(sender) = sender {
        verdict = verdict.with_sender(sender);
    }
    if budget.is_exceeded() && verdict.result() == AuthResult::Pass {
        verdict = verdict.at_best(Reason::Path(PathError::TooManyChecks));
    }
    (verdict, verified)
}

/// A walk from the outermost layer inwards.
struct Walk<'a> {
    budget: &'a mut Budget,
    claimed: Claimed,
    trust: &'a Trust,
    at: SystemTime,
    layers: Vec<LayerReport>,
    /// Set by the outermost signature, or by what stands in its place.
    decided: Option<Decided>,
}

struct Decided {
    reason: Reason,
    part: Option<&'static str>,
    sender: Option<MailAddress>,
    verified: Vec<VerifiedSigner>,
}

impl Decided {
    fn without(reason: Reason) -> Self {
        Self { reason, part: None, sender: None, verified: Vec::new() }
    }
}

/// What is trusted, and beside it the CRLs and OCSP responses that came with the signatures.
fn with_evidence<'a>(trust: &'a Trust, signed_data: &SignedData<'_>, mut room: Room) -> Cow<'a, Trust> {
    if signed_data.crls().is_empty() || trust.revocation == RevocationMode::Off {
        return Cow::Borrowed(trust);
    }
    Cow::Owned(trust.with_evidence(Evidence::from_cms(&signed_data.crls_within(&mut room))))
}

impl Walk<'_> {
    /// Decides without signers, unless a layer further out has decided.
    fn settle(&mut self, reason: Reason) {
        self.decided.get_or_insert(Decided::without(reason));
    }

    fn look(&mut self, entity: &MimeEntity<'_>, depth: usize, before: Room) {
        let mut room = before;
        let wrapped = match Wrapped::read_within(entity, &mut room) {
            Ok(Some(wrapped)) => wrapped,
            Ok(None) => return self.settle(Reason::NotSigned),
            Err(error) => return self.settle(Reason::Unreadable(error.to_string())),
        };
        if depth >= MAX_DEPTH {
            return self.settle(Reason::Unreadable(format!("S/MIME is nested deeper than {MAX_DEPTH}")));
        }
        match wrapped {
            Wrapped::Clear { content, object } => {
                self.look_at_clear(&Signature::parse(content, &object, room), depth);
            }
            Wrapped::Opaque(object) => match self.inside_opaque(&object, depth, room) {
                Ok(Some(content)) => {
                    drop(object);
                    let room = before.without(content.len());
                    self.look(&MimeEntity::parse(&content), depth + 1, room);
                }
                Ok(None) => {}
                Err(reason) => self.settle(reason),
            },
        }
    }

    fn look_at_clear(&mut self, signature: &Signature<'_, '_>, depth: usize) {
        let mut room = signature.room;
        match &signature.object {
            Ok(Object::SignedData(signed_data)) => {
                let signed = match signed_octets(&signature.content, &mut room) {
                    Ok(signed) => signed,
                    Err(error) => return self.settle(Reason::Unreadable(error.to_string())),
                };
                if self.look_at_signed(Form::MultipartSigned, signed_data, Some(&signed), depth, room) {
                    self.look(&MimeEntity::parse(&signed), depth + 1, room);
                }
            }
            Ok(Object::EnvelopedData(_)) => self.settle(Reason::Encrypted),
            Ok(Object::CompressedData(_)) => {
                self.settle(Reason::Unreadable("the signature is compressed content".to_owned()));
            }
            Err(error) => self.settle(Reason::Unreadable(error.to_string())),
        }
    }

    /// Looks at an object that has its content in it, and returns that where there may be another layer in it.
    fn inside_opaque(
        &mut self,
        object: &[u8],
        depth: usize,
        mut room: Room,
    ) -> Result<Option<Vec<u8>>, Reason> {
        match Object::parse_within(object, room).map_err(unreadable)? {
            Object::SignedData(signed_data) => {
                let is_whole = self.look_at_signed(Form::SignedData, &signed_data, None, depth, room);
                match signed_data.content() {
                    Some(content) if is_whole => joined_if_smime(content, room).map_err(unreadable),
                    _ => Ok(None),
                }
            }
            Object::EnvelopedData(_) => {
                self.layers.push(LayerReport::without_signers(Form::EnvelopedData, Reason::Encrypted));
                Err(Reason::Encrypted)
            }
            Object::CompressedData(compressed) => {
                let content = compressed.decompress_within(&mut room).map_err(unreadable)?;
                self.layers.push(LayerReport::without_signers(Form::CompressedData, Reason::NotSigned));
                kept_if_smime(content, room).map_err(unreadable)?.map(Some).ok_or(Reason::NotSigned)
            }
        }
    }

    /// Judges one signed layer; whether there is a reason to look at what it covers.
    fn look_at_signed(
        &mut self,
        form: Form,
        signed_data: &SignedData<'_>,
        detached: Option<&[u8]>,
        depth: usize,
        room: Room,
    ) -> bool {
        if signed_data.signer_infos().is_empty() {
            self.settle(Reason::CertificatesOnly);
            return false;
        }
        // The IMAP section of the signature: part 2 of multipart/signed, or the body of a single part. What is
        // compressed has no sections.
        let part = if form == Form::MultipartSigned && depth == 0 { "2" } else { "1" };
        let beside = detached.map(|content| [content]);
        let content = match (&beside, signed_data.content()) {
            (Some(_), Some(_)) => Err(Reason::EmbeddedContent),
            (Some(content), None) => Ok(content.as_slice()),
            (None, Some(segments)) => Ok(segments),
            (None, None) => Err(Reason::NoContent),
        };
        let is_whole = content.is_ok();
        // In a message the octets of a multipart/signed are those on the way; elsewhere binary parts may be of any.
        let is_any = (depth > 0 || detached.is_none())
            && content.as_ref().is_ok_and(|segments| is_binary(segments, room));
        let is_changing = |content: &[&[u8]]| !is_any && changes_on_the_way(content, detached.is_some());
        let (mut report, decided) = match content {
            Err(reason) => (LayerReport::without_signers(form, reason.clone()), Decided::without(reason)),
            Ok(content) => {
                // Half of what is left is for the certificates.
                let room = room.without(room.left() / 2);
                let trust = with_evidence(self.trust, signed_data, room);
                let examiner = Examiner::new(signed_data, Some(content), &trust, self.at, self.budget, room);
                let (signers, verified) = examiner.examine();
                let (mut report, mut decided) = self.judge(form, signers, verified);
                if AuthResult::from(&decided.reason) == AuthResult::Pass && is_changing(content) {
                    report.reason = Reason::NotTransportSafe;
                    decided = Decided { reason: Reason::NotTransportSafe, sender: None, ..decided };
                }
                (report, decided)
            }
        };
        let decided = Decided { part: Some(part), ..decided };
        report.decides = self.decided.is_none();
        self.layers.push(report);
        self.decided.get_or_insert(decided);
        is_whole
    }

    /// Puts the signers' findings together: the worst one decides, and one of them must be the sender.
    fn judge(
        &self,
        form: Form,
        mut signers: Vec<SignerReport>,
        verified: Vec<VerifiedSigner>,
    ) -> (LayerReport, Decided) {
        for signer in &mut signers {
            signer.findings.address = match (&signer.certificate, self.claimed.addresses()) {
                (None, _) => Finding::NotReached,
                (_, Err(error)) => Finding::Bad(Reason::From(error.to_string())),
                (Some(certificate), Ok(mut claimed)) => {
                    let is_bound = claimed.any(|claimed| certificate.has_address(claimed));
                    if is_bound { Finding::Good } else { Finding::Bad(Reason::OtherSender) }
                }
            };
        }
        let worst =
            signers.iter().map(|signer| &signer.reason).max_by_key(|reason| AuthResult::from(*reason));
        let mut reason = worst.cloned().unwrap_or(Reason::CertificatesOnly);
        let mut sender = None;
        if AuthResult::from(&reason) == AuthResult::Pass {
            match self.claimed.addresses() {
                Err(error) => reason = Reason::From(error.to_string()),
                Ok(mut claimed) => {
                    sender =
                        claimed.find(|claimed| verified.iter().any(|signer| signer.is(claimed))).cloned();
                    if sender.is_none() {
                        reason = Reason::OtherSender;
                    }
                }
            }
        }
        let report = LayerReport { form, reason: reason.clone(), signers, decides: false };
        (report, Decided { reason, part: None, sender, verified })
    }
}

fn unreadable(error: impl std::fmt::Display) -> Reason {
    Reason::Unreadable(error.to_string())
}

/// Whether a signed content is labelled as one whose octets mean what its type says, and not lines of text.
fn is_binary(content: &[&[u8]], room: Room) -> bool {
    let Ok(head) = head(content, room) else { return false };
    let entity = MimeEntity::parse(&head);
    entity.transfer_encoding() == Ok(TransferEncoding::Binary)
        && entity
            .content_type()
            .is_ok_and(|content_type| !content_type.media().to_ascii_lowercase().starts_with("text/"))
}

/// Whether a signed content holds what no agent may send (RFC 5321 2.3.8, RFC 5322 2.3) and readers take for different
/// things: a NUL, which ends the text for some, or a CR without LF, which is a line end for some. Long lines and 8-bit
/// text are against the rules too: an MTA that breaks a long line of the content breaks the signature for whoever verifies it
/// again, and adds a blank that readers see; what they say of fields is looked at where fields are read. And a CR that nothing follows is no line end that somebody
/// could see text behind (NSS ends an opaque content in one).
fn changes_on_the_way(content: &[&[u8]], is_followed: bool) -> bool {
    let mut after_cr = false;
    for segment in content {
        let (Some((first, next)), Some(last)) = (segment.split_first(), segment.last()) else { continue };
        if after_cr && *first != b'\n' || *last == 0 {
            return true;
        }
        after_cr = *last == b'\r';
        #[expect(
            clippy::needless_bitwise_bool,
            reason = "without branches many octets are looked at in one step"
        )]
        let is_bad = |bad, (one, next): (&u8, &u8)| bad | (*one == 0) | ((*one == b'\r') & (*next != b'\n'));
        if segment.iter().zip(next).fold(false, is_bad) {
            return true;
        }
    }
    after_cr && is_followed
}
