//! What a worker does with one message: read it, run the task, render the result.

use std::time::{Duration, Instant};

use smime::{Fault, mime::Message};

use crate::{
    attributes::Attributes,
    digest::Summed,
    form::{self, Form, Formed, Kept},
    inspect::Contents,
    render::{readings, render},
    stored::{Frame, Origin, Stored},
    task::{self, Done, Failed, Task, Work},
};

/// A message that was worked on.
#[derive(Debug)]
pub struct Finished {
    /// Its place in the run.
    pub index: u64,
    /// Where it was found.
    pub place: Place,
    /// Its `Message-ID`.
    pub message_id: Option<String>,
    /// What S/MIME was in it.
    pub contents: Contents,
    /// What was done, without the message, or why not.
    pub result: Result<Done, Failed>,
    /// Sum of what was found.
    pub input: Summed,
    /// Sum of `octets`.
    pub output: Summed,
    /// What to write.
    pub octets: Vec<u8>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Where a message was found, and what its file had besides octets.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where it was found.
    pub origin: Origin,
    /// What its file has besides octets, if it is one of its own.
    pub attributes: Option<Attributes>,
    /// What the archive puts around the message, as it is now.
    pub frame: Frame,
    /// What an archive of another kind has no place for.
    pub kept: Kept,
}

/// Works on one message. Whatever happens, its octets come out again, new or old.
pub(crate) fn work(task: &dyn Task, stored: Stored, index: u64, form: Option<Form>) -> Finished {
    let began = Instant::now();
    let input = Summed::of(&stored.octets);
    let (mut message_id, mut contents) = (None, Contents::default());
    let worked = task::contain(|| {
        if let Some(untouchable) = stored.untouchable {
            return if untouchable.is_failure() {
                Err(Failed::new(Fault::Message, untouchable.to_string()))
            } else {
                Ok((Done { reason: Some(untouchable.to_string()), ..Done::unchanged("kept") }, None))
            };
        }
        let readings = readings(&stored);
        message_id = self::message_id(&readings.message);
        contents = Contents::of(&readings.message.entity());
        let work = Work {
            index,
            message: &readings.message,
            origin: &stored.origin,
            contents: &contents,
            other_reading: readings.other.as_ref(),
        };
        let mut done = task::run(task, &work)?;
        let changed = done.message.take();
        let rendered = changed.map(|changed| render(&stored, &readings.message, &changed));
        Ok((done, rendered))
    });
    let (result, rendered) = match worked {
        Ok((done, rendered)) => (Ok(done), rendered),
        Err(failed) => (Err(failed), None),
    };
    let is_as_found = rendered.is_none() && form.is_none();
    let (octets, frame) =
        rendered.map_or((stored.octets, stored.frame), |rendered| (rendered.octets, rendered.frame));
    let (origin, attributes) = (stored.origin, stored.attributes);
    let Formed { octets, frame, kept } = match form {
        Some(form) => form::form(form, &octets, frame, &origin, attributes.as_ref()),
        None => Formed { octets, frame, kept: Kept::default() },
    };
    let output = if is_as_found { input.clone() } else { Summed::of(&octets) };
    let place = Place { origin, attributes, frame, kept };
    Finished { index, message_id, contents, result, input, output, octets, place, elapsed: began.elapsed() }
}

/// The `Message-ID` for the report: at most 998 octets, printable.
fn message_id(message: &Message) -> Option<String> {
    const NAME: &[u8] = b"Message-ID:";
    let mut lines = message.header().split_inclusive(|&octet| octet == b'\n');
    let field =
        lines.find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    let mut value = field.get(NAME.len()..)?.to_vec();
    // The value may stand on the next line (RFC 5322, 2.2.3).
    for fold in lines.take_while(|line| line.starts_with(b" ") || line.starts_with(b"\t")) {
        value.extend_from_slice(fold);
    }
    value.truncate(998);
    let text = String::from_utf8_lossy(value.trim_ascii());
    Some(text.chars().filter(|character| !character.is_control()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_found_folded_and_printed_safely() {
        for (header, expected) in [
            ("Message-ID: <a@b>\n\n", Some("<a@b>")),
            ("Subject: x\nmessage-id:\n <a@b>\nTo: c\n\n", Some("<a@b>")),
            ("Message-ID: <a\u{1b}[2J@b>\n\n", Some("<a[2J@b>")),
            ("Subject: x\n\nMessage-ID: <in@body>\n", None),
        ] {
            let found = message_id(&Message::from_stored(header.as_bytes()));
            assert_eq!(found.as_deref(), expected, "{header:?}");
        }
    }
}
