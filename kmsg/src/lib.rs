//! A [`log`] logger that writes to the kernel's log, `/dev/kmsg`, and never blocks on it.
//!
//! Each record is one write: `<priority>name: text`. Lines and long texts are split, because the
//! kernel refuses a record of more than 1024 bytes, prefix included (`PRINTKRB_RECORD_MAX`,
//! kernel/printk/printk.c). Set `/proc/sys/kernel/printk_devkmsg` to `on` first: with the default,
//! `ratelimit`, writes succeed but may be discarded.

pub mod console;

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

/// Maximum text length of a record; leaves space for the priority and the kernel's own prefix.
const MAX_TEXT: usize = 900;

struct Kmsg {
    file: Option<File>,
    name: &'static str,
}

/// Installs the logger for this process; each line begins with `name` (`keel-init`). If `/dev/kmsg`
/// cannot be opened (in a test on a workstation), lines go to standard error.
pub fn install(name: &'static str, level: LevelFilter) {
    let file = File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/dev/kmsg")
        .ok();
    let logger = Box::leak(Box::new(Kmsg { file, name }));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

/// syslog(3) priority with facility 3 (daemon), so that readers can distinguish us from the kernel.
fn priority(level: Level) -> u8 {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    (3 << 3) | severity
}

/// Splits a text into records: at line ends, and at `MAX_TEXT` bytes on a character boundary.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty()).flat_map(|line| {
        let mut rest = line;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let mut cut = rest.len().min(MAX_TEXT);
            while !rest.is_char_boundary(cut) {
                cut -= 1;
            }
            let (piece, after) = rest.split_at(cut);
            rest = after;
            Some(piece)
        })
    })
}

impl Log for Kmsg {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        for piece in pieces(&text) {
            let line = format!("<{}>{}: {piece}\n", priority(record.level()), self.name);
            // A log line that cannot be written is lost; there is nowhere to report the error.
            let _ = match &self.file {
                Some(file) => (&*file).write(line.as_bytes()),
                None => std::io::stderr().write(line.as_bytes()),
            };
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_record_is_too_long_and_no_character_is_lost(text in "(\\PC|\n){0,3000}") {
            let split: Vec<&str> = pieces(&text).collect();
            prop_assert!(split.iter().all(|piece| piece.len() <= MAX_TEXT && !piece.contains('\n')));
            prop_assert_eq!(split.concat(), text.replace("\r\n", "").replace('\n', ""));
        }
    }
}
