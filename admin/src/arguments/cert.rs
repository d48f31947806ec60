//! The command line of `hsmime cert` and `hsmime cache`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use smime::MailAddress;

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Puts recipients' certificates into the cache.
    Import(ImportArguments),
    /// Lists the certificates of the cache.
    List(ListArguments),
    /// Shows all that is known of a certificate.
    Show {
        /// Its SHA-256 fingerprint in hexadecimal, or the beginning of it.
        fingerprint: String,
        /// Writes the certificate itself, as PEM.
        #[arg(long, conflicts_with = "json")]
        pem: bool,
        /// Writes JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Takes certificates out of the cache. They may come again; `distrust` keeps them out of use.
    Remove {
        /// SHA-256 fingerprints in hexadecimal, or their beginnings.
        #[arg(required = true)]
        fingerprint: Vec<String>,
        /// Why, for the log.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Has certificates used, such as one that waits because another key of the address came first. Exit code 1 if mail is not
    /// encrypted to them all the same.
    Trust(TrustArguments),
    /// Keeps certificates, or all of an issuer, out of use.
    Distrust(DistrustArguments),
    /// Lists the rules that `distrust --issuer` made.
    Rules {
        /// Takes this rule back.
        #[arg(long, value_name = "NUMBER")]
        remove: Option<u64>,
        /// Why, for the log.
        #[arg(long, value_name = "TEXT", default_value = "", requires = "remove")]
        reason: String,
        /// Writes JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Names certificates that end soon and have no successor, for monitoring: exit code 1 if there is any.
    Check(CheckArguments),
    /// Asks the configured sources for the certificates of an address.
    Find {
        /// The address.
        address: MailAddress,
        /// Puts what is found into the cache.
        #[arg(long)]
        store: bool,
        /// Writes JSON for programs.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ImportArguments {
    /// Files in PEM, DER, PKCS#7 (.p7b, .p7c), PKCS#12 (.p12, .pfx) or LDIF; which, is seen by what is in them.
    /// `-` is stdin.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The file with the password of PKCS#12 files, in its first line; `-` is stdin. Without it a terminal is asked.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Has the certificates used for this address too, or with `@example.org` for a whole domain.
    #[arg(long, value_name = "ADDRESS|@DOMAIN")]
    pub(crate) assign: Vec<String>,
    /// Vouches for the certificates: they are used before all others, and without a path to an anchor.
    #[arg(long)]
    pub(crate) pin: bool,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// Writes JSON for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// Only of this address.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<MailAddress>,
    /// Only in this state: distrusted, candidate, pending, accepted or pinned.
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub(crate) state: Option<certcache::TrustState>,
    /// Writes JSON for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct TrustArguments {
    /// SHA-256 fingerprints in hexadecimal, or their beginnings.
    #[arg(required = true)]
    pub(crate) fingerprint: Vec<String>,
    /// Vouches for them: they are used before all others, and without a path to an anchor.
    #[arg(long)]
    pub(crate) pin: bool,
    /// Has them used for this address too, or with `@example.org` for a whole domain.
    #[arg(long, value_name = "ADDRESS|@DOMAIN")]
    pub(crate) assign: Vec<String>,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

#[derive(Args, Debug)]
pub(crate) struct DistrustArguments {
    /// SHA-256 fingerprints in hexadecimal, or their beginnings.
    #[arg(required_unless_present = "issuer", conflicts_with = "issuer")]
    pub(crate) fingerprint: Vec<String>,
    /// All certificates of this issuer: the file of its certificate, or its name as `cert show` writes it.
    #[arg(long, value_name = "FILE|NAME")]
    pub(crate) issuer: Option<String>,
    /// Only those of the issuer whose validity begins after this day.
    #[arg(long, value_name = "YYYY-MM-DD", requires = "issuer", value_parser = crate::time::parse_day)]
    pub(crate) after: Option<std::time::SystemTime>,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArguments {
    /// How soon is soon: days (30d) or weeks (4w).
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = crate::time::parse_period)]
    pub(crate) expires_within: Duration,
    /// Writes JSON for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Says how much is in the cache.
    Stat {
        /// Writes JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Looks at every entry and every index. Exit code 1 if something is wrong.
    Check {
        /// Makes all indexes anew, and takes out what cannot be read.
        #[arg(long)]
        repair: bool,
        /// Writes JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Writes all certificates and distrust rules as lines of JSON.
    Export {
        /// A file that is not there yet; stdout if absent.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Only what an administrator decided: imported, trusted, pinned, distrusted, rules.
        #[arg(long)]
        decided: bool,
    },
    /// Reads what `export` wrote.
    Import {
        /// The file; `-` is stdin.
        file: PathBuf,
    },
    /// Copies the cache into a folder while others use it.
    Backup {
        /// A folder without a cache in it.
        folder: PathBuf,
    },
    /// Takes out what has ended: negative entries, CRLs and OCSP answers. Certificates stay, and who is known to be revoked.
    Sweep,
    /// Lists the last changes, and why they were made.
    Log {
        /// How many.
        #[arg(long, value_name = "NUMBER", default_value_t = 50)]
        limit: usize,
        /// Writes JSON for programs.
        #[arg(long)]
        json: bool,
    },
}

fn state(text: &str) -> Result<certcache::TrustState, String> {
    // `trusted` is what JSON calls it.
    let text = if text == crate::cert::effect::ACCEPTED { "trusted" } else { text };
    certcache::TrustState::from_name(text)
        .ok_or_else(|| "it is distrusted, candidate, pending, accepted or pinned".to_owned())
}
