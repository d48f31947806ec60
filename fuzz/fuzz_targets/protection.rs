//! The target `protection` for cargo-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| smime_fuzz::targets::protection(octets));
