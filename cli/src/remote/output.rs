//! Writing to standard output.

use client::Error;
use std::io::{self, Write};

/// Writes to standard output and flushes it.
pub fn print(bytes: &[u8]) -> Result<(), Error> {
    write(&mut io::stdout().lock(), bytes)
}

/// Writes and flushes.
pub fn write(out: &mut dyn Write, bytes: &[u8]) -> Result<(), Error> {
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::output)
}
