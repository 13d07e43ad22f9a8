//! The static boot program: a table of applets, selected by `argv[0]`.
//!
//! With a single file, there is one file to replace, and all of the host's processes share its
//! pages in memory.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The function of an applet.
type Applet = fn() -> ExitCode;

/// Program name → applet.
#[rustfmt::skip]
const APPLETS: &[(&str, Applet)] = &[
    ("init",            || init::main()),
    ("keel-supervisor", || process("keel-supervisor", || supervisor::main().into())),
    ("keel-netsetup",   || process("keel-netsetup", netsetup::main)),
    ("keel-logger",     || process("keel-logger", logger::main)),
    ("keel-api",        || process("keel-api", api::main)),
    ("keel-devices",    || process("keel-devices", || init::devices::main().into())),
    // Not one of the host's processes: its messages go to the caller, not to the kernel's log.
    ("keel-oci",        oci_runtime::main),
    ("modprobe",        || process("keel-modprobe", || init::modprobe(std::env::args_os().skip(1)).into())),
];

/// Runs an applet other than PID 1 with its messages and panics written to the kernel's log.
fn process(name: &'static str, main: fn() -> ExitCode) -> ExitCode {
    let debug = layout::Cmdline::read().debug;
    kmsg::install(name, if debug { log::LevelFilter::Debug } else { log::LevelFilter::Info });
    std::panic::set_hook(Box::new(|info| log::error!("panicked: {info}")));
    main()
}

fn main() -> ExitCode {
    let called: OsString = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default();
    match APPLETS.iter().find(|(applet, _)| name == *applet) {
        Some((_, run)) => run(),
        None => {
            let known: Vec<&str> = APPLETS.iter().map(|(applet, _)| *applet).collect();
            eprintln!("called as {name:?}; this program is {}", known.join(", "));
            ExitCode::from(2)
        }
    }
}
