//! The target `mbox` for cargo-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| smime_fuzz::targets::mbox(octets));
