//! The matrix is run: it is what `docs/interoperability.md` says, nothing in it is red, and no cell is good by chance.

use std::{fs, path::Path};

use interop::{Cell, Direction, Matrix, Tampering, form::Form, markdown};

fn red(matrix: &Matrix) -> Vec<String> {
    let cells = matrix.cells().filter_map(|(row, peer, direction, cell)| match cell {
        Cell::Red(why) => {
            Some(format!("{}: {}, {}, {direction:?}: {why}", row.group, row.name, peer.as_str()))
        }
        _ => None,
    });
    cells.collect()
}

#[test]
fn no_cell_is_red_and_the_documentation_is_what_a_run_gives() {
    let matrix = Matrix::run(Tampering::Nothing).unwrap();
    let red = red(&matrix);
    assert!(red.is_empty(), "{}", red.join("\n"));

    // What is written here some peer reads, so that "cannot" is never our own doing; RFC 8418 is in none of them.
    for (row, cells) in matrix.rows.iter().zip(&matrix.cells) {
        let is_x25519 = row.name.starts_with("X25519");
        let is_written = cells.iter().any(|[_, we]| *we != Cell::NotWritten);
        let is_read = cells.iter().any(|[_, we]| matches!(we, Cell::Good(_)));
        assert_eq!(is_read, is_written && !is_x25519, "{}", row.name);
        let is_from_them = cells.iter().any(|[they, _]| matches!(they, Cell::Good(_)));
        // ChaCha20-Poly1305 is read by BouncyCastle, and written by none.
        assert_eq!(is_from_them, !is_x25519 && row.name != "ChaCha20-Poly1305", "{}", row.name);
    }

    let page = markdown::page(&matrix);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/interoperability.md");
    let documented = fs::read_to_string(file).unwrap();
    let changed: Vec<_> =
        page.lines().filter(|line| !documented.lines().any(|known| known == *line)).collect();
    assert_eq!(
        documented, page,
        "run: cargo run -p interop > docs/interoperability.md; these lines changed: {changed:#?}"
    );
}

#[test]
fn with_another_text_expected_no_cell_is_good() {
    let matrix = Matrix::run(Tampering::Text).unwrap();
    for (row, peer, direction, cell) in matrix.cells() {
        let place = format!("{}: {}, {}, {direction:?}: {cell:?}", row.group, row.name, peer.as_str());
        assert!(!matches!(cell, Cell::Good(_)), "{place}");
        // What is changed after it was signed is found out by whoever verifies, and not only by the comparison.
        let Form::Signed(signing) = &row.form else { continue };
        let is_in_the_clear = !signing.opaque;
        if let (Cell::Red(why), true) = (cell, is_in_the_clear) {
            assert!(!why.contains("other content came out"), "{place}");
            if direction == Direction::TheyWrite {
                assert!(why.contains("the verdict is fail"), "{place}");
            }
        }
    }
}
