//! What is said at the end of a scan, with what the tokens have of it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use batch::{
    scan::{Scan, Summary},
    words::tell,
};
use hsmpool::Pool;
use smime::{Certificate, algorithm::KeyEncryptionAlgorithm, key::Decryptor};

use crate::TOKEN_LIMIT;

/// Tells what a scan found, and what the tokens have of it.
pub(crate) fn summarise(scan: &Scan, pool: &Pool, asks_tokens: bool) {
    let found = scan.found();
    let mut on_tokens = None;
    let mut rate = None;
    if asks_tokens && let Ok(missing) = pool.missing_keys(scan.ours(), TOKEN_LIMIT) {
        let has: Vec<bool> = scan.ours().iter().map(|certificate| !missing.contains(&certificate)).collect();
        let needed = found.keys.values().filter_map(|key| key.ours);
        let usable = needed.filter(|place| has.get(*place) == Some(&true));
        let usable: Vec<&Certificate> = usable.filter_map(|place| scan.ours().get(place)).collect();
        rate = usable.first().and_then(|certificate| rate_of(pool, certificate));
        on_tokens = Some(has);
    }
    let (ours, lost, on_tokens) = (scan.ours(), scan.lost(), on_tokens.as_deref());
    tell(&format!("\n{}", Summary { found: &found, ours, on_tokens, rate, lost: &lost }));
}

/// How many times in a second the tokens decrypt with an RSA key, measured for a second. What is decrypted is
/// nobody's: its padding is wrong, which costs the same.
fn rate_of(pool: &Pool, certificate: &Certificate) -> Option<f64> {
    let octets = certificate.rsa_modulus_bits()?.div_ceil(8);
    let mut garbage = vec![0x5A; octets];
    *garbage.first_mut()? = 0;
    let sessions: usize = pool.status().iter().map(|token| token.sessions).sum();
    let (key, done, began) = (pool.key(certificate), AtomicU64::new(0), Instant::now());
    thread::scope(|threads| {
        for _ in 0..(2 * sessions).clamp(1, 64) {
            threads.spawn(|| {
                while began.elapsed() < Duration::from_secs(1)
                    && key.decrypt_key(&garbage, &KeyEncryptionAlgorithm::RsaPkcs1).is_ok()
                {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let done = done.into_inner() as f64;
    Some(done / began.elapsed().as_secs_f64())
}
