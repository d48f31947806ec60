//! Messages in mailbox files, cut and read by MimeKit, held against what is read here.

use std::{fs, path::Path};

use serde_json::Value;
use smime::mime::Message;

use crate::outcome::structure;

/// MimeKit's description of a part: its media type, and those inside.
fn described(part: &Value) -> String {
    let media = part["mimeType"].as_str().unwrap().to_ascii_lowercase();
    let inside: Vec<_> = match (part.get("children"), part.get("message")) {
        (Some(children), _) => children.as_array().unwrap().iter().map(described).collect(),
        (None, Some(message)) => vec![described(&message["body"])],
        (None, None) => return media,
    };
    format!("{media}({})", inside.join(" "))
}

/// How many messages of a mailbox file have the structure that MimeKit found.
pub(crate) fn compared(offsets: &Path) -> String {
    let name = offsets.file_name().unwrap().to_string_lossy().into_owned();
    let mailbox = offsets.with_file_name(format!("{}.mbox.txt", name.split('.').next().unwrap()));
    let Ok(octets) = fs::read(mailbox) else { return "offsets of a mailbox that is not here".to_owned() };
    let messages: Vec<Value> = serde_json::from_slice(&fs::read(offsets).unwrap()).unwrap();
    let octets =
        if name.contains(".dos-") { Message::from_stored(&octets).octets().to_vec() } else { octets };
    let mut same = 0;
    for message in &messages {
        let at = |field: &str| usize::try_from(message[field].as_u64().unwrap()).unwrap();
        let cut = Message::from_stored(octets.get(at("beginOffset")..at("endOffset")).unwrap());
        let (ours, theirs) = (structure(&cut.entity()), described(&message["body"]));
        if ours == theirs {
            same += 1;
        } else {
            println!("{name}: {ours} here, {theirs} by MimeKit");
        }
    }
    format!("{same} of {} messages have the structure that MimeKit found", messages.len())
}
