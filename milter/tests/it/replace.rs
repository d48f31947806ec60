//! Another treatment takes the place of one that is at work.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

use agent::{Edits, Envelope, Outcome};
use milter::{Failure, Replaceable, Treat};
use smime::mime::Message;

use crate::running::{Treatment, edited};

/// A treatment that is known by the reason it gives.
fn named(name: &'static str) -> impl Fn(&Envelope, &Message) -> Result<Outcome, Failure> + Send + Sync {
    move |_, _| Ok(Outcome { reason: name.to_owned(), ..edited(Edits::default()) })
}

fn ask(treat: &Replaceable) -> String {
    let message = Message::from_stored(b"A: b\r\n\r\n");
    treat.treat(&Envelope::default(), &message, SystemTime::now()).unwrap().reason
}

#[test]
fn a_message_goes_on_with_the_treatment_it_began_with_and_holds_nothing_up() {
    let (begun, has_begun) = mpsc::sync_channel(1);
    let (go_on, may_go_on) = mpsc::sync_channel::<()>(1);
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let slow = move |envelope: &Envelope, message: &Message| {
        begun.send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        named("old")(envelope, message)
    };
    let treat = Replaceable::new(Arc::new(Treatment(slow)), Arc::default());
    let under_way = {
        let treat = treat.clone();
        thread::spawn(move || ask(&treat))
    };
    has_begun.recv().unwrap();
    treat.replace(Arc::new(Treatment(named("new"))));
    assert_eq!(ask(&treat), "new", "before the old one is done");
    go_on.send(()).unwrap();
    assert_eq!(under_way.join().unwrap(), "old");
}
