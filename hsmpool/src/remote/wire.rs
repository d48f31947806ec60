//! What client and server say to each other, version 1.
//!
//! ```text
//! client: Hello                        server: Welcome, or Refused and the end
//! client: Define, Ask, Cancel, Inquire in any order; a parent Noted to each Notice, and BeginNoMore
//! server: one Answer to each Ask, one Report to each Inquire, in any order; Notices unasked
//! ```
//!
//! A connection carries one lane. A key is defined and then named by its number. Nothing in
//! here prints what it holds: there are keys among it.

mod bounded;
mod values;

pub(super) use bounded::{AtMost, Ids, at_most};
pub(crate) use bounded::{few, few_of_map};
use serde::{Deserialize, Serialize};
pub(super) use values::micros;

use super::{
    error::{Text, WireError},
    pins::PinNotice,
    report::{Inquiry, Report},
};

/// The first octets of a client.
pub(super) const MAGIC: [u8; 8] = *b"hsmime-k";
/// Changed with every change of what is in this file and its neighbours.
pub(super) const VERSION: u16 = 1;

/// How many keys that are defined over a connection a server keeps: one more takes the oldest's place.
pub(super) const MAX_KEYS: u32 = 16 * 1024;

/// A client's first frame. Its beginning is the same in every version.
#[derive(Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) magic: [u8; 8],
    pub(super) version: u16,
    pub(super) lane: WireLane,
}

/// The server's first frame.
#[derive(Serialize, Deserialize)]
pub(super) enum Greeting {
    Welcome {
        /// How many requests may be without an answer.
        window: u32,
    },
    /// And the connection ends.
    Refused {
        reason: Text,
        /// Whether trying again soon may help.
        transient: bool,
    },
}

/// What a client says then.
#[derive(Serialize, Deserialize)]
pub(super) enum ToServer<'a> {
    #[serde(borrow)]
    Define(KeyDefinition<'a>),
    #[serde(borrow)]
    Ask(Ask<'a>),
    /// Nobody waits for the answer any more. It comes nevertheless.
    Cancel { id: u64 },
    Inquire {
        id: u64,
        #[serde(borrow)]
        inquiry: Inquiry<'a>,
    },
    /// A parent's answer to a Notice.
    Noted {
        number: u64,
        /// Whether it is known after a restart of the parent.
        kept: bool,
    },
    /// A parent stops: what does not run yet is answered with an error.
    BeginNoMore,
}

/// What a server says then.
#[derive(Serialize, Deserialize)]
pub(super) enum FromServer<'a> {
    Answer {
        id: u64,
        #[serde(borrow)]
        result: Result<WireAnswer<'a>, WireError>,
    },
    Report {
        id: u64,
        report: Report,
    },
    Notice(PinNotice),
}

/// A key and the number that names it from then on: 0 for the first, 1 for the second, and 0 again after [`MAX_KEYS`].
#[derive(Serialize, Deserialize)]
pub(super) struct KeyDefinition<'a> {
    /// `SubjectPublicKeyInfo` in DER.
    #[serde(borrow, with = "octets")]
    pub(super) public_key_info: &'a [u8],
    /// What `CKA_ID` may be.
    #[serde(borrow)]
    pub(super) ids: Ids<'a>,
    /// For messages.
    #[serde(borrow)]
    pub(super) description: &'a str,
}

/// One use of a private key.
#[derive(Serialize, Deserialize)]
pub(super) struct Ask<'a> {
    pub(super) id: u64,
    pub(super) key: u32,
    /// Until the caller's deadline: clocks need not agree.
    pub(super) micros: u64,
    #[serde(borrow)]
    pub(super) operation: WireOperation<'a>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum WireOperation<'a> {
    SignDigest {
        digest: WireDigest,
        #[serde(borrow, with = "octets")]
        value: &'a [u8],
        algorithm: WireSignature,
    },
    SignOctets {
        #[serde(borrow, with = "octets")]
        octets: &'a [u8],
        algorithm: WireSignature,
    },
    Decrypt {
        #[serde(borrow, with = "octets")]
        encrypted_key: &'a [u8],
        #[serde(borrow)]
        algorithm: WireEncryption<'a>,
    },
    Agree {
        curve: WireCurve,
        #[serde(borrow, with = "octets")]
        originator: &'a [u8],
    },
}

#[derive(Serialize, Deserialize)]
pub(super) enum WireAnswer<'a> {
    Signature(#[serde(borrow, with = "octets")] &'a [u8]),
    Key(#[serde(borrow, with = "octets")] &'a [u8]),
    Rejected,
    Secret(#[serde(borrow, with = "octets")] &'a [u8]),
    NoSecret,
}

/// [`Lane`](crate::request::Lane).
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum WireLane {
    Interactive,
    Bulk,
}

/// [`AgreementCurve`](smime::agreement::AgreementCurve).
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum WireCurve {
    P256,
    P384,
    P521,
    X25519,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum WireDigest {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum WireSignature {
    RsaPkcs1(WireDigest),
    RsaPss(WireDigest),
    Ecdsa(WireDigest),
    Ed25519,
}

#[derive(Serialize, Deserialize)]
pub(super) enum WireEncryption<'a> {
    RsaPkcs1,
    RsaOaep {
        hash: WireDigest,
        mask_hash: WireDigest,
        #[serde(borrow, with = "octets")]
        label: &'a [u8],
    },
}

/// Octets in one piece, borrowed from the frame: serde would take them one by one.
pub(super) mod octets {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::remote) fn serialize<S: Serializer>(octets: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(octets)
    }

    pub(in crate::remote) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<&'de [u8], D::Error> {
        <&[u8]>::deserialize(from)
    }
}
