//! What `hsmime doctor` finds, in a sound lab and in one with each fault.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    time::{Duration, SystemTime},
};

use testkit::{
    Config, Lab, Result,
    config::Identity,
    ensure,
    pki::{Key, Profile},
};

use crate::{hsmime, rows, text, unfolded, with_cache};

/// A time as OpenSSL reads it.
fn stamp(time: SystemTime) -> String {
    let time = der::DateTime::try_from(time).unwrap_or(der::DateTime::INFINITY);
    let (month, day, hour, minutes, seconds) =
        (time.month(), time.day(), time.hour(), time.minutes(), time.seconds());
    format!("{}{month:02}{day:02}{hour:02}{minutes:02}{seconds:02}Z", time.year())
}

#[test]
fn the_doctor_finds_nothing_wrong_with_a_sound_lab() -> Result<()> {
    let lab = Lab::new("healthy")?;
    let mut config = lab.config.clone();
    config.rules = vec![("alice@example.org".to_owned(), "required".to_owned())];
    let config = with_cache(&lab, &config);
    let unknown = hsmime(&lab, &config, &["doctor"])?.text();
    ensure!(rows(&unfolded(&unknown), "WARN  milter")[0].contains("no `mta-message-bytes`"), "{unknown}");
    let config = config.replace("[milter]\n", "[milter]\nmta-message-bytes = 10240000\n");
    let doctor = hsmime(&lab, &config, &["doctor"])?;
    ensure!(doctor.success(), "{doctor:?}");
    let shown = unfolded(&doctor.text());
    ensure!(doctor.text().lines().all(|line| line.chars().count() <= 80), "{}", doctor.text());
    ensure!(rows(&shown, "FAIL").is_empty() && rows(&shown, "WARN").is_empty(), "{shown}");
    for expected in [
        "OK    configuration",
        "OK    module /usr/lib/softhsm/libsofthsm2.so",
        "OK    token \"mail\"",
        "OK    token \"mail\" at work",
        "OK    key of alice@example.org",
        "OK    path of carol@example.org",
        "OK    cache",
        "OK    socket inet:127.0.0.1:",
    ] {
        ensure!(!rows(&shown, expected).is_empty(), "{expected:?} is not in {shown}");
    }
    ensure!(shown.ends_with("0 failures, 0 warnings\n"), "{shown}");
    let json = hsmime(&lab, &config, &["doctor", "--json"])?;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout)?;
    let findings = json["findings"].as_array().map_or(0, Vec::len);
    ensure!(findings + 1 == shown.lines().count(), "{json} {shown}");
    ensure!(json["failures"] == 0 && json["findings"][0]["state"] == "ok", "{json}");
    ensure!(!lab.workdir.join("certcache").exists(), "the doctor made a cache");
    Ok(())
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_doctor_names_each_fault_and_what_to_do() -> Result<()> {
    let lab = Lab::new("faults")?;
    let of = |change: &dyn Fn(&mut Config)| {
        let mut config = lab.config.clone();
        change(&mut config);
        config.to_toml()
    };
    let identity = |person| Identity::of(person, lab.pki.issuing());
    let expired = lab.pki.issue(&Profile::new("old", "old@example.org", Key::Rsa2048).expired())?;
    lab.token.import(&expired.key, "old", "0d")?;
    let followed = lab.pki.issue(&Profile::new("older", "alice@example.org", Key::Rsa2048).expired())?;
    lab.token.import(&followed.key, "older", "0e")?;
    let ends = SystemTime::now() + Duration::from_hours(10 * 24 - 1);
    let ending =
        Profile { not_after: stamp(ends), ..Profile::new("ending", "ending@example.org", Key::Rsa2048) };
    let ending = lab.pki.issue(&ending)?;
    lab.token.import(&ending.key, "ending", "0f")?;
    let begins = SystemTime::now() - Duration::from_hours(24);
    let follows = Profile {
        not_before: stamp(begins),
        further: "certificatePolicies = 2.23.140.1.5.2.2".to_owned(),
        ..Profile::new("follows", "ending@example.org", Key::Rsa2048)
    };
    let follows = lab.pki.issue(&follows)?;
    lab.token.import(&follows.key, "follows", "1f")?;
    let server = Profile::new("server", "server@example.org", Key::Rsa2048).for_purpose("serverAuth");
    let server = lab.pki.issue(&server)?;
    lab.token.import(&server.key, "server", "5e")?;
    let other_pin = lab.workdir.file("other-pin", "0000\n")?;
    fs::set_permissions(&other_pin, Permissions::from_mode(0o600))?;
    let two_lines = lab.workdir.file("two-lines", "1234\n1234\n")?;
    fs::set_permissions(&two_lines, Permissions::from_mode(0o600))?;
    let no_module = lab.workdir.file("module.so", "this is no library")?;
    let garbage = lab.workdir.directory("garbage")?;
    lab.workdir.file("garbage/data.mdb", [b'x'; 8192])?;
    std::os::unix::fs::symlink("data.mdb", lab.workdir.directory("loop")?.join("data.mdb"))?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    std::thread::spawn(move || {
        for mut stream in taken.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"220 mail ready\r\n");
        }
    });
    for (name, config, code, expected) in [
        (
            "wrong PIN",
            of(&|config| config.pin_file.clone_from(&other_pin)),
            1,
            "FAIL  token \"mail\"|rejected the PIN",
        ),
        (
            "PIN file of two lines",
            of(&|config| config.pin_file.clone_from(&two_lines)),
            1,
            "FAIL  token \"mail\"|more than one line, so it was not tried",
        ),
        (
            "no token",
            of(&|config| config.label = "post".to_owned()),
            1,
            "FAIL  token \"post\"|it has \"mail\"",
        ),
        (
            "no module",
            of(&|config| config.module = text(&no_module).to_owned()),
            1,
            "FAIL  module|cannot be loaded",
        ),
        (
            "no key",
            of(&|config| config.identities.push(identity(&lab.erin))),
            1,
            "FAIL  key of erin@partner.example|no token has the private key",
        ),
        (
            "no chain",
            of(&|config| config.identities[0].chain = lab.pki.root()),
            1,
            "FAIL  path of alice@example.org|add the missing CA certificate to `chain`",
        ),
        (
            "wrong purpose",
            of(&|config| config.identities = vec![identity(&server)]),
            1,
            "FAIL  path of server@example.org|extKeyUsage",
        ),
        (
            "expired",
            of(&|config| config.identities = vec![identity(&expired)]),
            1,
            "FAIL  validity of old@example.org|and no other certificate signs for old@example.org; get a new one",
        ),
        (
            "expired, and followed",
            of(&|config| config.identities = vec![identity(&followed), identity(&lab.alice)]),
            0,
            "OK    validity of alice@example.org|only decrypts, and another took its place",
        ),
        (
            "ending, and not followed",
            of(&|config| config.identities = vec![identity(&ending)]),
            0,
            "WARN  validity of ending@example.org|ends in 9 days",
        ),
        (
            "ending, and followed",
            of(&|config| config.identities = vec![identity(&ending), identity(&follows)]),
            0,
            "OK    signer of ending@example.org|the newest of 2 that could, valid from ",
        ),
        (
            "valid for longer than the rules allow that it names",
            of(&|config| config.identities = vec![identity(&follows)]),
            0,
            "WARN  validity of ending@example.org|days, more than the 825 that public CAs may give",
        ),
        (
            "no hsmime-keyd",
            of(&|config| config.keyd_socket = Some(lab.workdir.join("keyd.sock"))),
            1,
            "FAIL  hsmime-keyd|systemctl status hsmime-keyd; `socket` in [pool]",
        ),
        (
            "signing key that another may only decrypt with",
            of(&|config| config.keyd_socket = Some(lab.workdir.join("keyd.sock")))
                + "[[keyd.client]]\nuser = \"64999\"\noperations = [\"decrypt\"]\n",
            1,
            "WARN  configuration|user 64999, the [[keyd.client]] of line ",
        ),
        (
            "taken socket",
            of(&|config| config.listen = format!("inet:127.0.0.1:{port}")),
            1,
            "FAIL  socket|another program answers there",
        ),
        (
            "damaged cache",
            format!("{}[cache]\npath = \"{}\"\n", of(&|_| {}), garbage.display()),
            1,
            "FAIL  cache|certificate cache",
        ),
        (
            "cache that cannot be looked at",
            format!("{}[cache]\npath = \"{}\"\n", of(&|_| {}), lab.workdir.join("loop").display()),
            1,
            "FAIL  cache|its folder cannot be made or used",
        ),
        (
            "slip of the fingers",
            of(&|_| {}).replace("sessions", "sesions"),
            2,
            "FAIL  configuration|did you mean `sessions`?",
        ),
    ] {
        let doctor = hsmime(&lab, &config, &["doctor"])?;
        ensure!(doctor.code() == Some(code), "{name}: {doctor:?}");
        let shown = unfolded(&doctor.text());
        let (beginning, detail) = expected.split_once('|').unwrap_or_default();
        let found = rows(&shown, beginning).iter().any(|row| row.contains(detail));
        ensure!(found, "{name}: {expected:?} is not in {shown}");
    }
    Ok(())
}
