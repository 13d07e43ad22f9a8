//! `keel`: check a host folder, build it into something that boots, run it in QEMU; and control hosts
//! that run.

mod build;
mod check;
mod data_disk;
mod folder;
mod kvm;
mod places;
mod profiles;
mod qemu;
mod qmp;
mod remote;
mod run;
mod summary;

use clap::{CommandFactory, Parser, Subcommand};
use remote::args::{EXIT_CODES, Global, Remote};
use std::path::PathBuf;
use std::process::ExitCode;

/// A machine that runs these containers and nothing else.
#[derive(Parser)]
#[command(name = "keel", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check a host folder: report all errors at once, or show a summary
    Check {
        /// The folder with host.toml and units/
        dir: PathBuf,
        /// List every unit, also in a summary of more than one screen
        #[arg(short, long)]
        verbose: bool,
    },
    /// Build a host folder into OUT/vmlinuz and OUT/initrd
    Build {
        /// The folder with host.toml and units/
        dir: PathBuf,
        /// Where to write
        #[arg(short, long, value_name = "OUT")]
        output: PathBuf,
        /// Build although units have mistakes: those units will not run
        #[arg(long)]
        allow_broken_units: bool,
    },
    /// Build a host folder if needed and boot it in QEMU, its console on this terminal
    Run(run::RunArgs),
    /// Make the kit that images are built from (part of `make build`)
    #[command(hide = true)]
    Kit {
        /// A kernel package, unpacked
        #[arg(long)]
        kernel: PathBuf,
        /// The program that boots
        #[arg(long)]
        program: PathBuf,
        /// Where to write
        #[arg(short, long)]
        output: PathBuf,
    },
    #[command(flatten)]
    Remote(Remote),
}

/// Trouble that ends a command: what to say, one line or more.
pub struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Many errors repeat their cause in their own text.
            if !text.contains(&cause_text) {
                text.push_str(&format!(": {cause_text}"));
            }
            source = cause.source();
        }
        Failure(text)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let command = match cli.command {
        Command::Remote(command) => return remote::run(&cli.global, &command, Cli::command()),
        command => command,
    };
    if cli.global.host.is_some() || cli.global.json {
        eprintln!("keel: --host and --json are for the commands for running hosts");
        return ExitCode::from(2);
    }
    let result = match command {
        Command::Check { dir, verbose } => check::check(&dir, verbose),
        Command::Build { dir, output, allow_broken_units } => {
            build::command(&dir, &output, allow_broken_units)
        }
        Command::Run(args) => run::run(&args),
        Command::Kit { kernel, program, output } => build::kit(&kernel, &program, &output),
        // Done above.
        Command::Remote(_) => Ok(ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(Failure(text)) => {
            eprintln!("keel: {text}");
            ExitCode::FAILURE
        }
    }
}
