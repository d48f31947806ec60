//! An output cut by the lengths that its report tells, so that not one octet of it is beside the report.
//!
//! Where messages begin in an mbox is a question of how it is read; whether its octets are those that were written is none.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use rustix::fs::OFlags;

use super::{Checked, Sum};
use crate::{
    beneath::Beneath,
    compress::Compression,
    digest::{CopyError, Summed},
    error::BatchError,
    expected::{Expected, Left},
    large::PREAMBLE,
    mbox::start,
    own,
};

/// Meets all that is in an mbox, if that is what is expected next, up to its end. `false` if it is not, and then nothing is met.
pub(super) fn meet_all(mbox: &Path, left: &mut Left, checked: &mut Checked) -> Result<bool, BatchError> {
    let Some(expected) = left.next_ones() else { return Ok(false) };
    let met = own::open_to_read(mbox).and_then(|file| {
        let mut input = start(&file, Compression::of_file(&file)?)?;
        let met = met(&mut *input, expected)?;
        Ok(input.fill_buf()?.is_empty().then_some(met))
    });
    let met = met.map_err(|source| BatchError::Read { origin: mbox.display().to_string(), source })?;
    let Some(met) = met else { return Ok(false) };
    left.skip(met);
    checked.good += met as u64;
    Ok(true)
}

/// Meets what is beside the messages of a folder that was an mbox.
pub(super) fn meet_beside(output: &Path, left: &mut Left, checked: &mut Checked) -> Result<(), BatchError> {
    let Some(expected) = left.beside() else { return Ok(()) };
    let path = output.join(PREAMBLE);
    let failed = |source| BatchError::Read { origin: path.display().to_string(), source };
    // Whoever can write there may have put something there that never ends, or a link.
    let open = Beneath::of(output).and_then(|output| output.open(&path, OFlags::RDONLY | OFlags::NONBLOCK));
    let is_file = |file: &File| file.metadata().is_ok_and(|there| there.is_file());
    let mut input: Box<dyn BufRead> = match open {
        Ok(file) if is_file(&file) => Box::new(BufReader::new(file)),
        Ok(_) => {
            checked.wrong(format!("{}: it is no file, and the report says nothing of it", path.display()));
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Box::new(io::empty()),
        Err(error) => return Err(failed(error)),
    };
    let met = met(&mut *input, expected).map_err(failed)?;
    expected.drain(..met);
    checked.good += met as u64;
    if !expected.is_empty() || !input.fill_buf().map_err(failed)?.is_empty() {
        checked.wrong(format!("{}: this is not what the report says", path.display()));
    }
    Ok(())
}

/// How many of these are what is read, up to its end or to the first that is not.
fn met(input: &mut dyn BufRead, expected: &[Expected]) -> io::Result<usize> {
    for (met, expected) in expected.iter().enumerate() {
        if input.fill_buf()?.is_empty() {
            return Ok(met);
        }
        let sum = Summed::of_copy(&mut input.take(expected.sum.size), &mut io::sink());
        let sum = sum.map_err(|(CopyError::Read(error) | CopyError::Write(error))| error)?;
        if Sum::from(sum) != expected.sum {
            return Ok(met);
        }
    }
    Ok(expected.len())
}
