//! What is said at the end of a scan, with what the tokens have of it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use batch::{
    scan::{Effort, Found, Measured, Scan, Summary},
    words::tell,
};
use hsmpool::{Pool, TokenKey};
use smime::{
    Certificate,
    agreement::{AgreementCurve, OriginatorPublicKey},
    algorithm::KeyEncryptionAlgorithm,
    key::Decryptor,
};

use crate::TOKEN_LIMIT;

/// Tells what a scan found, and what the tokens have of it; so many messages could not be looked into, or not into all.
pub(crate) fn summarise(scan: &Scan, unseen: u64, pool: &Pool, asks_tokens: bool) {
    let found = scan.found();
    let mut on_tokens = None;
    let mut effort = None;
    if asks_tokens && let Ok(missing) = pool.missing_keys(scan.ours(), TOKEN_LIMIT) {
        let has: Vec<bool> = scan.ours().iter().map(|certificate| !missing.contains(&certificate)).collect();
        effort = Some(effort_of(&found, scan.ours(), &has, pool));
        on_tokens = Some(has);
    }
    let (ours, lost, on_tokens, effort) = (scan.ours(), scan.lost(), on_tokens.as_deref(), effort.as_ref());
    tell(&format!("\n{}", Summary { found: &found, ours, on_tokens, effort, unseen, lost: &lost }));
}

/// What the tokens have to do to open what they have the keys of. Keys of one kind are taken to be equally fast.
fn effort_of(found: &Found, ours: &[Certificate], has: &[bool], pool: &Pool) -> Effort {
    let mut kinds: BTreeMap<String, (&Certificate, u64)> = BTreeMap::new();
    let mut effort = Effort::default();
    for ((place, _), count) in &found.asked {
        let Some(certificate) = ours.get(*place).filter(|_| has.get(*place) == Some(&true)) else { continue };
        match kind_of(certificate) {
            Some(kind) => kinds.entry(kind).or_insert((certificate, 0)).1 += count,
            None => effort.unknown += count,
        }
    }
    for (kind, (certificate, operations)) in kinds {
        match rate_of(pool, certificate) {
            Some(rate) => effort.measured.push(Measured { kind, operations, rate }),
            None => effort.unknown += operations,
        }
    }
    effort
}

/// What decides how long an operation with its key takes.
fn kind_of(certificate: &Certificate) -> Option<String> {
    let rsa = certificate.rsa_modulus_bits().map(|bits| format!("RSA {bits}"));
    rsa.or_else(|| AgreementCurve::of(certificate).map(|curve| format!("ECDH {curve:?}")))
}

/// How many times in a second the tokens use a key to open something, measured for a second; `None` if they do not.
fn rate_of(pool: &Pool, certificate: &Certificate) -> Option<f64> {
    let key = pool.key(certificate);
    let operation = operation_with(&key, certificate)?;
    let sessions: usize = pool.status().iter().map(|token| token.sessions).sum();
    let (done, began) = (AtomicU64::new(0), Instant::now());
    thread::scope(|threads| {
        for _ in 0..(2 * sessions).clamp(1, 64) {
            threads.spawn(|| {
                while began.elapsed() < Duration::from_secs(1) && operation() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let done = done.into_inner();
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let rate = done as f64 / began.elapsed().as_secs_f64();
    (done > 0).then_some(rate)
}

/// Uses a key once; tells whether that was possible. What is decrypted is nobody's: its padding is wrong, which costs the same; and
/// what is agreed upon with its own public key is thrown away.
fn operation_with<'k>(
    key: &'k TokenKey,
    certificate: &Certificate,
) -> Option<Box<dyn Fn() -> bool + Sync + 'k>> {
    if let Some(bits) = certificate.rsa_modulus_bits() {
        let mut garbage = vec![0x5A; bits.div_ceil(8)];
        *garbage.first_mut()? = 0;
        return Some(Box::new(move || key.decrypt_key(&garbage, &KeyEncryptionAlgorithm::RsaPkcs1).is_ok()));
    }
    let curve = AgreementCurve::of(certificate)?;
    let other = OriginatorPublicKey::new(curve, certificate.public_key())?;
    Some(Box::new(move || key.agree(&other).is_ok()))
}
