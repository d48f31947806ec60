//! Gates of different minds.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use smime::key::KeyError;

use crate::remote::gate::{Closing, Gate, KeyUse, Told};

#[derive(Default)]
pub(super) struct Counting {
    pub(super) begun: AtomicUsize,
    pub(super) ended: Arc<AtomicUsize>,
}

impl Gate for Counting {
    fn begin(&self, _usage: &KeyUse<'_>) -> Result<Closing, KeyError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let ended = Arc::clone(&self.ended);
        Ok(Box::new(move |_| {
            ended.fetch_add(1, Ordering::Relaxed);
            Ok(Told::AsItIs)
        }))
    }

    fn shows(&self, _key: &[u8; 32]) -> bool {
        true
    }
}

/// Which names keys were used by.
#[derive(Default)]
pub(super) struct Recording(pub(super) Mutex<Vec<String>>);

impl Gate for Recording {
    fn begin(&self, usage: &KeyUse<'_>) -> Result<Closing, KeyError> {
        self.0.lock().unwrap().push(usage.description.to_owned());
        Ok(Box::new(|_| Ok(Told::AsItIs)))
    }

    fn shows(&self, _key: &[u8; 32]) -> bool {
        true
    }
}

pub(super) struct Refusing;

impl Gate for Refusing {
    fn begin(&self, usage: &KeyUse<'_>) -> Result<Closing, KeyError> {
        let certificate = usage.description.to_owned();
        Err(KeyError::Refused { certificate, reason: "not for you".into() })
    }

    fn shows(&self, _key: &[u8; 32]) -> bool {
        true
    }
}

pub(super) struct Forgetting;

impl Gate for Forgetting {
    fn begin(&self, _usage: &KeyUse<'_>) -> Result<Closing, KeyError> {
        Ok(Box::new(|_| Err(KeyError::Unavailable { token: "audit".into(), reason: "disk full".into() })))
    }

    fn shows(&self, _key: &[u8; 32]) -> bool {
        true
    }
}
