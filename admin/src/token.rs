//! `hsmime token list`, and which token a command is about.

pub(crate) mod bench;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use agent::settings::Tokens;
use anyhow::{Result, bail};
use hsmpool::{
    TokenSettings,
    modules::{TokenInfo, tokens},
};

use crate::{Done, table::Table};

/// The modules of a configuration, each once.
pub(crate) fn modules(tokens: &[TokenSettings]) -> Vec<PathBuf> {
    let mut modules: Vec<PathBuf> = Vec::new();
    for token in tokens {
        if !modules.contains(&token.module) {
            modules.push(token.module.clone());
        }
    }
    modules
}

/// Lists the tokens of modules. A module that fails is named after the others' tokens.
pub(crate) fn list(modules: &[PathBuf], out: &mut dyn Write) -> Result<Done> {
    if modules.is_empty() {
        bail!("there is no [[token]] in the configuration; write one, or name a module with --module");
    }
    let mut table = Table::new(["SLOT", "LABEL", "STATE", "SESSIONS", "MODEL", "SERIAL", "MODULE"]);
    let mut failed = None;
    for module in modules {
        match tokens(module) {
            Ok(tokens) => tokens.iter().for_each(|token| table.row(row(token, module))),
            Err(error) => failed = Some(error),
        }
    }
    table.write(out)?;
    failed.map_or(Ok(Done::All), |error| Err(error.into()))
}

fn row(token: &TokenInfo, module: &Path) -> [String; 7] {
    let limit = token.max_sessions.map_or_else(|| "no limit".to_owned(), |most| format!("of {most}"));
    let sessions = token.sessions.map_or_else(|| limit.clone(), |open| format!("{open} {limit}"));
    [
        token.slot.to_string(),
        token.label.clone(),
        state(token).to_owned(),
        sessions,
        format!("{} {}", token.manufacturer, token.model),
        token.serial.clone(),
        module.display().to_string(),
    ]
}

fn state(token: &TokenInfo) -> &'static str {
    if !token.initialised {
        "not initialised"
    } else if token.pin_locked {
        "PIN locked"
    } else if token.pin_final_try {
        "one PIN try left"
    } else if token.login_required && !token.pin_initialised {
        "no user PIN"
    } else if token.pin_count_low {
        "PIN was wrong"
    } else {
        "ready"
    }
}

/// The configured token of a label, or the only one.
pub(crate) fn chosen<'s>(configured: &'s Tokens, label: Option<&str>) -> Result<&'s TokenSettings> {
    let file = configured.path().display();
    let labels = || {
        let labels: Vec<String> = configured.tokens().iter().map(|t| format!("{:?}", t.label)).collect();
        labels.join(", ")
    };
    match (configured.tokens(), label) {
        ([], _) => bail!("there is no [[token]] in {file}; write one"),
        ([token], None) => Ok(token),
        (_, None) => bail!("there are several tokens in {file}; say --token with one of {}", labels()),
        (tokens, Some(label)) => match tokens.iter().find(|token| token.label == label) {
            Some(token) => Ok(token),
            None => bail!("there is no token {label:?} in {file}; say --token with one of {}", labels()),
        },
    }
}
