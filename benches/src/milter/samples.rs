//! Whether what is measured is what it says: mail that goes through each contender arrives in the form it should have.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::{mime, smtp::Client};

use super::site::{Contender, LINE, Site};

impl Site {
    /// Sends one message of each length through each contender to a server that keeps it, and looks at it. After that
    /// mail is discarded again. Gives how many there were.
    pub fn look_at_samples(&self, sizes: &[usize]) -> Result<usize> {
        self.deliver_to_sink()?;
        let mut samples = 0;
        for &octets in sizes {
            for contender in Contender::ALL {
                let mail = self.mail(contender, octets)?;
                let mut client = Client::connect_from([127, 0, 0, 1], self.smtp_port(contender)?)?;
                let reply = client.send(&mail.from, &[&mail.to], &mail.octets)?;
                ensure!(reply.code == 250, "{}: {reply:?}", contender.title());
                let arrived = self.sink.wait_for(1, PATIENCE)?;
                ensure!(arrived.len() == 1, "{} mails arrived instead of one", arrived.len());
                self.sink.take();
                let delivered = arrived.first().context("no mail")?;
                self.look_at(contender, &delivered.octets, lines(&mail.plain))
                    .with_context(|| format!("{}: {delivered:?}", contender.title()))?;
                samples += 1;
            }
        }
        self.discard()?;
        Ok(samples)
    }

    fn look_at(&self, contender: Contender, delivered: &[u8], expected: usize) -> Result<()> {
        let (header, body) = mime::split(delivered);
        let content = match contender {
            Contender::None | Contender::Null => body.to_vec(),
            // Another body, as long as ours: of what is opened it has all that was in the other one.
            Contender::Replacing | Contender::LeastP256 | Contender::LeastRsa | Contender::LeastOpen => {
                ensure!(lines(body) == 0, "its body is not another one");
                let octets = expected * LINE.trim_end().len();
                let is_opened = contender == Contender::LeastOpen;
                let right = if is_opened { octets..octets * 11 / 10 } else { octets..octets * 2 + 4000 };
                ensure!(right.contains(&body.len()), "its body is of {} octets", body.len());
                return Ok(());
            }
            // It fails where the signature does not fit or is by nobody of ours.
            Contender::SignP256 | Contender::SignRsa | Contender::SignP256AtSite => {
                self.lab(contender)?.openssl()?.verify(delivered)?
            }
            Contender::Open | Contender::OpenAtSite => {
                let fields = mime::values(header, "content-type");
                ensure!(fields.iter().all(|field| !field.contains("pkcs7")), "it was not opened: {fields:?}");
                body.to_vec()
            }
        };
        let is_signed =
            mime::values(header, "content-type").iter().any(|field| field.contains("multipart/signed"));
        ensure!(
            is_signed
                == matches!(contender, Contender::SignP256 | Contender::SignRsa | Contender::SignP256AtSite),
            "it is signed, or is not"
        );
        let found = lines(&content);
        ensure!(found == expected, "{found} lines arrived instead of {expected}");
        Ok(())
    }
}

/// How many of the lines that texts consist of.
fn lines(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).matches(LINE.trim_end()).count()
}

const PATIENCE: Duration = Duration::from_secs(30);
