//! What a program was asked to print, and is over with.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

/// Whether it is written, to the standard output's last octet. Who reads no further, as `head` does, has seen enough;
/// anything else that keeps it from being written is said in the program's name.
pub fn is_written(program: &str, printed: io::Result<()>) -> bool {
    match printed.and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            // There is nobody left to tell if the standard error is gone too.
            let _ = writeln!(io::stderr(), "{program}: cannot write the output: {error}");
            false
        }
        _ => true,
    }
}

/// What is odd about a configuration, a line each.
pub fn warnings(all: impl IntoIterator<Item = impl Display>) -> String {
    let lines = all.into_iter().map(|warning| format!("warning    {warning}\n"));
    lines.collect::<Vec<_>>().concat()
}
