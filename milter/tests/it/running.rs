//! A milter inside the test, with a treatment that the test brings.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use agent::{Edits, Envelope, Outcome};
use milter::{Failure, Limits, Listener, Meter, Treat, run};
use smime::mime::Message;
use tokio::sync::oneshot;

/// A treatment made of a function.
pub(crate) struct Treatment<F>(pub(crate) F);

impl<F> Treat for Treatment<F>
where
    F: Fn(&Envelope, &Message) -> Result<Outcome, Failure> + Send + Sync + 'static,
{
    fn treat(&self, envelope: &Envelope, message: &Message, _: SystemTime) -> Result<Outcome, Failure> {
        self.0(envelope, message)
    }
}

/// The same, with everything counted.
pub(crate) struct Metered<F>(pub(crate) Arc<Meter>, pub(crate) F);

impl<F> Treat for Metered<F>
where
    F: Fn(&Envelope, &Message) -> Result<Outcome, Failure> + Send + Sync + 'static,
{
    fn treat(&self, envelope: &Envelope, message: &Message, _: SystemTime) -> Result<Outcome, Failure> {
        self.1(envelope, message)
    }

    fn meter(&self) -> Option<&Meter> {
        Some(&self.0)
    }
}

/// What becomes of a message that is delivered with these edits.
pub(crate) fn edited(edits: Edits) -> Outcome {
    Outcome { edits, ..Outcome::unchanged("tested", String::new()) }
}

/// Delivers everything untouched.
#[expect(clippy::unnecessary_wraps, reason = "a treatment")]
pub(crate) fn untouched(_: &Envelope, _: &Message) -> Result<Outcome, Failure> {
    Ok(edited(Edits::default()))
}

/// A running milter.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(
        treat: impl Fn(&Envelope, &Message) -> Result<Outcome, Failure> + Send + Sync + 'static,
    ) -> Self {
        Self::within(Limits::default(), treat)
    }

    pub(crate) fn within(
        limits: Limits,
        treat: impl Fn(&Envelope, &Message) -> Result<Outcome, Failure> + Send + Sync + 'static,
    ) -> Self {
        Self::by(limits, Treatment(treat))
    }

    pub(crate) fn by(limits: Limits, treat: impl Treat) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (address_is, address) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = Listener::inet("127.0.0.1", 0).await.unwrap();
                address_is.send(listener.local_addr().unwrap()).unwrap();
                run(listener, limits, treat, async {
                    let _ = stopped.await;
                })
                .await;
            });
            runtime.shutdown_background();
        });
        Self { address: address.recv().unwrap(), stop: Some(stop), thread }
    }

    /// Asks for a graceful stop.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end.
    pub(crate) fn join(self) {
        self.thread.join().unwrap();
    }
}
