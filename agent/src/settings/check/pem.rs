//! PEM files entry by entry, so that a complaint says which one it is about.

/// What `read` makes of each block that begins with the line `begin`, given with all up to the next one. Where there are
/// several, the complaint names the block and its line.
pub(super) fn entries<T>(
    text: &str,
    begin: &str,
    read: impl Fn(&str) -> Result<Vec<T>, String>,
) -> Result<Vec<T>, String> {
    let begins: Vec<usize> = text.match_indices(begin).map(|(at, _)| at).collect();
    if begins.len() < 2 {
        return read(text);
    }
    let ends = begins.iter().skip(1).copied().chain([text.len()]);
    let mut found = Vec::with_capacity(begins.len());
    for (at, (from, to)) in begins.iter().copied().zip(ends).enumerate() {
        let line = 1 + text.get(..from).unwrap_or_default().matches('\n').count();
        let one = read(text.get(from..to).unwrap_or_default()).map_err(|reason| {
            format!("entry {} (line {line}): {reason}; take it out or write it anew", at + 1)
        })?;
        found.extend(one);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_the_entry_and_its_line_where_there_are_several() {
        let read = |text: &str| {
            if text.contains("bad") { Err("it is bad".to_owned()) } else { Ok(vec![text.len()]) }
        };
        for (text, expected) in [
            ("nothing", Ok(vec![7])),
            ("BEGIN x\n", Ok(vec![8])),
            ("# a\nBEGIN x\nEND\nBEGIN yy\n", Ok(vec![12, 9])),
            ("BEGIN bad", Err("it is bad")),
            ("BEGIN x\n\n# b\nBEGIN bad\n", Err("entry 2 (line 4): it is bad; take it out or write it anew")),
            ("BEGIN bad\nBEGIN x\n", Err("entry 1 (line 1): it is bad; take it out or write it anew")),
        ] {
            assert_eq!(entries(text, "BEGIN", read), expected.map_err(str::to_owned), "{text}");
        }
    }
}
