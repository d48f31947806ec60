//! Mail to people of whom nobody can be asked: an LDAP directory and a CA's server that are down, and come back.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use testkit::lab::Running;
use testkit::mail::Letter;
use testkit::pki::{Key, Person, Profile};
use testkit::sink::Delivered;
use testkit::smtp::{Origin, Reply};
use testkit::{Lab, command, wait};

const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a letter of alice's; what arrived, where it was accepted.
fn send(running: &Running, to: &str) -> (Reply, Option<Delivered>) {
    let alice = running.lab.alice.address.as_str();
    let sent = Letter { from: alice, to, subject: "Sources" }.text("the plan");
    running.attempt(&Origin::login(alice), alice, &[to], &sent).unwrap()
}

#[track_caller]
fn assert_waits(running: &Running, to: &str) {
    let (reply, mail) = send(running, to);
    assert_eq!((reply.code, mail.is_none()), (451, true), "{to}: {reply:?} {}", running.milter.log());
    assert!(running.sink.mails().iter().all(|mail| mail.to != [to]), "it was delivered all the same");
}

#[track_caller]
fn assert_sealed_for(running: &Running, mail: &Delivered, to: &Person) {
    assert!(!String::from_utf8_lossy(&mail.octets).contains("the plan"), "in clear: {mail:?}");
    let openssl = running.lab.openssl().unwrap();
    let opened = openssl.decrypt(&mail.octets, to).unwrap();
    assert!(String::from_utf8_lossy(&opened).contains("the plan"));
}

fn import(lab: &Lab, people: &[&Person]) {
    let files = people.iter().map(|person| person.certificate.to_str().unwrap());
    let imported = lab.admin(&["cert", "import"].into_iter().chain(files).collect::<Vec<_>>()).unwrap();
    assert!(imported.success(), "{imported:?}");
}

#[test]
fn mail_to_an_address_that_a_directory_may_know_waits_while_it_is_down_or_is_as_the_rule_says() {
    let mut lab = Lab::new("ldap-down").unwrap();
    lab.config.anchors.push(lab.pki.issuing());
    lab.config.cache = Some(lab.workdir.join("cache"));
    let (_silent, port) = silent_port();
    let rule = |domain: &str, further: &str| {
        format!("\n[[rule]]\nto = \"*@{domain}.example\"\nsign = \"required\"\nencrypt = {further}\n")
    };
    lab.config.first_rules = [
        format!(
            "\n[[source]]\nkind = \"ldap\"\nurl = \"ldap://127.0.0.1:{port}\"\nbase = \"dc=example,dc=org\"\n\
             [lookup]\nbudget-ms = 1000\n"
        ),
        rule("partner", "\"required\""),
        rule("wished", "\"when-possible\""),
        rule("clear", "\"when-possible\"\nunknown = \"plain\""),
    ]
    .concat();
    import(&lab, &[&lab.erin]);
    let running = lab.start().unwrap();
    assert_waits(&running, "nobody@partner.example");
    assert_waits(&running, "nobody@wished.example");
    let (reply, mail) = send(&running, "nobody@clear.example");
    let mail = mail.unwrap_or_else(|| panic!("{reply:?} {}", running.milter.log()));
    let text = running.lab.openssl().unwrap().verify(&mail.octets).unwrap();
    assert!(String::from_utf8_lossy(&text).contains("the plan"));
    // Whoever is in the cache is not asked for.
    let erin = &running.lab.erin;
    let (reply, mail) = send(&running, &erin.address);
    assert_sealed_for(&running, &mail.unwrap_or_else(|| panic!("{reply:?}")), erin);
}

/// A port that is ours, and where nobody listens yet: connections are refused.
fn silent_port() -> (TcpListener, u16) {
    let socket =
        net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Serves a file to whoever asks.
fn serve(listener: TcpListener, file: &Path) {
    let octets = std::fs::read(file).unwrap();
    net::listen(&listener, 16).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head =
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            if head.count() > 0 {
                let length = octets.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(&octets);
            }
        }
    });
}

#[test]
fn nobody_is_written_to_in_clear_while_it_is_unknown_whether_his_certificate_is_revoked() {
    let mut lab = Lab::new("crl-down").unwrap();
    lab.config.anchors.push(lab.pki.issuing());
    lab.config.cache = Some(lab.workdir.join("cache"));
    lab.config.revocation = "soft-fail".to_owned();
    let (listener, port) = silent_port();
    let person = |name: &str, domain: &str| {
        let further = format!("crlDistributionPoints = URI:http://127.0.0.1:{port}/issuing.crl\n");
        let profile = Profile::new(name, &format!("{name}@{domain}.example"), Key::Rsa2048);
        lab.pki.issue(&Profile { further, ..profile }).unwrap()
    };
    let people = [person("dora", "partner"), person("fred", "wished"), person("gina", "clear")];
    let rule = |domain: &str, further: &str| {
        format!("\n[[rule]]\nto = \"*@{domain}.example\"\nsign = \"never\"\nencrypt = {further}\n")
    };
    lab.config.first_rules = [
        "\n[revocation]\nallow-networks = [\"127.0.0.0/8\"]\nrest-seconds = 1\nbudget-ms = 1000\n".to_owned(),
        rule("partner", "\"required\""),
        rule("wished", "\"when-possible\""),
        rule("clear", "\"when-possible\"\nunknown = \"defer\""),
    ]
    .concat();
    import(&lab, &people.each_ref());
    let running = lab.start().unwrap();
    for person in &people {
        assert_waits(&running, &person.address);
        // Nor the next time, when it is remembered.
        assert_waits(&running, &person.address);
    }
    let crl = running.lab.workdir.join("issuing.der");
    let mut convert = Command::new("openssl");
    convert.args(["crl", "-outform", "DER", "-in"]).arg(running.lab.pki.crl()).arg("-out").arg(&crl);
    command::succeed("openssl", &mut convert).unwrap();
    serve(listener, &crl);
    for person in &people {
        let mail = wait::until("the mail to be accepted", PATIENCE, || {
            // What nobody could say is not asked again for five minutes, unless an administrator does; and what could not
            // be fetched not for a second.
            assert!(running.lab.admin(&["explain", "--anew", &person.address])?.success());
            Ok(send(&running, &person.address).1)
        });
        assert_sealed_for(&running, &mail.unwrap(), person);
    }
    assert_eq!(running.sink.mails().len(), people.len(), "each once");
}
