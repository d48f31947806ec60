//! indymilter's callbacks: each feeds the [`Session`] and turns its answer into a status.

use std::ffi::{CStr, CString};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use agent::harvest::Signed;
use agent::{Disposition, Outcome};
use indymilter::{
    Actions, CallbackFuture, Callbacks, Context, EomContext, MacroStage, NegotiateContext, ProtoOpts,
    SetErrorReply, Status,
};
use smime::Fault;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{Instrument, debug, error, error_span, info, warn};

use crate::bridge::{Answer, Refused};
use crate::connection::{Activity, Connection};
use crate::edits::Requests;
use crate::meter::{Labels, Meter};
use crate::reply::Reply;
use crate::reports::Reported;
use crate::session::{Received, Refusal, Session, loggable};
use crate::treat::{Failure, Treat};

/// The callbacks of one connection.
pub(crate) fn callbacks<T: Treat>(connection: &Arc<Connection<T>>) -> Callbacks<State> {
    /// Gives each callback the connection, and its future the connection's span.
    macro_rules! with {
        (|$connection:ident, $cx:ident $(, $argument:ident)*| $body:expr) => {{
            let connection = Arc::clone(connection);
            move |$cx $(, $argument)*| -> CallbackFuture<'_> {
                let $connection = Arc::clone(&connection);
                let span = $connection.span().clone();
                Box::pin(async move { $body }.instrument(span))
            }
        }};
    }
    Callbacks::new()
        .on_negotiate(with!(|connection, cx, actions, options| negotiate(&connection, cx, actions, options)))
        .on_mail(with!(|connection, cx, arguments| mail(&connection, cx, &arguments)))
        .on_rcpt(with!(|connection, cx, arguments| rcpt(&connection, cx, &arguments)))
        .on_header(with!(|connection, cx, name, value| header(&connection, cx, &name, &value)))
        .on_eoh(with!(|connection, cx| eoh(&connection, cx)))
        .on_body(with!(|connection, cx, chunk| body(&connection, cx, &chunk).await))
        .on_eom(with!(|connection, cx| eom(&connection, cx).await))
        .on_abort(with!(|connection, cx| abort(&connection, cx)))
}

/// What indymilter keeps for a connection; there is none before negotiation.
#[derive(Debug)]
pub(crate) struct State {
    session: Session,
    /// What the MTA expects after `MAIL`,
    after_mail: Status,
    /// after a header field,
    after_field: Status,
    /// and after the last.
    after_header: Status,
}

fn negotiate<T: Treat>(
    connection: &Connection<T>,
    cx: &mut NegotiateContext<State>,
    offered_actions: Actions,
    offered_options: ProtoOpts,
) -> Status {
    if !offered_actions.contains(ACTIONS) || !offered_options.contains(NEEDED_OPTIONS) {
        warn!(
            missing_actions = ?(ACTIONS - offered_actions),
            missing_options = ?(NEEDED_OPTIONS - offered_options),
            "refused an MTA that cannot do what S/MIME needs"
        );
        return Status::Reject; // ends the connection
    }
    let options = NEEDED_OPTIONS | (WANTED_OPTIONS & offered_options);
    // Without it, what a rule would have held is deferred.
    cx.requested_actions = ACTIONS | (offered_actions & Actions::QUARANTINE);
    cx.requested_opts = options;
    for (stage, macros) in MACROS {
        cx.requested_macros.insert(stage, macros.to_owned());
    }
    let after = |no_reply| if options.contains(no_reply) { Status::Noreply } else { Status::Continue };
    cx.data = Some(State {
        session: Session::new(Arc::clone(connection.room())),
        after_mail: after(ProtoOpts::NOREPLY_MAIL),
        after_field: after(ProtoOpts::NOREPLY_HEADER),
        after_header: after(ProtoOpts::NOREPLY_EOH),
    });
    connection.now(Activity::Idle);
    Status::Continue
}

fn mail<T: Treat>(connection: &Connection<T>, cx: &mut Context<State>, arguments: &[CString]) -> Status {
    let Some(state) = &mut cx.data else { return refuse(connection, Refusal::NoTransaction, &mut cx.reply) };
    if let Err(refusal) = state.session.mail(arguments, |name| cx.macros.get(name)) {
        return match state.after_mail {
            Status::Noreply => Status::Noreply,
            _ => refuse(connection, refusal, &mut cx.reply),
        };
    }
    let after_mail = state.after_mail;
    connection.now(Activity::InMessage);
    let told = |name| cx.macros.get(name).map(|value| loggable(value.to_bytes()));
    debug!(
        client_addr = told(c"{client_addr}"),
        client_name = told(c"{client_name}"),
        daemon_name = told(c"{daemon_name}"),
        "a message begins"
    );
    after_mail
}

fn rcpt<T: Treat>(connection: &Connection<T>, cx: &mut Context<State>, arguments: &[CString]) -> Status {
    step(connection, cx, |session| session.rcpt(arguments))
}

fn header<T: Treat>(
    connection: &Connection<T>,
    cx: &mut Context<State>,
    name: &CStr,
    value: &CStr,
) -> Status {
    let Some(state) = &mut cx.data else { return Status::Continue };
    connection.now(Activity::InContent);
    state.session.field(name.to_bytes(), value.to_bytes());
    state.after_field
}

fn eoh<T: Treat>(connection: &Connection<T>, cx: &mut Context<State>) -> Status {
    connection.now(Activity::InContent);
    match &cx.data {
        Some(State { after_header: Status::Noreply, .. }) => Status::Noreply,
        _ => step(connection, cx, Session::end_of_header),
    }
}

async fn body<T: Treat>(connection: &Connection<T>, cx: &mut Context<State>, chunk: &[u8]) -> Status {
    let mut write = None;
    let status = step(connection, cx, |session| {
        write = session.body(chunk)?;
        Ok(())
    });
    let Some(write) = write else { return status };
    let written = spawn_blocking(move || write.run()).await;
    let written = written.unwrap_or_else(|_| Err(io::Error::other("the write panicked")));
    if let Err(error) = &written {
        error!(%error, folder = %connection.limits().folder.display(), "a body cannot be written");
    }
    step(connection, cx, |session| session.written(written))
}

/// Advances the session, and refuses what it refuses.
fn step<T: Treat>(
    connection: &Connection<T>,
    cx: &mut Context<State>,
    advance: impl FnOnce(&mut Session) -> Result<(), Refusal>,
) -> Status {
    let Some(state) = &mut cx.data else { return refuse(connection, Refusal::NoTransaction, &mut cx.reply) };
    let Err(refusal) = advance(&mut state.session) else { return Status::Continue };
    if !state.session.in_transaction() {
        connection.now(Activity::Idle);
    }
    let queue_id = cx.macros.get(c"i").map(|id| loggable(id.to_bytes()));
    let _span = error_span!("message", queue_id).entered();
    refuse(connection, refusal, &mut cx.reply)
}

fn abort<T: Treat>(connection: &Connection<T>, cx: &mut Context<State>) -> Status {
    if let Some(state) = &mut cx.data {
        state.session.reset();
        connection.now(Activity::Idle);
    }
    Status::Continue
}

async fn eom<T: Treat>(connection: &Connection<T>, cx: &mut EomContext<State>) -> Status {
    connection.now(Activity::InTreatment);
    let mut received =
        cx.data.as_mut().ok_or(Refusal::NoTransaction).and_then(|state| state.session.end_of_message());
    let queue_id = cx.macros.get(c"i").map(|id| loggable(id.to_bytes()));
    if let Ok(received) = &mut received {
        received.envelope.queue_id.clone_from(&queue_id);
    }
    let message_id = received.as_ref().ok().and_then(|received| received.message_id.clone());
    let span = error_span!("message", queue_id, message_id);
    let status = async {
        match received {
            Ok(received) => conclude(connection, cx, received).await,
            Err(refusal) => refuse(connection, refusal, &mut cx.reply),
        }
    }
    .instrument(span)
    .await;
    connection.now(Activity::Idle);
    status
}

/// Has the message treated, sends the edits and says what became of it.
async fn conclude<T: Treat>(
    connection: &Connection<T>,
    cx: &mut EomContext<State>,
    mut received: Received,
) -> Status {
    let start = Instant::now();
    let (recipients, octets) = (received.envelope.recipients.len(), received.octets);
    let (sender, reported) = (received.envelope.sender.clone(), std::mem::take(&mut received.reported));
    let direction = connection.bridge().direction(&received.envelope);
    let under_way = connection.bridge().meter().map(Meter::begin);
    let treated = connection.bridge().treat(received, &cx.actions, connection.cut()).await;
    let done = match treated {
        Ok(answer) => apply(connection, cx, answer, &sender, &reported).await.map_err(Refused::from),
        Err(refused) => Err(refused),
    };
    let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    if let Some(under_way) = under_way {
        let (outcome, verdict) = match &done {
            Ok(done) => (done.action, done.smime.unwrap_or_default()),
            Err(refused) => (refused.reply.code(), ""),
        };
        under_way.answered(Labels { direction, outcome, verdict });
    }
    match done {
        Ok(Done { action, reason, smime, layers, disposition, signed }) => {
            info!(action, smime, layers, reason, direction, recipients, octets, elapsed_ms, "done");
            // Nothing is left to do for it but the answer, which this does not hold up.
            if let Some(signed) = signed {
                connection.bridge().learn(*signed);
            }
            match disposition {
                Disposition::Deliver | Disposition::Quarantine => Status::Continue,
                Disposition::Discard | Disposition::Replace => Status::Discard,
            }
        }
        Err(Refused { reply, failure: Failure { fault, reason } }) => {
            let code = reply.code();
            match fault {
                Fault::Operator | Fault::Internal => {
                    error!(%fault, reason, code, recipients, octets, elapsed_ms, "not accepted");
                }
                _ => warn!(%fault, reason, code, recipients, octets, elapsed_ms, "not accepted"),
            }
            reply.give(&mut cx.reply)
        }
    }
}

/// What was done with a message, for its line in the log.
struct Done {
    action: &'static str,
    reason: String,
    /// RFC 7281's word, where a signature was looked for.
    smime: Option<&'static str>,
    /// What its layers are worth, where it has some.
    layers: Option<String>,
    disposition: Disposition,
    /// What may be learnt of it.
    signed: Option<Box<Signed>>,
}

/// Sends the edits. What fails after the first of them is a temporary failure, never an acceptance.
async fn apply<T: Treat>(
    connection: &Connection<T>,
    cx: &EomContext<State>,
    Answer { outcome, prepared, memory }: Answer,
    sender: &str,
    reported: &[Reported],
) -> Result<Done, Failure> {
    let Outcome { edits, action, reason, verdict, disposition, layers, copies, signed } = outcome;
    if !copies.is_empty() {
        return Err(Failure::new(Fault::Internal, "there are copies that nobody sends"));
    }
    if disposition == Disposition::Replace && prepared.is_none() {
        return Err(Failure::new(Fault::Internal, "there are no copies in the place of the message"));
    }
    let smime = verdict.map(|verdict| verdict.result().as_str());
    let requests = Requests::new(edits, sender, reported)
        .map_err(|error| Failure::new(Fault::Internal, error.to_string()))?
        .quarantined(disposition == Disposition::Quarantine);
    let sent = requests.send(&cx.actions, connection.hold().begin());
    match timeout(connection.limits().deadline, sent).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let reason = format!("the edits did not reach the MTA: {error}");
            return Err(Failure::new(Fault::Transient, reason));
        }
        Err(_) => return Err(Failure::new(Fault::Transient, "the MTA did not take the edits in time")),
    }
    drop(memory);
    if let Some(prepared) = prepared {
        // The last thing before the answer: what fails up to here takes the copies away again.
        let committed = spawn_blocking(move || prepared.commit()).await;
        let committed = committed.map_err(|_| Failure::new(Fault::Internal, "the commit panicked"))?;
        committed.map_err(|error| Failure::new(Fault::Operator, error.to_string()))?;
    }
    Ok(Done { action, reason, smime, layers, disposition, signed })
}

/// The reply to what is not even treated.
fn refuse<T: Treat>(connection: &Connection<T>, refusal: Refusal, to: &mut impl SetErrorReply) -> Status {
    let reply = match refusal {
        Refusal::HeaderTooLarge | Refusal::MessageTooLarge => Reply::TOO_LARGE,
        Refusal::TooManyFields => Reply::TOO_MANY_FIELDS,
        Refusal::TooManyRecipients => Reply::TOO_MANY_RECIPIENTS,
        Refusal::SenderNotUtf8 => Reply::BAD_SENDER,
        Refusal::OddRecipient => Reply::BAD_RECIPIENT,
        Refusal::NoTransaction | Refusal::NotWritten => Reply::UNAVAILABLE,
        Refusal::TooManyMessages => Reply::BUSY,
        Refusal::TooManyOfClient => Reply::TOO_MANY_OF_CLIENT,
        Refusal::NoRoom => Reply::NO_ROOM,
    };
    warn!(reason = %refusal, code = reply.code(), "refused");
    if let Some(meter) = connection.bridge().meter() {
        meter.refused(reply.code());
    }
    reply.give(to)
}

/// Fields are added (and inserted), removed, bodies replaced, and the sender named again with what bounces may
/// hold. Recipients are removed where copies are made for them, or to be named again with fewer reports.
const ACTIONS: Actions = Actions::ADD_HEADER
    .union(Actions::CHANGE_HEADER)
    .union(Actions::REPLACE_BODY)
    .union(Actions::CHANGE_SENDER)
    .union(Actions::DELETE_RCPT)
    .union(Actions::ADD_RCPT_EXT);

/// Without leading spaces as they were, no value is exact.
const NEEDED_OPTIONS: ProtoOpts = ProtoOpts::LEADING_SPACE;

/// `NO_CONNECT` also because indymilter ends the session over the `IPv6:` in Sendmail's connect command.
/// Replies stay for `RCPT` and the body, where something may be refused: with the first recipient what is wrong with
/// `MAIL`, and a header with the first of the body or at the end where there is none. Each reply that the MTA does not
/// wait for saves two processes a wake-up.
const WANTED_OPTIONS: ProtoOpts = ProtoOpts::NO_CONNECT
    .union(ProtoOpts::NO_HELO)
    .union(ProtoOpts::NO_DATA)
    .union(ProtoOpts::NO_UNKNOWN)
    .union(ProtoOpts::NOREPLY_MAIL)
    .union(ProtoOpts::NOREPLY_HEADER)
    .union(ProtoOpts::NOREPLY_EOH);

/// The client's macros are asked for with `MAIL`, since stages that are switched off send none. Postfix knows
/// the queue id only after the first recipient.
const MACROS: [(MacroStage, &CStr); 4] = [
    (MacroStage::Mail, c"i {client_addr} {client_name} {auth_authen} {daemon_name}"),
    (MacroStage::Rcpt, c"i"),
    (MacroStage::Eoh, c"i"),
    (MacroStage::Eom, c"i"),
];
