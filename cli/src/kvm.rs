//! Whether KVM works here. Its device file says little: it may be there and still not boot a
//! kernel. So a short boot is tried, once for each boot of this machine.

use crate::qemu::{self, Accelerator};
use client::paths::cache;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A kernel under KVM says its first word within a fraction of this.
const PROBE_TIME: Duration = Duration::from_secs(5);

/// The accelerator to use: KVM if it boots `kernel`, else translation.
pub fn choose(kernel: &Path) -> Accelerator {
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Accelerator::Tcg;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let known = cache().join(format!("kvm-{}", boot.trim()));
    let works = match fs::read_to_string(&known).as_deref() {
        Ok("works") => true,
        Ok("does not work") => false,
        _ => {
            let works = probe(kernel);
            // Only a memory aid: without it the next run asks again.
            let _ = fs::create_dir_all(cache());
            let _ = fs::write(&known, if works { "works" } else { "does not work" });
            works
        }
    };
    if works { Accelerator::Kvm } else { Accelerator::Tcg }
}

/// Boots the kernel without anything to start. One that gets as far as to miss its root file
/// system works.
fn probe(kernel: &Path) -> bool {
    let kernel = kernel.display().to_string();
    let arguments: Vec<String> = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "q35",
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-m",
        "256M",
        "-no-reboot",
        "-serial",
        "stdio",
        "-kernel",
        &kernel,
        "-append",
        "console=ttyS0 panic=-1",
    ]
    .iter()
    .map(|word| (*word).to_owned())
    .collect();
    let Ok(mut child) = qemu::spawn(&arguments, Stdio::piped()) else { return false };
    let works = says_enough(&mut child);
    let _ = child.kill();
    let _ = child.wait();
    works
}

fn says_enough(child: &mut Child) -> bool {
    let Some(mut output) = child.stdout.take() else { return false };
    let (send, receive) = std::sync::mpsc::channel();
    // Ends with the child, whose output it reads.
    std::thread::spawn(move || {
        let mut chunk = [0u8; 4096];
        while let Ok(got) = output.read(&mut chunk) {
            if got == 0 || send.send(chunk.get(..got).unwrap_or_default().to_vec()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + PROBE_TIME;
    let mut seen = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(chunk) = receive.recv_timeout(left) else { return false };
        seen.extend_from_slice(&chunk);
        if String::from_utf8_lossy(&seen).contains("Unable to mount root fs") {
            return true;
        }
    }
}
