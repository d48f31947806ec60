//! What one message may cost: checks of signatures, certificates for a signer, the length of a key.

use const_oid::db::rfc5911;
use smime::{
    ber::{Tag, Tree},
    message::{AuthResult, Reason, Verdict, verify_within},
    mime::{Message, single_originator},
    path::{Budget, MAX_OPERATIONS, PathError, Trust},
    testing::{
        fixtures::{certificate, data, now, trust},
        hostile::{self, wrap},
    },
};

use super::{ALICE, clear, entity, parts::Parts};

/// A detached signature of alice's with these certificates, and as many SignerInfos as there are seconds
/// given: each is signed at its own, by the key identifier.
fn many_signers(seconds: &[u8], certificates: &[Vec<u8>]) -> Vec<u8> {
    let mut parts = Parts::of(&data("keyid.p7s"));
    let mut signers = Vec::new();
    for second in seconds {
        let time = parts.attribute(rfc5911::ID_SIGNING_TIME);
        let digits = time.len() - 3;
        time.splice(digits..digits + 2, format!("{second:02}").into_bytes());
        parts.sign_again();
        signers.push(wrap(Tag::SEQUENCE, &parts.signer));
    }
    parts.signed_data[3] = wrap(Tag::context(0), certificates);
    let signed_data = wrap(Tag::SEQUENCE, &[parts.signed_data.concat(), wrap(Tag::SET, &signers)]);
    wrap(Tag::SEQUENCE, &[parts.content_type.clone(), wrap(Tag::context(0), &[signed_data])])
}

fn verdict_within(budget: &mut Budget, object: &[u8], trust: &Trust) -> Verdict {
    let message = clear(ALICE, &entity(), object);
    let message = Message::from_stored(message.as_bytes());
    let entity = message.entity();
    verify_within(budget, smime::Room::of(0), &entity, single_originator(&entity), trust, now()).0
}

#[test]
fn one_message_costs_no_more_than_its_budget_and_does_not_pass_beyond_it() {
    let good = [certificate("alice").der().to_vec(), certificate("ca").der().to_vec()];
    let signer = hostile::of_one_key(0).der().to_vec();
    let namesakes = (1..=99).map(|number| hostile::namesake(number).der().to_vec());
    let namesakes: Vec<_> = [signer].into_iter().chain(namesakes).collect();
    let all_different: Vec<u8> = (0..20).collect();
    for (name, seconds, certificates, limit, operations, result) in [
        ("one signer", &[1][..], &good[..], MAX_OPERATIONS, 3, AuthResult::Pass),
        ("just enough", &[1], &good, 3, 3, AuthResult::Pass),
        ("one too few", &[1], &good, 2, 2, AuthResult::Policy),
        ("the same signer again", &[1; 20], &good, MAX_OPERATIONS, 3, AuthResult::Pass),
        ("twenty signers", &all_different, &good, MAX_OPERATIONS, 22, AuthResult::Pass),
        ("the last of twenty", &all_different, &good, 21, 21, AuthResult::Policy),
        ("hostile", &all_different, &namesakes, MAX_OPERATIONS, MAX_OPERATIONS, AuthResult::Policy),
    ] {
        let mut budget = Budget::of(limit);
        let verdict = verdict_within(&mut budget, &many_signers(seconds, certificates), &trust());
        assert_eq!(budget.operations(), operations, "{name}: {}", verdict.reason());
        assert_eq!(verdict.result(), result, "{name}: {}", verdict.reason());
        assert_eq!(verdict.signers().len(), seconds.len());
        assert_eq!(
            *verdict.reason() == Reason::Path(PathError::TooManyChecks),
            budget.is_exceeded(),
            "{name}"
        );
    }
}

#[test]
fn three_certificates_of_one_key_identifier_are_tried_for_a_signer() {
    // With alice's name on all of them but without a CA's signature on any but the last.
    for (decoys, result) in [(2, AuthResult::Pass), (3, AuthResult::Policy)] {
        let mut certificates: Vec<_> = (0..decoys).map(|n| hostile::of_one_key(n).der().to_vec()).collect();
        // One that is there twice counts once.
        certificates.extend([certificates[0].clone()]);
        certificates.extend(["alice", "ca"].map(|name| certificate(name).der().to_vec()));
        let object = many_signers(&[1], &certificates);
        assert_eq!(verdict_within(&mut Budget::default(), &object, &trust()).result(), result, "{decoys}");
    }
}

#[test]
fn a_signer_with_an_rsa_key_over_4096_bits_is_not_verified() {
    for (octets, operations) in [(512, 1), (513, 0), (1024, 0)] {
        let signer = hostile::of_key_len(octets);
        let mut parts = Parts::of(&data("detached.p7s"));
        let tree = Tree::parse(signer.der()).unwrap();
        let fields: Vec<_> = tree.root().children().next().unwrap().children().collect();
        parts.signer[1] = wrap(Tag::SEQUENCE, &[fields[3].to_der().unwrap(), fields[1].to_der().unwrap()]);
        parts.signed_data[3] = wrap(Tag::context(0), &[signer.der().to_vec()]);
        let mut budget = Budget::default();
        let verdict = verdict_within(&mut budget, &parts.put_together(), &trust());
        assert_eq!(budget.operations(), operations, "{octets}: {}", verdict.reason());
        let refused = matches!(verdict.reason(), Reason::UnknownAlgorithm(_));
        assert_eq!(refused, operations == 0, "{octets}: {}", verdict.reason());
    }
}
