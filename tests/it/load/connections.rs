//! A thousand connections of an MTA at once, with a message on each: every one is answered, or put off as the guide says.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::mail::Letter;
use testkit::milter::Milter;
use testkit::{Lab, wait};

use crate::protocol::{self, Answer, Mta};

const CONNECTIONS: usize = 1000;
/// `max-connections` and `messages` as they are without a word in the configuration.
const MOST: usize = 1024;
/// Of the thousand, the messages of one client; it may have half of `messages` under way.
const OF_ONE: usize = 600;

/// A small letter of carol's, as fields and a body.
struct Content {
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Content {
    fn of(lab: &Lab) -> Self {
        let letter =
            Letter { from: &lab.carol.address, to: "friend@partner.example", subject: "One of many" };
        let text = String::from_utf8(letter.of_size(4_000, 1)).unwrap();
        let (header, body) = text.split_once("\r\n\r\n").unwrap();
        let fields = header.lines().map(|line| line.split_once(':').unwrap());
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { fields, body: body.as_bytes().to_vec() }
    }

    fn fields(&self) -> Vec<(&str, &str)> {
        self.fields.iter().map(|(name, value)| (&**name, &**value)).collect()
    }

    /// What leaves the MTA when it has done what it was asked to.
    fn with(&self, answer: &Answer) -> Vec<u8> {
        let (fields, body) = protocol::applied(&self.fields(), &self.body, &answer.requests);
        let header: String =
            fields.iter().map(|field| field.replace("\r\n", "\n").replace('\n', "\r\n") + "\r\n").collect();
        [header.as_bytes(), b"\r\n", &body].concat()
    }
}

/// Begins a message of one of our network; the refusal, or nothing if its content is sent up to the end.
fn begin(mta: &mut Mta, client: &str, lab: &Lab, content: &Content) -> Option<String> {
    let sender = format!("<{}>", lab.carol.address);
    assert_eq!(mta.mail(&sender, &[("{client_addr}", client)]).0, 'c');
    let reply = mta.rcpt("<friend@partner.example>");
    if reply.0 != 'c' {
        mta.abort();
        return Some(protocol::smtp(&reply));
    }
    for (name, value) in &content.fields {
        mta.field(name, value);
    }
    assert_eq!(mta.end_of_header().0, 'c');
    assert_eq!(mta.chunk(&content.body).0, 'c');
    None
}

/// Ends all of the messages, then hears what becomes of each.
fn end<'a>(all: impl Iterator<Item = &'a mut Mta>, content: &Content, signed: &mut Vec<Vec<u8>>) {
    let mut all: Vec<_> = all.collect();
    for mta in &mut all {
        mta.send('E', b"");
    }
    for mta in all {
        let answer = mta.answer().unwrap();
        assert!(answer.accepted(), "{answer:?}");
        signed.push(content.with(&answer));
        mta.abort();
    }
}

/// This process needs a descriptor for each connection, too.
fn make_room() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}

fn lines_with(milter: &Milter, text: &str) -> usize {
    milter.log().lines().filter(|line| line.contains(text)).count()
}

#[test]
fn a_thousand_connections_with_a_message_each_are_answered_or_put_off_as_the_guide_says() {
    make_room();
    let lab = Lab::new("connections").unwrap();
    let milter = lab.start_milter().unwrap();
    let address = lab.config.listen.strip_prefix("inet:").unwrap().parse().unwrap();
    let content = Content::of(&lab);
    let (idle, started) = (milter.usage().unwrap(), Instant::now());
    let mut all: Vec<Mta> = (0..CONNECTIONS).map(|_| Mta::open(address)).collect();
    let open = milter.usage().unwrap();
    let opened = started.elapsed();
    // What it had open at its start, such as who asked whether it listens, may be closed since.
    assert!(open.open_files + 8 >= idle.open_files + CONNECTIONS as u64, "{idle:?} {open:?}");

    // A message on each, none of which is at its end.
    let client = |number: usize| if number < OF_ONE { "192.0.2.1" } else { "192.0.2.2" };
    let mut put_off = Vec::new();
    for (number, mta) in all.iter_mut().enumerate() {
        if let Some(refusal) = begin(mta, client(number), &lab, &content) {
            assert_eq!(
                refusal,
                "451 4.7.1 Too many messages of yours at a time for the S/MIME gateway, try again later"
            );
            put_off.push(number);
        }
    }
    assert!(put_off.iter().copied().eq(MOST / 2..OF_ONE), "{put_off:?}");
    let mut signed = Vec::new();
    let taken = all.iter_mut().enumerate().filter(|(number, _)| !put_off.contains(number));
    end(taken.map(|(_, mta)| mta), &content, &mut signed);
    // Those that were put off come again, over the connections that they have.
    for number in &put_off {
        assert_eq!(begin(&mut all[*number], client(*number), &lab, &content), None);
    }
    end(all[MOST / 2..OF_ONE].iter_mut(), &content, &mut signed);
    let done = started.elapsed();
    assert_eq!(signed.len(), CONNECTIONS);
    assert!(signed.iter().all(|mail| String::from_utf8_lossy(mail).contains("multipart/signed")));
    let openssl = lab.openssl().unwrap();
    for mail in signed.iter().step_by(CONNECTIONS / 10) {
        openssl.verify_by(mail, &lab.carol).unwrap();
    }

    // Up to `max-connections` there is room; who is above is turned away, and those that are in are served.
    all.extend((CONNECTIONS..MOST).map(|_| Mta::open(address)));
    let mut above: Vec<Mta> = (0..6).map(|_| Mta::connect(address)).collect();
    assert!(above.iter_mut().all(Mta::hung_up));
    for number in [0, MOST - 1] {
        assert_eq!(begin(&mut all[number], client(number), &lab, &content), None);
        end(all[number..=number].iter_mut(), &content, &mut signed);
    }
    let peak = milter.peak_memory().unwrap();
    println!(
        "{CONNECTIONS} connections opened in {:.1} s, their messages signed after {:.1} s; the milter's resident memory was \
         {} KiB before, {} KiB with the connections, {peak} KiB at most",
        opened.as_secs_f64(),
        done.as_secs_f64(),
        idle.resident_kib,
        open.resident_kib,
    );
    assert!(peak < idle.resident_kib + PEAK_KIB, "{peak} KiB");

    // Each message has its line, what was turned away has one together, and nothing else is amiss.
    assert_eq!(lines_with(&milter, "action=\"signed\""), CONNECTIONS + 2);
    assert_eq!(lines_with(&milter, "too many connections max_connections=1024 more=0"), 1);
    let refused = "refused reason=half of the messages that `messages` in [limits] allows are this client's code=\"451\"";
    assert_eq!(lines_with(&milter, refused), put_off.len());
    let log = milter.log();
    let amiss =
        log.lines().filter(|line| !line.contains(" INFO ") && !line.contains("the milter runs as root"));
    assert_eq!(amiss.count(), put_off.len() + 1, "{log}");
    drop(all);
    wait::until("a place", Duration::from_secs(30), || {
        let mut late = Mta::connect(address);
        Ok(late.negotiate(protocol::ALL_ACTIONS, protocol::ALL_OPTIONS).ok().map(drop))
    })
    .unwrap();
}

/// What the connections and their messages may take: less than 100 KiB each.
const PEAK_KIB: u64 = 100_000;
