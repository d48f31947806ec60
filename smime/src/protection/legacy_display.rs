//! Legacy display elements (RFC 9788 4.5.3): a hidden header repeated at the start of the text, for programs that do not
//! know header protection. They are recognised here and never written.

use crate::mime::MimeEntity;

/// The class of the element in HTML (RFC 9788 2.1.2).
const CLASS: &[u8] = b"header-protection-legacy-display";

/// The decoded text of a body part without its legacy display element. `None` for a part that does not say that it has
/// one, or in which it is not found.
///
/// The part must be one of a cryptographic payload whose header is protected: elsewhere the parameter means nothing.
pub fn without_legacy_display(part: &MimeEntity<'_>) -> Option<Vec<u8>> {
    let content_type = part.content_type().ok()?;
    if content_type.parameter("hp-legacy-display") != Some("1") {
        return None;
    }
    let text = part.decoded_body().ok()?;
    match content_type.media() {
        // All up to and with the first empty line.
        "text/plain" => {
            let end = memchr::memmem::find(&text, b"\r\n\r\n").map(|at| at + 4);
            let end = end.or_else(|| memchr::memmem::find(&text, b"\n\n").map(|at| at + 2))?;
            text.get(end..).map(<[u8]>::to_vec)
        }
        "text/html" => {
            let (start, end) = find_div(&text)?;
            Some([text.get(..start)?, text.get(end..)?].concat())
        }
        _ => None,
    }
}

/// Where the first `<div class="header-protection-legacy-display">` begins and its `</div>` ends. RFC 9788 2.1.2 allows no
/// element like it inside.
fn find_div(html: &[u8]) -> Option<(usize, usize)> {
    let class = memchr::memmem::find(html, CLASS)?;
    let start = memchr::memmem::rfind(html.get(..class)?, b"<div")?;
    // Nothing but attributes between.
    if html.get(start..class)?.contains(&b'>') {
        return None;
    }
    let end = memchr::memmem::find(html.get(class..)?, b"</div>")? + class + b"</div>".len();
    Some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(part: &str) -> Option<String> {
        let text = without_legacy_display(&MimeEntity::parse(part.replace('\n', "\r\n").as_bytes()))?;
        Some(String::from_utf8_lossy(&text).replace("\r\n", "\n"))
    }

    #[test]
    fn a_legacy_display_element_is_taken_from_text_and_html_that_say_they_have_one() {
        let plain =
            "Content-Type: text/plain; hp-legacy-display=\"1\"\n\nSubject: x\nTo: y\n\nHello\n\nBob\n";
        assert_eq!(stripped(plain).as_deref(), Some("Hello\n\nBob\n"));
        let html = "Content-Type: text/html; hp-legacy-display=1\n\n<body>\n\
                    <div class=\"header-protection-legacy-display\">\n<pre>Subject: x</pre>\n</div>\n<p>Hello</p>";
        assert_eq!(stripped(html).as_deref(), Some("<body>\n\n<p>Hello</p>"));
        let encoded = "Content-Type: text/plain; hp-legacy-display=\"1\"\n\
                       Content-Transfer-Encoding: quoted-printable\n\nSubject: =C3=BC\n\nHello=\n Bob\n";
        assert_eq!(stripped(encoded).as_deref(), Some("Hello Bob\n"));
        for other in [
            plain.replace("=\"1\"", "=\"2\""),
            plain.replace("; hp-legacy-display=\"1\"", ""),
            plain.replace("\n\nHello\n\nBob\n", ""),
            plain.replace("text/plain", "text/calendar"),
            html.replace("<div class=", "<div><p class="),
            html.replace("</div>", ""),
            html.replace("legacy-display\">", "legacy\">"),
        ] {
            assert_eq!(stripped(&other), None, "{other}");
        }
    }
}
