//! Errors on standard error, and the exit status.

use super::show::clean;
use api_types::ErrorCode;
use client::{Code, Error, HostCode, LocalCode};

/// Prints an error on standard error, its details indented below; `host` if there are several.
pub fn report(error: &Error, host: Option<&str>) {
    if error.is(LocalCode::OutputClosed) {
        return;
    }
    let prefix = host.map(|host| format!("{}: ", clean(host))).unwrap_or_default();
    // A message about a place in a file has several lines.
    let text = error.to_string();
    let mut lines = text.lines();
    eprintln!("keel: {prefix}{}", clean(lines.next().unwrap_or_default()));
    for line in lines {
        eprintln!("{}", clean(line));
    }
    for line in error.details() {
        eprintln!("  {}", clean(line));
    }
}

/// The exit status for an error, as `keel --help` lists them.
pub fn exit_status(code: &Code) -> u8 {
    match code {
        Code::Host(HostCode::Known(code)) => match code {
            ErrorCode::UnknownKey | ErrorCode::Forbidden => 4,
            // As a shell has it.
            ErrorCode::NotExecutable => 126,
            ErrorCode::NoProgram => 127,
            ErrorCode::Invalid
            | ErrorCode::NotFound
            | ErrorCode::MethodNotAllowed
            | ErrorCode::Timeout
            | ErrorCode::Conflict
            | ErrorCode::NotReady
            | ErrorCode::TooLarge
            | ErrorCode::HeadTooLarge
            | ErrorCode::Busy
            | ErrorCode::Failed
            | ErrorCode::Unavailable => 1,
        },
        Code::Host(HostCode::Unknown(_)) => 1,
        Code::Local(code) => match code {
            LocalCode::Garbled | LocalCode::HttpStatus | LocalCode::Machine => 1,
            LocalCode::Usage => 2,
            LocalCode::Unreachable => 3,
            LocalCode::Refused => 4,
            LocalCode::HostKey => 5,
            // 128 + SIGPIPE: what a shell reports for a program that the signal has ended.
            LocalCode::OutputClosed => 141,
        },
    }
}
