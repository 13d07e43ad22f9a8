//! Dispatches the command line, and implements `state` and `list`.

use crate::arguments::{Command, HELP, Invocation, parse};
use crate::error::Error;
use crate::report::Report;
use crate::status;
use crate::store::{Entry, Store};
use crate::{create, delete, exec, run, start};
use serde_json::Value;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::OnceLock;

/// The version of the OCI runtime specification that is implemented.
const SPECIFICATION: &str = "1.2.0";

static REPORT: OnceLock<Report> = OnceLock::new();

/// Reports why a command failed.
pub(crate) fn report_error(error: &Error) {
    REPORT.get_or_init(Report::default).error(&error.to_string());
}

pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let Invocation { global, command } = match parse(args) {
        Ok(invocation) => invocation,
        Err(error) => {
            report_error(&error);
            return ExitCode::from(2);
        }
    };
    let report = REPORT.get_or_init(|| Report::new(&global));
    match run_command(&Store::new(global.root), command, report) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report_error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run_command(store: &Store, command: Command, report: &Report) -> Result<u8, Error> {
    match command {
        Command::Create(wanted) => create::create(store, &wanted, report)?,
        Command::Run { create, detach, keep } => {
            return run::run(store, &create, detach, keep, report);
        }
        Command::Start(id) => start::start(store, &id, report).map(drop)?,
        Command::State(id) => print(&format!("{:#}\n", state(&store.open(&id)?)?)),
        Command::Kill { id, signal, all } => delete::kill(store, &id, &signal, all)?,
        Command::Delete { id, force } => delete::delete(store, &id, force, report)?,
        Command::Exec(wanted) => return exec::exec(store, &wanted),
        Command::List { json, quiet } => list(store, json, quiet, report)?,
        Command::Help => print(HELP),
        Command::Version => print(&format!(
            "keel-oci version {}\nspec: {SPECIFICATION}\n",
            env!("CARGO_PKG_VERSION")
        )),
    }
    Ok(0)
}

fn print(text: &str) {
    // The reader may have closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The state of a container in the format of the specification.
fn state(entry: &Entry) -> Result<Value, Error> {
    let state = entry.load()?.ok_or_else(|| Error::NoContainer(entry.id().to_owned()))?;
    let (status, _) = status::of(entry, &state)?;
    Ok(status::report(&state, status))
}

fn list(store: &Store, json: bool, quiet: bool, report: &Report) -> Result<(), Error> {
    let mut states = Vec::new();
    for entry in store.all()? {
        match state(&entry) {
            Ok(state) => states.push(state),
            // It is being created or deleted.
            Err(Error::NoContainer(_)) => {}
            Err(error) => report.warn(&error.to_string()),
        }
    }
    let text = |state: &Value, name: &str| state.get(name).map(plain).unwrap_or_default();
    if json {
        print(&format!("{}\n", Value::Array(states)));
    } else if quiet {
        states.iter().for_each(|state| print(&format!("{}\n", text(state, "id"))));
    } else {
        let row = |id: &str, pid: &str, status: &str, bundle: &str| {
            print(&format!("{id:<24} {pid:>8}  {status:<8}  {bundle}\n"));
        };
        row("ID", "PID", "STATUS", "BUNDLE");
        for state in &states {
            let [id, pid, status, bundle] =
                ["id", "pid", "status", "bundle"].map(|name| text(state, name));
            row(&id, &pid, &status, &bundle);
        }
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
