//! Who gets the same encrypted message: whoever may know of each other, and one mailbox in all of its spellings.

use std::collections::{HashMap, HashSet};

use smime::{
    Certificate, MailAddress,
    mime::{MimeEntity, named_recipients},
};

use crate::mailbox::Mailbox;

/// A mailbox with certificates.
pub(super) struct Reachable<'a> {
    /// All that were given for it: an MTA may tell `Bob@` from `bob@`, and each of them gets the message.
    pub(super) names: Vec<&'a str>,
    pub(super) certificates: Vec<Certificate>,
}

/// Those who can be encrypted to.
#[derive(Default)]
pub(super) struct AllReachable<'a> {
    pub(super) all: Vec<Reachable<'a>>,
    places: HashMap<(String, Vec<Certificate>), usize>,
}

impl<'a> AllReachable<'a> {
    /// Adds a recipient. Other spellings of one mailbox with the same certificates get the same form: none of them learns
    /// from it of anybody else.
    pub(super) fn add(&mut self, name: &'a str, certificates: Vec<Certificate>) {
        let mailbox = Mailbox::read(name).address().map_or_else(|| name.to_owned(), MailAddress::folded);
        let place = *self.places.entry((mailbox, certificates.clone())).or_insert(self.all.len());
        match self.all.get_mut(place) {
            Some(known) => known.names.push(name),
            None => self.all.push(Reachable { names: vec![name], certificates }),
        }
    }
}

/// Those who may know of each other, and everybody else alone.
pub(super) fn circles<'a>(
    reachable: Vec<Reachable<'a>>,
    message: &MimeEntity<'_>,
) -> Vec<Vec<Reachable<'a>>> {
    let named: HashSet<String> = named_recipients(message).iter().map(MailAddress::folded).collect();
    let is_named = |recipient: &str| {
        Mailbox::read(recipient).address().is_some_and(|recipient| named.contains(&recipient.folded()))
    };
    let (open, hidden): (Vec<_>, Vec<_>) =
        reachable.into_iter().partition(|one| one.names.iter().any(|name| is_named(name)));
    let mut circles: Vec<Vec<Reachable<'a>>> = Vec::new();
    let mut certificates = 0;
    for one in open {
        certificates += one.certificates.len();
        match circles.last_mut() {
            Some(circle) if certificates <= MAX_TOGETHER => circle.push(one),
            _ => {
                certificates = one.certificates.len();
                circles.push(vec![one]);
            }
        }
    }
    circles.extend(hidden.into_iter().map(|one| vec![one]));
    circles
}

/// Certificates in one message; below what our own reader takes, with room for a sender and an archive.
const MAX_TOGETHER: usize = 400;
