//! To which certificates of those who have several one message is encrypted: to as many as it can be.

use smime::{Certificate, cms::MAX_RECIPIENTS, profile::Profile};
use tracing::info;

use super::{Recipient, seal_plan};

/// Of one recipient's certificates, the best first, those to which one message can be encrypted that is also to these others: one
/// device that opens no cipher of the profile, or none that the others open, must not have the mail leave in clear, or not at all.
pub(super) fn together(
    certificates: Vec<Certificate>,
    others: &[Certificate],
    profile: &Profile,
    recipient_of: impl Fn(&Certificate) -> Recipient,
) -> Vec<Certificate> {
    if certificates.len() < 2 {
        return certificates;
    }
    let mut all: Vec<Recipient> = others.iter().map(&recipient_of).collect();
    let mut kept = Vec::new();
    for certificate in &certificates {
        all.push(recipient_of(certificate));
        match seal_plan(&all, profile) {
            Ok(_) => kept.push(certificate.clone()),
            Err(error) => {
                info!(certificate = certificate.to_string(), error = error.to_string(), "is left out");
                all.pop();
            }
        }
    }
    // With none there is a reason to tell.
    if kept.is_empty() { certificates } else { kept }
}

/// What of a message in an archive is given to each of its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// One content, which all of them must be able to open.
    Content,
    /// The key of a content that is there: they need no cipher in common.
    Key,
}

/// To whom a message of an archive is encrypted: always to these, to the best certificate of each of those people, and to as many
/// of their others as can be. Each has some, the best first.
pub fn of_people(
    always: Vec<Recipient>,
    people: Vec<Vec<Recipient>>,
    profile: &Profile,
    given: Given,
) -> Vec<Recipient> {
    let can_be = |some: &[Recipient]| some.len() <= MAX_RECIPIENTS && seal_plan(some, profile).is_ok();
    if people.iter().all(|devices| devices.len() < 2) {
        return always.into_iter().chain(people.into_iter().flatten()).collect();
    }
    if given == Given::Content {
        let all: Vec<_> = always.iter().chain(people.iter().flatten()).cloned().collect();
        if can_be(&all) {
            return all;
        }
    }
    let others = if given == Given::Content { always.clone() } else { Vec::new() };
    let (mut chosen, mut more) = (always, Vec::new());
    for mut devices in people {
        let fits = |device: &Recipient| can_be(&[others.as_slice(), std::slice::from_ref(device)].concat());
        let best = devices.iter().position(fits).unwrap_or(0);
        // Those before it do not fit.
        let mut rest = devices.drain(best.min(devices.len())..);
        chosen.extend(rest.next());
        more.extend(rest);
    }
    for device in more {
        if chosen.len() >= MAX_RECIPIENTS {
            break;
        }
        match given {
            Given::Key if can_be(std::slice::from_ref(&device)) => chosen.push(device),
            Given::Key => {}
            Given::Content => {
                chosen.push(device);
                if !can_be(&chosen) {
                    chosen.pop();
                }
            }
        }
    }
    chosen
}
