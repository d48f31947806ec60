//! Users and groups by name: `/etc/passwd` and `/etc/group`. Those of a directory service go by number.

use std::fs;

use anyhow::{Context as _, Result};

/// The number of a user.
pub(crate) fn user(name: &str) -> Result<u32> {
    number("/etc/passwd", name)
        .with_context(|| format!("there is no user {name:?} in /etc/passwd; write its number"))
}

/// The number of a group.
pub(crate) fn group(name: &str) -> Result<u32> {
    number("/etc/group", name)
        .with_context(|| format!("there is no group {name:?} in /etc/group; write its number"))
}

fn number(file: &str, name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    find(&fs::read_to_string(file).ok()?, name)
}

/// The third field of the line of that name, in both files.
fn find(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whole_and_numbers_are_taken_as_they_are() {
        let text =
            "root:x:0:0:root:/root:/bin/bash\nmailman:x:38:38::/:\nmail:x:8:8:mail:/var/mail:\nbad:x\n";
        for (name, expected) in
            [("root", Some(0)), ("mail", Some(8)), ("mai", None), ("bad", None), ("", None), ("x", None)]
        {
            assert_eq!(find(text, name), expected, "{name}");
        }
        assert_eq!(user("4711").unwrap(), 4711);
        assert_eq!(user("root").unwrap(), 0);
        assert!(group("no such group").unwrap_err().to_string().contains("write its number"));
    }
}
