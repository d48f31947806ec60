//! The cache before sources that are not asked: for those who say what would be done, and disturb nobody.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use certcache::Chooser;
use smime::{
    Certificate, MailAddress,
    capabilities::Capabilities,
    store::{Lookup, RecipientCertificates, StoreError, Waited},
};

use crate::refill::must_ask;

/// What is taken for the answer of the sources that are not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// One of them does not answer.
    Silence,
    /// None of them has anything.
    Nothing,
}

/// [`Refill`](crate::Refill) without its sources: it notes whom it would have asked about.
pub struct Unasked {
    chooser: Arc<Chooser>,
    instead: Instead,
    noted: Mutex<Vec<MailAddress>>,
}

impl fmt::Debug for Unasked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unasked").field("instead", &self.instead).finish_non_exhaustive()
    }
}

impl Unasked {
    /// What `chooser` says, and `instead` where the sources would be asked.
    pub fn new(chooser: Arc<Chooser>, instead: Instead) -> Self {
        Self { chooser, instead, noted: Mutex::default() }
    }

    /// The addresses that the sources would have been asked about.
    pub fn noted(&self) -> Vec<MailAddress> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RecipientCertificates for Unasked {
    fn lookup(
        &self,
        address: &MailAddress,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Lookup, StoreError> {
        let known = self.chooser.lookup(address, at, waited)?;
        if !must_ask(&self.chooser, &known, address, at)? {
            return Ok(known);
        }
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if !noted.iter().any(|known| known.folded() == address.folded()) {
            noted.push(address.clone());
        }
        Ok(match (self.instead, known) {
            (Instead::Silence, _) => Lookup::Unknown,
            // As it is once all of them have answered.
            (Instead::Nothing, Lookup::Unlisted) => Lookup::Absent,
            (Instead::Nothing, known) => known,
        })
    }

    fn capabilities(&self, certificate: &Certificate) -> Option<Capabilities> {
        self.chooser.capabilities(certificate)
    }

    fn against(
        &self,
        certificate: &Certificate,
        at: SystemTime,
        waited: &mut Waited,
    ) -> Result<Option<String>, StoreError> {
        self.chooser.against(certificate, at, waited)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certcache::{Cache, Insertion, Source, Take};
    use smime::testing::{
        authority::{Authority, Wanted},
        fixtures,
    };

    use super::*;
    use crate::{Refill, Sources};

    /// What it says, in a word.
    fn word(lookup: &Lookup) -> &'static str {
        match lookup {
            Lookup::Found(_) => "found",
            Lookup::Absent => "absent",
            Lookup::Unusable(_) => "unusable",
            Lookup::Unlisted => "unlisted",
            Lookup::Unknown => "unknown",
        }
    }

    #[test]
    fn only_who_would_be_asked_about_is_noted_and_answered_instead() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::open(&folder.path().join("cache")).unwrap());
        let now = fixtures::now();
        let ended = Wanted {
            addresses: &["old@example.net"],
            until: now - Duration::from_hours(1),
            ..Wanted::default()
        };
        let ended = Authority::root("Root", "bob").issue(&ended);
        for certificate in [fixtures::certificate("alice"), fixtures::certificate("ca"), ended] {
            cache.put(&[Insertion::new(&certificate, Source::Imported)], now).unwrap();
        }
        let chooser = Arc::new(Chooser::new(Arc::clone(&cache), fixtures::trust(), Take::default()));
        let address = |text| MailAddress::parse(text).unwrap();
        let old = address("old@example.net");
        let asked = address("asked@example.net");
        cache.put_absent(&asked, None, now + Duration::from_mins(1)).unwrap();
        let silent = Unasked::new(Arc::clone(&chooser), Instead::Silence);
        let nothing = Unasked::new(Arc::clone(&chooser), Instead::Nothing);
        for (who, by_silence, by_nothing) in [
            (address("alice@example.org"), "found", "found"),
            (asked, "absent", "absent"),
            (old.clone(), "unknown", "unusable"),
            (address("new@example.net"), "unknown", "absent"),
            (address("New@Example.net"), "unknown", "absent"),
        ] {
            for (store, expected) in [(&silent, by_silence), (&nothing, by_nothing)] {
                let found = store.lookup(&who, now, &mut Waited::default()).unwrap();
                assert_eq!(word(&found), expected, "{who} {:?}", store.instead);
            }
        }
        assert_eq!(silent.noted(), [old.clone(), address("new@example.net")]);
        assert_eq!(nothing.noted(), silent.noted());
        // The same as of sources that answer, and have nothing.
        let none: Arc<dyn crate::CertificateSource> = Arc::new(crate::Directory::new("none", folder.path()));
        let refill = Refill::new(chooser, Sources::new(vec![none], Duration::from_secs(9)), Duration::ZERO);
        for who in [old, address("new@example.net")] {
            let [asked, told] = [&refill as &dyn RecipientCertificates, &nothing]
                .map(|store| word(&store.lookup(&who, now, &mut Waited::default()).unwrap()));
            assert_eq!(asked, told, "{who}");
        }
    }
}
