//! `keel`: checks a host folder, builds a bootable host from it, runs it in QEMU, and controls running
//! hosts.

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

/// Build, run and control hosts that run containers and nothing else.
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
        /// Folder with host.toml and units/
        dir: PathBuf,
        /// List every unit, also in a summary of more than one screen
        #[arg(short, long)]
        verbose: bool,
    },
    /// Build a host folder: write OUT/vmlinuz and OUT/initrd
    Build {
        /// Folder with host.toml and units/
        dir: PathBuf,
        /// Output folder
        #[arg(short, long, value_name = "OUT")]
        output: PathBuf,
        /// Build even if units have errors; those units will not run
        #[arg(long)]
        allow_broken_units: bool,
    },
    /// Build a host folder and boot it in QEMU, with the console on this terminal
    Run(run::RunArgs),
    /// Create the kit that hosts are built from (part of `make build`)
    #[command(hide = true)]
    Kit {
        /// Folder of an unpacked kernel package
        #[arg(long)]
        kernel: PathBuf,
        /// The boot program, keel-os
        #[arg(long)]
        program: PathBuf,
        /// Output folder
        #[arg(short, long)]
        output: PathBuf,
    },
    #[command(flatten)]
    Remote(Remote),
}

/// An error that ends a command: its message, one line or more.
pub struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Many errors repeat their cause in their own message.
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
        eprintln!("keel: --host and --json apply only to commands for running hosts");
        return ExitCode::from(2);
    }
    let result = match command {
        Command::Check { dir, verbose } => check::check(&dir, verbose),
        Command::Build { dir, output, allow_broken_units } => {
            build::command(&dir, &output, allow_broken_units)
        }
        Command::Run(args) => run::run(&args),
        Command::Kit { kernel, program, output } => build::kit(&kernel, &program, &output),
        // Handled above.
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
