//! Prints the interoperability matrix as Markdown; what is red is told on stderr.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use interop::{Cell, Matrix, Tampering, markdown};

fn main() -> anyhow::Result<ExitCode> {
    let matrix = Matrix::run(Tampering::Nothing)?;
    let mut stderr = io::stderr().lock();
    let mut code = ExitCode::SUCCESS;
    for (row, peer, direction, cell) in matrix.cells() {
        if let Cell::Red(why) = cell {
            writeln!(stderr, "red: {}: {}, {}, {direction:?}: {why}", row.group, row.name, peer.as_str())?;
            code = ExitCode::FAILURE;
        }
    }
    io::stdout().lock().write_all(markdown::page(&matrix).as_bytes())?;
    Ok(code)
}
