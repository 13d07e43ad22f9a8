//! `keel --host …`: the commands for running hosts.
//!
//! From the command line to the wire: [`args`] says what can be typed, `target` and `hosts` which hosts
//! are meant, `fleet` does it on all of them at once and shows the answers, `client` speaks to one of
//! them, over `http` on `tls`. Everything blocks; each host has a thread.

mod address;
pub mod args;
mod chunked;
mod client;
mod cp;
mod error;
mod exec;
mod fingerprint;
mod fleet;
mod generate;
mod hosts;
mod http;
mod identity;
mod machine;
mod paths;
mod pins;
mod progress;
pub mod run_host;
mod show;
mod since;
mod sse;
mod streams;
mod table;
mod target;
mod terminal;
mod tls;
mod top;
mod trust;
mod typed;
mod units;

use args::{Columns, Global, Remote};
use error::Error;
use fleet::Fleet;
use std::process::ExitCode;

/// Runs one of them; `cli` describes the whole command line, for completions and manual pages.
pub fn run(global: &Global, command: &Remote, cli: clap::Command) -> ExitCode {
    match dispatch(global, command, cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            if global.json && !matches!(error, Error::Closed) {
                println!("{}", error.to_json());
            }
            error.show(None);
            ExitCode::from(error.exit_code())
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
        // Done above.
        Remote::Keygen { .. }
        | Remote::Trust { .. }
        | Remote::Completions { .. }
        | Remote::Man { .. } => Ok(0),
    }
}
