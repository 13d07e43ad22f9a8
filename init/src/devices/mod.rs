//! The `devices` process: kernel modules for the hardware, the data disk, the power button.
//!
//! There is no udev. At its start it loads the boot list (the modules that containers and their network
//! need), walks sysfs once for every `modalias` ("coldplug"), and looks for the data disk; later it
//! does the same for every device that the kernel announces. It has no state that a restart would lose.

pub mod data_disk;
pub mod insert;
pub mod modules;
pub mod power_button;
pub mod uevents;

use crate::clock;
use data_disk::Found;
use ipc::{Channel, DataDisk, FromInit, Phase, ShutdownKind, ToInit};
use layout::{Cmdline, paths};
use modules::{Index, Loader};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use power_button::PowerButtons;
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use uevents::Uevents;
use units::model::DataDisk as Policy;

/// How long PID 1 may take to send its state. It does so right after the start.
const HAND_OVER_MS: u16 = 2_000;

/// The applet. Returns only when it cannot work at all; PID 1 restarts it.
pub fn main() -> u8 {
    let link = match Channel::inherited(ipc::fds::INIT) {
        Ok(link) => link,
        Err(error) => {
            log::error!("no link to PID 1: {error}");
            return 1;
        }
    };
    let text = fs::read_to_string(format!("{}/index", paths::MODULES)).unwrap_or_else(|error| {
        log::warn!("{}/index: {error}; no modules will be loaded", paths::MODULES);
        String::new()
    });
    let loader = Loader::new(Index::parse(&text), Path::new(paths::MODULES));
    let policy = data_policy();
    let mut devices =
        Devices { link, loader, buttons: PowerButtons::default(), policy, reported: None };
    devices.run()
}

/// The setting for the data disk in host.toml, or on the command line, which takes precedence.
fn data_policy() -> Policy {
    match Cmdline::read().data.as_deref() {
        Some("memory") => Policy::Memory,
        Some("required") => Policy::Required,
        Some("auto") => Policy::Auto,
        _ => crate::boot::host_config().storage.data,
    }
}

struct Devices<'a> {
    link: Channel,
    loader: Loader<'a>,
    buttons: PowerButtons,
    policy: Policy,
    reported: Option<DataDisk>,
}

impl Devices<'_> {
    fn run(&mut self) -> u8 {
        // Listen before looking, so that no device is missed between the two.
        let uevents = match Uevents::listen() {
            Ok(uevents) => uevents,
            Err(errno) => {
                log::error!("uevents: {errno}");
                return 1;
            }
        };
        self.receive_known_state();
        self.phase("modules", Self::load_boot_list);
        self.phase("hardware", Self::coldplug);
        self.phase("data disk", Self::find_data_disk);
        self.buttons.look();
        self.send(&ToInit::Ready);
        loop {
            let mut fds = vec![
                PollFd::new(uevents.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.link.as_fd(), PollFlags::POLLIN),
            ];
            fds.extend(self.buttons.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            if poll(&mut fds, PollTimeout::NONE).is_err() {
                continue;
            }
            let hung_up = fds
                .get(1)
                .and_then(PollFd::revents)
                .is_some_and(|e| e.contains(PollFlags::POLLHUP));
            drop(fds);
            if hung_up {
                return 0;
            }
            // PID 1 sends the data disk and the stored descriptors to every process; this one needs neither.
            while let Ok(Some(_)) = self.link.recv::<FromInit>() {}
            self.handle(&uevents);
            if self.buttons.pressed() {
                self.send(&ToInit::Shutdown {
                    kind: ShutdownKind::Poweroff,
                    reason: "the power button was pressed".to_owned(),
                });
            }
        }
    }

    /// After a restart PID 1 still has the data disk's state from an earlier `devices` process: a disk
    /// that appeared since must not be mounted under units that already use memory.
    fn receive_known_state(&mut self) {
        loop {
            match self.link.recv::<FromInit>() {
                Ok(Some(received)) => match received.message {
                    FromInit::DataDisk(disk) => self.reported = Some(disk),
                    FromInit::StoredEnd => return,
                    _ => {}
                },
                Ok(None) => {
                    let mut fds = [PollFd::new(self.link.as_fd(), PollFlags::POLLIN)];
                    if poll(&mut fds, PollTimeout::from(HAND_OVER_MS)) == Ok(0) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Runs a phase of the boot and reports how long it took (not again after a restart of this
    /// process).
    fn phase(&mut self, name: &str, work: impl FnOnce(&mut Self) -> String) {
        let restarted = self.reported.is_some();
        let start_us = clock::monotonic_ns() / 1000;
        let note = work(self);
        let end_us = clock::monotonic_ns() / 1000;
        if restarted {
            return;
        }
        self.send(&ToInit::Phase(Phase { name: name.to_owned(), note, start_us, end_us }));
    }

    /// Modules that every host needs, whatever its hardware.
    fn load_boot_list(&mut self) -> String {
        let mut count = 0;
        for name in self.loader.index().boot().to_vec() {
            match self.loader.load(name) {
                Ok(new) => count += new,
                Err(error) => log::warn!("{error}"),
            }
        }
        format!("{count} loaded")
    }

    /// Handles the announcements that have arrived.
    fn handle(&mut self, uevents: &Uevents) {
        let mut new_disk = false;
        loop {
            match uevents.next() {
                Ok(None) => break,
                Ok(Some(event)) => {
                    if let Some(alias) = event.modalias.as_deref().filter(|_| event.action == "add")
                    {
                        self.loader.load_alias(alias);
                    }
                    new_disk |= event.subsystem == "block"
                        && matches!(event.action.as_str(), "add" | "change");
                    if event.subsystem == "input" {
                        self.buttons.look();
                    }
                }
                Err(_) => {
                    // Announcements were lost: scan everything again.
                    self.coldplug();
                    new_disk = true;
                    break;
                }
            }
        }
        let missing = self.reported.as_ref().is_none_or(|disk| disk.path.is_none());
        if new_disk && missing {
            self.find_data_disk();
        }
    }

    /// Loads modules for every modalias in sysfs, until loading makes no new ones appear (the driver of
    /// a bus adds the devices on it).
    fn coldplug(&mut self) -> String {
        let mut known = BTreeSet::new();
        for _round in 0..4 {
            let mut found = BTreeSet::new();
            collect_modaliases(Path::new("/sys/devices"), 0, &mut found);
            let new: Vec<String> = found.difference(&known).cloned().collect();
            if new.is_empty() {
                break;
            }
            for alias in &new {
                self.loader.load_alias(alias);
            }
            known.extend(new);
        }
        format!("{} devices", known.len())
    }

    fn find_data_disk(&mut self) -> String {
        let state = match self.policy {
            Policy::Memory => DataDisk {
                path: None,
                reason: "volumes live in memory (storage.data = \"memory\")".to_owned(),
                pending: false,
            },
            Policy::Auto | Policy::Required => match data_disk::find_and_mount() {
                Found::Mounted(device) => {
                    self.prepare_data_disk();
                    DataDisk { path: Some(paths::DATA.to_owned()), reason: device, pending: false }
                }
                Found::Broken(reason) => DataDisk { path: None, reason, pending: true },
                Found::Nothing if self.policy == Policy::Required => DataDisk {
                    path: None,
                    reason: format!("no disk with the label {}", paths::DATA_LABEL),
                    pending: true,
                },
                Found::Nothing => DataDisk {
                    path: None,
                    reason: format!(
                        "no disk with the label {}: volumes live in memory for this boot",
                        paths::DATA_LABEL
                    ),
                    pending: false,
                },
            },
        };
        // Units may already use volumes in memory: a disk that appears later must not be mounted under them.
        let settled = self.reported.as_ref().is_some_and(|disk| !disk.pending);
        if !settled && self.reported.as_ref() != Some(&state) {
            self.send(&ToInit::DataDisk(state.clone()));
            self.reported = Some(state.clone());
        }
        state.path.map_or_else(|| "none".to_owned(), |path| format!("{} on {path}", state.reason))
    }

    /// The folders that other processes expect on the disk, with their owners.
    fn prepare_data_disk(&self) {
        let folders = [
            (format!("{}/volumes", paths::DATA), 0),
            (format!("{}/logs", paths::DATA), crate::services::LOGGER_UID),
            (format!("{}/keel", paths::DATA), 0),
            (paths::DATA_API.to_owned(), crate::services::API_UID),
        ];
        for (path, owner) in folders {
            let made = fs::create_dir(&path).or_else(|error| {
                if error.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
            });
            let done = made
                .and_then(|()| std::os::unix::fs::chown(&path, Some(owner), Some(owner)))
                .and_then(|()| {
                    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
                });
            if let Err(error) = done {
                log::warn!("{path}: {error}");
            }
        }
        if let Err(error) = clock::renew_seed(&format!("{}/keel", paths::DATA)) {
            log::warn!("random seed: {error}");
        }
    }

    fn send(&self, message: &ToInit) {
        if let Err(error) = self.link.send(message, &[]) {
            log::error!("message to PID 1: {error}");
        }
    }
}

/// Deeper than directories below /sys/devices nest on real machines. Links are not followed.
const MAX_DEPTH: usize = 24;

fn collect_modaliases(dir: &Path, depth: usize, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth < MAX_DEPTH {
            collect_modaliases(&entry.path(), depth + 1, found);
        } else if kind.is_file()
            && entry.file_name() == "modalias"
            && let Ok(alias) = fs::read_to_string(entry.path())
        {
            found.insert(alias.trim_end().to_owned());
        }
    }
}
