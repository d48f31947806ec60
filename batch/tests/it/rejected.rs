//! Archives whose keys a token rejects: whatever it says, no message is replaced by noise.

use std::{fs, sync::Arc};

use agent::{Agent, Identities, Identity, Settings, settings::Logins};
use batch::{
    agents::{Decrypt, Reencrypt, Signatures},
    recipients::Recipients,
    task::Task,
};
use smime::{
    Certificate,
    algorithm::KeyEncryptionAlgorithm,
    key::{Decryptor, KeyError, Unwrapped},
    mime::encode_base64,
    profile::Profile,
    testing::fixtures::{certificate, data, key, now},
};

use crate::support::run_on;

/// A token that rejects every encrypted key.
#[derive(Debug)]
struct Rejects(Certificate);

impl Decryptor for Rejects {
    fn certificate(&self) -> &Certificate {
        &self.0
    }

    fn decrypt_key(&self, _: &[u8], _: &KeyEncryptionAlgorithm) -> Result<Unwrapped, KeyError> {
        Ok(Unwrapped::Rejected)
    }
}

#[test]
fn mail_whose_key_is_rejected_stays_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[trust]\nanchors = [\"root.pem\"]\nrevocation = \"off\"\n";
    fs::write(folder.path().join("root.pem"), data("root.pem")).unwrap();
    let settings = Settings::parse(text, &folder.path().join("hsmime.toml")).unwrap();
    let decryptor = Arc::new(Rejects(certificate("bob")));
    let bob = Identity::new(certificate("bob"), Vec::new(), Logins::Address, Arc::new(key("bob")), decryptor);
    let agent = Agent::with_identities(&settings, Identities::from_parts([bob], ""));
    let recipients = Recipients::new(vec![certificate("bob")], Profile::STANDARD, now()).unwrap();

    let body = String::from_utf8(encode_base64(&data("der.p7m"))).unwrap().replace("\r\n", "\n");
    let message = format!(
        "From - \nFrom: friend@example.net\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\
         Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\n\n{}\n\n",
        body.trim_end()
    );
    // One random key in 256 finds a good padding in CBC mode.
    let mbox = message.repeat(1500);
    let decrypt = Decrypt { agent: &agent, signatures: Signatures::Keep, clock: now };
    let bare = Decrypt { agent: &agent, signatures: Signatures::Remove, clock: now };
    let anew = Reencrypt { agent: &agent, recipients: &recipients, clock: now };
    let tasks: [(&str, &dyn Task); 3] = [("decrypt", &decrypt), ("bare", &bare), ("anew", &anew)];
    for (name, task) in tasks {
        let (input, output) =
            (folder.path().join(format!("{name}.in")), folder.path().join(format!("{name}.out")));
        fs::write(&input, &mbox).unwrap();
        let ran = run_on(&input, &output, task);
        assert_eq!(ran.report.len(), 1500, "{name}");
        for line in &ran.report {
            assert_eq!(line["action"], "failed", "{name}: {line}");
        }
        assert!(fs::read_to_string(&output).unwrap() == mbox, "{name}");
    }
}
