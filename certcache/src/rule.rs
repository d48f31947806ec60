//! Distrust rules: an issuer, and from when on its certificates are not taken any more.

use std::time::SystemTime;

use der::{Decode, Encode};
use smime::Certificate;
use x509_cert::name::Name;

use crate::{
    Cache, CacheError,
    codec::{Reader, Writer},
    log,
};

/// How many rules there can be: each is held against every path.
pub const MAX_RULES: usize = 1000;

/// An issuer whose certificates are not to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number.
    pub number: u64,
    /// The issuer's name in DER.
    pub issuer: Vec<u8>,
    /// Only certificates whose validity begins after this; all of them where it is `None`.
    pub after: Option<SystemTime>,
    /// Why, for people.
    pub comment: String,
}

impl Rule {
    /// Whether it forbids a path, given leaf first: one of its issuers is the rule's, and what that issued is
    /// too new. An anchor that is the leaf's own issuer counts like any other.
    pub fn forbids(&self, chain: &[Certificate]) -> bool {
        let name = Name::from_der(&self.issuer).ok();
        let is_its = |certificate: &Certificate| match &name {
            // Spelled in another way it is the same issuer.
            Some(name) => certificate.is_issued_by(name),
            None => certificate.issuer().to_der().is_ok_and(|issuer| issuer == self.issuer),
        };
        let is_too_new =
            |certificate: &Certificate| self.after.is_none_or(|after| certificate.not_before() > after);
        chain.iter().any(|certificate| is_too_new(certificate) && is_its(certificate))
    }

    fn encode(&self) -> Vec<u8> {
        Writer::new(1).octets(&self.issuer).optional_time(self.after).text(&self.comment).finish()
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let number = u64::from_be_bytes(key.try_into().ok()?);
        let mut reader = Reader::new(value, 1)?;
        let rule = Self {
            number,
            issuer: reader.octets()?.to_vec(),
            after: reader.optional_time()?,
            comment: reader.text()?.to_owned(),
        };
        reader.end().map(|()| rule)
    }
}

impl Cache {
    /// Adds a rule against an issuer, given by its name in DER, and returns its number.
    pub fn add_rule(
        &self,
        issuer: &[u8],
        after: Option<SystemTime>,
        comment: &str,
        now: SystemTime,
    ) -> Result<u64, CacheError> {
        self.write(|tables, transaction| {
            if tables.rule.len(transaction)? >= MAX_RULES as u64 {
                return Err(CacheError::TooManyRules { path: self.path().to_owned() }.into());
            }
            let last = tables.rule.last(transaction)?.and_then(|(key, _)| key.try_into().ok());
            let number = last.map_or(0, u64::from_be_bytes).saturating_add(1);
            let rule = Rule { number, issuer: issuer.to_vec(), after, comment: comment.to_owned() };
            tables.rule.put(transaction, &number.to_be_bytes(), &rule.encode())?;
            tables.next_generation(transaction)?;
            log::append(tables, transaction, now, "rule", &number.to_string(), comment)?;
            Ok(number)
        })
    }

    /// Takes a rule back, and says whether it was there.
    pub fn remove_rule(&self, number: u64, reason: &str, now: SystemTime) -> Result<bool, CacheError> {
        self.write(|tables, transaction| {
            let was_there = tables.rule.delete(transaction, &number.to_be_bytes())?;
            if was_there {
                tables.next_generation(transaction)?;
                let reason = format!("removed: {reason}");
                log::append(tables, transaction, now, "rule", &number.to_string(), &reason)?;
            }
            Ok(was_there)
        })
    }

    /// All rules. One that cannot be read is an error: without it more would be trusted than was decided.
    pub fn rules(&self) -> Result<Vec<Rule>, CacheError> {
        self.read(|tables, transaction| {
            let mut rules = Vec::new();
            for row in tables.rule.iter(transaction)? {
                let (key, value) = row?;
                rules.push(Rule::decode(key, value).ok_or_else(|| self.damaged("rule", key))?);
            }
            Ok(rules)
        })
    }
}
