//! Whether KVM can be used. /dev/kvm may exist although KVM cannot boot a kernel (nested
//! virtualization, for example), so a short test boot is made, once per boot of this machine.

use crate::qemu::{self, Accelerator};
use client::paths::cache;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A kernel under KVM needs a fraction of this to miss its root file system.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// KVM if it boots `kernel`, else TCG.
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
            let result = probe(OsStr::new(qemu::PROGRAM), kernel, PROBE_TIMEOUT);
            if let Err(why) = &result {
                eprintln!("keel: KVM cannot be used: {why}");
            }
            // Without the file the next run only probes again.
            let _ = fs::create_dir_all(cache());
            let _ = fs::write(&known, if result.is_ok() { "works" } else { "does not work" });
            result.is_ok()
        }
    };
    if works { Accelerator::Kvm } else { Accelerator::Tcg }
}

/// Boots the kernel without an initrd. KVM works if the kernel gets as far as to miss its root file
/// system. QEMU's own messages are not shown: where KVM is broken, it fails an assertion.
fn probe(program: &OsStr, kernel: &Path, timeout: Duration) -> Result<(), String> {
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
    let mut child = qemu::spawn(program, &arguments, Stdio::piped(), Stdio::null())
        .map_err(|failure| failure.0)?;
    let booted = boots(&mut child, timeout);
    // If QEMU has exited by itself, its status is the reason.
    let ended = if booted == Boot::OutputEnded { child.wait().ok() } else { None };
    let _ = child.kill();
    let _ = child.wait();
    match booted {
        Boot::Booted => Ok(()),
        Boot::TimedOut => Err(format!("a test boot took longer than {} s", timeout.as_secs())),
        Boot::OutputEnded => Err(format!("in a test boot, QEMU {}", end(ended))),
    }
}

/// How a test boot went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boot {
    Booted,
    TimedOut,
    OutputEnded,
}

/// How QEMU ended.
fn end(status: Option<ExitStatus>) -> String {
    let signal = status.and_then(|status| status.signal());
    match (signal, status.and_then(|status| status.code())) {
        (Some(libc::SIGABRT), _) => "aborted".to_owned(),
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Reads the serial console until the kernel misses its root file system.
fn boots(child: &mut Child, timeout: Duration) -> Boot {
    let Some(mut output) = child.stdout.take() else { return Boot::OutputEnded };
    let (send, receive) = std::sync::mpsc::channel();
    // The thread ends with the child, whose output it reads.
    std::thread::spawn(move || {
        let mut chunk = [0u8; 4096];
        while let Ok(got) = output.read(&mut chunk) {
            if got == 0 || send.send(chunk.get(..got).unwrap_or_default().to_vec()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + timeout;
    let mut seen = Vec::new();
    loop {
        match receive.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(chunk) => seen.extend_from_slice(&chunk),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return Boot::TimedOut,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Boot::OutputEnded,
        }
        if String::from_utf8_lossy(&seen).contains("Unable to mount root fs") {
            return Boot::Booted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Probes with a script in place of QEMU.
    fn probe_with(name: &str, script: &str, timeout: Duration) -> Result<(), String> {
        let dir = std::env::temp_dir().join(format!("keel-kvm-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let fake = dir.join("qemu");
        fs::write(&fake, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
        let result = loop {
            // A child of another test may still have the file open for writing (ETXTBSY).
            match probe(fake.as_os_str(), Path::new("/vmlinuz"), timeout) {
                Err(why) if why.contains("busy") => std::thread::sleep(Duration::from_millis(10)),
                result => break result,
            }
        };
        fs::remove_dir_all(&dir).unwrap();
        result
    }

    const PATIENT: Duration = Duration::from_secs(60);

    #[test]
    fn a_failed_assertion_of_qemu_is_one_line_of_ours() {
        // Were the child's standard error not /dev/null, the script would exit with 3.
        let script = "[ \"$(readlink /proc/$$/fd/2)\" = /dev/null ] || exit 3\n\
            echo 'qemu: kvm.c:2862: Assertion `ret == n` failed.' >&2\n\
            kill -ABRT $$";
        let result = probe_with("assertion", script, PATIENT);
        assert_eq!(result, Err("in a test boot, QEMU aborted".to_owned()));
    }

    #[test]
    fn a_kernel_that_misses_its_root_file_system_has_booted() {
        let script = "printf 'Kernel panic: VFS: Unable to mount'; sleep 0.1\n\
            echo ' root fs on unknown-block(0,0)'; exec sleep 60";
        assert_eq!(probe_with("works", script, PATIENT), Ok(()));
    }

    #[test]
    fn other_ends_of_a_test_boot_are_named() {
        let code = probe_with("code", "exit 1", PATIENT);
        assert_eq!(code, Err("in a test boot, QEMU ended with exit code 1".to_owned()));
        let hangs = probe_with("hangs", "exec sleep 60", Duration::from_millis(300));
        assert_eq!(hangs, Err("a test boot took longer than 0 s".to_owned()));
    }
}
