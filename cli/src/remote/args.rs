//! The command line of the commands for running hosts.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use client::since::Since;
use std::path::PathBuf;

/// What every such command knows.
#[derive(Args, Debug, Clone)]
pub struct Global {
    /// Which hosts: addresses, names or groups of hosts.toml, separated by commas; else $KEEL_HOST
    #[arg(short = 'H', long, global = true, value_name = "HOST[,HOST]")]
    pub host: Option<String>,
    /// Print JSON: one document, or one object a line for what goes on and on
    #[arg(long, global = true)]
    pub json: bool,
}

/// Shown below `keel --help`.
pub const EXIT_CODES: &str = "\
Exit codes of the commands for running hosts:
  0  done
  1  it failed, on the host or here; or the unit did not become ready
  2  wrong usage, a mistake in hosts.toml, no key of ours
  3  the host cannot be reached
  4  the host refuses: it does not know our key, or its role is not enough
  5  the host's key is not known yet, or is not the pinned one
  exec: the program's own code, or 128 and the number of the signal that ended it;
        126 if it cannot be executed, 127 if there is no such program
  several hosts: the largest

docs/cli.md has more.";

/// How much a table shows.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// Everything.
    Wide,
}

/// The commands for running hosts.
#[derive(Subcommand, Debug)]
pub enum Remote {
    /// List the units of a host
    Ps {
        /// wide: also where a unit is less confined than usual
        #[arg(short, long, value_enum, value_name = "wide")]
        output: Option<Columns>,
    },
    /// Show everything about a unit
    Inspect(OneUnit),
    /// Say why a unit is as it is
    Explain(OneUnit),
    /// Start units
    Start(Lifecycle),
    /// Stop units, and keep them stopped
    Stop(Lifecycle),
    /// Stop units if they run, and start them
    Restart(Lifecycle),
    /// Send a signal to the main process of a unit
    Kill {
        /// Name or number
        #[arg(short, long, default_value = "KILL", value_name = "NAME")]
        signal: String,
        /// The unit
        unit: String,
    },
    /// Show what a unit has written
    Logs(LogsArgs),
    /// Show what happens on a host
    Events {
        /// Go on with what happens from now on
        #[arg(short, long)]
        follow: bool,
        /// Only events after the one of this number
        #[arg(long, value_name = "SEQ")]
        after: Option<u64>,
    },
    /// Run a program in a running container
    Exec(ExecArgs),
    /// Copy a file from or to a running container: UNIT:/PATH on one side, `-` is standard input or output
    Cp {
        /// A file, or UNIT:/PATH
        from: String,
        /// A file or a folder, or UNIT:/PATH
        to: String,
        /// Permissions of the file in the container, octal; else those of the local file
        #[arg(long, value_parser = octal)]
        mode: Option<u32>,
    },
    /// Show the units and what they use, again and again; `q` ends it
    Top {
        /// Seconds between two looks
        #[arg(short = 'd', long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
        interval: u64,
        /// End after so many looks; without a terminal one is enough
        #[arg(short = 'n', long)]
        count: Option<u64>,
    },
    /// Show the host itself
    Info,
    /// Show the kernel's log, which is also Keelhost's
    Dmesg,
    /// List the processes of a host
    Processes,
    /// List the settings in force and where each comes from
    Config {
        /// Only those of this unit
        unit: Option<String>,
    },
    /// Restart hosts
    Reboot(Confirm),
    /// Switch hosts off
    Poweroff(Confirm),
    /// Save what a support case needs as one archive
    Bundle {
        /// Where to write; `-` is standard output. Else keel-HOST.tar.gz
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Make the key that hosts know you by
    Keygen {
        /// Replace the key that is there: hosts that list it no longer let you in
        #[arg(long)]
        force: bool,
        /// Write it there, for `identity` in hosts.toml
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Pin a host's key
    Trust {
        /// Its address or name
        host: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Replace the key that was pinned before
        #[arg(long)]
        repin: bool,
    },
    /// Print what makes a shell complete keel's commands
    Completions {
        /// Which
        shell: Shell,
    },
    /// Write manual pages
    Man {
        /// A folder for all of them; without, the first one goes to standard output
        dir: Option<PathBuf>,
    },
}

/// A unit.
#[derive(Args, Debug)]
pub struct OneUnit {
    /// The unit
    pub unit: String,
}

/// Start, stop, restart.
#[derive(Args, Debug)]
pub struct Lifecycle {
    /// The units
    #[arg(required = true, value_name = "UNIT")]
    pub units: Vec<String>,
    /// Wait until it is ready, or has stopped, so many seconds at most
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60")]
    pub wait: Option<u64>,
}

/// Ask first.
#[derive(Args, Debug)]
pub struct Confirm {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// `keel logs`.
#[derive(Args, Debug)]
pub struct LogsArgs {
    /// Go on with what it writes from now on
    #[arg(short, long)]
    pub follow: bool,
    /// So many lines from the end, or `all`; 100 if there is no --since
    #[arg(short = 'n', long, value_name = "N", value_parser = tail)]
    pub tail: Option<String>,
    /// Only what is younger: 10m, 2h30m, or a moment like 2026-11-22T05:30:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// Only one stream
    #[arg(long, value_enum)]
    pub stream: Option<LogStream>,
    /// Show when each line was written (UTC)
    #[arg(short, long)]
    pub timestamps: bool,
    /// The unit
    pub unit: String,
}

/// What a unit writes to.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
    /// The host's own remarks
    System,
}

impl LogStream {
    /// As the API calls it.
    pub fn name(self) -> &'static str {
        match self {
            LogStream::Stdout => "stdout",
            LogStream::Stderr => "stderr",
            LogStream::System => "system",
        }
    }
}

/// `keel exec`.
#[derive(Args, Debug)]
pub struct ExecArgs {
    /// Pass our standard input on
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal, and our input; `Enter ~ .` ends a connection that hangs
    #[arg(short, long)]
    pub tty: bool,
    /// A variable for the program
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// The unit
    pub unit: String,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub command: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

fn tail(text: &str) -> Result<String, String> {
    let number = text.parse::<u64>().is_ok();
    if number || text == "all" { Ok(text.to_owned()) } else { Err("a number or `all`".to_owned()) }
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| "four octal digits at most, such as 0644".to_owned())
}
