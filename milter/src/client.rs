//! Whose messages are under way, so that no client takes all the places.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::Envelope;

/// The places for messages.
#[derive(Debug)]
pub(crate) struct Places {
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_client: HashMap<String, usize>,
}

/// A message's place, from `MAIL` to the answer.
#[derive(Debug)]
pub(crate) struct Place {
    of: Arc<Places>,
    client: String,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// As many messages are under way as the milter takes.
    All,
    /// This client has half of the places.
    Client,
}

impl Places {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), taken: Mutex::default() })
    }

    /// A place for a client's message. One client gets half of them at most: who sends thousands finds them taken,
    /// and others do not.
    pub(crate) fn take(self: &Arc<Self>, client: String) -> Result<Place, Full> {
        let mut taken = self.taken();
        if taken.all >= self.limit {
            return Err(Full::All);
        }
        let half = self.limit.div_ceil(2);
        match taken.by_client.get_mut(&client) {
            Some(count) if *count >= half => return Err(Full::Client),
            Some(count) => *count += 1,
            None => {
                taken.by_client.insert(client.clone(), 1);
            }
        }
        taken.all += 1;
        drop(taken);
        Ok(Place { of: Arc::clone(self), client })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // No change of it can be left half done.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        taken.all -= 1;
        if let Some(count) = taken.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

/// Who is told from others: the login, else the address. What a stranger can make up, such as the envelope sender,
/// gives nobody a larger share.
pub(crate) fn client(envelope: &Envelope) -> String {
    match (envelope.login(), envelope.client) {
        (Some(login), _) => format!("login {login}"),
        (None, Some(address)) => address.to_string(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_gets_half_of_the_places_and_others_the_rest() {
        let places = Places::new(5);
        let take = |client: &str| places.take(client.to_owned());
        let mut greedy: Vec<_> = (0..3).map(|_| take("greedy").unwrap()).collect();
        assert_eq!(take("greedy").unwrap_err(), Full::Client);
        let others = [take("one").unwrap(), take("two").unwrap()];
        assert_eq!(take("three").unwrap_err(), Full::All);
        greedy.pop();
        drop(take("three").unwrap());
        assert!(take("greedy").is_ok());
        drop((greedy, others));
        let taken = places.taken();
        assert_eq!((taken.all, taken.by_client.len()), (0, 0), "nobody is remembered");
    }

    #[test]
    fn a_single_place_is_for_anybody() {
        let places = Places::new(1);
        let place = places.take("one".to_owned()).unwrap();
        assert_eq!(places.take("two".to_owned()).unwrap_err(), Full::All);
        drop(place);
        assert!(places.take("two".to_owned()).is_ok());
    }
}
