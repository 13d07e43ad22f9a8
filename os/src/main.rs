//! The static binary that boots: a table of applets, chosen by `argv[0]`, and nothing else.
//!
//! One file means one thing to replace and one set of pages in memory for all of the host's
//! processes.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// What a name does.
type Applet = fn() -> ExitCode;

/// Name of the program as it was called → what it does.
#[rustfmt::skip]
const APPLETS: &[(&str, Applet)] = &[
    ("init",            || init::main()),
    ("keel-supervisor", || process("keel-supervisor", || supervisor::main().into())),
    ("keel-netsetup",   || process("keel-netsetup", netsetup::main)),
    ("keel-logger",     || process("keel-logger", logger::main)),
    ("keel-api",        || process("keel-api", api::main)),
    ("keel-devices",    || process("keel-devices", || init::devices::main().into())),
    // Not one of the host's processes: it speaks to whoever calls it.
    ("keel-oci",        oci_runtime::main),
    ("modprobe",        || process("keel-modprobe", || init::modprobe(std::env::args_os().skip(1)).into())),
];

/// What every applet but PID 1 begins with: the kernel's log, and panics that end up there.
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
