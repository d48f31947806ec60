//! Paths that are remembered for a moment: the answers are those that would be found anew, and what was learned meanwhile
//! counts in the next moment.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use smime::{
    Certificate,
    path::{Budget, Distrust, PathError, PathMemory, Revocation, Trust, ValidPath, validate_within},
    revocation::{Evidence, RevocationSource},
    testing::{
        draft::{Draft, at},
        evidence::List,
    },
};

use crate::{ALICE, CA, alice, ca};

/// Counts how often it is asked, and says what it is told to.
#[derive(Debug, Default)]
struct Told {
    asked: AtomicUsize,
    evidence: Mutex<Evidence>,
}

impl RevocationSource for Told {
    fn evidence(&self, _: &Certificate, _: &Certificate, _: &mut Duration) -> Evidence {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.evidence.lock().unwrap().clone()
    }
}

fn asking(source: &Arc<Told>) -> Trust {
    let source: Arc<dyn RevocationSource> = Arc::<Told>::clone(source);
    Trust { anchors: vec![ca()], revocation_source: Some(source), ..Trust::default() }
}

/// Of a message with nothing but this signer's certificate.
fn found(
    memory: &Arc<PathMemory>,
    leaf: &Certificate,
    trust: &Trust,
    at: SystemTime,
) -> Result<ValidPath, PathError> {
    let mut budget = Budget::default().remembering(memory);
    validate_within(&mut budget, leaf, std::slice::from_ref(leaf), trust, at)
}

#[test]
fn a_signer_is_looked_for_once_in_a_moment_and_what_is_learned_counts_in_the_next() {
    let (source, memory) = (Arc::new(Told::default()), Arc::new(PathMemory::default()));
    let trust = asking(&source);
    memory.begin(1);
    for _ in 0..3 {
        let path = found(&memory, &alice(), &trust, at()).unwrap();
        assert!(matches!(path.revocation(), Revocation::Unknown(_)), "{path:?}");
    }
    assert_eq!(source.asked.load(Ordering::Relaxed), 1);
    // The same moment goes on.
    memory.begin(1);
    found(&memory, &alice(), &trust, at()).unwrap();
    assert_eq!(source.asked.load(Ordering::Relaxed), 1);

    // So does what was found of others.
    for _ in 0..2 {
        for number in [11, 12, 13] {
            let other = Draft::new("Other", 20, "CA").numbered(number).sign(CA);
            found(&memory, &other, &trust, at()).unwrap();
        }
        found(&memory, &alice(), &trust, at()).unwrap();
        assert_eq!(source.asked.load(Ordering::Relaxed), 4);
    }

    source.evidence.lock().unwrap().crls = vec![List::by("CA", CA).listing(&alice(), &[]).sign()];
    memory.begin(2);
    for asked in [5, 6] {
        let refused = found(&memory, &alice(), &trust, at()).unwrap_err();
        assert!(matches!(refused, PathError::Revoked { .. }), "{refused}");
        // What is bad is not remembered.
        assert_eq!(source.asked.load(Ordering::Relaxed), asked);
    }

    source.evidence.lock().unwrap().crls = vec![List::by("CA", CA).sign()];
    memory.begin(3);
    let path = found(&memory, &alice(), &trust, at()).unwrap();
    assert!(matches!(path.revocation(), Revocation::Good { .. }), "{path:?}");
}

/// Distrusts everybody once it is told to.
#[derive(Debug, Default)]
struct Turning(Mutex<bool>);

impl Distrust for Turning {
    fn against(&self, _: &[Certificate]) -> Option<String> {
        self.0.lock().unwrap().then(|| "an administrator said so".to_owned())
    }
}

#[test]
fn who_is_distrusted_meanwhile_is_so_in_the_next_moment() {
    let (turning, memory) = (Arc::new(Turning::default()), Arc::new(PathMemory::default()));
    let distrust: Arc<dyn Distrust> = Arc::<Turning>::clone(&turning);
    let trust = Trust { anchors: vec![ca()], distrust: Some(distrust), ..Trust::default() };
    memory.begin(1);
    found(&memory, &alice(), &trust, at()).unwrap();
    *turning.0.lock().unwrap() = true;
    memory.begin(2);
    let refused = found(&memory, &alice(), &trust, at()).unwrap_err();
    assert!(matches!(refused, PathError::Distrusted { .. }), "{refused}");
}

#[test]
fn another_time_another_certificate_and_evidence_of_a_message_are_other_questions() {
    let (source, memory) = (Arc::new(Told::default()), Arc::new(PathMemory::default()));
    let trust = asking(&source);
    memory.begin(1);
    found(&memory, &alice(), &trust, at()).unwrap();
    let after = alice().not_after() + Duration::from_secs(1);
    let late = found(&memory, &alice(), &trust, after).unwrap_err();
    assert!(matches!(late, PathError::Expired { .. }), "{late}");
    // The same key and name under another number, and of a stranger.
    let other = Draft::new("Alice", ALICE, "CA").numbered(11).sign(CA);
    found(&memory, &other, &trust, at()).unwrap();
    let stranger = Draft::new("Alice", ALICE, "CA").numbered(10).sign(9);
    let forged = found(&memory, &stranger, &trust, at()).unwrap_err();
    assert!(matches!(forged, PathError::Signature { .. }), "{forged}");
    // Whoever brings the list along is not helped, or harmed, by what others found without.
    let crls = vec![List::by("CA", CA).listing(&alice(), &[]).sign()];
    let with_list = trust.with_evidence(Evidence { crls, ..Evidence::default() });
    let revoked = found(&memory, &alice(), &with_list, at()).unwrap_err();
    assert!(matches!(revoked, PathError::Revoked { .. }), "{revoked}");
    found(&memory, &alice(), &trust, at()).unwrap();
}

#[test]
fn what_is_remembered_costs_a_message_what_it_cost_the_first() {
    let memory = Arc::new(PathMemory::default());
    let trust = asking(&Arc::default());
    let below = Draft::ca("Below", 3, "CA").sign(CA);
    let leaves: Vec<_> =
        (1..=2).map(|number| Draft::new("Alice", ALICE, "Below").numbered(number).sign(3)).collect();
    let surplus = [leaves.as_slice(), &[below]].concat();
    let cost = |mut budget: Budget, leaves: &[Certificate]| {
        budget = leaves.iter().fold(budget, |mut budget, leaf| {
            validate_within(&mut budget, leaf, &surplus, &trust, at()).unwrap();
            budget
        });
        (budget.operations(), budget.decoded())
    };
    memory.begin(1);
    // Both signed, or one of them did: what was found for the one message is no part of what another pays.
    let messages = [0..2, 0..1, 1..2, 0..2, 1..2].map(|signers| leaves.get(signers).unwrap());
    for signers in messages {
        let alone = cost(Budget::default(), signers);
        for _ in 0..2 {
            assert_eq!(cost(Budget::default().remembering(&memory), signers), alone);
        }
    }
    // And what cannot be paid for is not had.
    let (operations, _) = cost(Budget::default(), leaves.get(..1).unwrap());
    let mut short = Budget::of(operations - 1).remembering(&memory);
    let refused = validate_within(&mut short, leaves.first().unwrap(), &surplus, &trust, at());
    assert!(matches!(refused, Err(PathError::TooManyChecks)), "{refused:?}");
}
