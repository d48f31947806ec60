//! The command line.

mod cert;

use std::{ffi::OsString, path::PathBuf};

pub(crate) use cert::{
    CacheCommand, CertCommand, CheckArguments, DistrustArguments, ImportArguments, ListArguments,
    TrustArguments,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use smime::MailAddress;

const BEGIN: &str = "\
To begin, write the token into the configuration, then:
  hsmime token list
  hsmime key generate --label alice
  hsmime key csr --key alice --address alice@example.org --out alice.csr
Let a CA sign alice.csr, name the certificate in an [[identity]], and let
  hsmime doctor
check it all. Recipients' certificates come by
  hsmime cert import partner.p7b
  hsmime explain bob@partner.example
Exit codes: 0 all done, 1 something failed and is named, 2 the configuration cannot be used.";

/// Looks after the tokens, keys and certificates of hsmime-milter and hsmime-batch.
#[derive(Debug, Parser)]
#[command(name = "hsmime", version, after_help = BEGIN)]
pub(crate) struct Arguments {
    /// The configuration.
    #[arg(long, global = true, value_name = "FILE", default_value = agent::settings::DEFAULT_PATH)]
    pub(crate) config: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tokens and their modules.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Private keys on a token.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Recipients' certificates in the cache.
    #[command(subcommand)]
    Cert(CertCommand),
    /// The certificate cache itself.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// The records of what keys were used for.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Says which certificates an address has, and of each why it is encrypted to or not; or, with --from and --to (or a mail's
    /// file), which rule decides on a mail, what it plans, what comes of it, and why.
    #[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["subject", "from"]),
        override_usage = "hsmime explain [OPTIONS] <ADDRESS | --from <ADDRESS> [FILE]>")]
    Explain {
        /// The address; with --from the mail itself, as with --mail.
        #[arg(value_name = "ADDRESS|FILE", conflicts_with = "mail")]
        subject: Option<OsString>,
        #[command(flatten)]
        mail: crate::explain::MailArguments,
        /// Validates everything anew instead of taking what is remembered.
        #[arg(long)]
        anew: bool,
        /// Writes JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Runs the rules over old mail, and counts what would happen. Uses no private key.
    Replay {
        /// An mbox or a Maildir.
        archive: PathBuf,
        /// Writes JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Tries everything the configuration names, and says what to do where it fails.
    Doctor {
        /// Writes JSON for programs.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Checks that no line is missing in the audit of hsmime-milter or hsmime-keyd. Needs no configuration.
    Check {
        /// The files that are written to. Full ones beside them, which have a number behind the name, are checked too.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Lists the tokens of all configured modules.
    List {
        /// Lists the tokens of this PKCS#11 module; needs no configuration.
        #[arg(long, value_name = "PATH")]
        module: Option<PathBuf>,
    },
    /// Measures how fast the tokens are and recommends `sessions`. Works them as hard as they can be worked.
    ///
    /// Each key's operations are asked for by 1, 2, 3, 4, 6, 8, … threads with a session each, until more of
    /// them bring no more. Whoever else uses the token at that time, the milter too, waits longer, and the rates
    /// are what is left beside them: measure when it is idle. Keys are those of the configured identities, which
    /// sign and decrypt values of no meaning; with --generate temporary ones, which the token forgets.
    /// Ctrl-C ends it with what has been measured.
    Bench(BenchArguments),
}

#[derive(Args, Debug)]
pub(crate) struct BenchArguments {
    /// Only this token.
    #[arg(long, value_name = "LABEL")]
    pub(crate) token: Option<String>,
    /// Measures with temporary keys of these kinds (session objects) instead of the identities' keys.
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', num_args = 0.., require_equals = true,
        default_missing_value = "rsa2048,p256")]
    pub(crate) generate: Vec<KeyKind>,
    /// How long to measure each rate.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = crate::token::bench::seconds)]
    pub(crate) seconds: f64,
    /// How many threads to try at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 32,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub(crate) max_threads: usize,
    /// Writes JSON for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A kind of key for measuring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyKind {
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
    /// P-256.
    P256,
    /// P-384.
    P384,
    /// P-521.
    P521,
    /// Ed25519, where the token can.
    Ed25519,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Makes a key pair on a token, from which the private key cannot be taken out.
    Generate(GenerateArguments),
    /// Lists the private keys of the configured tokens.
    List {
        /// Only of this token.
        #[arg(long, value_name = "LABEL")]
        token: Option<String>,
    },
    /// Writes a certificate request (PKCS#10) for a key, signed on the token.
    Csr(CsrArguments),
}

#[derive(Args, Debug)]
pub(crate) struct GenerateArguments {
    /// The token's label; not needed if only one is configured.
    #[arg(long, value_name = "LABEL")]
    pub(crate) token: Option<String>,
    /// RSA with a modulus of 2048, 3072 or 4096 bits: signs and decrypts.
    #[arg(long, value_name = "BITS", default_value_t = 3072, conflicts_with = "ec")]
    pub(crate) rsa: u32,
    /// An elliptic curve instead of RSA: signs and agrees on keys; with ed25519 it signs, with x25519 it agrees.
    #[arg(long, value_name = "CURVE")]
    pub(crate) ec: Option<Curve>,
    /// The new key's label.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) label: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Curve {
    /// P-256.
    P256,
    /// P-384.
    P384,
    /// P-521.
    P521,
    /// Ed25519, where the token can.
    Ed25519,
    /// X25519, where the token can; it cannot sign a request for its certificate.
    X25519,
}

#[derive(Args, Debug)]
pub(crate) struct CsrArguments {
    /// The key's label, or its id in hexadecimal.
    #[arg(long, value_name = "ID_OR_LABEL")]
    pub(crate) key: String,
    /// The token's label; not needed if the key is on only one.
    #[arg(long, value_name = "LABEL")]
    pub(crate) token: Option<String>,
    /// A mail address for subjectAltName; may be given several times.
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub(crate) address: Vec<MailAddress>,
    /// The subject (RFC 4514), like "CN=Alice,O=Example". Empty if absent; many CAs set their own.
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,
    /// A file that is not there yet; stdout if absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Arguments::command().debug_assert();
    }
}
