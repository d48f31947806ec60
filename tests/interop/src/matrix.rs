//! Runs every cell: what the peers write, we read, and what we write, they read; octet for octet.

use std::thread;

use anyhow::{Result, anyhow};
use memchr::memmem;
use smime::cms::Keep;

use crate::{
    cell::{Cell, Direction, Failure, judge},
    claims,
    form::{Form, Sealing, Signing, Way, Who},
    limits,
    mail::{Kind, Mail, multipart_signed, pkcs7_mime},
    ours::Ours,
    peer::{BouncyCastle, Gpgsm, Name, Nss, OpenSsl, Peer, Said, Written},
    rows::{self, Row},
    world::World,
};

/// What is tampered with between writer and reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tampering {
    /// Nothing.
    Nothing,
    /// The reader expects another text than was written, and a signed text is exchanged for it on the way: no
    /// cell may be good.
    Text,
}

/// The whole table.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The rows.
    pub rows: Vec<Row>,
    /// The peers' versions.
    pub versions: [String; 4],
    /// For each row, for each peer: they write; we write.
    pub cells: Vec<[[Cell; 2]; 4]>,
}

const TEXT: &[u8] = b"Content-Type: text/plain\r\n\r\nThe canary sings at dawn.\r\n";
const OTHER: &[u8] = b"Content-Type: text/plain\r\n\r\nThe canary sings at dusk.\r\n";

impl Matrix {
    /// Runs all cells; the peers at the same time.
    pub fn run(tampering: Tampering) -> Result<Self> {
        let world = World::new()?;
        let rows = rows::all();
        let columns = thread::scope(|scope| {
            let (world, rows) = (&world, &rows);
            let columns =
                Name::ALL.map(|name| scope.spawn(move || Bench::column(world, name, rows, tampering)));
            columns.map(|column| column.join().unwrap_or_else(|_| Err(anyhow!("a column panicked"))))
        });
        let [a, b, c, d] = columns;
        let columns = [a?, b?, c?, d?];
        let versions = columns.each_ref().map(|(version, _)| version.clone());
        let mut columns = columns.map(|(_, cells)| cells.into_iter());
        let cells = rows
            .iter()
            .map(|_| {
                columns.each_mut().map(|column| column.next().unwrap_or([Cell::NotWritten, Cell::NotWritten]))
            })
            .collect();
        Ok(Self { rows, versions, cells })
    }

    /// All cells with their places.
    pub fn cells(&self) -> impl Iterator<Item = (&Row, Name, Direction, &Cell)> {
        self.rows.iter().zip(&self.cells).flat_map(|(row, peers)| {
            Name::ALL.into_iter().zip(peers).flat_map(move |(name, [they, we])| {
                [(row, name, Direction::TheyWrite, they), (row, name, Direction::WeWrite, we)]
            })
        })
    }
}

/// One peer and us.
struct Bench<'a> {
    world: &'a World,
    ours: Ours<'a>,
    peer: Box<dyn Peer + 'a>,
    tampering: Tampering,
}

impl<'a> Bench<'a> {
    /// A peer's version and cells.
    fn column(
        world: &'a World,
        name: Name,
        rows: &[Row],
        tampering: Tampering,
    ) -> Result<(String, Vec<[Cell; 2]>)> {
        let peer: Box<dyn Peer> = match name {
            Name::OpenSsl => Box::new(OpenSsl::new(world)?),
            Name::Gpgsm => Box::new(Gpgsm::new(world)?),
            Name::Nss => Box::new(Nss::new(world)?),
            Name::BouncyCastle => Box::new(BouncyCastle::new(world)?),
        };
        let bench = Self { world, ours: Ours::new(world)?, peer, tampering };
        let version = bench.peer.version().map_err(|said| anyhow!("{}: {said}", name.as_str()))?;
        let cells = rows.iter().map(|row| {
            [Direction::TheyWrite, Direction::WeWrite].map(|direction| bench.cell(row, direction))
        });
        Ok((version, cells.collect()))
    }

    fn cell(&self, row: &Row, direction: Direction) -> Cell {
        let outcome = match direction {
            Direction::TheyWrite => self.they_write(&row.form),
            Direction::WeWrite => self.we_write(&row.form),
        };
        let word = match (direction, row.form.signing()) {
            (Direction::TheyWrite, Some(signing)) => signing.verdict().as_str(),
            _ => "ok",
        };
        judge(outcome, limits::of(self.peer.name(), direction, &row.form), word)
    }

    fn expected(&self) -> &'static [u8] {
        if self.tampering == Tampering::Text { OTHER } else { TEXT }
    }

    /// The octets on their way from writer to reader.
    fn carried(&self, octets: Vec<u8>) -> Vec<u8> {
        match (self.tampering, memmem::find(&octets, TEXT)) {
            (Tampering::Text, Some(at)) => {
                let (before, rest) = octets.split_at(at);
                [before, OTHER, rest.get(TEXT.len()..).unwrap_or_default()].concat()
            }
            _ => octets,
        }
    }

    fn compare(&self, content: &[u8]) -> Result<(), Failure> {
        if content == self.expected() {
            return Ok(());
        }
        Err(Failure::Ours(anyhow!("other content came out: {:?}", String::from_utf8_lossy(content))))
    }

    fn they_write(&self, form: &Form) -> Result<(), Failure> {
        match form {
            Form::Signed(signing) => {
                let mail = Self::mail(signing, &self.peer_signs(TEXT, signing)?)?;
                self.compare(&self.ours.verify(&mail, signing.reason.as_ref())?)
            }
            Form::Sealed(sealing) => {
                let mail = Mail::carrying("peer@partner.example", &self.peer_seals(TEXT, sealing)?)?;
                for (who, _) in &sealing.to {
                    self.compare(&self.ours.open(&mail, *who)?)?;
                }
                Ok(())
            }
            Form::Compressed { ber } => {
                let object = self.carried(self.peer.compress(TEXT, *ber)?);
                self.compare(&Ours::decompress(&mail_of(Kind::Compressed, &object)?)?)
            }
            Form::CertificatesOnly => {
                let object = self.peer.certificates_only(&CERTIFICATES)?;
                let found = self.ours.certificates(&mail_of(Kind::CertificatesOnly, &object)?)?;
                self.compare_certificates(found)
            }
            Form::SignedSealed(signing, sealing) => {
                let signed = self.peer_signs(TEXT, signing)?;
                let mail = Mail::carrying("peer@partner.example", &self.peer_seals(&signed, sealing)?)?;
                for (who, _) in &sealing.to {
                    let inner = self.ours.open(&mail, *who)?;
                    let inner = Self::mail(signing, &inner)?;
                    self.compare(&self.ours.verify(&inner, signing.reason.as_ref())?)?;
                }
                Ok(())
            }
            Form::RawSealed(signing, sealing) => {
                let signed = Self::mail(signing, &self.peer_signs(TEXT, signing)?)?;
                let mail =
                    Mail::carrying("peer@partner.example", &self.peer_seals(&signed.object, sealing)?)?;
                let inner = pkcs7_mime(Kind::Signed, &self.ours.open(&mail, first(sealing)?)?, signing.dress);
                self.compare(&self.ours.verify(&Self::mail(signing, &inner)?, signing.reason.as_ref())?)
            }
            Form::SealedSigned(sealing, signing) => {
                let mail = Self::mail(signing, &self.peer_signs(&self.peer_seals(TEXT, sealing)?, signing)?)?;
                let inside = self.ours.verify(&mail, signing.reason.as_ref())?;
                let mail = Mail::carrying("peer@partner.example", &inside)?;
                self.compare(&self.ours.open(&mail, first(sealing)?)?)
            }
            Form::Triple(signing, sealing) => {
                let signed = self.peer_signs(TEXT, signing)?;
                let sealed = self.peer_seals(&signed, sealing)?;
                let mail = Self::mail(signing, &self.peer_signs(&sealed, signing)?)?;
                // The outer signature is around ciphertext: its verdict is its own, what counts is inside.
                let sealed = self.ours.verify(&mail, signing.reason.as_ref())?;
                let inner =
                    self.ours.open(&Mail::carrying("peer@partner.example", &sealed)?, first(sealing)?)?;
                self.compare(&self.ours.verify(&Self::mail(signing, &inner)?, signing.reason.as_ref())?)
            }
            Form::Rekeyed(sealing, to) => {
                let mail = self.rekeyed(sealing, *to, Keep::None)?;
                self.compare(&self.ours.open(&mail, to.0)?)
            }
            Form::Added(sealing, to) => {
                let mail = self.rekeyed(sealing, *to, Keep::All)?;
                self.compare(&self.ours.open(&mail, to.0)?)?;
                self.compare(&self.ours.open(&mail, first(sealing)?)?)
            }
            Form::SignedCompressed(signing) => {
                let object = self.peer.compress(&self.peer_signs(TEXT, signing)?, false)?;
                let entity = pkcs7_mime(Kind::Compressed, &object, signing.dress);
                self.compare(&self.ours.verify(&Self::mail(signing, &entity)?, signing.reason.as_ref())?)
            }
            Form::CompressedSealed(sealing) => {
                let object = self.peer.compress(TEXT, false)?;
                let entity = pkcs7_mime(Kind::Compressed, &object, sealing.dress);
                let mail = Mail::carrying("peer@partner.example", &self.peer_seals(&entity, sealing)?)?;
                let inner = self.ours.open(&mail, first(sealing)?)?;
                self.compare(&Ours::decompress(&Mail::carrying("peer@partner.example", &inner)?)?)
            }
        }
    }

    fn we_write(&self, form: &Form) -> Result<(), Failure> {
        match form {
            Form::Signed(signing) => {
                let mail = Self::mail(signing, &self.we_sign(TEXT, signing)?)?;
                self.compare(&self.peer.verify(&mail, signing)?)
            }
            Form::Sealed(sealing) => {
                let mail = Mail::carrying("we@example.org", &self.we_seal(TEXT, sealing)?)?;
                for (who, _) in &sealing.to {
                    self.compare(&self.peer.decrypt(&mail, *who, sealing)?)?;
                }
                Ok(())
            }
            Form::Compressed { ber: true } => Err(Failure::NotWritten),
            Form::Compressed { ber: false } => {
                let mail = Mail::carrying("we@example.org", &Ours::compress(TEXT)?)?;
                self.compare(&self.peer.decompress(&mail)?)
            }
            Form::CertificatesOnly => {
                let certificates = self.known_certificates()?;
                let mail = Mail::carrying("we@example.org", &self.ours.certificates_only(&certificates)?)?;
                self.compare_certificates(self.peer.certificates(&mail)?)
            }
            Form::SignedSealed(signing, sealing) => {
                let signed = self.we_sign(TEXT, signing)?;
                let mail = Mail::carrying("we@example.org", &self.we_seal(&signed, sealing)?)?;
                for (who, _) in &sealing.to {
                    let inner = self.peer.decrypt(&mail, *who, sealing)?;
                    self.compare(&self.peer.verify(&Self::mail(signing, &inner)?, signing)?)?;
                }
                Ok(())
            }
            Form::RawSealed(signing, sealing) => {
                let signed = Self::mail(signing, &self.we_sign(TEXT, signing)?)?;
                let sealed = self.ours.seal_octets(&signed.object, sealing).ok_or(Failure::NotWritten)??;
                let mail = Mail::carrying("we@example.org", &self.sealed_by_us(sealed, sealing)?)?;
                let inner = self.peer.decrypt(&mail, first(sealing)?, sealing)?;
                let inner = pkcs7_mime(Kind::Signed, &inner, signing.dress);
                self.compare(&self.peer.verify(&Self::mail(signing, &inner)?, signing)?)
            }
            Form::SealedSigned(sealing, signing) => {
                let sealed = self.we_seal(TEXT, sealing)?;
                let mail = Self::mail(signing, &self.we_sign(&sealed, signing)?)?;
                let sealed = testkit::mime::crlf(&self.peer.verify(&mail, signing)?);
                let mail = Mail::carrying("we@example.org", &sealed)?;
                self.compare(&self.peer.decrypt(&mail, first(sealing)?, sealing)?)
            }
            Form::Triple(signing, sealing) => {
                let signed = self.we_sign(TEXT, signing)?;
                let sealed = self.we_seal(&signed, sealing)?;
                let mail = Self::mail(signing, &self.we_sign(&sealed, signing)?)?;
                let sealed = self.peer.verify(&mail, signing)?;
                let sealed = testkit::mime::crlf(&sealed);
                let inner = self.peer.decrypt(
                    &Mail::carrying("we@example.org", &sealed)?,
                    first(sealing)?,
                    sealing,
                )?;
                self.compare(&self.peer.verify(&Self::mail(signing, &inner)?, signing)?)
            }
            Form::Rekeyed(sealing, to) => {
                let mail = self.rekeyed(sealing, *to, Keep::None)?;
                self.compare(&self.peer.decrypt(&mail, to.0, sealing)?)
            }
            Form::Added(sealing, to) => {
                let mail = self.rekeyed(sealing, *to, Keep::All)?;
                self.compare(&self.peer.decrypt(&mail, to.0, sealing)?)?;
                self.compare(&self.peer.decrypt(&mail, first(sealing)?, sealing)?)
            }
            Form::SignedCompressed(signing) => {
                let entity = Ours::compress(&self.we_sign(TEXT, signing)?)?;
                let inner = self.peer.decompress(&Mail::carrying("we@example.org", &entity)?)?;
                self.compare(&self.peer.verify(&Self::mail(signing, &inner)?, signing)?)
            }
            Form::CompressedSealed(sealing) => {
                let sealed = self.we_seal(&Ours::compress(TEXT)?, sealing)?;
                let mail = Mail::carrying("we@example.org", &sealed)?;
                let inner = self.peer.decrypt(&mail, first(sealing)?, sealing)?;
                self.compare(&self.peer.decompress(&Mail::carrying("we@example.org", &inner)?)?)
            }
        }
    }

    /// The entity that the peer makes of its signature.
    fn peer_signs(&self, content: &[u8], signing: &Signing) -> Result<Vec<u8>, Failure> {
        let entity = match self.peer.sign(content, signing)? {
            Written::Entity(entity) => testkit::mime::crlf(&entity),
            Written::Object(object) if signing.opaque => pkcs7_mime(Kind::Signed, &object, signing.dress),
            Written::Object(object) => multipart_signed(content, &object, signing.dress),
        };
        let object = Mail::carrying("peer@partner.example", &entity)?.object;
        match claims::unlike_signing(self.world, &object, signing) {
            Some(what) => Err(Failure::Peer(Said(format!("it wrote something else: {what}")))),
            None => Ok(self.carried(entity)),
        }
    }

    fn peer_seals(&self, content: &[u8], sealing: &Sealing) -> Result<Vec<u8>, Failure> {
        let entity = match self.peer.encrypt(content, sealing)? {
            Written::Entity(entity) => testkit::mime::crlf(&entity),
            Written::Object(object) => {
                let authenticated = sealing.cipher.is_authenticated() && !sealing.ber;
                let kind = if authenticated { Kind::AuthEnveloped } else { Kind::Enveloped };
                pkcs7_mime(kind, &object, sealing.dress)
            }
        };
        let object = Mail::carrying("peer@partner.example", &entity)?.object;
        match claims::unlike_sealing(self.world, &object, sealing) {
            Some(what) => Err(Failure::Peer(Said(format!("it wrote something else: {what}")))),
            None => Ok(entity),
        }
    }

    fn we_sign(&self, content: &[u8], signing: &Signing) -> Result<Vec<u8>, Failure> {
        let entity = self.ours.sign(content, signing).ok_or(Failure::NotWritten)??;
        let object = Mail::carrying("we@example.org", &entity)?.object;
        match claims::unlike_signing(self.world, &object, signing) {
            Some(what) => Err(Failure::Ours(anyhow!("wrote something else: {what}"))),
            None => Ok(self.carried(entity)),
        }
    }

    fn we_seal(&self, content: &[u8], sealing: &Sealing) -> Result<Vec<u8>, Failure> {
        self.sealed_by_us(self.ours.seal(content, sealing).ok_or(Failure::NotWritten)??, sealing)
    }

    /// The entity, if it is what the row says.
    fn sealed_by_us(&self, entity: Vec<u8>, sealing: &Sealing) -> Result<Vec<u8>, Failure> {
        let object = Mail::carrying("we@example.org", &entity)?.object;
        match claims::unlike_sealing(self.world, &object, sealing) {
            Some(what) => Err(Failure::Ours(anyhow!("wrote something else: {what}"))),
            None => Ok(entity),
        }
    }

    /// A mail from the first signer.
    fn mail(signing: &Signing, entity: &[u8]) -> Result<Mail, Failure> {
        let from = signing.signers.first().map_or_else(String::new, |(who, _)| who.address());
        Ok(Mail::carrying(&from, &testkit::mime::crlf(entity))?)
    }

    /// Encrypted by the peer, and given another recipient here.
    fn rekeyed(&self, sealing: &Sealing, to: (Who, Way), keep: Keep) -> Result<Mail, Failure> {
        let mail = Mail::carrying("peer@partner.example", &self.peer_seals(TEXT, sealing)?)?;
        let object = self.ours.rekey(&mail.object, first(sealing)?, to, keep)?;
        let kind = if sealing.cipher.is_authenticated() { Kind::AuthEnveloped } else { Kind::Enveloped };
        Ok(mail_of(kind, &object)?)
    }

    fn known_certificates(&self) -> Result<Vec<Vec<u8>>> {
        CERTIFICATES.iter().map(|who| Ok(self.world.member(*who)?.certificate.der().to_vec())).collect()
    }

    fn compare_certificates(&self, mut found: Vec<Vec<u8>>) -> Result<(), Failure> {
        let mut expected = self.known_certificates()?;
        if self.tampering == Tampering::Text {
            expected.pop();
        }
        // Some add the chain, which does no harm.
        let chain = [self.world.issuing()?, self.world.root()?];
        found.retain(|one| !chain.iter().any(|known| known.der() == one));
        found.sort();
        expected.sort();
        if found == expected {
            return Ok(());
        }
        Err(Failure::Ours(anyhow!(
            "{} certificates came out, or others, and not {}",
            found.len(),
            expected.len()
        )))
    }
}

const CERTIFICATES: [Who; 2] = [Who::Rsa, Who::P256];

fn mail_of(kind: Kind, object: &[u8]) -> Result<Mail> {
    Mail::carrying("peer@partner.example", &pkcs7_mime(kind, object, crate::form::Dress::Usual))
}

fn first(sealing: &Sealing) -> Result<Who> {
    sealing.to.first().map(|(who, _)| *who).ok_or_else(|| anyhow!("no recipient"))
}
