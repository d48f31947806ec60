//! How much memory a large message costs. One test, so that nothing else in the process allocates.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are part of them")]

use std::fs;

use smime::{
    cipher::ContentCipher,
    cms::{Keep, Object, Proof, RecipientKey, rekey},
    message,
    mime::{Canonical, decode_base64},
    profile::SealPlan,
    testing::fixtures::{certificate, key},
};

/// A field of /proc/self/status in octets: VmHWM is the most that was resident, VmRSS what is.
fn status(field: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() * 1024
}

/// How much more was resident at once while `run` ran than before it, in parts of `len`.
fn peak<T>(len: usize, run: impl FnOnce() -> T) -> (T, f64) {
    // Writing 5 makes the most that was resident what is resident now (proc(5), clear_refs).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    let result = run();
    let more = u32::try_from((status("VmHWM") - before) >> 10).unwrap();
    (result, f64::from(more) / f64::from(u32::try_from(len >> 10).unwrap()))
}

#[test]
fn a_large_message_costs_what_its_result_is_long_and_one_copy() {
    // Over 32 MB, so that the allocator gives every buffer back to the system (mallopt(3), M_MMAP_THRESHOLD).
    let lines = b"All work and no play makes Jack a dull boy.\r\n".repeat(800_000);
    let content = Canonical::from_signed_part(&[b"Content-Type: text/plain\r\n\r\n", &lines[..]].concat());
    drop(lines);
    let len = content.octets().len();
    let recipient = |name: &str| RecipientKey::new(certificate(name)).unwrap();
    let plan = SealPlan { cipher: ContentCipher::Aes256Gcm, recipients: vec![recipient("bob")] };
    // The object, and the same in base64, which is 1.37 times as long.
    let (sealed, cost) = peak(len, || message::seal(&content, &plan).unwrap());
    assert!((2.3..2.5).contains(&cost), "sealing costs {cost:.2} times the message");

    let object = decode_base64(&sealed.body).unwrap();
    drop(sealed);
    let new = [recipient("p256")];
    let (rekeyed, cost) = peak(len, || rekey(&object, &key("bob"), &new, Keep::None, Proof::Key).unwrap());
    assert!((0.9..1.1).contains(&cost), "rekeying costs {cost:.2} times the message");
    drop(object);

    let (opened, cost) = peak(len, || {
        let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&rekeyed) else { unreachable!() };
        let encrypted = enveloped.recipient_for(&certificate("p256")).unwrap();
        enveloped.open(encrypted, &key("p256")).unwrap()
    });
    assert!((0.9..1.1).contains(&cost), "opening costs {cost:.2} times the message");
    assert!(opened == content.octets());
}
