//! CMS objects made by OpenSSL are read and opened; objects made here are right.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the functions beside the tests are part of them"
)]

use smime::{
    algorithm::{DigestAlgorithm, KeyEncryptionAlgorithm, SignatureAlgorithm},
    ber::{Element, Tag, Tree},
    cms::{self, CmsError, EnvelopedData, Object, OpenError, Recipient, SignError, SignedData},
    key::{
        ContentEncryptionKey, Decryptor, Digest, KeyError, SignatureInput, SignatureValue, Signer, Unwrapped,
    },
    profile::Profile,
    testing::{
        MemoryKey, Node,
        fixtures::{certificate, data, key, now},
        hostile::wrap,
    },
};

fn enveloped(octets: &[u8]) -> Option<EnvelopedData<'_>> {
    match Object::parse(octets) {
        Ok(Object::EnvelopedData(enveloped)) => Some(enveloped),
        _ => None,
    }
}

fn signed(octets: &[u8]) -> Option<SignedData<'_>> {
    match Object::parse(octets) {
        Ok(Object::SignedData(signed)) => Some(signed),
        _ => None,
    }
}

#[test]
fn content_encrypted_by_openssl_is_opened_in_der_and_ber_by_every_way_to_name_the_recipient() {
    let bob = key("bob");
    for name in
        ["der.p7m", "ber.p7m", "aes192.p7m", "two.p7m", "oaep.p7m", "oaep256.p7m", "gcm.p7m", "gcm-ber.p7m"]
    {
        let octets = data(name);
        let enveloped = enveloped(&octets).unwrap();
        let recipient = enveloped.recipient_for(&certificate("bob")).expect(name);
        assert_eq!(enveloped.open(recipient, &bob).expect(name), data("entity.txt"), "{name}");
    }
}

#[test]
fn a_certificate_that_is_not_named_is_no_recipient() {
    let octets = data("der.p7m");
    assert!(enveloped(&octets).unwrap().recipient_for(&certificate("alice")).is_none());
}

/// A token that answers as the test wants.
#[derive(Debug)]
struct Answers(smime::Certificate, fn() -> Unwrapped);

impl Decryptor for Answers {
    fn certificate(&self) -> &smime::Certificate {
        &self.0
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        Ok((self.1)())
    }
}

#[test]
fn every_bad_encrypted_key_has_the_outcome_of_a_wrong_key() {
    let octets = data("der.p7m");
    let enveloped = enveloped(&octets).unwrap();
    let recipient = enveloped.recipient_for(&certificate("bob")).unwrap();
    let answers: [fn() -> Unwrapped; 4] = [
        || Unwrapped::Rejected,
        || Unwrapped::Key(ContentEncryptionKey::new(vec![7; 32])),
        || Unwrapped::Key(ContentEncryptionKey::new(vec![7; 16])),
        || Unwrapped::Key(ContentEncryptionKey::new(Vec::new())),
    ];
    for answer in answers {
        // One in about 250 wrong keys gives valid padding by chance, and then garbage: with a decoy, too, which then must
        // not come out; of a key that the token gave nothing tells.
        let is_key = matches!(answer(), Unwrapped::Key(key) if key.len() == 32);
        for _ in 0..1500 {
            let outcome = enveloped.open(recipient, &Answers(certificate("bob"), answer));
            assert!(is_key || matches!(outcome, Err(OpenError::Undecryptable)), "{outcome:?}");
        }
    }
}

#[test]
fn damaged_objects_never_panic_and_cut_ones_are_refused() {
    let bob = key("bob");
    let octets = data("ber.p7m");
    for at in 0..octets.len() {
        let mut damaged = octets.clone();
        damaged[at] ^= 0x41;
        let Some(enveloped) = enveloped(&damaged) else { continue };
        let Some(recipient) = enveloped.recipient_for(&certificate("bob")) else { continue };
        if at % 7 == 0 {
            let _ = enveloped.open(recipient, &bob);
        }
    }
    for len in 0..octets.len() {
        assert!(Object::parse(&octets[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn signed_data_of_openssl_is_read_with_its_parts() {
    let octets = data("opaque-ber.p7m");
    let opaque = signed(&octets).unwrap();
    assert_eq!(opaque.content().unwrap().concat(), data("entity.txt"));
    assert_eq!(opaque.signer_infos().len(), 1);
    assert!(opaque.certificates().contains(&certificate("ca")));
    let octets = data("two.p7s");
    let two = signed(&octets).unwrap();
    assert!(two.content().is_none());
    for name in ["alice", "bob"] {
        assert_eq!(two.signer_infos().iter().filter(|s| s.names(&certificate(name))).count(), 1);
    }
}

#[test]
fn what_is_signed_here_holds_the_attributes_and_the_chain() {
    for name in ["alice", "carol"] {
        let signer = key(name);
        let chain = [certificate("ca"), certificate(name), certificate("ca")];
        let octets =
            cms::sign(|algorithm| Digest::of(algorithm, b"content"), &signer, &chain, now()).unwrap();
        let object = signed(&octets).unwrap();
        assert!(object.content().is_none());
        assert_eq!(object.certificates().len(), 2, "each certificate once");
        let info = &object.signer_infos()[0];
        assert!(info.names(&certificate(name)));
        let attributes = info.signed_attributes.as_ref().unwrap().as_ref().unwrap();
        let digest = Digest::of(DigestAlgorithm::Sha256, b"content");
        assert_eq!(attributes.message_digest(), digest.as_bytes());
        assert_eq!(attributes.signing_time(), Some(now()));
        assert!(attributes.binds(&certificate(name)));
        assert!(!attributes.binds(&certificate("bob")));
        assert_eq!(attributes.signed_octets().count(), 1, "the attributes are in DER's order");
    }
}

/// A key whose signatures are not of its certificate's key, and whether it wants them checked; a token says nothing of it.
#[derive(Debug)]
struct Faulty(smime::Certificate);

/// The same, which says that it answers for itself.
#[derive(Debug)]
struct Certain(Faulty);

impl Signer for Certain {
    fn certificate(&self) -> &smime::Certificate {
        self.0.certificate()
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        self.0.algorithms()
    }

    fn sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
    ) -> Result<SignatureValue, KeyError> {
        self.0.sign(input, algorithm)
    }

    fn must_be_checked(&self) -> bool {
        false
    }
}

impl Signer for Faulty {
    fn certificate(&self) -> &smime::Certificate {
        &self.0
    }

    fn algorithms(&self) -> &[SignatureAlgorithm] {
        &[SignatureAlgorithm::RsaPkcs1(DigestAlgorithm::Sha256)]
    }

    fn sign(
        &self,
        input: &SignatureInput<'_>,
        algorithm: SignatureAlgorithm,
    ) -> Result<SignatureValue, KeyError> {
        let mut signature = key("alice").sign(input, algorithm)?;
        if let Some(octet) = signature.0.last_mut() {
            *octet ^= 1;
        }
        Ok(signature)
    }
}

#[test]
fn a_signature_that_does_not_verify_never_leaves() {
    let sign = |signer: &dyn Signer| cms::sign(|a| Digest::of(a, b"content"), signer, &[], now());
    let faulty = Faulty(certificate("alice"));
    for signer in [&faulty as &dyn Signer, &Profile::STANDARD.signer(&faulty)] {
        let error = sign(signer).unwrap_err();
        assert!(matches!(error, SignError::Faulty { .. }), "{error}");
        assert_eq!(error.fault(), smime::Fault::Operator);
    }
    // Nor is a key in memory trusted to be the one of a certificate: it was compared.
    for name in ["alice", "carol", "ed25519"] {
        let key = |certificate| {
            let pkcs8 = data(&format!("{name}.p8"));
            MemoryKey::from_pkcs8(&pkcs8, certificate).unwrap()
        };
        assert!(!key(certificate(name)).must_be_checked(), "{name}");
        let of_another = key(certificate("bob"));
        assert!(of_another.must_be_checked(), "{name}");
        let error = sign(&of_another).unwrap_err();
        assert!(matches!(error, SignError::Faulty { .. }), "{name}: {error}");
    }
    // Only who says so is not checked, through a profile too.
    let certain = Certain(faulty);
    assert!(sign(&certain).is_ok() && sign(&Profile::STANDARD.signer(&certain)).is_ok());
}

/// OpenSSL's AES-256-GCM object with its tag cut to `len` octets, said to be `said` long.
fn with_tag(len: usize, said: u8) -> Vec<u8> {
    let octets = data("gcm.p7m");
    let tree = Tree::parse(&octets).unwrap();
    let der = |element: Element<'_, '_>| element.to_der().unwrap();
    let info: Vec<_> = tree.root().children().collect();
    let fields: Vec<_> = info[1].children().next().unwrap().children().collect();
    let encrypted: Vec<_> = fields[2].children().collect();
    let algorithm: Vec<_> = encrypted[1].children().collect();
    let nonce = der(algorithm[1].children().next().unwrap());
    let parameters = wrap(Tag::SEQUENCE, &[nonce, wrap(Tag::INTEGER, &[vec![said]])]);
    let algorithm = wrap(Tag::SEQUENCE, &[der(algorithm[0]), parameters]);
    let encrypted = wrap(Tag::SEQUENCE, &[der(encrypted[0]), algorithm, der(encrypted[2])]);
    let mac = wrap(Tag::OCTET_STRING, &[fields[3].content()[..len].to_vec()]);
    let enveloped = wrap(Tag::SEQUENCE, &[der(fields[0]), der(fields[1]), encrypted, mac]);
    wrap(Tag::SEQUENCE, &[der(info[0]), wrap(Tag::context(0), &[enveloped])])
}

fn open(octets: &[u8]) -> Result<Vec<u8>, OpenError> {
    let enveloped = enveloped(octets).unwrap();
    let recipient = enveloped.recipient_for(&certificate("bob")).unwrap();
    enveloped.open(recipient, &key("bob"))
}

#[test]
fn a_tag_is_as_long_as_it_says_and_never_shorter_than_12_octets() {
    // 12 is the default and must be left out of the encoding, but OpenSSL writes it, so both are read.
    assert_eq!(open(&with_tag(12, 12)).unwrap(), data("entity.txt"));
    assert_eq!(open(&with_tag(15, 15)).unwrap(), data("entity.txt"));
    // OpenSSL 3.0 took tags of 1 and 4 octets, which can be guessed (CVE-2026-34182).
    for (len, said) in [(1, 1), (4, 4), (11, 11), (12, 16), (16, 12), (4, 16), (16, 17), (0, 0)] {
        assert!(open(&with_tag(len, said)).is_err(), "{len} octets said to be {said}");
    }
}

#[test]
fn no_changed_octet_of_authenticated_content_is_released() {
    for object in [data("gcm.p7m"), with_tag(12, 12)] {
        // From the nonce to the end: parameters, ciphertext, tag.
        for at in object.len() - 95..object.len() {
            let mut changed = object.clone();
            changed[at] ^= 1;
            if Object::parse(&changed).is_ok() {
                assert!(open(&changed).is_err(), "octet {at}");
            }
        }
    }
}

#[test]
fn a_cipher_under_the_name_of_another_structure_is_refused() {
    let gcm = data("gcm.p7m");
    let replace = |octets: &[u8], from: &[u8], to: &[u8]| {
        let at = octets.windows(from.len()).position(|w| w == from).unwrap();
        [&octets[..at], to, &octets[at + from.len()..]].concat()
    };
    // id-aes256-GCM becomes id-aes256-CBC: the tag would be ignored (RFC 9709).
    let downgraded = replace(
        &gcm,
        &[0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 1, 46],
        &[0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 1, 42],
    );
    assert!(matches!(open(&downgraded), Err(OpenError::Unsupported { .. })));
    // id-aes256-CBC becomes id-aes256-GCM, as PKI.js would write it: then the end of it is no tag.
    let cbc = data("der.p7m");
    let upgraded = replace(
        &cbc,
        &[0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 1, 42],
        &[0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 1, 46],
    );
    assert!(matches!(open(&upgraded), Err(OpenError::Undecryptable)));
}

#[test]
fn gcm_in_enveloped_data_is_opened_as_others_write_it_and_no_octet_of_it_may_change() {
    // BouncyCastle, in one piece and with its tag in two segments; PKI.js with a nonce of 16 octets.
    for (name, cipher) in
        [("bc-gcm.p7m", "AES-128-GCM"), ("bc-gcm-ber.p7m", "AES-256-GCM"), ("pkijs-gcm.p7m", "AES-256-GCM")]
    {
        let octets = data(name);
        let algorithm = enveloped(&octets).unwrap().algorithm().unwrap();
        assert_eq!((algorithm.name(), algorithm.is_authenticated()), (cipher, true), "{name}");
        assert_eq!(open(&octets).unwrap(), data("entity.txt"), "{name}");
        // From the nonce to the end: parameters, ciphertext, tag.
        for at in octets.len() - 110..octets.len() {
            let mut changed = octets.clone();
            changed[at] ^= 1;
            let Some(enveloped) = enveloped(&changed) else { continue };
            let Some(recipient) = enveloped.recipient_for(&certificate("bob")) else { continue };
            if let Ok(content) = enveloped.open(recipient, &key("bob")) {
                unreachable!("{name}, octet {at}: {:?}", String::from_utf8_lossy(&content));
            }
        }
    }
}

/// The object with the node at this path there so many times.
fn with_as_many(octets: &[u8], path: &[usize], count: usize) -> Vec<u8> {
    let mut object = Node::parse(octets);
    let one = object.get(path).clone();
    let (_, set) = path.split_last().unwrap();
    *object.at(set).nodes() = vec![one; count];
    object.to_der()
}

#[test]
fn more_certificates_signers_or_recipients_than_are_taken_are_not_read() {
    let [detached, der, gcm, agree] = ["detached.p7s", "der.p7m", "gcm.p7m", "agree-p256.p7m"].map(data);
    let detached = with_crl(&detached);
    for (part, octets, path, limit) in [
        ("certificates", &detached, &[1, 0, 3, 0][..], 100),
        ("CRLs", &detached, &[1, 0, 4, 0], 100),
        ("signers", &detached, &[1, 0, 5, 0], 20),
        ("recipients", &der, &[1, 0, 1, 0], 500),
        ("recipients", &gcm, &[1, 0, 1, 0], 500),
        ("recipients", &agree, &[1, 0, 1, 0], 500),
    ] {
        let most = with_as_many(octets, path, limit);
        assert!(Object::parse(&most).is_ok(), "{part}: {limit} are taken: {:?}", Object::parse(&most).err());
        let more = with_as_many(octets, path, limit + 1);
        assert_eq!(
            Object::parse(&more).unwrap_err(),
            CmsError::TooMany { part, limit },
            "{part} at {path:?}"
        );
    }
    // One that has more keys than are taken is of a kind that nobody here opens.
    for (count, is_taken) in [(500, true), (501, false)] {
        let octets = with_as_many(&agree, &[1, 0, 1, 0, 3, 0], count);
        let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&octets) else { panic!("{count}") };
        let is_agreement = matches!(enveloped.recipients(), [Recipient::KeyAgreement(_)]);
        assert_eq!(is_agreement, is_taken, "{count} keys in one RecipientInfo");
    }
}

/// A SignedData with a CRL behind its certificates.
fn with_crl(octets: &[u8]) -> Vec<u8> {
    let mut object = Node::parse(octets);
    let crls = Node::constructed(Tag::context(1), [Node::parse(&data("ca.crl"))]);
    object.at(&[1, 0]).nodes().insert(4, crls);
    object.to_der()
}
