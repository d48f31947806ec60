//! Prints `docs/path-validation.md`: NIST's PKITS run here and by OpenSSL.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers"
)]

#[path = "../tests/pkits/openssl.rs"]
mod openssl;
#[path = "../tests/pkits/page.rs"]
mod page;
#[path = "../tests/pkits/run.rs"]
mod run;
#[path = "../tests/pkits/table.rs"]
mod table;

fn main() {
    let page = page::page();
    print!("{}", page.text);
    for unexplained in page.unexplained {
        eprintln!("not explained: {unexplained}");
    }
}
