//! The tables and their keys and values, schema 3.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | name | number |
//! | `cert` | SHA-256 of the DER | what is known of it (`record.rs`) |
//! | `der` | SHA-256 of the DER | the DER |
//! | `by_addr` | address in lower case or `@domain`, 0, SHA-256 | nothing |
//! | `by_is` | issuer, length and octets of the serial number, SHA-256 | nothing |
//! | `by_ski` | length and octets of the subject key identifier, SHA-256 | nothing |
//! | `by_subj` | subject, SHA-256 | nothing |
//! | `by_exp` | notAfter, SHA-256 | nothing |
//! | `neg` | address, 0, source | until when it has none there |
//! | `path` | SHA-256, identity of the trust configuration | path and revocation as last found |
//! | `choice` | address, 0, identity of the trust configuration | which certificates to encrypt to |
//! | `crl` | issuer, SHA-256 of the scope | CRL and how it was fetched |
//! | `ocsp` | SHA-256 of the certificate | OCSP answer and how it was fetched |
//! | `fetch` | SHA-256 of the URL | until when not to ask again |
//! | `rule` | number | a distrust rule |
//! | `cap` | domain, 0, day | how many certificates were harvested |
//! | `log` | number | a change: when, what, which, why |
//!
//! Issuer and subject are the first 16 octets of SHA-256 over the name in DER. Values have a check sum, except
//! `der`, whose key is one, and empty ones, which are checked against the certificate they lead to.

use heed::{CommitOrAbort, Database, RoTxn, RwTxn, types::Bytes};
use smime::Certificate;

use crate::{
    codec::{Reader, Writer},
    env::{Store, Tried},
    record::Fingerprint,
};

pub(crate) type Table = Database<'static, Bytes, Bytes>;

/// The schema of this program.
pub(crate) const SCHEMA: u32 = 3;
/// The oldest schema whose programs can read what this one writes.
pub(crate) const MIN_READER: u32 = 3;
pub(crate) const SCHEMA_KEY: &[u8] = b"schema";
pub(crate) const MIN_READER_KEY: &[u8] = b"min_reader";
/// Counts the CRLs that came.
const CRLS_KEY: &[u8] = b"crls";
/// What the keys of issuers begin with whose certificates are issuers.
const ABOVE: &[u8] = b"above ";
/// Counts what may change choices everywhere.
const GENERATION_KEY: &[u8] = b"generation";

/// One list for the names in the file, the fields, and the way from the one to the other.
macro_rules! tables {
    ($($name:ident)*) => {
        pub(crate) const NAMES: [&str; COUNT] = [$(stringify!($name)),*];

        /// The tables, in the order of [`NAMES`].
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct Tables {
            $(pub(crate) $name: Table,)*
        }

        impl Tables {
            fn new(tables: &[Table; COUNT]) -> Self {
                let [$($name),*] = *tables;
                Self { $($name),* }
            }

            /// All of them with their names.
            pub(crate) fn all(&self) -> [(&'static str, Table); COUNT] {
                [$((stringify!($name), self.$name)),*]
            }
        }
    };
}

const COUNT: usize = 17;

tables! {
    meta cert der by_addr by_is by_ski by_subj by_exp neg path choice crl ocsp fetch rule cap log
}

/// What the file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schema {
    pub(crate) schema: u32,
    pub(crate) min_reader: u32,
}

impl Tables {
    /// Opens the tables in a read transaction, so that a writer that hangs cannot keep us from reading. `None`
    /// where one is missing.
    pub(crate) fn open(store: &Store) -> heed::Result<Option<Self>> {
        let transaction = store.env().read_txn()?;
        let opened = store.env().open_databases_and_commit(transaction, |opener, transaction| {
            let mut tables = Vec::with_capacity(NAMES.len());
            for name in NAMES {
                match opener.open_database::<Bytes, Bytes>(transaction, Some(name))? {
                    Some(table) => tables.push(table),
                    None => return Ok(CommitOrAbort::Abort(())),
                }
            }
            Ok::<_, heed::Error>(match tables.try_into() {
                Ok::<[_; COUNT], _>(tables) => CommitOrAbort::Commit(tables),
                Err(_) => CommitOrAbort::Abort(()),
            })
        })?;
        Ok(opened.commit().as_ref().map(Self::new))
    }

    /// The certificate of a fingerprint, if it is there and undamaged.
    pub(crate) fn certificate(
        &self,
        transaction: &RoTxn<'_>,
        fingerprint: &Fingerprint,
    ) -> heed::Result<Option<Certificate>> {
        let octets = self.der.get(transaction, fingerprint)?;
        let certificate = octets.and_then(|octets| Certificate::from_der(octets).ok());
        Ok(certificate.filter(|certificate| certificate.fingerprint() == fingerprint))
    }

    /// Makes the tables that are not there.
    pub(crate) fn create(store: &Store) -> heed::Result<Option<Self>> {
        let transaction = store.env().write_txn()?;
        let created = store.env().create_databases_and_commit(transaction, |opener, transaction| {
            let mut tables = Vec::with_capacity(NAMES.len());
            for name in NAMES {
                tables.push(opener.create_database::<Bytes, Bytes>(transaction, Some(name))?);
            }
            Ok::<_, heed::Error>(match tables.try_into() {
                Ok::<[_; COUNT], _>(tables) => CommitOrAbort::Commit(tables),
                Err(_) => CommitOrAbort::Abort(()),
            })
        })?;
        Ok(created.commit().as_ref().map(Self::new))
    }

    /// What the file says of itself; `None` for a new one. Schema 1 did not write who may read it.
    pub(crate) fn schema(&self, transaction: &RoTxn<'_>) -> heed::Result<Option<Schema>> {
        let number = |key: &[u8]| -> heed::Result<Option<u32>> {
            let octets = self.meta.get(transaction, key)?;
            Ok(octets.map(|octets| octets.try_into().map_or(0, u32::from_le_bytes)))
        };
        let Some(schema) = number(SCHEMA_KEY)? else { return Ok(None) };
        let min_reader = number(MIN_READER_KEY)?.unwrap_or(schema);
        Ok(Some(Schema { schema, min_reader }))
    }

    pub(crate) fn write_schema(&self, transaction: &mut RwTxn<'_>) -> heed::Result<()> {
        self.meta.put(transaction, MIN_READER_KEY, &MIN_READER.to_le_bytes())?;
        self.meta.put(transaction, SCHEMA_KEY, &SCHEMA.to_le_bytes())
    }

    /// The number that every choice and path result carries; those with another one do not count any more.
    pub(crate) fn generation(&self, transaction: &RoTxn<'_>) -> heed::Result<u64> {
        let octets = self.meta.get(transaction, GENERATION_KEY)?;
        let generation = octets.and_then(|octets| {
            let mut reader = Reader::new(octets, 1)?;
            reader.u64()
        });
        Ok(generation.unwrap_or(0))
    }

    /// Counts the CRLs that came: what was being found out meanwhile is not to be remembered.
    pub(crate) fn crls(&self, transaction: &RoTxn<'_>) -> heed::Result<u64> {
        let octets = self.meta.get(transaction, CRLS_KEY)?;
        Ok(octets.and_then(|octets| Reader::new(octets, 1)?.u64()).unwrap_or(0))
    }

    /// Counts one more CRL.
    pub(crate) fn next_crl(&self, transaction: &mut RwTxn<'_>) -> Tried<()> {
        let crls = self.crls(transaction)?.wrapping_add(1);
        self.meta.put(transaction, CRLS_KEY, &Writer::new(1).u64(crls).finish())?;
        Ok(())
    }

    /// Whether something is remembered of a path on which a certificate of this issuer, given by its name as a key, is
    /// another's issuer, or does not name it as it names itself: then its CRLs may be about more than the certificates
    /// that are found by its name.
    pub(crate) fn issues_issuers(&self, transaction: &RoTxn<'_>, issuer: &[u8; 16]) -> heed::Result<bool> {
        Ok(self.meta.get(transaction, &[ABOVE, issuer.as_slice()].concat())?.is_some())
    }

    /// Notes that.
    pub(crate) fn note_issues_issuers(&self, transaction: &mut RwTxn<'_>, issuer: &[u8; 16]) -> Tried<()> {
        if !self.issues_issuers(transaction, issuer)? {
            let value = Writer::new(1).finish();
            self.meta.put(transaction, &[ABOVE, issuer.as_slice()].concat(), &value)?;
        }
        Ok(())
    }

    /// Makes all choices and path results void.
    pub(crate) fn next_generation(&self, transaction: &mut RwTxn<'_>) -> Tried<()> {
        let generation = self.generation(transaction)?.wrapping_add(1);
        self.meta.put(transaction, GENERATION_KEY, &Writer::new(1).u64(generation).finish())?;
        Ok(())
    }

    /// Makes the choices of an address, or of everybody in a domain, void.
    pub(crate) fn forget_choices(&self, transaction: &mut RwTxn<'_>, address: &[u8]) -> Tried<()> {
        if address.first() == Some(&b'@') {
            return self.next_generation(transaction);
        }
        delete_prefix(self.choice, transaction, &crate::key::prefix(address))
    }
}

/// Deletes all keys that begin with a prefix.
pub(crate) fn delete_prefix(table: Table, transaction: &mut RwTxn<'_>, prefix: &[u8]) -> Tried<()> {
    let mut keys = Vec::new();
    for row in table.prefix_iter(transaction, prefix)? {
        keys.push(row?.0.to_vec());
    }
    for key in keys {
        table.delete(transaction, &key)?;
    }
    Ok(())
}

/// The ends of the keys that begin with a prefix, such as the fingerprints of an index; those of another length
/// than `N` are left out. At most `limit`.
pub(crate) fn suffixes<const N: usize>(
    table: Table,
    transaction: &RoTxn<'_>,
    prefix: &[u8],
    limit: usize,
) -> Tried<Vec<[u8; N]>> {
    let mut found = Vec::new();
    for row in table.prefix_iter(transaction, prefix)? {
        let (key, _) = row?;
        if let Some(Ok(suffix)) = key.get(prefix.len()..).map(<[u8; N]>::try_from) {
            found.push(suffix);
            if found.len() >= limit {
                break;
            }
        }
    }
    Ok(found)
}
