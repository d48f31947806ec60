//! Certificates, CRLs and keys: revoked, for something else, too large, too small, and signatures made without a key.

use const_oid::db::rfc5280;
use num_bigint::BigUint;
use smime::{
    Certificate,
    ber::Tag,
    cms::Object,
    key::Digest,
    message::{AuthResult, Reason},
    path::{Budget, RevocationMode, Trust},
    revocation::Crl,
    testing::{
        Node,
        fixtures::{certificate, data, now, trust, trust_with_crls},
        hostile,
    },
};

use crate::support::{
    ALICE, FORGED, Signed, TEXT, clear, mail, openssl_verifies, openssl_verifies_with, refused, signature,
    verdict, verdict_with,
};

fn signed_by(name: &str) -> String {
    mail(ALICE, &clear(TEXT, &signature(name, TEXT)))
}

/// CVE-2023-0430 (Thunderbird 68 to 102): revocation was not looked at for S/MIME.
#[test]
fn a_revoked_certificate_does_not_pass_where_a_crl_says_so() {
    for mode in [RevocationMode::SoftFail, RevocationMode::HardFail] {
        let verdict = verdict_with(&signed_by("revoked"), &trust_with_crls(mode));
        refused("revoked", &verdict, AuthResult::Fail, "was revoked");
    }
    openssl_verifies("revoked", &signed_by("revoked"), &[])
        .accepts("a revoked certificate by default", "Hello");
    // Where it is told that nobody looks, the verdict says so.
    assert_eq!(verdict(&signed_by("revoked")).reason(), &Reason::RevocationNotChecked);
}

/// CRLs that somebody else signed, and that are out of date. Those for other certificates (RUSTSEC-2026-0049, AWS-LC
/// CVE-2026-4428) are in `tests/revocation`.
#[test]
fn a_crl_that_says_nothing_of_a_certificate_clears_nobody() {
    for name in ["forged.crl", "old.crl"] {
        let crls = vec![Crl::from_der(&data("root.crl")).unwrap(), Crl::from_der(&data(name)).unwrap()];
        let trust = |revocation| Trust { crls: crls.clone(), revocation, ..trust() };
        // An old list says of nobody that he is good, but what it revoked stays revoked.
        let signers: &[&str] = if name == "old.crl" { &["alice"] } else { &["alice", "revoked"] };
        for signer in signers {
            let hard = verdict_with(&signed_by(signer), &trust(RevocationMode::HardFail));
            refused(name, &hard, AuthResult::TempError, "not known");
            let soft = verdict_with(&signed_by(signer), &trust(RevocationMode::SoftFail));
            assert!(matches!(soft.reason(), Reason::RevocationUnknown(_)), "{name}: {}", soft.reason());
        }
    }
}

/// RUSTSEC-2026-0104, CVE-2026-28388, CVE-2026-35189: CRLs that crashed their readers. An empty BIT STRING among the
/// reasons, relative names, delta CRLs, lengths that lie; every element missing or of another type.
#[test]
fn odd_crls_are_survived_and_clear_nobody() {
    let base = Node::parse(&data("partial.crl"));
    let point = |inside: Node| {
        let mut odd = base.clone();
        let value = Node::octet_string(Node::sequence([inside]).to_der());
        let at = base.paths().into_iter().find(|path| {
            let node = base.get(path);
            node.tag == Tag::SEQUENCE
                && node.to_der().len() < 60
                && node.paths().len() > 1
                && *node.get(&[0]) == Node::oid(rfc5280::ID_CE_ISSUING_DISTRIBUTION_POINT)
        });
        *odd.at(&at.unwrap()) = Node::sequence([
            Node::oid(rfc5280::ID_CE_ISSUING_DISTRIBUTION_POINT),
            Node::primitive(Tag(1), [0xff]),
            value,
        ]);
        odd
    };
    let relative = Node::constructed(Tag(0xA1), [Node::sequence([])]);
    let mut all = vec![
        point(Node::primitive(Tag(0x83), [])),
        point(Node::primitive(Tag(0x83), [9])),
        point(Node::primitive(Tag(0x83), [7, 0])),
        point(Node::constructed(Tag(0xA0), [relative])),
        point(Node::constructed(Tag(0xA0), [])),
        point(Node::primitive(Tag(0x84), [0xff])),
    ];
    for path in base.paths().into_iter().skip(1) {
        all.push(base.without(&path));
        for change in [Node::primitive(Tag::BIT_STRING, []), Node::primitive(Tag(5), []), Node::sequence([])]
        {
            let mut odd = base.clone();
            *odd.at(&path) = change;
            all.push(odd);
        }
    }
    let mut read = 0;
    for odd in all {
        let odd_der = odd.to_der();
        let Ok(crl) = Crl::from_der(&odd_der) else { continue };
        if odd_der == base.to_der() {
            continue;
        }
        read += 1;
        let trust = Trust {
            crls: vec![Crl::from_der(&data("root.crl")).unwrap(), crl],
            revocation: RevocationMode::HardFail,
            ..trust()
        };
        assert_ne!(verdict_with(&signed_by("alice"), &trust).result(), AuthResult::Pass, "{odd:02x?}");
    }
    assert!(read > 10, "{read} can be read");
}

/// CVE-2021-43527 (BigSig in NSS) and RFC 8550 6: keys and signatures larger than any buffer, and costly ones, are
/// refused before anything is calculated with them.
#[test]
fn oversized_keys_and_signatures_cost_nothing() {
    for octets in [513, 1024, 2048, 8192] {
        let holder = hostile::of_key_len(octets);
        let node = Node::parse(holder.der());
        let mut signed = Signed::of(&signature("alice", TEXT));
        signed.signer()[1] = Node::sequence([node.get(&[0, 3]).clone(), node.get(&[0, 1]).clone()]);
        *signed.certificates() = vec![node];
        let mail = mail(ALICE, &clear(TEXT, &signed.to_der()));
        let message = smime::mime::Message::from_stored(mail.as_bytes());
        let entity = message.entity();
        let mut budget = Budget::default();
        let sender = smime::mime::single_originator(&entity);
        let (verdict, _) =
            smime::message::verify_within(&mut budget, smime::Room::of(0), &entity, sender, &trust(), now());
        refused(&format!("{octets} octets"), &verdict, AuthResult::Policy, "not supported");
        assert_eq!(budget.operations(), 0);
    }
    for len in [0, 1, 255, 257, 512, 16_384, 100_000] {
        let mut signed = Signed::of(&signature("alice", TEXT));
        *signed.signer()[5].octets() = vec![1; len];
        let verdict = verdict(&mail(ALICE, &clear(TEXT, &signed.to_der())));
        refused(&format!("{len} octets"), &verdict, AuthResult::Fail, "does not verify");
    }
}

/// The DigestInfo of SHA-256 without the digest (RFC 8017 9.2).
const DIGEST_INFO: &[u8] =
    &[0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];

/// The smallest value whose cube is not below `value`.
fn cube_root(value: &BigUint) -> BigUint {
    let root = value.cbrt();
    if root.pow(3) == *value { root } else { root + 1_u32 }
}

/// Bleichenbacher 2006 (CVE-2006-4339), BERserk (CVE-2014-1568), node-forge CVE-2022-24771 and CVE-2022-24772: with
/// the exponent 3 a cube root whose cube begins rightly is a signature for who does not look at the end.
#[test]
fn a_signature_made_of_a_cube_root_does_not_verify() {
    // Anybody's modulus will do: nobody uses its private key.
    let mut info = Node::parse(&certificate("alice").public_key_info());
    let mut key = Node::parse(&info.get(&[1]).clone().octets()[1..]);
    let modulus_len = key.get(&[0]).clone().octets().len() - 1;
    *key.at(&[1]).octets() = vec![3];
    *info.at(&[1]).octets() = [vec![0], key.to_der()].concat();
    let anchor = hostile::of_public_key(&info.to_der(), ALICE);
    assert_eq!(modulus_len, 256);

    let node = Node::parse(anchor.der());
    let mut signed = Signed::of(&signature("mallory", FORGED));
    signed.signer()[1] = Node::sequence([node.get(&[0, 3]).clone(), node.get(&[0, 1]).clone()]);
    *signed.certificates() = vec![node];
    signed.attributes().retain(|attribute| {
        attribute.get(&[0]) != &Node::oid(const_oid::db::rfc5911::ID_AA_SIGNING_CERTIFICATE_V_2)
    });
    let attributes = signed.signer()[3].tagged(Tag::SET).to_der();
    let digest = Digest::of(smime::algorithm::DigestAlgorithm::Sha256, &attributes);
    let info = [DIGEST_INFO, digest.as_bytes()].concat();
    // A length in BER's long form, whose octets some readers pass over.
    let berserk = [&[0x30, 0x85, 0, 0, 0, 0, 0x31][..], &DIGEST_INFO[2..], digest.as_bytes()].concat();
    let trust = Trust { anchors: vec![anchor.clone()], revocation: RevocationMode::Off, ..Trust::default() };
    for (what, info, padding) in [
        ("little padding", &info, 8),
        ("no padding", &info, 0),
        ("one octet", &info, 1),
        ("BERserk", &berserk, 8),
    ] {
        let mut block = [vec![0, 1], vec![0xff; padding], vec![0], info.clone()].concat();
        let significant = block.len();
        block.resize(modulus_len, 0);
        let root = cube_root(&BigUint::from_bytes_be(&block));
        let cube = root.pow(3).to_bytes_be();
        assert!(block[1..significant].starts_with(&cube[..significant - 1]), "{what}");
        let value = root.to_bytes_be();
        signed.signer()[5] = Node::octet_string([vec![0; modulus_len - value.len()], value].concat());
        let forged = mail(ALICE, &clear(FORGED, &signed.to_der()));
        refused(what, &verdict_with(&forged, &trust), AuthResult::Fail, "does not verify");
        openssl_verifies_with("cube-root", &forged, std::slice::from_ref(&anchor), &["-partial_chain"])
            .refuses(what);
    }
}

/// RFC 8550 4.4: certificates that are good for something else, or that no CA could issue so.
#[test]
fn certificates_for_another_use_do_not_pass() {
    for (name, reason) in [("server", "emailProtection"), ("encrypt-only", "not for signatures")] {
        refused(name, &verdict(&signed_by(name)), AuthResult::Policy, reason);
    }
    for option in [&[][..], &["-purpose", "any"]] {
        let said = openssl_verifies("server-any", &signed_by("server"), option);
        if option.is_empty() {
            said.refuses("a server's certificate");
        } else {
            said.accepts("a server's certificate with -purpose any", "Hello");
        }
    }
}

/// Weak keys and digests (RFC 8551 appendix B; RFC 8550 4.3): right, and still anybody's.
#[test]
fn signatures_that_can_be_forged_by_calculation_do_not_pass() {
    let anchors = ["root", "rsa512", "rsa1024"].map(certificate).to_vec();
    let trust = Trust { anchors, ..trust() };
    for (name, result) in [
        ("md5.p7s", AuthResult::Policy),
        ("sha1.p7s", AuthResult::Policy),
        ("sha224.p7s", AuthResult::Policy),
        ("pss-sha1.p7s", AuthResult::Policy),
        ("rsa512-md5.p7s", AuthResult::Policy),
        ("rsa512-sha1.p7s", AuthResult::Policy),
        ("rsa512-sha256.p7s", AuthResult::Policy),
        ("rsa1024-md5.p7s", AuthResult::Policy),
        ("rsa1024-sha1.p7s", AuthResult::Policy),
        ("rsa1024-sha256.p7s", AuthResult::Policy),
        ("rsa1024-sha384.p7s", AuthResult::Policy),
        ("rsa1024-pss.p7s", AuthResult::Policy),
    ] {
        let verdict = verdict_with(&mail(ALICE, &clear(TEXT, &data(name))), &trust);
        assert_eq!(verdict.result(), result, "{name}: {}", verdict.reason());
    }
    let sha1 = mail(ALICE, &clear(TEXT, &data("sha1.p7s")));
    openssl_verifies("sha1", &sha1, &[]).accepts("SHA-1", "Hello");
}

/// RFC 8550 6: signing-time is the signer's word; a certificate that is over is over, whatever it says.
#[test]
fn an_old_signing_time_does_not_bring_a_certificate_back() {
    let message = signed_by("alice");
    let message = smime::mime::Message::from_stored(message.as_bytes());
    let entity = message.entity();
    for at in [
        certificate("alice").not_after() + std::time::Duration::from_secs(1),
        certificate("alice").not_before() - std::time::Duration::from_secs(1),
    ] {
        let sender = smime::mime::single_originator(&entity);
        let (verdict, _) = smime::message::verify(&entity, sender, &trust(), at);
        assert!(matches!(verdict.reason(), Reason::Path(_)), "{}", verdict.reason());
        assert_eq!(verdict.result(), AuthResult::Policy);
    }
}

/// CVE-2022-3515 and CVE-2022-47629 (libksba): lengths that overflow, or promise more than there is.
#[test]
fn lengths_that_lie_are_refused_everywhere() {
    let lies: &[&[u8]] = &[
        &[0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x84, 0x7f, 0xff, 0xff, 0xff],
        &[0x83, 0xff, 0xff, 0xff],
        &[0xff],
    ];
    let objects = ["detached.p7s", "gcm.p7m", "agree-p256.p7m", "ca.crl"].map(data);
    let objects = objects.into_iter().chain([certificate("alice").der().to_vec()]);
    for octets in objects {
        let node = Node::parse(&octets);
        // Each element's length replaced in place, so that those around it say what they did.
        for path in node.paths() {
            let at = offset(&node, &path);
            let header = header_len(&octets[at..]);
            for lie in lies {
                let odd = [&octets[..=at], lie, &octets[at + header..]].concat();
                assert!(Object::parse(&odd).is_err(), "{path:?}");
                assert!(Crl::from_der(&odd).is_err(), "{path:?}");
                assert!(Certificate::from_der(&odd).is_err(), "{path:?}");
            }
        }
    }
}

/// Where the element at `path` begins.
fn offset(node: &Node, path: &[usize]) -> usize {
    let Some((first, rest)) = path.split_first() else { return 0 };
    let before: usize = (0..*first).map(|at| node.get(&[at]).to_der().len()).sum();
    header_len(&node.to_der()) + before + offset(node.get(&[*first]), rest)
}

fn header_len(element: &[u8]) -> usize {
    if element[1] < 0x80 { 2 } else { 2 + usize::from(element[1] & 0x7f) }
}
