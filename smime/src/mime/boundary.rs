//! A boundary that delimits what we write (RFC 2046 5.1.1).

use data_encoding::HEXLOWER;

use crate::Fault;

/// Why there is no boundary: the system's random octets do not come, or are not random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no random boundary from the system")]
pub struct BoundaryError;

impl BoundaryError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        Fault::Internal
    }
}

/// The length of a boundary.
pub(super) const BOUNDARY_LEN: usize = START.len() + 32;

const START: &str = "----=_smime_";

/// A boundary of 128 random bits that occurs nowhere in `avoid`.
///
/// It holds `=_`, which neither base64 nor quoted-printable can contain, and ends in a digit: some agents
/// lose a `=` at the end of a line. The message that it goes around was written before the boundary was
/// drawn, so it cannot have been made to hold it.
pub(crate) fn fresh_boundary(avoid: &[&[u8]]) -> Result<String, BoundaryError> {
    // A second attempt is never needed; a generator that needs a third does not generate.
    for _ in 0..3 {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| BoundaryError)?;
        let boundary = format!("{START}{}", HEXLOWER.encode(&random));
        let finder = memchr::memmem::Finder::new(&boundary);
        if avoid.iter().all(|octets| finder.find(octets).is_none()) {
            return Ok(boundary);
        }
    }
    Err(BoundaryError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_fresh_and_within_the_grammar() {
        let boundary = fresh_boundary(&[b"------=_smime_", b""]).unwrap();
        let is_bchar = |octet: u8| octet.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&octet);
        assert!(boundary.len() <= 70 && boundary.bytes().all(is_bchar), "{boundary}");
        assert_eq!(boundary.len(), BOUNDARY_LEN);
        assert!(!boundary.ends_with('=') && boundary.contains("=_"), "{boundary}");
        assert_ne!(boundary, fresh_boundary(&[]).unwrap());
    }
}
