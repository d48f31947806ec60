//! Postfix, the milters beside each other, and the messages.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use testkit::{
    Lab, mail::Letter, milter::Milter, mime, peers::Recipient, postfix::Postfix, sink::Sink, wait,
    workdir::Workdir,
};

use super::{
    cost::{Cell, Used},
    mta::Mail,
    null::Null,
};

/// Who treats the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Contender {
    /// Postfix alone.
    None,
    /// A milter that accepts everything.
    Null,
    /// The same, with a ready-made body as long as a signed one: what the MTA has to do for that.
    Replacing,
    /// A null milter that does the least that signing with P-256 takes: digests and the token's operation.
    LeastP256,
    /// The same with RSA-2048.
    LeastRsa,
    /// The least that opening mail for an RSA-2048 key takes.
    LeastOpen,
    /// `hsmime-milter`, signing with P-256.
    SignP256,
    /// The same with RSA-2048.
    SignRsa,
    /// The same, opening mail for an RSA-2048 key.
    Open,
    /// `SignP256` with all that a site has beside: audit, cache, harvesting, copies, revocation, metrics.
    SignP256AtSite,
    /// `Open` with all of that.
    OpenAtSite,
}

/// A `hsmime-milter` with its own token and people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Outgoing,
    Incoming,
    OutgoingAtSite,
    IncomingAtSite,
}

/// How mail comes to a milter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// From a client that speaks the milter protocol.
    Alone,
    /// Through Postfix, by SMTP.
    Postfix,
}

/// What Postfix and a milter speak through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Socket {
    /// In the file system.
    Unix,
    /// A port of the loopback.
    Inet,
}

impl Contender {
    /// All, in the order of the table.
    pub const ALL: [Self; 11] = [
        Self::None,
        Self::Null,
        Self::Replacing,
        Self::LeastP256,
        Self::LeastRsa,
        Self::LeastOpen,
        Self::SignP256,
        Self::SignRsa,
        Self::Open,
        Self::SignP256AtSite,
        Self::OpenAtSite,
    ];

    /// Those that run the null milter's program.
    pub const OTHERS: [Self; 5] =
        [Self::Null, Self::Replacing, Self::LeastP256, Self::LeastRsa, Self::LeastOpen];

    /// Those that run ours.
    pub const OURS: [Self; 5] =
        [Self::SignP256, Self::SignRsa, Self::Open, Self::SignP256AtSite, Self::OpenAtSite];

    /// Those of them that have the least beside it, of which something is wanted.
    pub const BAREST: [Self; 3] = [Self::SignP256, Self::SignRsa, Self::Open];

    /// For readers.
    pub fn title(self) -> &'static str {
        match self {
            Self::None => "no milter",
            Self::Null => "null milter",
            Self::Replacing => "null milter, new body",
            Self::LeastP256 => "the least: signing, P-256",
            Self::LeastRsa => "the least: signing, RSA-2048",
            Self::LeastOpen => "the least: opening, RSA-2048",
            Self::SignP256 => "signing, P-256",
            Self::SignRsa => "signing, RSA-2048",
            Self::Open => "opening, RSA-2048",
            Self::SignP256AtSite => "signing, P-256, at a site",
            Self::OpenAtSite => "opening, RSA-2048, at a site",
        }
    }

    /// The least that anybody has to do for what this one does.
    pub fn least(self) -> Option<Self> {
        match self {
            Self::SignP256 | Self::SignP256AtSite => Some(Self::LeastP256),
            Self::SignRsa => Some(Self::LeastRsa),
            Self::Open | Self::OpenAtSite => Some(Self::LeastOpen),
            _ => None,
        }
    }

    /// The milter whose people and token it has.
    fn place(self) -> Option<Place> {
        match self {
            Self::None | Self::Null | Self::Replacing => None,
            Self::LeastP256 | Self::LeastRsa | Self::SignP256 | Self::SignRsa => Some(Place::Outgoing),
            Self::LeastOpen | Self::Open => Some(Place::Incoming),
            Self::SignP256AtSite => Some(Place::OutgoingAtSite),
            Self::OpenAtSite => Some(Place::IncomingAtSite),
        }
    }

    /// What the milter's log says of each message.
    pub(super) fn action(self) -> Option<&'static str> {
        match self {
            Self::SignP256 | Self::SignRsa | Self::SignP256AtSite => Some("action=\"signed\""),
            Self::Open | Self::OpenAtSite => Some("action=\"opened\""),
            _ => None,
        }
    }
}

impl Socket {
    /// For readers.
    pub fn title(self) -> &'static str {
        match self {
            Self::Unix => "Unix sockets",
            Self::Inet => "TCP",
        }
    }
}

impl Way {
    /// For readers.
    pub fn title(self) -> &'static str {
        match self {
            Self::Alone => "the milter alone",
            Self::Postfix => "through Postfix",
        }
    }
}

/// A `hsmime-milter` that runs.
#[derive(Debug)]
pub(super) struct Ours {
    place: Place,
    milter: Milter,
    pub(super) lab: Lab,
}

/// All of it running.
#[derive(Debug)]
pub struct Site {
    postfix: Postfix,
    smtp: Vec<(Contender, u16)>,
    milters: Vec<(Contender, String)>,
    ours: Vec<Ours>,
    /// Those that are not ours.
    others: Vec<(Contender, Null)>,
    /// Where samples go.
    pub(super) sink: Sink,
    workdir: Workdir,
}

impl Site {
    /// Starts everything. Mail is discarded once it is in the queue.
    pub fn start(socket: Socket) -> Result<Self> {
        let places = [Place::Outgoing, Place::Incoming, Place::OutgoingAtSite, Place::IncomingAtSite];
        let ours = places.into_iter().map(|place| Ours::start(place, socket)).collect::<Result<Vec<_>>>()?;
        let workdir = Workdir::new("bench")?;
        let mut others = Vec::new();
        let mut milters = Vec::new();
        for contender in Contender::OTHERS {
            let (null, listen) = Null::start(&workdir, socket, contender, &ours)?;
            others.push((contender, null));
            milters.push((contender, listen));
        }
        let sink = Sink::start(testkit::sink::Offer::EightBit)?;
        let postfix = Postfix::start(&workdir, "", sink.port())?;
        for contender in Contender::OURS {
            milters.push((contender, at(&ours, contender)?.lab.config.listen.clone()));
        }
        let mut smtp = vec![(Contender::None, postfix.port())];
        for (contender, listen) in &milters {
            smtp.push((*contender, postfix.add_server(listen)?));
        }
        let site = Self { postfix, smtp, milters, ours, others, sink, workdir };
        site.discard()?;
        Ok(site)
    }

    /// The people and the token that a contender has; of one without, those of another.
    pub fn lab(&self, contender: Contender) -> Result<&Lab> {
        Ok(&at(&self.ours, contender)?.lab)
    }

    /// The MTA's release.
    pub fn postfix_version(&self) -> Result<String> {
        let done = Command::new("postconf").args(["-d", "-h", "mail_version"]).output()?;
        Ok(format!("Postfix {}", String::from_utf8_lossy(&done.stdout).trim()))
    }

    /// From now on mail is gone as soon as it is delivered.
    pub(super) fn discard(&self) -> Result<()> {
        self.postfix.set("default_transport=discard:")
    }

    /// From now on mail goes to a server that keeps it.
    pub(super) fn deliver_to_sink(&self) -> Result<()> {
        self.postfix.set(&format!("default_transport=smtp:[127.0.0.1]:{}", self.sink.port()))
    }

    /// The message of about so many octets that a contender gets.
    pub fn mail(&self, contender: Contender, octets: usize) -> Result<Mail> {
        mail(self.lab(contender)?, contender, octets)
    }

    /// Where the milter listens.
    pub fn listen(&self, contender: Contender) -> Result<&str> {
        let found = self.milters.iter().find(|(known, _)| *known == contender);
        Ok(&found.context("it is no milter")?.1)
    }

    /// The port of the SMTP server that asks the milter.
    pub fn smtp_port(&self, contender: Contender) -> Result<u16> {
        Ok(self.smtp.iter().find(|(known, _)| *known == contender).context("no such server")?.1)
    }

    /// The milter's process.
    pub fn process(&self, contender: Contender) -> Result<Option<u32>> {
        if contender == Contender::None {
            return Ok(None);
        }
        let other = self.others.iter().find(|(known, _)| *known == contender);
        Ok(Some(match other {
            Some((_, null)) => null.id(),
            None => at(&self.ours, contender)?.milter.id()?,
        }))
    }

    /// Messages per second through Postfix, over so many connections that stay.
    pub fn through_postfix(
        &self,
        contender: Contender,
        mail: &Mail,
        connections: usize,
        count: usize,
    ) -> Result<Cell> {
        let port = self.smtp_port(contender)?;
        let file: PathBuf = self.workdir.file("bench.eml", mime::lf(&mail.octets))?;
        let before = self.treated(contender)?;
        let mut command = Command::new("smtp-source");
        command.args(["-d", "-s", &connections.to_string(), "-m", &count.to_string()]);
        command.args(["-f", &mail.from, "-t", &mail.to, "-F"]).arg(&file).arg(format!("127.0.0.1:{port}"));
        let process = self.process(contender)?;
        let used = Used::now(process)?;
        let begun = Instant::now();
        let done = command.output().context("smtp-source cannot be run; install the package postfix")?;
        let taken = begun.elapsed();
        ensure!(done.status.success(), "smtp-source: {}", String::from_utf8_lossy(&done.stderr));
        self.until_queue_is_empty()?;
        let now = Used::now(process)?;
        if contender.action().is_some() {
            // What was not treated would be fast.
            wait::until("the milter's log", Duration::from_secs(10), || {
                Ok((self.treated(contender)? == before + count).then_some(()))
            })?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        Ok(used.until(now, count as f64, taken))
    }

    /// Waits until nothing is left to be delivered.
    pub fn until_queue_is_empty(&self) -> Result<()> {
        wait::until("an empty queue", Duration::from_mins(1), || {
            Ok(self.postfix.queue()?.is_empty().then_some(()))
        })
    }

    /// How many messages its milter has treated.
    pub fn treated(&self, contender: Contender) -> Result<usize> {
        let Some(action) = contender.action() else { return Ok(0) };
        let log = fs::read_to_string(self.lab(contender)?.workdir.join("milter.log"))?;
        Ok(log.matches(action).count())
    }

    /// Whether all milters still run.
    pub fn check(&mut self) -> Result<()> {
        ensure!(self.ours.iter_mut().all(|ours| ours.milter.is_running()), "a milter ended");
        Ok(())
    }
}

impl Ours {
    fn start(place: Place, socket: Socket) -> Result<Self> {
        let (name, at_a_site) = match place {
            Place::Outgoing => ("outgoing", false),
            Place::Incoming => ("incoming", false),
            Place::OutgoingAtSite => ("out-site", true),
            Place::IncomingAtSite => ("in-site", true),
        };
        let mut lab = Lab::new(name)?;
        let config = &mut lab.config;
        if matches!(place, Place::Outgoing | Place::OutgoingAtSite) {
            config.trusted_networks = vec!["127.0.0.0/8".to_owned()];
        }
        // A token in software does no more with more.
        config.sessions = u32::try_from(std::thread::available_parallelism()?.get())?;
        if socket == Socket::Unix {
            config.listen = format!("unix:{}", lab.workdir.join("m.sock").display());
            // For Postfix's user.
            config.socket_mode = Some("666".to_owned());
        }
        if at_a_site {
            config.audit = Some(lab.workdir.join("audit.jsonl"));
            config.cache = Some(lab.workdir.join("cache"));
            config.harvest = true;
            "soft-fail".clone_into(&mut config.revocation);
            config.reinjection = Some((wait::free_port()?, lab.workdir.join("state")));
            config.control = Some(lab.workdir.join("control"));
            config.metrics = Some(format!("inet:127.0.0.1:{}", wait::free_port()?));
        }
        Ok(Self { place, milter: lab.start_milter()?, lab })
    }
}

/// The milter that a contender stands for; the first for those of others.
pub(super) fn at(ours: &[Ours], contender: Contender) -> Result<&Ours> {
    let place = contender.place().unwrap_or(Place::Outgoing);
    ours.iter().find(|ours| ours.place == place).context("no such milter")
}

/// The message of about so many octets that a contender gets.
pub(super) fn mail(lab: &Lab, contender: Contender, octets: usize) -> Result<Mail> {
    let text = LINE.repeat(octets / LINE.len());
    let outgoing = |from: &str| {
        let letter = Letter { from, to: "friend@partner.example", subject: "bench" };
        let to = letter.to.to_owned();
        let octets = letter.text(&text);
        let plain = text.clone().into_bytes();
        Mail { from: from.to_owned(), to, client: "127.0.0.1".to_owned(), octets, plain }
    };
    Ok(match contender {
        Contender::None
        | Contender::Null
        | Contender::Replacing
        | Contender::LeastP256
        | Contender::SignP256
        | Contender::SignP256AtSite => outgoing(&lab.carol.address),
        Contender::LeastRsa | Contender::SignRsa => outgoing(&lab.alice.address),
        Contender::LeastOpen | Contender::Open | Contender::OpenAtSite => {
            // As long as the others in base64.
            let text = LINE.repeat(octets * 3 / 4 / LINE.len());
            let entity = format!("Content-Type: text/plain\r\n\r\n{text}");
            let to = [Recipient::pkcs1(&lab.bob)];
            let entity = lab.openssl()?.encrypt(entity.as_bytes(), &to, &["-aes-256-gcm"])?;
            let letter = Letter { from: &lab.erin.address, to: &lab.bob.address, subject: "bench" };
            Mail {
                from: letter.from.to_owned(),
                to: letter.to.to_owned(),
                client: "203.0.113.9".to_owned(),
                octets: letter.carrying(&entity),
                plain: text.into_bytes(),
            }
        }
    })
}

/// What texts consist of.
pub(super) const LINE: &str = "So lang wie der Tag, und noch ein wenig mehr, bis die Zeile voll ist.\r\n";
