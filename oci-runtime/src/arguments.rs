//! The command line: global options, a command, its options and operands.

use crate::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

/// An option that a command accepts.
struct OptionSpec {
    long: &'static str,
    short: Option<char>,
    value: bool,
}

const fn flag(long: &'static str, short: Option<char>) -> OptionSpec {
    OptionSpec { long, short, value: false }
}

const fn value(long: &'static str, short: Option<char>) -> OptionSpec {
    OptionSpec { long, short, value: true }
}

const GLOBAL: &[OptionSpec] = &[
    value("root", None),
    value("log", None),
    value("log-format", None),
    flag("systemd-cgroup", None),
    flag("debug", None),
    flag("version", Some('v')),
    flag("help", Some('h')),
];

const CREATE: &[OptionSpec] =
    &[value("bundle", Some('b')), value("pid-file", None), value("console-socket", None)];

const RUN: &[OptionSpec] = &[
    value("bundle", Some('b')),
    value("pid-file", None),
    value("console-socket", None),
    flag("detach", Some('d')),
    flag("keep", None),
];

const EXEC: &[OptionSpec] = &[
    value("process", Some('p')),
    value("pid-file", None),
    value("console-socket", None),
    value("cwd", None),
    value("env", Some('e')),
    value("user", Some('u')),
    value("additional-gids", Some('g')),
    flag("detach", Some('d')),
    flag("tty", Some('t')),
];

const DELETE: &[OptionSpec] = &[flag("force", Some('f'))];
const KILL: &[OptionSpec] = &[flag("all", Some('a'))];
const LIST: &[OptionSpec] = &[value("format", Some('f')), flag("quiet", Some('q'))];

/// What `--help` prints.
pub(crate) const HELP: &str = "\
keel-oci [--root DIR] [--log FILE] [--log-format text|json] COMMAND
  create [--bundle DIR] [--pid-file FILE] [--console-socket SOCKET] ID
  start ID
  state ID
  kill [--all] ID [SIGNAL]
  delete [--force] ID
  exec [--process FILE] [--detach] [--pid-file FILE] [--console-socket SOCKET] [--tty]
       [--cwd DIR] [--env NAME=VALUE] [--user UID[:GID]] [--additional-gids GID,…] ID [PROGRAM …]
  run [--bundle DIR] [--pid-file FILE] [--console-socket SOCKET] [--detach] [--keep] ID
  list [--format table|json] [--quiet]
";

/// A parsed command line.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) global: Global,
    pub(crate) command: Command,
}

/// Options before the command.
#[derive(Debug)]
pub(crate) struct Global {
    /// Where the state directories are.
    pub(crate) root: PathBuf,
    pub(crate) log: Option<PathBuf>,
    pub(crate) json: bool,
}

/// A command with its options and operands.
#[derive(Debug)]
pub(crate) enum Command {
    Create(Create),
    Run { create: Create, detach: bool, keep: bool },
    Start(String),
    State(String),
    Kill { id: String, signal: String, all: bool },
    Delete { id: String, force: bool },
    Exec(Box<Exec>),
    List { json: bool, quiet: bool },
    Help,
    Version,
}

/// `create`, and the first half of `run`.
#[derive(Debug)]
pub(crate) struct Create {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) console_socket: Option<PathBuf>,
}

/// `exec`.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) id: String,
    pub(crate) process: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) cwd: Option<String>,
    pub(crate) env: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) detach: bool,
    pub(crate) tty: bool,
    pub(crate) argv: Vec<String>,
}

fn usage(text: impl Into<String>) -> Error {
    Error::Usage(text.into())
}

/// Options as given, in order.
#[derive(Default)]
struct Options {
    options: Vec<(&'static str, String)>,
}

impl Options {
    fn all(&self, name: &str) -> impl Iterator<Item = &String> {
        self.options.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// If an option is repeated, the last value counts.
    fn text(&self, name: &str) -> Option<String> {
        self.all(name).last().cloned()
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    fn set(&self, name: &str) -> bool {
        self.all(name).last().is_some_and(|value| value == "true")
    }
}

/// The arguments that have not been parsed yet.
struct Arguments(std::vec::IntoIter<String>);

impl Arguments {
    /// Parses options until `operands` operands have been found, or `--`.
    fn read(
        &mut self,
        known: &[OptionSpec],
        operands: usize,
    ) -> Result<(Options, Vec<String>), Error> {
        let (mut given, mut words) = (Options::default(), Vec::new());
        while words.len() < operands {
            let Some(word) = self.0.next() else { break };
            if word == "--" {
                words.extend(self.0.by_ref().take(operands - words.len()));
                break;
            }
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) if word.starts_with('-') => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let find = |option: &&OptionSpec| {
                name.strip_prefix("--") == Some(option.long)
                    || option.short.is_some_and(|short| {
                        name.strip_prefix('-').is_some_and(|rest| rest.chars().eq([short]))
                    })
            };
            match known.iter().find(find) {
                Some(option) if option.value => {
                    let value = inline.or_else(|| self.0.next());
                    let value = value.ok_or_else(|| usage(format!("{name} needs a value")))?;
                    given.options.push((option.long, value));
                }
                Some(option) => match inline.as_deref() {
                    None | Some("true") => given.options.push((option.long, "true".into())),
                    Some("false") => given.options.push((option.long, "false".into())),
                    Some(_) => return Err(usage(format!("{name} takes no value"))),
                },
                None if word.len() > 1 && word.starts_with('-') => {
                    return Err(usage(format!("unknown option {name}")));
                }
                None => words.push(word),
            }
        }
        Ok((given, words))
    }

    /// Parses all options and operands of a command.
    fn all(
        &mut self,
        known: &[OptionSpec],
        operands: usize,
    ) -> Result<(Options, Vec<String>), Error> {
        let (given, words) = self.read(known, operands + 1)?;
        match words.get(operands) {
            None => Ok((given, words)),
            Some(word) => Err(usage(format!("unexpected argument {word:?}"))),
        }
    }
}

fn id(words: Vec<String>) -> Result<String, Error> {
    words.into_iter().next().ok_or_else(|| usage("missing container id"))
}

/// Parses the arguments after the program's name.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Invocation, Error> {
    let words: Result<Vec<String>, OsString> = args.map(OsString::into_string).collect();
    let words = words.map_err(|word| usage(format!("argument {word:?} is not UTF-8")))?;
    let mut words = Arguments(words.into_iter());
    let (given, command) = words.read(GLOBAL, 1)?;
    if given.set("systemd-cgroup") {
        return Err(usage("--systemd-cgroup: not supported; cgroups are created without systemd"));
    }
    let json = match given.text("log-format").as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => return Err(usage(format!("--log-format {other}: must be text or json"))),
    };
    let root = given.path("root").unwrap_or_else(|| PathBuf::from("/run/keel-oci"));
    let global = Global { root, log: given.path("log"), json };
    let command = match command.first().map(String::as_str) {
        _ if given.set("version") => Command::Version,
        _ if given.set("help") => Command::Help,
        None => return Err(usage(format!("missing command\n{HELP}"))),
        Some("help") => Command::Help,
        Some(name) => self::command(name, &mut words)?,
    };
    Ok(Invocation { global, command })
}

fn command(name: &str, words: &mut Arguments) -> Result<Command, Error> {
    Ok(match name {
        "create" => {
            let (given, operands) = words.all(CREATE, 1)?;
            Command::Create(create(&given, operands)?)
        }
        "run" => {
            let (given, operands) = words.all(RUN, 1)?;
            let (detach, keep) = (given.set("detach"), given.set("keep"));
            Command::Run { create: create(&given, operands)?, detach, keep }
        }
        "start" => Command::Start(id(words.all(&[], 1)?.1)?),
        "state" => Command::State(id(words.all(&[], 1)?.1)?),
        "kill" => {
            let (given, mut operands) = words.all(KILL, 2)?;
            let signal = operands.drain(1.min(operands.len())..).next();
            let signal = signal.unwrap_or_else(|| "SIGTERM".to_owned());
            Command::Kill { id: id(operands)?, signal, all: given.set("all") }
        }
        "delete" => {
            let (given, operands) = words.all(DELETE, 1)?;
            Command::Delete { id: id(operands)?, force: given.set("force") }
        }
        "exec" => {
            // Everything after the id is the program and its arguments.
            let (given, operands) = words.read(EXEC, 1)?;
            let mut argv: Vec<String> = words.0.by_ref().collect();
            if argv.first().is_some_and(|word| word == "--") {
                argv.remove(0);
            }
            Command::Exec(Box::new(exec(&given, id(operands)?, argv)?))
        }
        "list" => {
            let (given, _) = words.all(LIST, 0)?;
            let json = match given.text("format").as_deref() {
                None | Some("table") => false,
                Some("json") => true,
                Some(other) => {
                    return Err(usage(format!("--format {other}: must be table or json")));
                }
            };
            Command::List { json, quiet: given.set("quiet") }
        }
        other => return Err(usage(format!("unknown command {other:?}\n{HELP}"))),
    })
}

fn create(given: &Options, operands: Vec<String>) -> Result<Create, Error> {
    Ok(Create {
        id: id(operands)?,
        bundle: given.path("bundle").unwrap_or_else(|| PathBuf::from(".")),
        pid_file: given.path("pid-file"),
        console_socket: given.path("console-socket"),
    })
}

fn exec(given: &Options, id: String, argv: Vec<String>) -> Result<Exec, Error> {
    let numbers = |text: &String| {
        let number = |word: &str| word.parse().ok().filter(|id| *id != u32::MAX);
        let all: Option<Vec<u32>> = text.split(',').map(number).collect();
        all.ok_or_else(|| usage(format!("--additional-gids {text}: must be numbers")))
    };
    let mut groups = None;
    for text in given.all("additional-gids") {
        groups.get_or_insert_with(Vec::new).extend(numbers(text)?);
    }
    let process = given.path("process");
    if process.is_none() == argv.is_empty() {
        return Err(usage("exec: requires either a program or --process"));
    }
    Ok(Exec {
        id,
        process,
        pid_file: given.path("pid-file"),
        console_socket: given.path("console-socket"),
        cwd: given.text("cwd"),
        env: given.all("env").cloned().collect(),
        user: given.text("user"),
        groups,
        detach: given.set("detach"),
        tty: given.set("tty"),
        argv,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Invocation, Error> {
        super::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn command_lines_of_managers_are_parsed() {
        let conmon = "--root=/r --log /l --log-format json create --bundle /b --pid-file /p web.1";
        let Invocation { global, command: Command::Create(create) } = parse(conmon).unwrap() else {
            panic!()
        };
        assert_eq!((global.root, global.json), (PathBuf::from("/r"), true));
        assert_eq!((create.id.as_str(), create.bundle), ("web.1", PathBuf::from("/b")));
        let line = "exec -d --pid-file /p -e A=1 -e B=2 web sh -c true";
        let Command::Exec(exec) = parse(line).unwrap().command else { panic!() };
        assert_eq!(exec.argv, ["sh", "-c", "true"]);
        assert_eq!((exec.env.len(), exec.detach), (2, true));
        let Command::Kill { signal, all, .. } = parse("kill --all web 9").unwrap().command else {
            panic!()
        };
        assert_eq!((signal.as_str(), all), ("9", true));
        assert!(matches!(parse("delete web --force"), Ok(i) if matches!(&i.command,
            Command::Delete { force: true, .. })));
        assert!(matches!(parse("--version"), Ok(Invocation { command: Command::Version, .. })));
    }

    #[test]
    fn invalid_command_lines_are_refused_with_the_word() {
        for (line, word) in [
            ("", "command"),
            ("checkpoint x", "checkpoint"),
            ("--systemd-cgroup create x", "systemd"),
            ("create --no-pivot x", "--no-pivot"),
            ("create", "id"),
            ("start a b", "\"b\""),
            ("exec web", "program"),
            ("exec --process f web true", "program"),
            ("create --bundle", "--bundle"),
            ("--log-format xml list", "xml"),
            ("exec -g 1,x web true", "-gids 1,x"),
        ] {
            let Err(Error::Usage(text)) = parse(line) else { panic!("{line}") };
            assert!(text.contains(word), "{line}: {text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(words in proptest::collection::vec(
            "(--?[a-z-]{0,14}(=[a-z]{0,4})?|create|exec|kill|run|list|start|[a-z]{0,4})", 0..9)) {
            let _ = super::parse(words.into_iter().map(OsString::from));
        }
    }
}
