//! Content ciphers of old mail, to read only: nothing is ever written with them.
//!
//! RFC 3370 5.1 (Triple-DES), 5.2 and RFC 2268 (RC2), and DES in CBC mode, which S/MIME version 2 senders
//! used. All have blocks of 8 octets and no integrity.

use const_oid::db::rfc5911;
use der::asn1::{Any, ObjectIdentifier, OctetString};

/// An old content cipher in CBC mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LegacyCipher {
    /// DES: 56 bits.
    Des,
    /// Triple-DES with three keys, DES-EDE3-CBC. Two of them may be the same.
    TripleDes,
    /// RC2 with 40 bits, which anybody can search through.
    Rc2_40,
    /// RC2 with 64 bits.
    Rc2_64,
    /// RC2 with 128 bits.
    Rc2_128,
}

/// RC2CBCParameter (RFC 3370 5.2). The other form, the bare IV, means 32 bits and is not taken.
#[derive(Clone, Debug, der::Sequence)]
struct Rc2Parameters {
    version: u32,
    iv: OctetString,
}

/// DES-CBC, of OIW's registry, which S/MIME version 2 named.
const DES_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.7");
/// rc2-cbc (RFC 3370 5.2).
const RC2_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.3.2");

impl LegacyCipher {
    /// The cipher and IV that an identifier names, or `None` for one that is none of these.
    pub(super) fn read(oid: ObjectIdentifier, parameters: &Any) -> Option<(Self, [u8; 8])> {
        let iv = |octets: OctetString| octets.as_bytes().try_into().ok();
        match oid {
            DES_CBC => Some((Self::Des, iv(parameters.decode_as().ok()?)?)),
            rfc5911::DES_EDE_3_CBC => Some((Self::TripleDes, iv(parameters.decode_as().ok()?)?)),
            RC2_CBC => {
                let parameters: Rc2Parameters = parameters.decode_as().ok()?;
                // rc2ParameterVersion stands for the effective key bits by a table (RFC 2268 6).
                let cipher = match parameters.version {
                    160 => Self::Rc2_40,
                    120 => Self::Rc2_64,
                    58 => Self::Rc2_128,
                    _ => return None,
                };
                Some((cipher, iv(parameters.iv)?))
            }
            _ => None,
        }
    }

    /// The length of the key in octets. DES counts its parity bits, which are not looked at (RFC 3370 4.3.1
    /// lets a sender leave them as they are). RC2 keys are as long as their effective bits.
    pub fn key_len(self) -> usize {
        match self {
            Self::Rc2_40 => 5,
            Self::Des | Self::Rc2_64 => 8,
            Self::Rc2_128 => 16,
            Self::TripleDes => 24,
        }
    }

    /// The name used in logs and comments.
    pub fn name(self) -> &'static str {
        match self {
            Self::Des => "DES-CBC",
            Self::TripleDes => "DES-EDE3-CBC",
            Self::Rc2_40 => "RC2-40-CBC",
            Self::Rc2_64 => "RC2-64-CBC",
            Self::Rc2_128 => "RC2-128-CBC",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rc2_is_taken_with_the_three_key_lengths_of_mail_and_no_other() {
        let read = |version: u32| {
            let iv = OctetString::new(vec![1; 8]).unwrap();
            let parameters = Any::encode_from(&Rc2Parameters { version, iv }).unwrap();
            LegacyCipher::read(RC2_CBC, &parameters)
        };
        for (version, cipher) in
            [(160, LegacyCipher::Rc2_40), (120, LegacyCipher::Rc2_64), (58, LegacyCipher::Rc2_128)]
        {
            assert_eq!(read(version), Some((cipher, [1; 8])));
        }
        for version in [0, 32, 40, 57, 128, 256, 1024, u32::MAX] {
            assert_eq!(read(version), None, "{version}");
        }
        let bare = Any::encode_from(&OctetString::new(vec![1; 8]).unwrap()).unwrap();
        assert_eq!(LegacyCipher::read(RC2_CBC, &bare), None);
    }

    #[test]
    fn an_iv_of_another_length_is_not_taken() {
        for len in [0, 7, 9, 16] {
            let iv = Any::encode_from(&OctetString::new(vec![1; len]).unwrap()).unwrap();
            assert_eq!(LegacyCipher::read(DES_CBC, &iv), None);
            assert_eq!(LegacyCipher::read(rfc5911::DES_EDE_3_CBC, &iv), None);
        }
    }
}
