//! The samples of draft-autocrypt-lamps-protected-headers: the older header protection, read.

use std::fs;

use smime::{
    cms::Object,
    message::Ciphertext,
    mime::Message,
    protection::{FieldProtection, Payload, ProtectedHeader, Scheme},
};

use crate::{corpora, keys::Key};

#[test]
fn the_subject_that_was_hidden_is_found_in_the_older_scheme_and_nothing_is_said_of_the_intent() {
    let Some(folder) = corpora().map(|corpora| corpora.join("protected-headers")) else { return };
    let bob = Key::of_pkcs12(&folder.join("bob.p12"), "bob").remove(0);
    for (name, is_encrypted) in [
        ("smime-onepart-signed", false),
        ("smime-multipart-signed", false),
        ("smime-sign+enc", true),
        ("smime-sign+enc+legacy-disp", true),
        ("smime-enc+legacy-disp", true),
    ] {
        let message = Message::from_stored(&fs::read(folder.join(format!("{name}.eml"))).unwrap());
        let entity = message.entity();
        let inside = Ciphertext::find(&entity).map(|ciphertext| {
            let Ok(Object::EnvelopedData(enveloped)) = Object::parse(&ciphertext.object) else {
                unreachable!()
            };
            let recipient = enveloped.recipient_for(&bob.certificate).unwrap();
            Message::from_stored(&enveloped.open(recipient, &bob).unwrap())
        });
        assert_eq!(inside.is_some(), is_encrypted, "{name}");
        let payload = Payload::find(&inside.as_ref().unwrap_or(&message).entity()).unwrap();
        let header = ProtectedHeader::read(&payload.entity(), &entity.header()).unwrap().unwrap();
        assert_eq!(header.scheme(), Scheme::ProtectedHeadersV1, "{name}");
        assert!(!header.scheme().states_intent());
        let subject =
            if is_encrypted { "BarCorp contract signed, let's go!" } else { "The FooCorp contract" };
        assert_eq!(header.values("Subject").collect::<Vec<_>>(), [subject], "{name}");
        assert_eq!(header.originator().unwrap().as_str(), "alice@smime.example", "{name}");
        assert_eq!(header.confidential().count(), 0, "{name}");
        let differences = header.differences(&entity.header()).unwrap();
        let hidden: Vec<_> = differences.iter().filter(|d| !d.inner.is_empty()).collect();
        assert_eq!(hidden.len(), usize::from(is_encrypted), "{name}: {hidden:?}");
        assert!(hidden.iter().all(|d| d.name == "Subject" && d.outer == ["..."] && !d.by_sender), "{name}");
        let subject = header.fields().iter().find(|field| field.is("Subject")).unwrap();
        assert_eq!(header.protection(subject, true, is_encrypted), FieldProtection::SignedOnly, "{name}");
    }
}
