//! What several tests ask of a delivered mail, and of the spool.

use std::path::Path;

use testkit::sink::Delivered;
use testkit::{Lab, mime};

/// A test with Postfix and one with Sendmail: of each function, which starts a lab of its own, or of all of them in the
/// lab that is named, or that a function makes, which is started once.
macro_rules! with_every_mta {
    (in $name:literal; $($test:ident)*) => {
        with_every_mta! { in (testkit::Lab::new($name).unwrap()); $($test)* }
    };
    (in $make:ident; $($test:ident)*) => {
        with_every_mta! { in (super::$make()); $($test)* }
    };
    (in ($lab:expr); $($test:ident)*) => {
        mod in_one_lab {
            fn all<M: testkit::mta::Mta>() {
                let lab = $lab;
                let mut running = M::start(lab, testkit::sink::Offer::EightBit).unwrap();
                $(super::$test(&mut running);)*
            }

            #[test]
            fn postfix() {
                all::<testkit::postfix::Postfix>();
            }

            #[test]
            fn sendmail() {
                all::<testkit::sendmail::Sendmail>();
            }
        }
    };
    ($($test:ident)*) => {$(
        mod $test {
            #[test]
            fn postfix() {
                super::$test::<testkit::postfix::Postfix>();
            }

            #[test]
            fn sendmail() {
                super::$test::<testkit::sendmail::Sendmail>();
            }
        }
    )*};
}
pub(crate) use with_every_mta;

/// The one verdict in our name: the word behind `smime=`. It must stand above every other field.
pub(crate) fn verdict(mail: &Delivered) -> String {
    assert_eq!(mime::field_names(&mail.octets)[0], "authentication-results", "at the top: {mail:?}");
    verdict_below(mail)
}

/// The same, below fields of those who had the mail after us.
pub(crate) fn verdict_below(mail: &Delivered) -> String {
    let ours = our_results(mail);
    assert_eq!(ours.len(), 1, "one field in our name: {mail:?}");
    let result = ours[0].split_once("smime=").expect("a method").1;
    result.chars().take_while(char::is_ascii_alphabetic).collect()
}

/// The values of `Authentication-Results` in our name.
pub(crate) fn our_results(mail: &Delivered) -> Vec<String> {
    let values = mime::values(&mail.octets, "authentication-results");
    let ours = |value: &String| value.to_ascii_lowercase().starts_with(Lab::AUTHSERV_ID);
    values.into_iter().filter(ours).collect()
}

/// Nothing but trace and verdict fields was put above what was sent, and not an octet of it was changed.
#[track_caller]
pub(crate) fn assert_untouched(mail: &Delivered, sent: &[u8]) {
    let added = mail.octets.strip_suffix(sent).unwrap_or_else(|| panic!("changed: {mail:?}"));
    for name in mime::field_names(added) {
        assert!(
            ["received", "authentication-results", "resent-message-id"].contains(&name.as_str()),
            "{name} was added"
        );
    }
}

/// Two mails have the same leaves once their transfer encodings are undone.
#[track_caller]
pub(crate) fn assert_same_content(left: &[u8], right: &[u8]) {
    let (left, right) = (mime::leaves(left).unwrap(), mime::leaves(right).unwrap());
    let types = |leaves: &[mime::Leaf]| -> Vec<String> {
        leaves.iter().map(|leaf| format!("{} of {} octets", leaf.media_type, leaf.octets.len())).collect()
    };
    assert!(left == right, "different content: {:?} and {:?}", types(&left), types(&right));
}

/// Of how many messages copies wait in the spool of a lab whose `state` is so called.
pub(crate) fn waiting(lab: &Lab) -> usize {
    waiting_in(&lab.workdir.join("state"))
}

/// The same of a spool elsewhere.
pub(crate) fn waiting_in(spool: &Path) -> usize {
    let files = std::fs::read_dir(spool).unwrap();
    let waits = |path: &std::path::PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("new" | "ready" | "doubtful"))
    };
    files.map(|file| file.unwrap().path()).filter(waits).count()
}
