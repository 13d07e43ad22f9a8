//! The power button (and the event that a hypervisor sends in its place), as an input device.

use nix::errno::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// include/uapi/linux/input-event-codes.h.
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
const PRESSED: i32 = 1;

/// `struct input_event`: two longs of time, type, code, value.
const EVENT_BYTES: usize = 24;

/// All input devices, open.
#[derive(Default)]
pub struct PowerButtons {
    files: Vec<File>,
    seen: Vec<String>,
}

impl PowerButtons {
    /// Opens the input devices that are not open yet.
    pub fn look(&mut self) {
        let Ok(entries) = std::fs::read_dir("/dev/input") else { return };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !name.starts_with("event") || self.seen.contains(&name) {
                continue;
            }
            if let Ok(file) =
                File::options().read(true).custom_flags(libc::O_NONBLOCK).open(entry.path())
            {
                self.files.push(file);
                self.seen.push(name);
            }
        }
    }

    /// The descriptors to wait on.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(AsFd::as_fd)
    }

    /// Reads the pending events; `true` when a power key was pressed. A device that was removed is
    /// closed.
    pub fn pressed(&mut self) -> bool {
        let mut pressed = false;
        self.files.retain_mut(|file| {
            let mut buffer = [0u8; EVENT_BYTES * 16];
            loop {
                match file.read(&mut buffer) {
                    Ok(0) => return false,
                    Ok(size) => {
                        let (events, _) =
                            buffer.get(..size).unwrap_or_default().as_chunks::<EVENT_BYTES>();
                        pressed |= events.iter().any(is_press);
                    }
                    Err(error) => return error.raw_os_error() != Some(Errno::ENODEV as i32),
                }
            }
        });
        pressed
    }
}

fn is_press(event: &[u8; EVENT_BYTES]) -> bool {
    let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event;
    u16::from_ne_bytes([t0, t1]) == EV_KEY
        && u16::from_ne_bytes([c0, c1]) == KEY_POWER
        && i32::from_ne_bytes([v0, v1, v2, v3]) == PRESSED
}
