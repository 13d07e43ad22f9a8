//! Errors and warnings, on standard error and in the `--log` file.

use crate::arguments::Global;
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where messages are written.
#[derive(Debug, Default)]
pub(crate) struct Report {
    log: Option<PathBuf>,
    json: bool,
}

impl Report {
    pub(crate) fn new(global: &Global) -> Report {
        Report { log: global.log.clone(), json: global.json }
    }

    /// Reports why a command failed, on standard error and in the log for the manager.
    pub(crate) fn error(&self, text: &str) {
        eprintln!("keel-oci: {text}");
        self.log("error", text);
    }

    /// Reports a setting that differs from the request.
    pub(crate) fn warn(&self, text: &str) {
        match self.log {
            Some(_) => self.log("warning", text),
            None => eprintln!("keel-oci: {text}"),
        }
    }

    fn log(&self, level: &str, text: &str) {
        let Some(path) = &self.log else { return };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = logger::time::rfc3339(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        let line = match self.json {
            true => json!({ "level": level, "msg": text, "time": time }).to_string(),
            false => format!("time={time} level={level} msg={text:?}"),
        };
        let file = File::options().append(true).create(true).mode(0o600).open(path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            eprintln!("keel-oci: --log {}: {error}", path.display());
        }
    }
}
