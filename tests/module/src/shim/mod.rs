//! The module's own side: what happens between a caller and the real module.
//!
//! `entry` has the C functions, `real` the module behind, `tally` the mapped counters; these three need
//! `unsafe`. Nothing here holds a lock while a call is delayed, hangs, or is in the real module, but where calls are to
//! go one after the other; a login in the real module only holds off the end of the process.

mod entry;
mod plan;
mod real;
mod sessions;
mod tally;

use std::{
    env,
    ffi::CString,
    fs,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    process,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use cryptoki_sys::{CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CKR_GENERAL_ERROR, CKR_OK};
use rustix::process::{Signal, getpid, kill_process};

use self::{
    plan::{Plan, WatchedPlan},
    real::Real,
    sessions::{Entry, Sessions},
    tally::Tally,
};
use crate::{Action, CONTROL, COUNTERS, Function, MODULE, PARAMETERS, ReturnValue, Rule, RuleId, When};

/// How often a hanging call looks whether it may go on.
const HANG_INTERVAL: Duration = Duration::from_millis(2);
/// How long a new session waits for the calls in lost ones to end. Calls that hang take longer.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);

/// Everything of this process.
struct Shim {
    real: Real,
    parameters: Option<PathBuf>,
    plan: WatchedPlan,
    sessions: Sessions,
    tally: Tally,
    /// Shared by calls of `C_Login` that are in the real module. SoftHSM makes its token's file anew in each: empty
    /// first, then full. A process that ends between the two has destroyed the token.
    logins: RwLock<()>,
    /// Held by the one call that has its turn, where calls go one after the other.
    turn: Mutex<()>,
}

/// What a call is about.
#[derive(Clone, Copy)]
enum Target {
    Module,
    Slot(CK_SLOT_ID),
    Session(CK_SESSION_HANDLE),
    /// A session that is only asked how much room an answer takes: rules do not touch that.
    Size(CK_SESSION_HANDLE),
}

/// What the rules make of a call.
#[derive(Default)]
struct Effect {
    /// It returns this and is not forwarded.
    fail: Option<ReturnValue>,
    corrupt: bool,
    session_limit: Option<u64>,
    absent: bool,
}

/// Carries out a call. No panic passes.
fn call(function: Function, target: Target, forward: impl FnOnce(&Shim, &Effect) -> CK_RV) -> CK_RV {
    let guarded = AssertUnwindSafe(|| match shim() {
        Some(shim) => shim.call(function, target, forward),
        None => CKR_GENERAL_ERROR,
    });
    panic::catch_unwind(guarded).unwrap_or(CKR_GENERAL_ERROR)
}

/// The module of this process; none if it cannot be made, for reasons told on standard error.
fn shim() -> Option<&'static Shim> {
    static SHIM: OnceLock<Option<Shim>> = OnceLock::new();
    let made = SHIM.get_or_init(|| Shim::new().inspect_err(|error| complain(error)).ok());
    made.as_ref()
}

#[expect(
    clippy::print_stderr,
    reason = "a PKCS#11 module has no other way to say more than CKR_GENERAL_ERROR"
)]
fn complain(error: &str) {
    eprintln!("testmodule: {error}");
}

impl Shim {
    fn new() -> Result<Self, String> {
        let module = env::var_os(MODULE).unwrap_or_else(|| "/usr/lib/softhsm/libsofthsm2.so".into());
        Ok(Self {
            real: Real::load(&module)?,
            parameters: env::var_os(PARAMETERS).map(PathBuf::from),
            plan: WatchedPlan::new(env::var_os(CONTROL).map(PathBuf::from)),
            sessions: Sessions::default(),
            tally: Tally::open(env::var_os(COUNTERS).map(PathBuf::from).as_deref())?,
            logins: RwLock::default(),
            turn: Mutex::default(),
        })
    }

    /// What the real module is to get in `C_Initialize`. Without the file, or with a NUL in it, that is nothing.
    fn parameters(&self) -> Option<CString> {
        CString::new(fs::read(self.parameters.as_ref()?).ok()?).ok()
    }

    fn call(
        &self,
        function: Function,
        target: Target,
        forward: impl FnOnce(&Self, &Effect) -> CK_RV,
    ) -> CK_RV {
        self.tally.begin(function);
        let plan = self.current_plan();
        let value = match self.enter(&plan, target) {
            Err(value) => value.0,
            Ok(label) => {
                let leave = Leave { shim: self, target };
                let effect = match target {
                    Target::Size(_) => Effect::default(),
                    _ => self.effect(&plan, function, target, label),
                };
                if effect.fail.is_none() {
                    self.tally.forward(function);
                }
                let is_login = function == Function::Login;
                let login = is_login.then(|| self.logins.read().unwrap_or_else(PoisonError::into_inner));
                let value = forward(self, &effect);
                drop(login);
                drop(leave);
                value
            }
        };
        if matches!(target, Target::Size(_)) && value == CKR_OK {
            self.tally.tell_size(function);
        }
        self.tally.end(function, ReturnValue(value));
        value
    }

    /// The rules as they are now. A token that has just been removed takes its sessions with it.
    fn current_plan(&self) -> Arc<Plan> {
        let (plan, is_new) = self.plan.current();
        if is_new {
            for rule in plan.absent() {
                self.lose_sessions(rule.token.as_deref());
            }
        }
        plan
    }

    /// Begins the use of a session; gives the label of its token.
    fn enter(&self, plan: &Plan, target: Target) -> Result<Option<Arc<str>>, ReturnValue> {
        match target {
            Target::Session(handle) | Target::Size(handle) => match self.sessions.enter(handle) {
                Entry::Open(label) => Ok(Some(label)),
                Entry::Lost(label) if plan.takes_away(Some(&label)) => Err(ReturnValue::CKR_DEVICE_REMOVED),
                Entry::Lost(_) => Err(ReturnValue::CKR_SESSION_HANDLE_INVALID),
                // The real module knows better.
                Entry::Unknown => Ok(None),
            },
            Target::Module | Target::Slot(_) => Ok(None),
        }
    }

    /// Applies all rules that concern a call, in their order, until one ends it.
    fn effect(&self, plan: &Plan, function: Function, target: Target, label: Option<Arc<str>>) -> Effect {
        let mut effect = Effect::default();
        if plan.is_broken {
            effect.fail = Some(ReturnValue::CKR_GENERAL_ERROR);
        }
        let mut concerning = plan.rules.iter().filter(|(_, rule)| rule.concerns(function)).peekable();
        let label = match target {
            Target::Slot(slot) if concerning.peek().is_some() => self.real.token_label(slot),
            _ => label,
        };
        for (id, rule) in concerning {
            if effect.fail.is_some() {
                break;
            }
            let is_meant = rule.token.is_none() || rule.token.as_deref() == label.as_deref();
            if is_meant && self.applies(plan, *id, rule) {
                self.apply(*id, rule, function, target, label.as_deref(), &mut effect);
            }
        }
        // A call that was delayed or hung comes back to a session that is gone.
        if let Target::Session(handle) = target
            && effect.fail.is_none()
            && self.sessions.is_lost(handle)
        {
            effect.fail = Some(ReturnValue::CKR_SESSION_HANDLE_INVALID);
        }
        effect
    }

    fn applies(&self, plan: &Plan, id: RuleId, rule: &Rule) -> bool {
        match rule.when {
            When::Always => self.tally.apply(id),
            When::Next(count) => self.tally.apply_up_to(id, count),
            When::From(number) => plan.number_of_call(id) >= number && self.tally.apply(id),
            When::Chance(share) => draw(id, plan.number_of_call(id)) < share && self.tally.apply(id),
        }
    }

    fn apply(
        &self,
        id: RuleId,
        rule: &Rule,
        function: Function,
        target: Target,
        label: Option<&str>,
        effect: &mut Effect,
    ) {
        match rule.action {
            Action::Delay(by) => thread::sleep(by),
            Action::InTurn(each) => {
                let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
                thread::sleep(each);
            }
            Action::Fail(with) => effect.fail = Some(with),
            Action::Hang => {
                while self.current_plan().rules.iter().any(|(other, _)| *other == id) {
                    thread::sleep(HANG_INTERVAL);
                }
            }
            Action::Abort => self.end(process::abort),
            Action::Kill => self.end(|| {
                let _ = kill_process(getpid(), Signal::KILL);
                process::abort()
            }),
            Action::Corrupt => effect.corrupt = true,
            Action::Limit(count) => effect.session_limit = Some(count),
            Action::LoseSession => {
                if let Target::Session(handle) = target {
                    self.close_lost(self.sessions.lose(|other, _| other == handle));
                    effect.fail = Some(ReturnValue::CKR_SESSION_HANDLE_INVALID);
                }
            }
            Action::LoseSessions => {
                self.lose_sessions(rule.token.as_deref().or(label));
                if let Target::Session(_) = target {
                    effect.fail = Some(ReturnValue::CKR_SESSION_HANDLE_INVALID);
                }
            }
            Action::Absent => match target {
                Target::Session(handle) => {
                    self.close_lost(self.sessions.lose(|other, _| other == handle));
                    effect.fail = Some(ReturnValue::CKR_DEVICE_REMOVED);
                }
                // The slot itself is still there.
                Target::Slot(_) if function == Function::GetSlotInfo => effect.absent = true,
                Target::Slot(_) => effect.fail = Some(ReturnValue::CKR_TOKEN_NOT_PRESENT),
                Target::Module | Target::Size(_) => effect.absent = true,
            },
        }
    }

    /// Ends the process while no login is under way.
    fn end(&self, end: fn() -> !) {
        let _logins = self.logins.write().unwrap_or_else(PoisonError::into_inner);
        end()
    }

    /// Whether a rule has taken away the token in a slot.
    fn is_absent(&self, slot: CK_SLOT_ID) -> bool {
        let plan = self.current_plan();
        // Labels are asked of the real module only where it matters.
        plan.has_absent() && plan.takes_away(self.real.token_label(slot).as_deref())
    }

    fn lose_sessions(&self, token: Option<&str>) {
        self.close_lost(self.sessions.lose(|_, label| token.is_none_or(|token| token == label)));
    }

    /// Waits until lost sessions are closed: a new one among them would keep the login alive.
    fn drain(&self, slot: CK_SLOT_ID) {
        let end = Instant::now() + DRAIN_LIMIT;
        while self.sessions.is_draining(slot) && Instant::now() < end {
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Lost sessions are closed in the real module too: with the last one the login goes.
    fn close_lost(&self, handles: Vec<CK_SESSION_HANDLE>) {
        for handle in handles {
            self.real.close_session(handle);
        }
    }
}

/// Ends the use of a session, also after a panic.
struct Leave<'a> {
    shim: &'a Shim,
    target: Target,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Target::Session(handle) | Target::Size(handle) = self.target
            && self.shim.sessions.leave(handle)
        {
            self.shim.real.close_session(handle);
        }
    }
}

/// A number from 0 to 1 that depends on rule and call only (`SplitMix64`), so that runs can be repeated.
#[expect(clippy::cast_precision_loss, reason = "53 bits remain, and an f64 holds those")]
fn draw(RuleId(rule): RuleId, call: u64) -> f64 {
    let mut z = (rule as u64)
        .wrapping_mul(0x2545_f491_4f6c_dd1d)
        .wrapping_add(call.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_meet_their_share_and_differ_between_rules() {
        for rule in 0..4 {
            let hits = (0..100_000).filter(|call| draw(RuleId(rule), *call) < 0.02).count();
            assert!((1_800..2_200).contains(&hits), "rule {rule}: {hits}");
        }
        assert_ne!(draw(RuleId(0), 1).to_bits(), draw(RuleId(1), 1).to_bits());
    }
}
