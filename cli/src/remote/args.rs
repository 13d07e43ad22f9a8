//! Arguments of the commands for running hosts.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use client::since::Since;
use std::path::PathBuf;

/// Options of every such command.
#[derive(Args, Debug, Clone)]
pub struct Global {
    /// Hosts: addresses, or names and groups of hosts.toml, separated by commas [default: $KEEL_HOST]
    #[arg(short = 'H', long, global = true, value_name = "HOST[,HOST]")]
    pub host: Option<String>,
    /// Print JSON: one document; streaming commands print one JSON object per line
    #[arg(long, global = true)]
    pub json: bool,
}

/// Shown below `keel --help`.
pub const EXIT_CODES: &str = "\
Exit codes of the commands for running hosts:
  0  success
  1  failed, on the host or on this machine; or the unit did not become ready
  2  wrong usage, an error in hosts.toml, or you have no key
  3  the host cannot be reached
  4  the host refused: it does not know your key, or the key's role is not sufficient
  5  the host's key is not known yet, or differs from the pinned one
  exec: the program's own exit code, or 128 plus the number of the signal that ended it;
        126 if the program cannot be executed, 127 if it does not exist
  several hosts: the largest code

See docs/cli.md for more.";

/// Which columns a table has.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// All columns.
    Wide,
}

/// The commands for running hosts.
#[derive(Subcommand, Debug)]
pub enum Remote {
    /// List the units of a host
    Ps {
        /// wide: also show relaxed isolation settings
        #[arg(short, long, value_enum, value_name = "wide")]
        output: Option<Columns>,
    },
    /// Show everything about a unit
    Inspect(OneUnit),
    /// Explain why a unit is in its state
    Explain(OneUnit),
    /// Start units
    Start(Lifecycle),
    /// Stop units and keep them stopped
    Stop(Lifecycle),
    /// Restart units
    Restart(Lifecycle),
    /// Send a signal to the main process of a unit
    Kill {
        /// Name or number of the signal
        #[arg(short, long, default_value = "KILL", value_name = "NAME")]
        signal: String,
        /// The unit
        unit: String,
    },
    /// Show the log of a unit
    Logs(LogsArgs),
    /// Show the events of a host
    Events {
        /// Follow new events
        #[arg(short, long)]
        follow: bool,
        /// Only events after this sequence number
        #[arg(long, value_name = "SEQ")]
        after: Option<u64>,
    },
    /// Run a program in a running container
    Exec(ExecArgs),
    /// Copy a file from or to a running container (UNIT:/PATH); `-` is standard input or output
    Cp {
        /// File, or UNIT:/PATH
        from: String,
        /// File or folder, or UNIT:/PATH
        to: String,
        /// Permissions of the file in the container, in octal [default: those of the local file]
        #[arg(long, value_parser = octal)]
        mode: Option<u32>,
    },
    /// Show the units and the resources they use, continuously; `q` quits
    Top {
        /// Seconds between updates
        #[arg(short = 'd', long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
        interval: u64,
        /// Number of updates before exiting [default: unlimited on a terminal, else 1]
        #[arg(short = 'n', long)]
        count: Option<u64>,
    },
    /// Show information about the host
    Info,
    /// Show the kernel log, which Keelhost writes to as well
    Dmesg,
    /// List the processes of a host
    Processes,
    /// List the effective settings and where each comes from
    Config {
        /// Only the settings of this unit
        unit: Option<String>,
    },
    /// Reboot hosts
    Reboot(Confirm),
    /// Power off hosts
    Poweroff(Confirm),
    /// Save an archive of logs and state for a support case
    Bundle {
        /// Output file; `-` is standard output [default: keel-HOST.tar.gz]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Generate your key, which hosts identify you by
    Keygen {
        /// Replace an existing key: hosts that list it will no longer admit you
        #[arg(long)]
        force: bool,
        /// Write the key to this file, for `identity` in hosts.toml
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Pin a host's key
    Trust {
        /// Address or name of the host
        host: String,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
        /// Replace the pinned key
        #[arg(long)]
        repin: bool,
    },
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write manual pages
    Man {
        /// Folder for all pages; without it, keel(1) is printed to standard output
        dir: Option<PathBuf>,
    },
}

/// Commands for one unit.
#[derive(Args, Debug)]
pub struct OneUnit {
    /// The unit
    pub unit: String,
}

/// Arguments of `start`, `stop` and `restart`.
#[derive(Args, Debug)]
pub struct Lifecycle {
    /// The units
    #[arg(required = true, value_name = "UNIT")]
    pub units: Vec<String>,
    /// Wait until the unit is ready or has stopped, for at most this many seconds
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60")]
    pub wait: Option<u64>,
}

/// Commands that ask for confirmation.
#[derive(Args, Debug)]
pub struct Confirm {
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

/// `keel logs`.
#[derive(Args, Debug)]
pub struct LogsArgs {
    /// Follow new lines
    #[arg(short, long)]
    pub follow: bool,
    /// Number of lines from the end, or `all` [default: 100; all with --since]
    #[arg(short = 'n', long, value_name = "N", value_parser = tail)]
    pub tail: Option<String>,
    /// Only lines since then: a duration such as 10m or 2h30m, or a time such as 2026-11-22T05:30:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// Only this stream
    #[arg(long, value_enum)]
    pub stream: Option<LogStream>,
    /// Show the time of each line (UTC)
    #[arg(short, long)]
    pub timestamps: bool,
    /// The unit
    pub unit: String,
}

/// The streams of a log.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
    /// Messages of the host itself
    System,
}

impl LogStream {
    /// The name in the API.
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
    /// Forward standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a terminal and forward standard input; `Enter ~ .` ends a session that hangs
    #[arg(short, long)]
    pub tty: bool,
    /// Set an environment variable of the program
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
    if number || text == "all" {
        Ok(text.to_owned())
    } else {
        Err("expected a number or `all`".to_owned())
    }
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| "expected up to four octal digits, such as 0644".to_owned())
}
