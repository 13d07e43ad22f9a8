//! `bench_engine`: runs the measurement, prints it and writes `target/bench/engine.json`.
//!
//! - `bench_engine vm DISK KERNEL` boots the disk in QEMU (TCG emulation, one processor);
//! - `bench_engine native TREE` measures on this machine, as root.
//!
//! The last line is `engine: floor=… crun=… runc=… podman=… docker=… userns=…`.

mod collect;
mod measurements;
mod qemu;
mod tables;

use engine_bench::{Failure, Naming};
use measurements::Measurements;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let text: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match text.as_slice() {
        ["vm", disk, kernel] => vm(Path::new(disk), Path::new(kernel)),
        ["native", tree] => native(Path::new(tree)),
        _ => Err(Failure("vm DISK KERNEL | native TREE".to_owned())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_engine: {error}");
            ExitCode::FAILURE
        }
    }
}

fn vm(disk: &Path, kernel: &Path) -> Result<(), Failure> {
    let mut machine = qemu::Machine::boot(disk, kernel)?;
    let measurements = collect::lines(machine.report()?).map_err(|error| machine.explain(error))?;
    show(&measurements, "engine.json", "in a VM under TCG emulation, one processor, cgroup v2")
}

fn native(tree: &Path) -> Result<(), Failure> {
    let program = tree.join("bench/bench_guest");
    let mut child = Command::new(&program)
        .arg("native")
        .arg(tree)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .naming(program.display())?;
    let report = child.stdout.take().ok_or_else(|| Failure("no pipe".to_owned()))?;
    let measurements = collect::lines(report);
    let status = child.wait().naming(program.display())?;
    let measurements = measurements?;
    if !status.success() {
        return Err(Failure(format!("{}: {status}", program.display())));
    }
    show(&measurements, "engine-native.json", "on this machine")
}

fn show(measurements: &Measurements, name: &str, place: &str) -> Result<(), Failure> {
    tables::print(measurements, place);
    let dir = Path::new("target/bench");
    let path = dir.join(name);
    let text = serde_json::to_vec_pretty(measurements).naming("the report")?;
    fs::create_dir_all(dir).and_then(|()| fs::write(&path, text)).naming(path.display())?;
    println!("\nwritten to {}\n", path.display());
    println!("{}", measurements.last_line());
    Ok(())
}
