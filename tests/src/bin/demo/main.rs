//! The demo: a mail out, a mail in, a token taken away, an archive; each checked by other software.
//!
//! Started by `scripts/demo`, which builds the programs it shows.

#![expect(clippy::print_stdout, reason = "showing is what a demo is for")]

mod table;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use testkit::lab::Running;
use testkit::mail::{Letter, ugly_entity};
use testkit::peers::Recipient;
use testkit::smtp::Origin;
use testkit::{Context as _, Lab, Result, archive, bail, ensure, mime, wait};

use crate::table::Table;

fn main() -> ExitCode {
    let keep = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [option] if option == "--keep" => true,
        _ => {
            println!("usage: scripts/demo [--keep]");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = wait::end_on_signals() {
        println!("cannot wait for signals: {error}");
        return ExitCode::FAILURE;
    }
    let mut table = Table::default();
    let kept = play(&mut table, keep);
    println!("\n{table}");
    match kept {
        Some(directory) => println!("everything is in {directory}"),
        None if table.all_ok() => {}
        None => println!("scripts/demo --keep leaves everything behind to be looked at"),
    }
    if table.all_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays all scenes; gives the directory when it stays.
fn play(table: &mut Table, keep: bool) -> Option<String> {
    let mut running = None;
    table.scene("a token, a small CA, a milter and a private Postfix are set up", || {
        let mut lab = Lab::new("demo")?;
        if keep {
            lab.workdir.keep();
        }
        println!("in {}", lab.workdir.path().display());
        running = Some(lab.start()?);
        Ok("SoftHSM, OpenSSL's CA, Postfix".to_owned())
    });
    let mut running = running?;
    table.scene("the doctor finds the installation healthy", || doctor(&running));
    table.scene("a mail of alice's leaves signed", || outgoing(&running));
    table.scene("an encrypted mail for bob arrives opened", || incoming(&running));
    table.scene("sent to carol, who cannot read it, it stays closed", || not_hers(&running));
    table.scene("a forged verdict is removed", || forged(&running));
    table.scene("without the token, mail waits; with it, mail flows", || token_away(&mut running));
    table.scene("an archive is signed, and verified again", || signed_archive(&running));
    table.scene("an archive is decrypted", || decrypted_archive(&running));
    keep.then(|| running.lab.workdir.path().display().to_string())
}

fn doctor(running: &Running) -> Result<String> {
    let finished = running.lab.admin(&["doctor"])?;
    println!("{}", finished.text().trim_end());
    ensure!(finished.success(), "{finished:?}");
    Ok("every key signed once".to_owned())
}

fn outgoing(running: &Running) -> Result<String> {
    let Lab { alice, erin, .. } = &running.lab;
    let letter = Letter { from: &alice.address, to: &erin.address, subject: "Demo out" };
    let sent = letter.ugly(20_000);
    show("what went in", &sent);
    let delivered = running.outgoing(alice, &erin.address, &sent)?;
    show("what came out", &delivered.octets);
    let content = running.lab.openssl()?.verify(&delivered.octets)?;
    println!("-- openssl cms -verify: successful");
    ensure!(mime::leaves(&content)? == mime::leaves(&sent)?, "the signed content is not what was sent");
    Ok("openssl cms -verify agrees; 3 parts as sent".to_owned())
}

fn incoming(running: &Running) -> Result<String> {
    let Lab { bob, .. } = &running.lab;
    let content = mime::crlf(&ugly_entity(20_000));
    let sent = encrypted_for_bob(running, &content)?;
    show("what went in", &sent);
    let delivered = running.incoming(&[&bob.address], &sent)?;
    show("what came out", &delivered.octets);
    ensure!(mime::leaves(&delivered.octets)? == mime::leaves(&content)?, "not what was encrypted");
    Ok("by openssl cms -encrypt; 3 parts as encrypted".to_owned())
}

fn not_hers(running: &Running) -> Result<String> {
    let sent = encrypted_for_bob(running, b"Content-Type: text/plain\r\n\r\nfor bob only\r\n")?;
    let delivered = running.incoming(&[&running.lab.carol.address], &sent)?;
    ensure!(delivered.octets.ends_with(&sent), "the mail was changed");
    Ok("octet for octet as sent".to_owned())
}

fn forged(running: &Running) -> Result<String> {
    let Lab { bob, erin, .. } = &running.lab;
    let letter = Letter { from: &erin.address, to: &bob.address, subject: "Demo forged" };
    let forgery = format!("Authentication-Results: {}; smime=pass", Lab::AUTHSERV_ID);
    println!("-- sent with\n{forgery}");
    let sent = [forgery.as_bytes(), b"\r\n", &letter.text("trust me")].concat();
    let delivered = running.incoming(&[&bob.address], &sent)?;
    let verdicts = mime::values(&delivered.octets, "authentication-results");
    println!("-- delivered with");
    for verdict in &verdicts {
        println!("Authentication-Results: {verdict}");
    }
    ensure!(!verdicts.iter().any(|verdict| verdict.contains("pass")), "the forgery arrived");
    Ok("only our own verdict is there".to_owned())
}

fn token_away(running: &mut Running) -> Result<String> {
    let Lab { alice, erin, token, .. } = &running.lab;
    let letter = Letter { from: &alice.address, to: &erin.address, subject: "Demo waits" };
    let sent = letter.text("signed or not at all");
    token.stop()?;
    let before = running.sink.mails().len();
    let (origin, to) = (Origin::login(&alice.address), [erin.address.as_str()]);
    let reply = running.send(&origin, &alice.address, &to, &sent)?;
    println!("-- token away: {} {}", reply.code, reply.text);
    token.start()?;
    ensure!(reply.code == 451, "not deferred");
    ensure!(running.sink.mails().len() == before, "something left while the token was away");
    let delivered = running.deliver_in_time(&origin, &alice.address, &to, &sent)?;
    running.lab.openssl()?.verify(&delivered.octets)?;
    println!("-- token back: delivered, signature good");
    Ok(format!("deferred with {}, then delivered signed", reply.code))
}

fn signed_archive(running: &Running) -> Result<String> {
    let Lab { alice, erin, workdir, .. } = &running.lab;
    let mails: Vec<Vec<u8>> = (0..MAILS)
        .map(|number| {
            let subject = format!("Archived {number}");
            let letter = Letter { from: &alice.address, to: &erin.address, subject: &subject };
            letter.of_size(4_000, number)
        })
        .collect();
    let input = workdir.file("archive.mbox", archive::mbox(&mails))?;
    let signed = workdir.join("signed.mbox");
    batch(running, "sign", &input, &signed)?;
    batch(running, "verify", &signed, &workdir.join("verified.mbox"))?;
    let openssl = running.lab.openssl()?;
    let output = archive::read_mbox(&fs::read(&signed)?);
    ensure!(output.len() == mails.len(), "{} mails of {MAILS} came out", output.len());
    for (mail, sent) in output.iter().zip(&mails) {
        let content = openssl.verify(&mime::crlf(mail))?;
        ensure!(mime::leaves(&content)? == mime::leaves(sent)?, "a mail lost its content");
    }
    Ok(format!("{MAILS} mails; openssl cms -verify agrees with each"))
}

fn decrypted_archive(running: &Running) -> Result<String> {
    let workdir = &running.lab.workdir;
    let contents: Vec<Vec<u8>> = (0..MAILS)
        .map(|number| format!("Content-Type: text/plain\r\n\r\nsecret {number}\r\n").into_bytes())
        .collect();
    let mails = contents.iter().map(|content| encrypted_for_bob(running, content));
    let mails: Vec<Vec<u8>> = mails.collect::<Result<_>>()?;
    let input = workdir.directory("encrypted")?;
    archive::write_maildir(&input, &mails)?;
    let output = workdir.join("decrypted");
    batch(running, "decrypt", &input, &output)?;
    let output = archive::read_maildir(&output)?;
    ensure!(output.len() == mails.len(), "{} mails of {MAILS} came out", output.len());
    for ((_, mail), content) in output.iter().zip(&contents) {
        ensure!(mime::leaves(&mime::crlf(mail))? == mime::leaves(content)?, "a mail was not opened");
    }
    Ok(format!("{MAILS} mails of a Maildir"))
}

/// Runs the batch tool and makes sure that it speaks of each mail once.
fn batch(running: &Running, command: &str, input: &Path, output: &Path) -> Result<()> {
    let (finished, report) = running.lab.batch(command, input, output)?;
    println!("-- hsmime-batch {command}: {}", finished.stderr.trim_end());
    ensure!(finished.success(), "{finished:?}");
    let first = report.first().context("an empty report")?;
    println!("   first line of its report: {first}");
    match u64::try_from(report.len()) {
        Ok(MAILS) => Ok(()),
        _ => bail!("{} lines in the report instead of {MAILS}", report.len()),
    }
}

fn encrypted_for_bob(running: &Running, content: &[u8]) -> Result<Vec<u8>> {
    let Lab { bob, erin, .. } = &running.lab;
    let letter = Letter { from: &erin.address, to: &bob.address, subject: "Demo in" };
    let entity = running.lab.openssl()?.encrypt(content, &[Recipient::pkcs1(bob)], &[])?;
    Ok(letter.carrying(&entity))
}

/// The first lines of a mail, none longer than a screen.
fn show(title: &str, mail: &[u8]) {
    println!("-- {title} ({} octets)", mail.len());
    for line in String::from_utf8_lossy(mail).lines().take(LINES_SHOWN) {
        let cut: String = line.chars().take(COLUMNS_SHOWN).collect();
        println!("   | {cut}");
    }
    println!("   | …");
}

const MAILS: u64 = 20;
const LINES_SHOWN: usize = 24;
const COLUMNS_SHOWN: usize = 100;
