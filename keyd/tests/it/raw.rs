//! A client that says whatever it likes: the protocol's octets by hand (`hsmpool/src/remote/wire.rs`).

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use hsmpool::Lane;

use crate::support::{LONG, Lab};

/// The octets of frames.
#[derive(Default)]
pub(crate) struct Words(pub(crate) Vec<u8>);

impl Words {
    pub(crate) fn hello(lane: Lane) -> Self {
        let lane = u8::from(lane == Lane::Bulk);
        let mut words = Self::default();
        words.frame(&[&b"hsmime-k"[..], &[1, lane]].concat());
        words
    }

    pub(crate) fn define(&mut self, public_key_info: &[u8], description: &[u8]) {
        self.frame(&[&[0], &octets(public_key_info)[..], &[0], &octets(description)].concat());
    }

    /// RSA-OAEP with SHA-256; the time is five seconds.
    pub(crate) fn decrypt(&mut self, id: usize, key: usize, encrypted_key: &[u8]) {
        let head = [&[1], &number(id)[..], &number(key), &number(5_000_000), &[2]].concat();
        self.frame(&[&head[..], &octets(encrypted_key), &[1, 3, 3, 0]].concat());
    }

    /// PKCS #1 v1.5; the time is a minute.
    pub(crate) fn decrypt_v15(&mut self, id: usize, key: usize, encrypted_key: &[u8]) {
        let head = [&[1], &number(id)[..], &number(key), &number(60_000_000), &[2]].concat();
        self.frame(&[&head[..], &octets(encrypted_key), &[0]].concat());
    }

    /// ECDSA with SHA-256; the time is five seconds.
    pub(crate) fn sign(&mut self, id: usize, key: usize, digest: &[u8; 32]) {
        self.sign_digest(id, key, digest);
    }

    /// The same, of so many octets as no digest may have.
    pub(crate) fn sign_digest(&mut self, id: usize, key: usize, digest: &[u8]) {
        self.sign_within(id, key, digest, Duration::from_secs(5));
    }

    /// The same, for somebody who waits so long.
    pub(crate) fn sign_within(&mut self, id: usize, key: usize, digest: &[u8], time: Duration) {
        let micros = usize::try_from(time.as_micros()).unwrap();
        let head = [&[1], &number(id)[..], &number(key), &number(micros), &[0, 3]].concat();
        self.frame(&[&head[..], &octets(digest), &[2, 3]].concat());
    }

    /// Which of so many keys, each of these octets, no token has.
    pub(crate) fn missing(&mut self, id: usize, keys: usize, key: &[u8]) {
        self.frame(&[&[3], &number(id)[..], &[2], &number(keys), &key.repeat(keys)].concat());
    }

    /// What is to be said of so many needs, each of these octets.
    pub(crate) fn needs(&mut self, id: usize, needs: usize, need: &[u8]) {
        self.frame(&[&[3], &number(id)[..], &[3], &number(needs), &need.repeat(needs)].concat());
    }

    pub(crate) fn frame(&mut self, message: &[u8]) {
        self.0.extend(u32::try_from(message.len()).unwrap().to_le_bytes());
        self.0.extend(message);
    }

    /// Says it, and counts the answers to so many questions: those that are results, and errors. Both are fewer where the
    /// connection ends before.
    pub(crate) fn say(&self, lab: &Lab, questions: usize) -> (usize, usize) {
        let stream = UnixStream::connect(lab.socket()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        thread::scope(|scope| {
            // The server may have had enough before all is said.
            scope.spawn(|| drop((&stream).write_all(&self.0)));
            let counted = count(&stream, questions);
            let _ = stream.shutdown(Shutdown::Both);
            counted
        })
    }
}

fn count(mut stream: &UnixStream, questions: usize) -> (usize, usize) {
    let (mut results, mut errors) = (0, 0);
    let mut read = || {
        let mut length = [0; 4];
        stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_le_bytes(length).try_into().unwrap()];
        stream.read_exact(&mut frame).ok()?;
        Some(frame)
    };
    read();
    while results + errors < questions {
        let Some(frame) = read() else { break };
        // After the number of the question.
        let id = frame.iter().skip(1).take_while(|octet| **octet >= 0x80).count();
        match frame.get(2 + id) {
            Some(0) => results += 1,
            _ => errors += 1,
        }
    }
    (results, errors)
}

/// As postcard writes it.
pub(crate) fn number(mut number: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    while number >= 0x80 {
        octets.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    octets.push(u8::try_from(number).unwrap());
    octets
}

pub(crate) fn octets(of: &[u8]) -> Vec<u8> {
    [&number(of.len())[..], of].concat()
}
