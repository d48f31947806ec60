//! Sequences whose number of elements is bounded while they are decoded: an element takes many octets of memory and may have
//! one in its frame.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};

/// What `CKA_ID` of a key may be.
#[derive(Serialize, Deserialize)]
pub(in crate::remote) struct Ids<'a>(
    #[serde(borrow, deserialize_with = "at_most::<_, _, MOST_IDS>")] Vec<&'a [u8]>,
);

impl<'a> Ids<'a> {
    pub(in crate::remote) fn of(ids: &'a [Vec<u8>]) -> Self {
        Self(ids.iter().map(Vec::as_slice).collect())
    }

    pub(in crate::remote) fn to_vec(&self) -> Vec<Vec<u8>> {
        self.0.iter().map(|id| id.to_vec()).collect()
    }
}

/// At most `MOST` elements; one more is an error as it comes.
pub(in crate::remote) fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    struct AtMost<T, const MOST: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for AtMost<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MOST}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = sequence.next_element()? {
                if all.len() == MOST {
                    return Err(A::Error::custom("too many"));
                }
                all.push(one);
            }
            Ok(all)
        }
    }

    from.deserialize_seq(AtMost::<T, MOST>(PhantomData))
}

/// At most so many, also when it is made: the others are left out.
#[derive(Serialize)]
pub(in crate::remote) struct AtMost<T, const MOST: usize>(pub(in crate::remote) Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for AtMost<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        at_most::<_, _, MOST>(from).map(Self)
    }
}

impl<T, const MOST: usize> FromIterator<T> for AtMost<T, MOST> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        Self(all.into_iter().take(MOST).collect())
    }
}

/// A histogram's buckets, of which there are fewer.
pub(crate) fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    at_most::<_, _, FEW>(from)
}

/// Counters by name, of which there are fewer.
pub(crate) fn few_of_map<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, u64>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = BTreeMap<String, u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {FEW}")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some((name, count)) = map.next_entry()? {
                all.insert(name, count);
                if all.len() > FEW {
                    return Err(A::Error::custom("too many"));
                }
            }
            Ok(all)
        }
    }

    from.deserialize_map(Few)
}

/// More than kinds of errors are told apart, and than buckets are in a histogram.
const FEW: usize = 256;
/// A key has two at most: subjectKeyIdentifier and the SHA-1 of the public key.
const MOST_IDS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::report::{Inquiry, MOST_KEYS, WireKey, WireNeed};

    fn key(ids: &[Vec<u8>]) -> WireKey<'_> {
        WireKey { public_key_info: &[], ids: Ids::of(ids), description: "" }
    }

    #[test]
    fn of_elements_that_are_many_more_than_there_can_be_none_is_kept() {
        for (keys, ids, is_taken) in [
            (MOST_KEYS, 0, true),
            (MOST_KEYS + 1, 0, false),
            (87_000, 0, false),
            (1, MOST_IDS, true),
            (1, MOST_IDS + 1, false),
            (1, 260_000, false),
        ] {
            let ids = vec![Vec::new(); ids];
            let missing = Inquiry::Missing { keys: (0..keys).map(|_| key(&ids)).collect() };
            let need = || WireNeed { key: key(&ids), signs: true, decrypts: true };
            let needs = Inquiry::Needs { needs: (0..keys).map(|_| need()).collect() };
            for inquiry in [missing, needs] {
                let octets = postcard::to_allocvec(&inquiry).unwrap();
                assert_eq!(
                    postcard::from_bytes::<Inquiry<'_>>(&octets).is_ok(),
                    is_taken,
                    "{keys} {}",
                    ids.len()
                );
            }
        }
    }

    #[test]
    fn ids_arrive_as_they_were() {
        let ids = vec![b"one".to_vec(), Vec::new(), vec![7; 300]];
        let octets = postcard::to_allocvec(&Ids::of(&ids)).unwrap();
        assert_eq!(octets, postcard::to_allocvec(&ids).unwrap());
        assert_eq!(postcard::from_bytes::<Ids<'_>>(&octets).unwrap().to_vec(), ids);
    }
}
