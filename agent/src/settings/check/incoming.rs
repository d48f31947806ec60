//! The checks that make an [`IncomingRule`] of its section.

use super::Checker;
use crate::{
    config::{IncomingSection, Problem},
    settings::IncomingRule,
};

const TITLE: &str = "[[incoming]]";

/// The protected fields that can take the place of outer ones. Those that filters before us went by, or that lead mail
/// and answers somewhere, cannot.
const PROMOTABLE: [&str; 3] = ["Subject", "Comments", "Keywords"];

impl Checker<'_> {
    /// `can_split`: whether recipients of one message can get different forms of it.
    pub(super) fn incoming(&mut self, section: IncomingSection, can_split: bool) -> Option<IncomingRule> {
        let IncomingSection { line, decrypt, strip_signature, details, subject_tag, actions, .. } = section;
        if !section.conditions.to.is_empty() && !can_split {
            let reason = "`to` in [[incoming]] needs `reinject` in [milter]: a message to several recipients may have to \
                          be several";
            self.report.add(line, Problem::Contradiction { reason: reason.to_owned() });
        }
        let mut promote = Vec::new();
        for name in section.promote {
            if let Some(known) = PROMOTABLE.iter().find(|known| known.eq_ignore_ascii_case(&name.value)) {
                promote.push((*known).to_owned());
            } else {
                let reason = format!("only {} can be promoted", PROMOTABLE.join(", "));
                self.wrong(TITLE, "promote", &name, &reason);
            }
        }
        let conditions = self.conditions(TITLE, section.conditions)?;
        Some(IncomingRule {
            line,
            conditions,
            decrypt,
            strip_signature,
            promote,
            details,
            subject_tag,
            actions,
        })
    }
}
