//! The commands for running hosts (`keel --host …`).
//!
//! From the command line to the wire: [`args`] says what can be typed, `target` and `hosts` which hosts
//! are meant, `fleet` does it on all of them at once and shows the answers, `client` speaks to one of
//! them, over `http` on `tls`. Everything blocks; each host has a thread.

pub mod args;
mod cp;
mod exec;
mod fleet;
mod generate;
mod input;
mod machine;
mod output;
mod progress;
mod report;
pub mod run_host;
mod show;
mod streams;
mod table;
mod terminal;
mod top;
mod trust;
mod units;

use args::{Columns, Global, Remote};
use client::{Error, LocalCode, identity, target};
use fleet::Fleet;
use report::{exit_status, report};
use std::collections::BTreeSet;
use std::process::ExitCode;

/// Runs a command; `cli` describes the whole command line, for completions and manual pages.
pub fn run(global: &Global, command: &Remote, cli: clap::Command) -> ExitCode {
    match dispatch(global, command, cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            if global.json && !error.is(LocalCode::OutputClosed) {
                println!("{}", error.to_json());
            }
            report(&error, None);
            ExitCode::from(exit_status(error.code()))
        }
    }
}

fn dispatch(global: &Global, command: &Remote, cli: clap::Command) -> Result<u8, Error> {
    match command {
        Remote::Keygen { force, output } => {
            return trust::keygen(output.as_deref(), *force, global.json);
        }
        Remote::Trust { host, yes, repin } => {
            return trust::trust(host, *yes, *repin, global.json);
        }
        Remote::Completions { shell } => return generate::completions(cli, *shell),
        Remote::Man { dir } => return generate::man(cli, dir.as_deref()),
        _ => {}
    }
    let targets = target::select(global.host.as_deref())?;
    warn_of_readable_keys(&targets);
    let fleet = &Fleet { targets, json: global.json, color: show::color() };
    match command {
        Remote::Ps { output } => units::ps(fleet, *output == Some(Columns::Wide)),
        Remote::Inspect(args) => units::inspect(fleet, &args.unit),
        Remote::Explain(args) => units::explain(fleet, &args.unit),
        Remote::Start(args) => units::lifecycle(fleet, "start", args),
        Remote::Stop(args) => units::lifecycle(fleet, "stop", args),
        Remote::Restart(args) => units::lifecycle(fleet, "restart", args),
        Remote::Kill { signal, unit } => units::kill(fleet, signal, unit),
        Remote::Logs(args) => streams::logs(fleet, args),
        Remote::Events { follow, after } => streams::events(fleet, *follow, *after),
        Remote::Exec(args) => exec::exec(fleet, args),
        Remote::Cp { from, to, mode } => cp::cp(fleet, from, to, *mode),
        Remote::Top { interval, count } => top::top(fleet, *interval, *count),
        Remote::Info => machine::info(fleet),
        Remote::Dmesg => machine::dmesg(fleet),
        Remote::Processes => machine::processes(fleet),
        Remote::Config { unit } => machine::config(fleet, unit.as_deref()),
        Remote::Reboot(args) => machine::shutdown(fleet, "reboot", args),
        Remote::Poweroff(args) => machine::shutdown(fleet, "poweroff", args),
        Remote::Bundle { output } => machine::bundle(fleet, output.as_deref()),
        // Handled above.
        Remote::Keygen { .. }
        | Remote::Trust { .. }
        | Remote::Completions { .. }
        | Remote::Man { .. } => Ok(0),
    }
}

/// Warns of key files that other users can read.
fn warn_of_readable_keys(targets: &[target::Target]) {
    let files: BTreeSet<_> = targets.iter().map(|target| &target.identity).collect();
    for path in files.into_iter().filter(|path| identity::readable_by_others(path)) {
        let path = path.display();
        eprintln!(
            "keel: warning: {path} is readable by other users; protect your key with chmod 600 {path}"
        );
    }
}
