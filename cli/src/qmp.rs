//! The part of QMP, QEMU's monitor protocol, that `keel run` uses
//! (<https://www.qemu.org/docs/master/interop/qmp-spec.html>).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Presses the guest's power button.
///
/// # Errors
/// The socket cannot be used.
pub fn press_power_button(socket: &Path) -> std::io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut line = String::new();
    // The greeting comes first. Each command has one line as its answer; events may come between.
    lines.read_line(&mut line)?;
    for command in ["qmp_capabilities", "system_powerdown"] {
        writeln!(stream, "{{\"execute\":\"{command}\"}}")?;
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0
                || line.contains("\"return\"")
                || line.contains("\"error\"")
            {
                break;
            }
        }
    }
    Ok(())
}
