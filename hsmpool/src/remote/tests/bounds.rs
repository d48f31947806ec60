//! What a server says is bounded, too.

use super::{
    super::{
        error::{Text, WireError},
        wire::WireAnswer,
    },
    *,
};

#[test]
fn a_server_that_reports_more_than_there_can_be_is_left_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keyd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // A report nobody asked for, as the state of so many tokens, without anything.
    let report = [&[1, 7, 0][..], &[0xb8, 0x91, 2], &vec![0; 7 * 35_000]].concat();
    assert!(decode::<FromServer<'_>>(&report).is_err());
    let fewer = [&[1, 7, 0][..], &[0xe8, 7], &vec![0; 7 * 1000]].concat();
    let FromServer::Report { id: 7, report: Report::Status(status) } = decode(&fewer).unwrap() else {
        panic!("no report")
    };
    assert_eq!(status.0.len(), 1000);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(&octets(&[Greeting::Welcome { window: 4 }])).unwrap();
            let length = u32::try_from(report.len()).unwrap().to_le_bytes();
            // It may have been left already.
            let _ = stream.write_all(&[&length[..], &report].concat());
        }
    });
    let error = ask(&Pool::connect(&socket, LONG).unwrap()).unwrap_err().to_string();
    for what in ["keyd.sock", "a report cannot be understood, or has more in it than there can be"] {
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn what_a_server_says_is_kept_no_longer_than_it_can_be() {
    let long = "x".repeat(200_000);
    let texts = |text: &str| {
        let text = Text(text.to_owned());
        octets(&[FromServer::Answer {
            id: 1,
            result: Err(WireError::Unavailable { token: Text::default(), reason: text }),
        }])
    };
    let said = texts(&long);
    let FromServer::Answer { result: Err(error), .. } = decode(&said[4..]).unwrap() else {
        panic!("no error")
    };
    assert!(error.about("it").to_string().len() < 3000);
    for (len, is_taken) in [(4096, true), (4097, false), (200_000, false)] {
        let signature = vec![7; len];
        for answer in [WireAnswer::Signature(&signature), WireAnswer::Key(&signature)] {
            assert_eq!(answer.to_answer().is_some(), is_taken, "{len}");
        }
    }
}
