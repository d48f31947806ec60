//! Rules: what is to go wrong, in which functions, when. One line of text each.
//!
//! ```text
//! number action functions            [chance P | next N | from N]    [token LABEL]
//! 0      delay 2000us C_Sign,C_SignInit
//! 1      fail CKR_DEVICE_ERROR C_Sign  chance 0.02
//! 2      hang C_Sign                   next 1                        token mail
//! ```

use std::{fmt, str::FromStr, time::Duration};

use crate::{Function, ReturnValue};

/// The name of a rule as long as its [`crate::Control`] lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleId(pub(crate) usize);

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub(crate) action: Action,
    /// None: all.
    pub(crate) functions: Vec<Function>,
    pub(crate) when: When,
    pub(crate) token: Option<String>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The call takes longer. Sessions sleep side by side, like those of a network HSM.
    Delay(Duration),
    /// The call takes longer, and one after the other, as on a smart card.
    InTurn(Duration),
    /// The call does not reach the real module and returns this. A single-part function ends its
    /// operation nevertheless, as PKCS #11 2.40 5.2 wants.
    Fail(ReturnValue),
    /// The call waits until the rule is removed, then goes on.
    Hang,
    /// The process is aborted, once no login is under way: SoftHSM would lose its token.
    Abort,
    /// The process is killed, at such a moment too.
    Kill,
    /// One bit of a good signature is inverted (`C_Sign`).
    Corrupt,
    /// The session of this call is gone: `CKR_SESSION_HANDLE_INVALID`, now and for ever.
    LoseSession,
    /// All sessions are gone, and with them the login.
    LoseSessions,
    /// The token is removed as long as the rule stands: no slot has it, sessions give `CKR_DEVICE_REMOVED`
    /// and stay invalid when it is back. Noticed at the first call of any function.
    Absent,
    /// No more sessions than that may be open (`CKR_SESSION_COUNT`).
    Limit(u64),
}

/// Which of the calls are meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// All.
    Always,
    /// This share of them, by a sequence that is the same in every run.
    Chance(f64),
    /// So many, and then none; counted over all processes that share the counter file.
    Next(u64),
    /// From this one on, the first being 1; counted in each process.
    From(u64),
}

impl Rule {
    /// Something that goes wrong in every call of every function; narrow it down.
    pub fn new(action: Action) -> Self {
        let functions = match action {
            Action::Corrupt => vec![Function::Sign],
            Action::Limit(_) => vec![Function::OpenSession, Function::GetTokenInfo],
            _ => Vec::new(),
        };
        Self { action, functions, when: When::Always, token: None }
    }

    /// Calls take longer.
    pub fn delay(by: Duration) -> Self {
        Self::new(Action::Delay(by))
    }

    /// Calls take longer, one after the other.
    pub fn in_turn(each: Duration) -> Self {
        Self::new(Action::InTurn(each))
    }

    /// Calls fail.
    pub fn fail(with: ReturnValue) -> Self {
        Self::new(Action::Fail(with))
    }

    /// Calls hang.
    pub fn hang() -> Self {
        Self::new(Action::Hang)
    }

    /// Only in these functions.
    #[must_use]
    pub fn on(mut self, functions: impl IntoIterator<Item = Function>) -> Self {
        self.functions = functions.into_iter().collect();
        self
    }

    /// Only this share of the calls.
    #[must_use]
    pub fn chance(mut self, share: f64) -> Self {
        self.when = When::Chance(share);
        self
    }

    /// Only so many calls.
    #[must_use]
    pub fn next(mut self, count: u64) -> Self {
        self.when = When::Next(count);
        self
    }

    /// Only from that call on, the first being 1.
    #[must_use]
    pub fn from(mut self, number: u64) -> Self {
        self.when = When::From(number);
        self
    }

    /// Only for the token of this label: calls that name its slot or one of its sessions.
    #[must_use]
    pub fn token(mut self, label: &str) -> Self {
        self.token = Some(label.to_owned());
        self
    }

    /// Whether it speaks of calls to this function.
    pub(crate) fn concerns(&self, function: Function) -> bool {
        self.functions.is_empty() || self.functions.contains(&function)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            Action::Delay(by) => write!(f, "delay {}us", by.as_micros())?,
            Action::InTurn(each) => write!(f, "in-turn {}us", each.as_micros())?,
            Action::Fail(with) => write!(f, "fail {with}")?,
            Action::Hang => f.write_str("hang")?,
            Action::Abort => f.write_str("abort")?,
            Action::Kill => f.write_str("kill")?,
            Action::Corrupt => f.write_str("corrupt")?,
            Action::LoseSession => f.write_str("lose-session")?,
            Action::LoseSessions => f.write_str("lose-sessions")?,
            Action::Absent => f.write_str("absent")?,
            Action::Limit(count) => write!(f, "limit {count}")?,
        }
        let names: Vec<&str> = self.functions.iter().map(|function| function.name()).collect();
        write!(f, " {}", if names.is_empty() { "*".to_owned() } else { names.join(",") })?;
        match self.when {
            When::Always => {}
            When::Chance(share) => write!(f, " chance {share}")?,
            When::Next(count) => write!(f, " next {count}")?,
            When::From(number) => write!(f, " from {number}")?,
        }
        match &self.token {
            Some(label) => write!(f, " token {label}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (text, token) = match text.split_once(" token ") {
            Some((text, label)) => (text, Some(label.trim().to_owned())),
            None => (text, None),
        };
        let mut words = text.split_whitespace();
        let mut word = |what: &str| words.next().ok_or_else(|| format!("\"{text}\" lacks {what}"));
        let action = match word("an action")? {
            kind @ ("delay" | "in-turn") => {
                let time = word("a time")?;
                let number = time.strip_suffix("us").ok_or_else(|| format!("{time} is not like 2000us"))?;
                let time = Duration::from_micros(parse(number)?);
                if kind == "delay" { Action::Delay(time) } else { Action::InTurn(time) }
            }
            "fail" => Action::Fail(word("a return value")?.parse()?),
            "hang" => Action::Hang,
            "abort" => Action::Abort,
            "kill" => Action::Kill,
            "corrupt" => Action::Corrupt,
            "lose-session" => Action::LoseSession,
            "lose-sessions" => Action::LoseSessions,
            "absent" => Action::Absent,
            "limit" => Action::Limit(parse(word("a number")?)?),
            other => return Err(format!("there is no action {other}")),
        };
        let functions = match word("functions")? {
            "*" => Vec::new(),
            names => names.split(',').map(str::parse).collect::<Result<_, _>>()?,
        };
        let when = match words.next() {
            None => When::Always,
            Some(kind) => {
                let value = words.next().ok_or_else(|| format!("\"{text}\" lacks a number"))?;
                match kind {
                    "chance" => When::Chance(parse(value)?),
                    "next" => When::Next(parse(value)?),
                    "from" => When::From(parse(value)?),
                    other => return Err(format!("there is no condition {other}")),
                }
            }
        };
        match words.next() {
            Some(more) => Err(format!("\"{text}\": what is {more}?")),
            None => Ok(Self { action, functions, when, token }),
        }
    }
}

fn parse<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not such a number"))
}

/// The lines of a control file.
pub(crate) fn write(rules: &[(RuleId, Rule)]) -> String {
    let lines: Vec<String> =
        rules.iter().map(|(RuleId(number), rule)| format!("{number} {rule}\n")).collect();
    lines.concat()
}

/// What [`write()`] wrote, or a person did: empty lines and lines with `#` are skipped.
pub(crate) fn read(text: &str) -> Result<Vec<(RuleId, Rule)>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(read_line).collect()
}

fn read_line(line: &str) -> Result<(RuleId, Rule), String> {
    let (number, rule) = line.split_once(' ').ok_or_else(|| format!("\"{line}\" is not a rule"))?;
    Ok((RuleId(parse(number)?), rule.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_written() {
        let rules = [
            Rule::delay(Duration::from_millis(2)).on([Function::Sign, Function::SignInit]),
            Rule::in_turn(Duration::from_millis(2)).on([Function::Sign]),
            Rule::fail(ReturnValue::CKR_DEVICE_ERROR).on([Function::Sign]).chance(0.02),
            Rule::fail(ReturnValue(0x8000_0001)).next(3).token("mail two"),
            Rule::hang().from(2),
            Rule::new(Action::Abort).on([Function::Initialize]).from(2),
            Rule::new(Action::Kill).on([Function::Sign]).next(1),
            Rule::new(Action::Corrupt),
            Rule::new(Action::LoseSession).chance(1.0),
            Rule::new(Action::LoseSessions).next(1),
            Rule::new(Action::Absent).token("mail"),
            Rule::new(Action::Limit(1)),
        ];
        let rules: Vec<_> = rules.into_iter().enumerate().map(|(n, rule)| (RuleId(n), rule)).collect();
        let text = write(&rules);
        assert_eq!(read(&text).unwrap(), rules, "{text}");
        assert!(text.contains("2 fail CKR_DEVICE_ERROR C_Sign chance 0.02\n"), "{text}");
    }

    #[test]
    fn what_is_not_a_rule_is_refused() {
        for bad in [
            "hang C_Sign",
            "1 hang",
            "1 hang Sign",
            "1 burn *",
            "1 fail C_Sign",
            "1 delay 2ms *",
            "1 hang * next",
            "1 hang * often 3",
            "1 hang * next 3 4",
            "1 limit * *",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read("# nothing\n\n").unwrap(), []);
    }
}
