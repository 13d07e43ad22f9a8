//! Errors on standard error.

use super::show::clean;
use client::Error;

/// Shows an error on standard error, its details indented below; `host` when there are several.
pub fn report(error: &Error, host: Option<&str>) {
    if matches!(error, Error::Closed) {
        return;
    }
    let place = host.map(|host| format!("{}: ", clean(host))).unwrap_or_default();
    // The text of a mistake in a file comes with its own lines.
    let text = error.to_string();
    let mut lines = text.lines();
    eprintln!("keel: {place}{}", clean(lines.next().unwrap_or_default()));
    for line in lines {
        eprintln!("{}", clean(line));
    }
    for line in error.details() {
        eprintln!("  {}", clean(line));
    }
}
