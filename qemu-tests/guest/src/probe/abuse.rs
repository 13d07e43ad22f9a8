//! Excessive use of processes, memory, output and disk space, which the host's limits must contain.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::ends::stay;
use crate::{Arguments, Named, ProbeError};

/// Forks until fork(2) fails, then waits with all children alive.
pub fn forkbomb(_: &mut Arguments) -> Result<(), ProbeError> {
    let mut children = 0u64;
    loop {
        // SAFETY: this program is single-threaded and the child only waits.
        match unsafe { libc::fork() } {
            0 => stay(),
            -1 => {
                let error = io::Error::last_os_error();
                println!("forkbomb {children} children, then: {error}");
                stay()
            }
            _ => children += 1,
        }
    }
}

/// Allocates memory in steps of 1 MiB until killed, or up to `MIB`; then waits.
pub fn memhog(arguments: &mut Arguments) -> Result<(), ProbeError> {
    const MIB: usize = 1 << 20;
    let limit = arguments.number_or("MIB", usize::MAX)?;
    let mut held = Vec::new();
    while held.len() < limit {
        // Not zero, so that the pages are written and not shared.
        held.push(vec![0x5au8; MIB]);
        std::hint::black_box(&held);
        if held.len() % 16 == 0 {
            println!("memhog {} MiB", held.len());
        }
    }
    println!("memhog holds {} MiB", held.len());
    stay()
}

/// Length of a line of `flood`, newline included.
const FLOOD_LINE: usize = 80;

/// Line number `number` of `flood`: `flood 0000000001 ` and then dots.
fn flood_line(number: u64) -> String {
    format!("flood {number:010} {:.<width$}\n", "", width = FLOOD_LINE - 18)
}

/// Writes this many bytes (rounded down to whole lines) as fast as possible or with a limit per second, then
/// prints the number of lines, so that a test can tell how many were lost.
pub fn flood(arguments: &mut Arguments) -> Result<(), ProbeError> {
    const PIECE: u64 = 1 << 16;
    let bytes: u64 = arguments.number("BYTES")?;
    let pace = arguments.number_or("BYTES-PER-SECOND", u64::MAX)?.max(1);
    let lines = bytes / FLOOD_LINE as u64;
    let mut out = io::BufWriter::with_capacity(PIECE as usize, io::stdout().lock());
    let begin = Instant::now();
    for number in 1..=lines {
        out.write_all(flood_line(number).as_bytes()).named("standard output")?;
        if pace < u64::MAX && number % (PIECE / FLOOD_LINE as u64) == 0 {
            let due = Duration::from_secs_f64(number as f64 * FLOOD_LINE as f64 / pace as f64);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
    }
    writeln!(out, "flood end {lines}").named("standard output")?;
    out.flush().named("standard output")
}

/// Writes numbered lines at a constant rate.
pub fn lines(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let count: u64 = arguments.number("N")?;
    let pause = Duration::from_millis(arguments.number("MS")?);
    for number in 1..=count {
        println!("line {number}");
        std::thread::sleep(pause);
    }
    println!("lines end {count}");
    Ok(())
}

/// Overwrites a file with a line of text and syncs it.
pub fn write(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let path = arguments.text("PATH")?;
    let text = arguments.text("TEXT")?;
    let mut file = File::create(&path).named(&path)?;
    writeln!(file, "{text}").and_then(|()| file.sync_all()).named(&path)?;
    println!("write {path}");
    Ok(())
}

/// Writes to a file until an error, prints the number of bytes and the error, and waits.
pub fn fill(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let path = arguments.text("PATH")?;
    let mut file = File::create(&path).named(&path)?;
    // From large to small blocks, so that all space is used.
    let block = vec![0x5au8; 1 << 20];
    let mut size = block.len();
    let mut written = 0u64;
    loop {
        match file.write(block.get(..size).unwrap_or_default()) {
            Ok(count) => written += count as u64,
            Err(error) if size == 1 => {
                println!("fill {written} bytes, then: {error}");
                stay()
            }
            Err(_) => size /= 2,
        }
    }
}

/// Creates `N` grandchildren whose parents exit immediately, so that they become children of the container's
/// PID 1 (this program), and reaps all children. The orphans exit after 1, 2, … N times `MS` milliseconds.
pub fn orphans(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let count: u32 = arguments.number_or("N", 5)?;
    let pause: u64 = arguments.number_or("MS", 200)?;
    for number in 1..=count {
        // SAFETY: this program is single-threaded; the child forks again and exits.
        if unsafe { libc::fork() } == 0 {
            // SAFETY: as above; the grandchild only sleeps and exits.
            if unsafe { libc::fork() } == 0 {
                std::thread::sleep(Duration::from_millis(pause * u64::from(number)));
            }
            // SAFETY: _exit(2) takes a number.
            unsafe { libc::_exit(0) };
        }
    }
    let mut reaped = 0u32;
    // SAFETY: the status is not requested; -1 waits for any child, and fails when there is none.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } > 0 {
        reaped += 1;
    }
    // As PID 1 both generations are reaped here, otherwise only the first.
    println!("orphans reaped {reaped}");
    stay()
}

#[cfg(test)]
mod tests {
    use super::{FLOOD_LINE, flood_line};

    #[test]
    fn flood_lines_have_one_length() {
        for number in [0, 1, 9_999_999_999] {
            let line = flood_line(number);
            assert_eq!(line.len(), FLOOD_LINE);
            assert!(line.starts_with("flood ") && line.ends_with(".\n"));
        }
    }
}
