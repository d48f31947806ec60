//! The checks that make a [`Rule`] of its section.

use std::{fs, path::PathBuf, sync::Arc};

use smime::Certificate;

use super::{Checker, MAX_FILE, parse_network};
use crate::{
    config::{At, ConditionKeys, HeaderProtection, Level, Mixed, Problem, RuleSection, WhenUnknown},
    settings::{
        AddressFile, AddressList, AddressPattern, Conditions, HeaderPattern, IdentitySettings, Rule,
        lmdb::{self, why_not_safe},
    },
};

const TITLE: &str = "[[rule]]";

impl Checker<'_> {
    pub(super) fn rule(&mut self, section: RuleSection, identities: &[IdentitySettings]) -> Option<Rule> {
        let RuleSection { line, conditions, encrypt, unknown, mixed, header_protection, .. } = section;
        if encrypt.value == Level::Required && mixed.value == Mixed::Plain {
            let reason = "`mixed = \"plain\"` would send what `encrypt = \"required\"` forbids".to_owned();
            self.report.add(mixed.line, Problem::Contradiction { reason });
        }
        if encrypt.value == Level::Required && unknown.value == WhenUnknown::Plain {
            let reason = "`unknown = \"plain\"` would send what `encrypt = \"required\"` forbids".to_owned();
            self.report.add(unknown.line, Problem::Contradiction { reason });
        }
        let does_nothing = section.sign == Level::Never && encrypt.value == Level::Never;
        if does_nothing && header_protection.value != HeaderProtection::Off {
            let reason = "`header-protection` is for mail that is signed or encrypted".to_owned();
            self.report.add(header_protection.line, Problem::Contradiction { reason });
        }
        let conditions = self.conditions(TITLE, conditions);
        let identity = section.identity.map(|path| self.own_certificate(&path, identities));
        let mut also_to = Vec::new();
        for path in &section.also_to {
            for certificate in self.certificates(TITLE, "encrypt-to", path).into_iter().take(1) {
                if certificate.may_encrypt() {
                    also_to.push(certificate);
                } else {
                    let reason = format!("{certificate} is not for encryption (keyUsage)");
                    self.file(TITLE, "encrypt-to", self.resolved(path).as_deref(), reason);
                }
            }
        }
        Some(Rule {
            line,
            conditions: conditions?,
            sign: section.sign,
            form: section.form,
            identity: match identity {
                Some(found) => Some(found?),
                None => None,
            },
            profile: section.profile,
            encrypt: encrypt.value,
            to_sender: section.to_sender,
            also_to,
            no_certificate: section.no_certificate,
            unknown: unknown.value,
            mixed: mixed.value,
            header_protection: header_protection.value,
        })
    }

    /// All conditions or none: with one left out a rule would be about more mail than was meant.
    pub(super) fn conditions(&mut self, title: &'static str, keys: ConditionKeys) -> Option<Conditions> {
        let mut networks = Vec::new();
        let mut is_whole = true;
        for network in &keys.network {
            match parse_network(&network.value) {
                Ok(parsed) => networks.push(parsed),
                Err(reason) => {
                    self.wrong(title, "network", network, &reason);
                    is_whole = false;
                }
            }
        }
        let mut headers = Vec::new();
        for header in &keys.header {
            match HeaderPattern::parse(&header.value) {
                Ok(parsed) => headers.push(parsed),
                Err(reason) => {
                    self.wrong(title, "header", header, &reason);
                    is_whole = false;
                }
            }
        }
        let (null, senders): (Vec<_>, Vec<_>) = keys.sender.into_iter().partition(|one| one.value == "<>");
        let senders = self.addresses(title, "sender", senders);
        let from = self.addresses(title, "from", keys.from);
        let to = self.addresses(title, "to", keys.to);
        let values = |all: Vec<At<String>>| all.into_iter().map(|one| one.value).collect();
        is_whole.then_some(Conditions {
            listeners: values(keys.listener),
            networks,
            logins: values(keys.login),
            senders: senders?,
            null_sender: !null.is_empty(),
            from: from?,
            to: to?,
            headers,
            larger_than: keys.larger_than.map(|limit| limit.value),
            smaller_than: keys.smaller_than.map(|limit| limit.value),
        })
    }

    fn addresses(
        &mut self,
        title: &'static str,
        key: &'static str,
        listed: Vec<At<String>>,
    ) -> Option<AddressList> {
        let mut list = AddressList::default();
        let mut is_whole = true;
        for one in listed {
            let place = |path: &str| At { line: one.line, value: PathBuf::from(path) };
            let done = if let Some(path) = one.value.strip_prefix("file:") {
                self.address_file(title, key, &place(path)).map(|file| list.files.push(Arc::new(file)))
            } else if let Some(path) = one.value.strip_prefix("lmdb:") {
                self.address_table(title, key, &place(path)).map(|table| list.files.push(Arc::new(table)))
            } else {
                let parsed = AddressPattern::parse(&one.value);
                parsed
                    .map(|pattern| list.patterns.push(pattern))
                    .map_err(|reason| self.wrong(title, key, &one, &reason))
                    .ok()
            };
            is_whole &= done.is_some();
        }
        is_whole.then_some(list)
    }

    fn address_file(
        &mut self,
        title: &'static str,
        key: &'static str,
        path: &At<PathBuf>,
    ) -> Option<AddressFile> {
        let octets = self.octets(title, key, path)?;
        let resolved = self.resolved(path);
        let parsed = fs::metadata(&resolved.value)
            .map_err(|error| error.to_string())
            .and_then(|found| why_not_safe(&found).map_or(Ok(()), Err))
            .and_then(|()| String::from_utf8(octets).map_err(|_| "it is not UTF-8".to_owned()))
            .and_then(|text| AddressFile::parse(resolved.value.clone(), &text));
        parsed.map_err(|reason| self.file(title, key, resolved.as_deref(), reason)).ok()
    }

    /// A table as `postmap` makes it, which puts `.lmdb` behind its name.
    fn address_table(
        &mut self,
        title: &'static str,
        key: &'static str,
        path: &At<PathBuf>,
    ) -> Option<AddressFile> {
        let path = self.resolved(path);
        let mut file = path.value.clone().into_os_string();
        file.push(".lmdb");
        let file = PathBuf::from(file);
        let read = lmdb::read(&file, MAX_FILE).and_then(|octets| {
            let keys = lmdb::keys(&octets)?;
            AddressFile::of_table(path.value, &keys)
        });
        read.map_err(|reason| self.file(title, key, At { line: path.line, value: &file }, reason)).ok()
    }

    /// The certificate in a file, if it is that of an `[[identity]]`.
    fn own_certificate(
        &mut self,
        path: &At<PathBuf>,
        identities: &[IdentitySettings],
    ) -> Option<Certificate> {
        let certificate = self.certificates(TITLE, "identity", path).into_iter().next()?;
        if identities.iter().any(|identity| identity.certificate == certificate) {
            return Some(certificate);
        }
        let reason = format!("{certificate} is the certificate of no [[identity]]");
        self.file(TITLE, "identity", self.resolved(path).as_deref(), reason);
        None
    }
}
