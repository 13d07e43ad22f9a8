//! The entry point of PID 1: the boot, then the loop.

use crate::clock::monotonic_ns;
use crate::kernel::{Kernel, LinuxKernel};
use crate::pid1::Pid1;
use crate::{VERSION, boot, fatal};
use ipc::Service;

/// Boots the host and runs it until it shuts down.
pub fn run() -> ! {
    let start_us = monotonic_ns() / 1000;
    fatal::install_panic_hook();
    let booted = match boot::run() {
        Ok(booted) => booted,
        Err(why) => fatal::die(&why),
    };
    for problem in &booted.problems {
        log::warn!("{problem}");
    }
    let mut pid1 = match start(start_us, &booted) {
        Ok(pid1) => pid1,
        Err(why) => fatal::die(&why),
    };
    pid1.start_all();
    if booted.cmdline.fault.as_deref() == Some("panic") {
        panic!("requested by keel.fault");
    }
    loop {
        pid1.turn();
    }
}

fn start(start_us: u64, booted: &boot::Boot) -> Result<Pid1<LinuxKernel>, String> {
    let mut kernel = LinuxKernel::open()?;
    kernel.print("");
    kernel.print(&format!("  Keelhost {VERSION}  {}  {}", booted.hostname, machine()));
    kernel.print("");
    let services =
        Service::ALL.into_iter().filter(|service| *service != Service::Api || booted.api);
    let mut pid1 = Pid1::new(kernel, services, start_us).map_err(|error| error.to_string())?;
    for phase in &booted.phases {
        pid1.record_phase(phase.clone());
    }
    Ok(pid1)
}

/// Kernel, processors and memory, for the first line on the console.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let cpus = read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count();
    let memory: u64 = read("/proc/meminfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse().ok()
        })
        .unwrap_or(0);
    format!("Linux {}  {cpus} CPU  {} MiB", kernel.trim(), memory / 1024)
}
