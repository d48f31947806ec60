//! Which messages of an archive are worked on; the others are copied as they are.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use agent::Turn;
use smime::mime::Message;

use crate::{
    inspect::KeyName,
    instant,
    keys::{self, MAX_SEEN, Wanted},
    recipients::listed,
    task::{Done, Failed, Task, Work, Working},
};

/// What a message must be; all that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Written at this time or later.
    pub since: Option<SystemTime>,
    /// Written before this time.
    pub before: Option<SystemTime>,
    /// From, to or copied to one of these: an address, or `@` and a domain.
    pub addresses: Vec<String>,
    /// In a file or folder with one of these in its path.
    pub folders: Vec<String>,
    /// With one of these algorithms in a layer, or a part of its name.
    pub algorithms: Vec<String>,
    /// Encrypted to one of these keys.
    pub keys: Vec<Wanted>,
}

impl Selection {
    /// Whether every message is selected.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Which options select.
    pub fn options(&self) -> Vec<&'static str> {
        let options = [
            ("--since", self.since.is_some()),
            ("--before", self.before.is_some()),
            ("--address", !self.addresses.is_empty()),
            ("--folder", !self.folders.is_empty()),
            ("--algorithm", !self.algorithms.is_empty()),
            ("--key", !self.keys.is_empty()),
        ];
        options.into_iter().filter(|(_, is_given)| *is_given).map(|(option, _)| option).collect()
    }

    fn selects(&self, work: &Work<'_>) -> bool {
        let of_time = || {
            if self.since.is_none() && self.before.is_none() {
                return true;
            }
            // What has no date is in no period.
            instant::of_message(work.message).is_some_and(|at| {
                self.since.is_none_or(|since| at >= since) && self.before.is_none_or(|before| at < before)
            })
        };
        let path = work.origin.file.to_string_lossy();
        any(&self.folders, |folder| path.contains(folder.as_str()))
            && any(&self.algorithms, |name| {
                let name = name.to_ascii_lowercase();
                let algorithms = || work.contents.layers.iter().flat_map(|layer| &layer.algorithms);
                algorithms().any(|algorithm| algorithm.to_ascii_lowercase().contains(&name))
            })
            && any(&self.keys, |key| work.contents.recipients().any(|recipient| key.is(&recipient.key)))
            && any(&self.addresses, |address| has_address(work.message, address))
            && of_time()
    }
}

/// Whether one of them is right; where nothing is said, everything is.
fn any<T>(wanted: &[T], is_right: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(is_right)
}

fn has_address(message: &Message, wanted: &str) -> bool {
    let entity = message.entity();
    let header = entity.header();
    let wanted = wanted.to_lowercase();
    ["From", "Sender", "To", "Cc", "Bcc"].iter().any(|name| {
        header.all(name).any(|field| {
            listed(&field.unfolded()).unwrap_or_default().iter().any(|address| {
                let address = address.to_lowercase();
                address == wanted || (wanted.starts_with('@') && address.ends_with(&wanted))
            })
        })
    })
}

/// The action of a message that is not.
pub(crate) const NOT_SELECTED: &str = "not selected";

/// Works on what is selected.
pub struct Selected<'a> {
    task: &'a dyn Task,
    selection: &'a Selection,
    /// To which keys messages are encrypted, selected or not, where keys select.
    seen: Mutex<BTreeSet<KeyName>>,
}

impl<'a> Selected<'a> {
    /// Does this with what is selected.
    pub fn new(task: &'a dyn Task, selection: &'a Selection) -> Self {
        Self { task, selection, seen: Mutex::default() }
    }

    /// What is wrong with the keys that were to select, after all messages were looked at.
    pub fn problems(&self) -> Vec<String> {
        keys::problems(
            "--key",
            &self.selection.keys,
            &self.seen.lock().unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn see(&self, work: &Work<'_>) {
        if self.selection.keys.is_empty() {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for recipient in work.contents.recipients() {
            if seen.len() < MAX_SEEN && !seen.contains(&recipient.key) {
                seen.insert(recipient.key.clone());
            }
        }
    }
}

impl Task for Selected<'_> {
    fn run(&self, work: &Work<'_>) -> Result<Done, Failed> {
        self.begin(work).wait(work.message)
    }

    fn begin<'t>(&'t self, work: &Work<'_>) -> Working<'t> {
        self.see(work);
        if self.selection.selects(work) {
            self.task.begin(work)
        } else {
            Turn::Done(Ok(Done::unchanged(NOT_SELECTED)))
        }
    }

    fn works_on_objects(&self) -> bool {
        self.task.works_on_objects()
    }

    fn opens(&self) -> bool {
        self.task.opens()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        inspect::{Contents, KeyName, Layer, RecipientName},
        stored::Origin,
        task::Identity,
    };

    #[test]
    fn a_message_is_selected_if_all_that_is_said_holds() {
        let words = |text: &str| vec![text.to_owned()];
        let keys = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
            Wanted::among(&texts, &[]).unwrap()
        };
        let date = |text| Some(instant::parse(text).unwrap());
        let all = Selection::default;
        for (selection, expected) in [
            (all(), true),
            (Selection { since: date("2024-05-31"), before: date("2024-06-01"), ..all() }, true),
            (Selection { since: date("2024-06-01"), ..all() }, false),
            (Selection { before: date("2024-05-31"), ..all() }, false),
            (Selection { addresses: words("ALICE@example.org"), ..all() }, true),
            (Selection { addresses: words("@example.net"), ..all() }, true),
            (Selection { addresses: words("lice@example.org"), ..all() }, false),
            (Selection { addresses: words("@ample.org"), ..all() }, false),
            (Selection { folders: words("/.Sent/"), ..all() }, true),
            (Selection { folders: words("/.Drafts/"), ..all() }, false),
            (Selection { algorithms: words("des-ede3"), ..all() }, true),
            (Selection { algorithms: words("AES"), ..all() }, false),
            (Selection { keys: keys(&["0a:bc"]), ..all() }, true),
            (Selection { keys: keys(&["BC"]), ..all() }, false),
            (Selection { keys: keys(&["BC", "ABC"]), ..all() }, true),
            (Selection { keys: keys(&["0ABC"]), folders: words("x"), ..all() }, false),
        ] {
            let message = Message::from_stored(
                b"From: Alice <alice@example.org>\nTo: a <b@example.net>, c@d\nDate: 31 May 2024 12:00 +0000\n\nx",
            );
            let key = KeyName::Issued { issuer: "CN=CA".into(), serial: "0ABC".into() };
            let layer = Layer {
                form: "enveloped-data",
                algorithms: vec!["DES-EDE3-CBC".into()],
                recipients: vec![RecipientName { key, operation: "RSA-PKCS1" }],
                signers: Vec::new(),
                attached: false,
            };
            let origin = Origin { file: Path::new("/mail/.Sent/cur/1").into(), offset: None };
            let contents = Contents { layers: vec![layer], ..Contents::default() };
            let work = Work {
                index: 1,
                message: &message,
                origin: &origin,
                contents: &contents,
                other_reading: None,
                object: None,
                signature: None,
            };
            let done = Selected::new(&Identity, &selection).run(&work).unwrap();
            assert_eq!(done.action == "copied", expected, "{selection:?}");
        }
    }
}
