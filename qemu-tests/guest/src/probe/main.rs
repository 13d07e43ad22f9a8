//! `probe`: a static program that performs actions of tests inside a container.
//!
//! It shows the container's environment (`env`, `ids`, `mounts`, `fds`, `caps`), exits in various ways, uses
//! resources excessively, and communicates over the network. Each command prints its results, one per line, so
//! that a test can read them from the unit's log. `probe help` lists the commands.
//!
//! SIGTERM ends every command but `ignore-term` with exit code 0. Without a handler it would be ignored: there
//! are no default actions for PID 1 of a container.

mod abuse;
mod attack;
mod ends;
mod net;
mod show;

use std::io;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Unknown command.
    #[error("no command named {0:?}; try `probe help`")]
    UnknownCommand(String),
    /// An argument is missing.
    #[error("missing argument: {0}")]
    Missing(&'static str),
    /// An argument is not a number, or too large.
    #[error("{name}: {text:?} is not a number that fits")]
    BadNumber {
        /// Name of the argument.
        name: &'static str,
        /// Its value.
        text: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation and its object.
        what: String,
        /// The kernel's error.
        source: io::Error,
    },
}

/// Names the operation of an `io::Result`.
pub trait Named<T> {
    /// Turns the error into a [`ProbeError::Io`] that begins with `what`.
    fn named(self, what: &str) -> Result<T, ProbeError>;
}

impl<T> Named<T> for io::Result<T> {
    fn named(self, what: &str) -> Result<T, ProbeError> {
        self.map_err(|source| ProbeError::Io { what: what.to_owned(), source })
    }
}

/// A command's arguments, taken from the front.
pub struct Arguments(std::vec::IntoIter<String>);

impl Arguments {
    /// The words after the command's name.
    pub fn new(words: Vec<String>) -> Self {
        Self(words.into_iter())
    }

    /// The next word, which is required; `name` is used in the error.
    pub fn text(&mut self, name: &'static str) -> Result<String, ProbeError> {
        self.0.next().ok_or(ProbeError::Missing(name))
    }

    /// The next word as a number, which is required.
    pub fn number<T: std::str::FromStr>(&mut self, name: &'static str) -> Result<T, ProbeError> {
        let text = self.text(name)?;
        text.parse().map_err(|_| ProbeError::BadNumber { name, text })
    }

    /// The next word as a number, or `default` if there is none.
    pub fn number_or<T: std::str::FromStr>(
        &mut self,
        name: &'static str,
        default: T,
    ) -> Result<T, ProbeError> {
        if self.0.len() == 0 { Ok(default) } else { self.number(name) }
    }
}

type Command = fn(&mut Arguments) -> Result<(), ProbeError>;

/// All commands: name, arguments, description, and function.
const COMMANDS: &[(&str, &str, &str, Command)] = &[
    ("env", "", "the environment, sorted", show::env),
    ("ids", "", "user, group and supplementary ids, pid, session, directory, host name", show::ids),
    ("mounts", "", "/proc/self/mountinfo", show::mounts),
    ("fds", "", "open file descriptors", show::fds),
    ("caps", "", "capability sets, NoNewPrivs and Seccomp of /proc/self/status", show::caps),
    ("report", "", "env, ids, mounts, fds and caps, then `report end`", show::report),
    ("read", "PATH", "the content of a file", show::read),
    ("list", "PATH", "a tree: mode, owner, size, path and link target, sorted", show::list),
    ("exit", "N", "exits with that code", ends::exit),
    ("crash", "", "aborts (SIGABRT)", ends::crash),
    ("segv", "", "reads address zero (SIGSEGV)", ends::segv),
    ("sleep", "SECONDS", "sleeps and exits with 0", ends::sleep),
    ("wait", "", "waits for SIGTERM", ends::wait),
    ("ignore-term", "", "ignores SIGTERM and waits", ends::ignore_term),
    ("after", "MS COMMAND…", "sleeps, then runs the command", ends::after),
    ("spin", "", "uses a whole CPU", ends::spin),
    (
        "notify-ready",
        "[MS]",
        "sends READY=1 to $NOTIFY_SOCKET after a while, and stays",
        net::notify,
    ),
    ("forkbomb", "", "forks until that fails, says how often it worked, stays", abuse::forkbomb),
    ("memhog", "[MIB]", "uses memory until killed, or this much and waits", abuse::memhog),
    (
        "flood",
        "BYTES [BYTES-PER-SECOND]",
        "numbered lines of 80 bytes, that much in all, then a count",
        abuse::flood,
    ),
    ("lines", "N MS", "N numbered lines, one each MS milliseconds", abuse::lines),
    ("write", "PATH TEXT", "writes a line to a file", abuse::write),
    ("fill", "PATH", "writes to a file until an error, prints how much", abuse::fill),
    (
        "orphans",
        "[N] [MS]",
        "leaves N orphans that end after MS, reaps them, stays",
        abuse::orphans,
    ),
    ("tiocsti", "", "injects input into its own terminal", attack::tiocsti),
    ("families", "FAMILY…", "opens sockets of address families", attack::families),
    (
        "abstract-listen",
        "NAME",
        "says `secret` at a name of the abstract namespace",
        attack::abstract_listen,
    ),
    (
        "abstract-connect",
        "NAME [TRIES]",
        "prints the answer at an abstract name",
        attack::abstract_connect,
    ),
    ("unshare", "umc COMMAND…", "executes a program in new namespaces", attack::unshare),
    ("leave-root", "", "tries to leave its root, prints what is there", attack::leave_root),
    ("exchange", "DIRECTORY LINK [empty]", "exchanges two names for ever", attack::exchange),
    ("watch", "", "inspects every new process and its program", attack::watch),
    ("tcp-echo", "PORT", "echoes each TCP connection", net::tcp_echo),
    ("udp-echo", "PORT", "echoes each datagram", net::udp_echo),
    ("http", "PORT", "GET /, /healthz, /sick, /well, /status/N, /exit/N", net::http),
    ("connect", "HOST PORT", "resolves, connects, sends `hello`, prints the answer", net::connect),
];

/// Runs the command named by the first word.
///
/// # Errors
/// The command is unknown, an argument is invalid, or a system call failed.
pub fn run(name: &str, arguments: &mut Arguments) -> Result<(), ProbeError> {
    match COMMANDS.iter().find(|command| command.0 == name) {
        Some((_, _, _, function)) => function(arguments),
        None => Err(ProbeError::UnknownCommand(name.to_owned())),
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_else(|| "help".to_owned());
    if name == "help" {
        for (name, arguments, meaning, _) in COMMANDS {
            println!("{name:12} {arguments:12} {meaning}");
        }
        return ExitCode::SUCCESS;
    }
    ends::exit_on_term();
    match run(&name, &mut Arguments::new(words.collect())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe {name}: {error}");
            // EX_USAGE and EX_OSERR of sysexits.h, which differ from exit codes in tests.
            ExitCode::from(if matches!(error, ProbeError::Io { .. }) { 71 } else { 64 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_name_of_its_own() {
        let mut names: Vec<_> = COMMANDS.iter().map(|command| command.0).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn arguments_that_are_wrong_are_named() {
        let mut arguments = Arguments::new(vec!["twelve".into()]);
        let error = arguments.number::<u16>("PORT").unwrap_err();
        assert_eq!(error.to_string(), "PORT: \"twelve\" is not a number that fits");
        assert!(matches!(arguments.text("HOST"), Err(ProbeError::Missing("HOST"))));
        assert_eq!(arguments.number_or("MS", 5u64).unwrap(), 5);
    }
}
