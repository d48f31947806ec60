//! The checks of `[keyd]`: whom it serves, and with what.

use std::{collections::HashSet, path::Path};

use audit::AuditFile;
use hsmpool::{
    Lane,
    server::{Permission, key_sha256},
};
use smime::Certificate;

use super::{Checker, MODE_REASON, parse_mode, to_usize};
use crate::{
    config::{AuditSection, ClientSection, KeydSection, Problem},
    settings::{IdentitySettings, Keyd, KeydClient, Keys, Peer},
};

impl Checker<'_> {
    pub(super) fn keyd(
        &mut self,
        section: KeydSection,
        has_socket: bool,
        identities: &[IdentitySettings],
    ) -> Option<Keyd> {
        let title = "[keyd]";
        let mut contradiction = |reason: &str| {
            let reason = reason.to_owned();
            self.report.add(section.line, Problem::Contradiction { reason });
        };
        if !has_socket {
            contradiction("[keyd] needs the `socket` in [pool]: that is where it listens");
        }
        if section.clients.is_empty() {
            contradiction("[keyd] has no [[keyd.client]]: it would serve nobody");
        }
        let socket_mode = section.socket_mode.map_or(Some(0o660), |text| {
            let mode = parse_mode(&text.value);
            if mode.is_none() {
                self.wrong(title, "socket-mode", &text, MODE_REASON);
            }
            mode
        });
        let own: Vec<Certificate> = identities.iter().map(|identity| identity.certificate.clone()).collect();
        let mut certificates = own.clone();
        let clients: Vec<KeydClient> = section
            .clients
            .into_iter()
            .filter_map(|client| self.keyd_client(client, &own, &mut certificates))
            .collect();
        let mut seen = HashSet::new();
        certificates.retain(|certificate| seen.insert(*certificate.fingerprint()));
        let audit = section.audit.map(|section| self.audit(section));
        let (socket_group, max_connections) = (section.socket_group, to_usize(section.max_connections));
        let socket_mode = socket_mode?;
        Some(Keyd { socket_mode, socket_group, audit, max_connections, clients, certificates })
    }

    pub(super) fn audit(&self, section: AuditSection) -> AuditFile {
        let AuditSection { path, max_bytes, files } = section;
        AuditFile { path: self.folder.join(path), max_bytes, files: to_usize(files) }
    }

    /// A client, and the certificates that it names are put to the others.
    fn keyd_client(
        &mut self,
        section: ClientSection,
        own: &[Certificate],
        certificates: &mut Vec<Certificate>,
    ) -> Option<KeydClient> {
        let title = "[[keyd.client]]";
        let keys = if section.certificates.is_empty() {
            Keys::Listed(own.iter().map(key_of).collect())
        } else if section.certificates.iter().any(|path| path.value == Path::new("*")) {
            Keys::All
        } else {
            let first = |path| self.certificates(title, "certificates", path).into_iter().next();
            let named: Vec<Certificate> = section.certificates.iter().filter_map(first).collect();
            let keys = Keys::Listed(named.iter().map(key_of).collect());
            certificates.extend(named);
            keys
        };
        let peer = match (section.user, section.group) {
            (Some(user), None) => Peer::User(user.value),
            (None, Some(group)) => Peer::Group(group.value),
            _ => {
                let reason = "[[keyd.client]] needs either `user` or `group`".to_owned();
                self.report.add(section.line, Problem::Contradiction { reason });
                return None;
            }
        };
        let or_all = |listed: Vec<Permission>| {
            if listed.is_empty() { vec![Permission::Sign, Permission::Decrypt] } else { listed }
        };
        let lanes =
            if section.lanes.is_empty() { vec![Lane::Interactive, Lane::Bulk] } else { section.lanes };
        Some(KeydClient {
            line: section.line,
            peer,
            operations: or_all(section.operations),
            lanes,
            keys,
            allow_signing_keys: section.allow_signing_keys,
        })
    }
}

/// What a key is known by to `hsmime-keyd`, and in audits.
pub(crate) fn key_of(certificate: &Certificate) -> [u8; 32] {
    key_sha256(&certificate.public_key_info())
}
