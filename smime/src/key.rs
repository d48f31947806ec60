//! The one joint to private keys: [`Signer`] and [`Decryptor`], and what passes through them.
//!
//! Both block, because PKCS#11 does, and are shared, because many messages use one token. They see a
//! digest, signed attributes, a wrapped key or a public key, never a message.

use std::{borrow::Cow, fmt, time::Duration};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    Certificate, Fault,
    agreement::{Agreed, OriginatorPublicKey},
    algorithm::{DigestAlgorithm, KeyEncryptionAlgorithm, SignatureAlgorithm},
    question::{Question, Reply, UnderWay},
};

/// A private key that signs.
pub trait Signer: fmt::Debug + Send + Sync {
    /// The certificate of the public key.
    fn certificate(&self) -> &Certificate;

    /// What the key can do, best first.
    fn algorithms(&self) -> &[SignatureAlgorithm];

    /// Signs what [`SignatureInput::of`] makes for the algorithm. The value is as a `SignerInfo` wants it:
    /// for ECDSA a DER `Ecdsa-Sig-Value`.
    fn sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
    ) -> Result<SignatureValue, KeyError>;

    /// Gives the outcome of [`Question::Sign`] to a function instead, which must not take long: it may run on a thread
    /// that others need. A key that makes everybody wait does so here too; one that does not blocks at most while
    /// there is no room for the question.
    fn submit(&self, question: Question, reply: Reply) {
        reply(question.ask_signer(self));
    }

    /// The same for those who must not wait at all, not even for room: `None`, and the function is not called, where that
    /// would have to be. The question is withdrawn when what comes back is dropped.
    fn submit_at_once(&self, _: Question, _: Reply) -> Option<UnderWay> {
        None
    }

    /// The labels, as errors name them, of all tokens that are known to have the key; none where it is not known of each token
    /// whether it has. Whoever wraps a signer may leave this as it is.
    fn tokens(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether each signature must be checked with the certificate before it is used, as nearly all must be: a key behind a
    /// label may be another than the certificate's, and what comes of a faulty token, or back over a wire, may be
    /// wrong and give the key away. No may say only a key in this process, in software that answers for its own results,
    /// which was found to be the certificate's; it is then worth what the same key is worth in other programs. Or one that is
    /// none, and whose signatures nobody will see. Whoever
    /// wraps a signer passes its answer on, or leaves this as it is.
    fn must_be_checked(&self) -> bool {
        true
    }
}

/// A private key that unwraps content-encryption keys, or agrees on the keys that do.
pub trait Decryptor: fmt::Debug + Send + Sync {
    /// The certificate of the public key.
    fn certificate(&self) -> &Certificate;

    /// Unwraps an `EncryptedKey` of a `KeyTransRecipientInfo`. A ciphertext that the token finds
    /// ill-formed is [`Unwrapped::Rejected`], a value, not an error (RFC 3218).
    fn decrypt_key(
        &self,
        encrypted_key: &[u8],
        algorithm: &KeyEncryptionAlgorithm,
    ) -> Result<Unwrapped, KeyError>;

    /// Makes the shared secret of this key and the originator's of a `KeyAgreeRecipientInfo` (the bare
    /// x-coordinate of RFC 5753 7.1; key derivation is the caller's). A key that cannot, or is on another
    /// curve, is [`KeyError::Unsupported`].
    fn agree(&self, originator: &OriginatorPublicKey) -> Result<Agreed, KeyError> {
        Err(KeyError::Unsupported {
            certificate: self.certificate().to_string(),
            operation: format!("key agreement on {:?}", originator.curve()),
        })
    }

    /// Gives the outcome of [`Question::Unwrap`] or [`Question::Agree`] to a function; see [`Signer::submit`].
    fn submit(&self, question: Question, reply: Reply) {
        reply(question.ask_decryptor(self));
    }
}

/// What a [`Signer`] signs: a digest, or the octets themselves where the algorithm wants those.
#[derive(Clone, PartialEq, Eq)]
pub enum SignatureInput<'a> {
    /// A digest of the octets: RSA and ECDSA.
    Digest(Digest),
    /// The octets: Ed25519, which passes over them twice (RFC 8032 5.1.6).
    Octets(Cow<'a, [u8]>),
}

impl<'a> SignatureInput<'a> {
    /// What is signed of `octets` by an algorithm.
    pub fn of(algorithm: SignatureAlgorithm, octets: &'a [u8]) -> Self {
        if algorithm.signs_octets() {
            Self::Octets(Cow::Borrowed(octets))
        } else {
            Self::Digest(Digest::of(algorithm.digest(), octets))
        }
    }

    /// The same without borrowed octets.
    pub fn into_owned(self) -> SignatureInput<'static> {
        match self {
            Self::Digest(digest) => SignatureInput::Digest(digest),
            Self::Octets(octets) => SignatureInput::Octets(Cow::Owned(octets.into_owned())),
        }
    }
}

impl From<Digest> for SignatureInput<'_> {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl fmt::Debug for SignatureInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Octets(octets) => write!(f, "{} octets", octets.len()),
        }
    }
}

/// A message digest with the name of its algorithm.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    algorithm: DigestAlgorithm,
    /// Room for the longest digest; the rest is zero.
    buffer: [u8; 64],
    len: usize,
}

impl Digest {
    /// The digest of `octets`.
    pub fn of(algorithm: DigestAlgorithm, octets: &[u8]) -> Self {
        Self::of_segments(algorithm, [octets])
    }

    /// The digest of segments, one after the other, without joining them.
    pub fn of_segments<'a>(algorithm: DigestAlgorithm, segments: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let Some(engine) = algorithm.engine() else {
            let mut context = md5::Md5::default();
            segments.into_iter().for_each(|segment| md5::Digest::update(&mut context, segment));
            return Self::from_octets(algorithm, &md5::Digest::finalize(context));
        };
        let mut context = aws_lc_rs::digest::Context::new(engine);
        for segment in segments {
            context.update(segment);
        }
        Self::from_octets(algorithm, context.finish().as_ref())
    }

    fn from_octets(algorithm: DigestAlgorithm, octets: &[u8]) -> Self {
        let mut buffer = [0; 64];
        for (to, from) in buffer.iter_mut().zip(octets) {
            *to = *from;
        }
        Self { algorithm, buffer, len: octets.len() }
    }

    /// The digest as the engine takes it; `None` for one that it does not have.
    pub(crate) fn imported(&self) -> Option<aws_lc_rs::digest::Digest> {
        let engine = self.algorithm.engine()?;
        aws_lc_rs::digest::Digest::import_less_safe(self.as_bytes(), engine).ok()
    }

    /// A digest that was made elsewhere. `None` where its length is another algorithm's.
    pub fn from_value(algorithm: DigestAlgorithm, value: &[u8]) -> Option<Self> {
        let mut buffer = [0; 64];
        buffer.get_mut(..value.len())?.copy_from_slice(value);
        (value.len() == usize::from(algorithm.output_len())).then_some(Self {
            algorithm,
            buffer,
            len: value.len(),
        })
    }

    /// Which digest this is.
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// The octets of the digest.
    pub fn as_bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.algorithm, data_encoding::HEXLOWER.encode(self.as_bytes()))
    }
}

/// A signature as it stands in `SignerInfo.signature`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureValue(pub Vec<u8>);

/// A content-encryption key: wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ContentEncryptionKey(Zeroizing<Vec<u8>>);

impl ContentEncryptionKey {
    /// Takes over the octets of a key.
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// A random key of `len` octets.
    pub fn random(len: usize) -> Result<Self, KeyError> {
        let mut octets = Zeroizing::new(vec![0; len]);
        aws_lc_rs::rand::fill(&mut octets).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self(octets))
    }

    /// The length in octets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no octets at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is the other one, found out in a time that depends on their lengths alone.
    pub fn is_same_as(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// The octets; every use of this is worth a look.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ContentEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentEncryptionKey([redacted])")
    }
}

/// What a token made of an encrypted key.
#[derive(Clone, Debug)]
pub enum Unwrapped {
    /// It decrypted to this, of whatever length.
    Key(ContentEncryptionKey),
    /// The token found the ciphertext ill-formed.
    Rejected,
}

/// Why a private key could not be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A PKCS#11 function failed.
    #[error("{function} returned {code} on token \"{token}\"")]
    Token {
        /// The `C_` function.
        function: Cow<'static, str>,
        /// The `CKR_` name.
        code: String,
        /// The token's label.
        token: String,
    },
    /// The token is not there: not started, lost, its PIN rejected.
    #[error("token \"{token}\" is not available: {reason}")]
    Unavailable {
        /// The token's label.
        token: String,
        /// What was tried and what came back.
        reason: String,
    },
    /// The token has no private key for the certificate.
    #[error("token \"{token}\" has no private key for certificate {certificate}")]
    NoSuchKey {
        /// The token's label.
        token: String,
        /// The certificate's subject and serial number.
        certificate: String,
    },
    /// The queue to the token is full.
    #[error("{waiting} requests wait for token \"{token}\" already")]
    QueueFull {
        /// The token's label.
        token: String,
        /// The length of the queue.
        waiting: usize,
    },
    /// The token did not answer in time.
    #[error("token \"{token}\" gave no answer within {deadline:?}")]
    Deadline {
        /// The token's label.
        token: String,
        /// How long the caller waited.
        deadline: Duration,
    },
    /// The key, or its certificate, cannot do this.
    #[error("the key of {certificate} cannot do {operation}")]
    Unsupported {
        /// The certificate's subject and serial number.
        certificate: String,
        /// The algorithm asked for.
        operation: String,
    },
    /// Whoever keeps the key does not let it be used so.
    #[error("the key of {certificate} may not be used: {reason}")]
    Refused {
        /// The certificate's subject and serial number.
        certificate: String,
        /// What is not allowed, and to whom.
        reason: String,
    },
    /// The system gave no random octets.
    #[error("no random octets from the system")]
    NoRandomness,
}

impl KeyError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Token { .. }
            | Self::Unavailable { .. }
            | Self::QueueFull { .. }
            | Self::Deadline { .. } => Fault::Transient,
            Self::NoSuchKey { .. } | Self::Unsupported { .. } | Self::Refused { .. } => Fault::Operator,
            Self::NoRandomness => Fault::Internal,
        }
    }
}
