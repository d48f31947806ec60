//! What can be written in a message: who signs how, to whom it is encrypted how, and how the layers lie.

use smime::{
    algorithm::DigestAlgorithm as Hash,
    message::{AuthResult, Reason},
};

/// Somebody with a key; the key is what matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// RSA with 2048 bits.
    Rsa,
    /// Another one.
    Rsa2,
    /// EC keys, which sign and agree.
    P256,
    /// On another curve.
    P384,
    /// On another curve.
    P521,
    /// Signs only.
    Ed25519,
    /// Agrees only.
    X25519,
}

impl Who {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Rsa, Self::Rsa2, Self::P256, Self::P384, Self::P521, Self::Ed25519, Self::X25519];

    /// What they are called everywhere: file names, nicknames, the local part of the address.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Rsa2 => "rsa2",
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::P521 => "p521",
            Self::Ed25519 => "ed25519",
            Self::X25519 => "x25519",
        }
    }

    /// The address in the certificate.
    pub fn address(self) -> String {
        format!("{}@partner.example", self.name())
    }
}

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5.
    Pkcs1(Hash),
    /// RSASSA-PSS with a salt as long as the hash.
    Pss(Hash),
    /// RSASSA-PSS with the longest salt there is room for: OpenSSL's default.
    PssMaximum(Hash),
    /// ECDSA on the key's curve.
    Ecdsa(Hash),
    /// Ed25519.
    Ed25519,
}

impl Scheme {
    /// The digest, also the one that Ed25519 goes with in CMS (RFC 8419 2.3).
    pub fn hash(self) -> Hash {
        match self {
            Self::Pkcs1(hash) | Self::Pss(hash) | Self::PssMaximum(hash) | Self::Ecdsa(hash) => hash,
            Self::Ed25519 => Hash::Sha512,
        }
    }

    /// Whether it is RSASSA-PSS.
    pub fn is_pss(self) -> bool {
        matches!(self, Self::Pss(_) | Self::PssMaximum(_))
    }
}

/// The media types around an object, and the program that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    /// RFC 8551's.
    Usual,
    /// `application/x-pkcs7-…`.
    X,
    /// `application/octet-stream` with a file name (RFC 8551 3.2.1).
    OctetStream,
    /// `application/x-pkcs7-…` around an object that the peer's PKCS #7 v1.5 program makes or reads, where it has one
    /// beside that for CMS.
    Pkcs7,
}

/// A signed layer.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what RFC 5652 lets a signer choose are four yes or no")]
pub struct Signing {
    /// Who signs, and how.
    pub signers: Vec<(Who, Scheme)>,
    /// Whether the content is inside the object.
    pub opaque: bool,
    /// Whether signers are named by subjectKeyIdentifier.
    pub by_key: bool,
    /// Whether there are no signed attributes.
    pub bare: bool,
    /// Whether lengths are indefinite.
    pub ber: bool,
    /// What is around it.
    pub dress: Dress,
    /// Who countersigns each signature (RFC 5652 11.4).
    pub countersigner: Option<(Who, Scheme)>,
    /// What it is worth to us; `None` is `pass`.
    pub reason: Option<Reason>,
}

impl Signing {
    /// Detached, with attributes, by one signer named by issuer and serial number, in DER.
    pub fn by(who: Who, scheme: Scheme) -> Self {
        Self {
            signers: vec![(who, scheme)],
            opaque: false,
            by_key: false,
            bare: false,
            ber: false,
            dress: Dress::Usual,
            countersigner: None,
            reason: None,
        }
    }

    /// The same, opaque.
    #[must_use]
    pub fn opaque(self) -> Self {
        Self { opaque: true, ..self }
    }

    /// The verdict that is wanted.
    pub fn verdict(&self) -> AuthResult {
        self.reason.as_ref().map_or(AuthResult::Pass, AuthResult::from)
    }

    /// Whether any signer does this.
    pub fn any(&self, is: impl Fn(Who, Scheme) -> bool) -> bool {
        self.signers.iter().any(|(who, scheme)| is(*who, *scheme))
    }
}

/// A content-encryption algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES in CBC mode with so many bits.
    AesCbc(u16),
    /// AES in Galois/Counter mode with so many bits.
    AesGcm(u16),
    /// RFC 8103.
    ChaCha20Poly1305,
    /// Triple-DES, which is only read.
    TripleDes,
    /// DES, which is only read.
    Des,
    /// RC2 with so many bits, which is only read.
    Rc2(u16),
}

impl Cipher {
    /// Whether there is a tag.
    pub fn is_authenticated(self) -> bool {
        matches!(self, Self::AesGcm(_) | Self::ChaCha20Poly1305)
    }

    /// Whether it is none to write with.
    pub fn is_old(self) -> bool {
        matches!(self, Self::TripleDes | Self::Des | Self::Rc2(_))
    }
}

/// How a key reaches a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// RSAES-PKCS1-v1_5.
    Pkcs1,
    /// RSAES-OAEP with this hash, also for MGF1.
    Oaep(Hash),
    /// The same with another hash for MGF1: the second one.
    OaepMask(Hash, Hash),
    /// The same with a label.
    OaepLabel(Hash),
    /// Ephemeral-static ECDH, the X9.63 key derivation with this hash, AES Key Wrap with so many bits.
    Ecdh(Hash, u16),
    /// The same with cofactor Diffie-Hellman and AES Key Wrap with 256 bits.
    Cofactor(Hash),
    /// ECDH as in old programs, with Triple-DES Key Wrap.
    TripleDesWrap(Hash),
    /// X25519 with HKDF (RFC 8418).
    Hkdf,
}

impl Way {
    /// Whether it is RSAES-OAEP.
    pub fn is_oaep(self) -> bool {
        matches!(self, Self::Oaep(_) | Self::OaepMask(..) | Self::OaepLabel(_))
    }

    /// Whether it is key agreement on a NIST curve.
    pub fn is_ecdh(self) -> bool {
        matches!(self, Self::Ecdh(..) | Self::Cofactor(_) | Self::TripleDesWrap(_))
    }
}

/// A recipient of a kind that mail has no use for, beside the others; read over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// PasswordRecipientInfo.
    Password,
    /// KEKRecipientInfo.
    SharedKey,
}

/// An encrypted layer.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// The cipher.
    pub cipher: Cipher,
    /// To whom, and how.
    pub to: Vec<(Who, Way)>,
    /// Who else can open it.
    pub beside: Option<Beside>,
    /// Whether recipients are named by subjectKeyIdentifier.
    pub by_key: bool,
    /// Whether lengths are indefinite.
    pub ber: bool,
    /// What is around it.
    pub dress: Dress,
}

impl Sealing {
    /// For one recipient named by issuer and serial number, in DER.
    pub fn to(cipher: Cipher, who: Who, way: Way) -> Self {
        Self { cipher, to: vec![(who, way)], beside: None, by_key: false, ber: false, dress: Dress::Usual }
    }

    /// Whether any recipient is reached so.
    pub fn any(&self, is: impl Fn(Who, Way) -> bool) -> bool {
        self.to.iter().any(|(who, way)| is(*who, *way))
    }
}

/// A row's message.
#[derive(Clone, Debug)]
pub enum Form {
    /// A signature.
    Signed(Signing),
    /// Encrypted.
    Sealed(Sealing),
    /// Compressed; whether with indefinite lengths.
    Compressed {
        /// Whether lengths are indefinite.
        ber: bool,
    },
    /// Certificates and nothing else.
    CertificatesOnly,
    /// Signed, then encrypted.
    SignedSealed(Signing, Sealing),
    /// Signed, then encrypted, and there is no MIME between: the content is the object as it is.
    RawSealed(Signing, Sealing),
    /// Encrypted, then signed: the signature is around ciphertext alone.
    SealedSigned(Sealing, Signing),
    /// Signed, encrypted, signed.
    Triple(Signing, Sealing),
    /// Encrypted by the peer, given another recipient here, read by the peer.
    Rekeyed(Sealing, (Who, Way)),
    /// The same, and the peer's recipients stay.
    Added(Sealing, (Who, Way)),
    /// Signed, then compressed.
    SignedCompressed(Signing),
    /// Compressed, then encrypted.
    CompressedSealed(Sealing),
}

impl Form {
    /// The signed layer, if there is one.
    pub fn signing(&self) -> Option<&Signing> {
        match self {
            Self::Signed(signing)
            | Self::SignedSealed(signing, _)
            | Self::RawSealed(signing, _)
            | Self::SealedSigned(_, signing)
            | Self::Triple(signing, _)
            | Self::SignedCompressed(signing) => Some(signing),
            _ => None,
        }
    }

    /// The encrypted layer, if there is one.
    pub fn sealing(&self) -> Option<&Sealing> {
        match self {
            Self::Sealed(sealing)
            | Self::SignedSealed(_, sealing)
            | Self::RawSealed(_, sealing)
            | Self::SealedSigned(sealing, _)
            | Self::Triple(_, sealing)
            | Self::Rekeyed(sealing, _)
            | Self::Added(sealing, _)
            | Self::CompressedSealed(sealing) => Some(sealing),
            _ => None,
        }
    }
}
