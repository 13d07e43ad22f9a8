//! Ways to exit, or not to.

use std::time::Duration;

use crate::{Arguments, ProbeError, run};

/// SIGTERM ends the process with code 0, also when it is PID 1.
pub fn exit_on_term() {
    extern "C" fn leave(_signal: libc::c_int) {
        // SAFETY: _exit is async-signal-safe (signal-safety(7)) and takes no pointer.
        unsafe { libc::_exit(0) }
    }
    let handler: extern "C" fn(libc::c_int) = leave;
    // SAFETY: the handler has the signature that signal(2) asks for and lives for ever.
    unsafe { libc::signal(libc::SIGTERM, handler as libc::sighandler_t) };
}

/// Exits with the given code (0 to 255).
pub fn exit(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let code: u8 = arguments.number("N")?;
    println!("exit {code}");
    std::process::exit(i32::from(code))
}

/// Ends by SIGABRT.
pub fn crash(_: &mut Arguments) -> Result<(), ProbeError> {
    println!("crash");
    std::process::abort()
}

/// Ends by SIGSEGV. PID 1 of a namespace cannot ignore a signal that the kernel forces on it.
pub fn segv(_: &mut Arguments) -> Result<(), ProbeError> {
    println!("segv");
    let nowhere = std::hint::black_box(std::ptr::null::<u8>());
    // SAFETY: deliberately invalid: page zero is never mapped, so the read faults. black_box hides the address
    // from the compiler.
    let byte = unsafe { nowhere.read_volatile() };
    println!("read {byte} from address zero");
    Ok(())
}

/// Sleeps for this many seconds (may have a fraction).
pub fn sleep(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let seconds: f64 = arguments.number("SECONDS")?;
    let span = Duration::try_from_secs_f64(seconds)
        .map_err(|_| ProbeError::BadNumber { name: "SECONDS", text: seconds.to_string() })?;
    println!("sleep {seconds}");
    std::thread::sleep(span);
    Ok(())
}

/// Waits for ever.
pub fn wait(_: &mut Arguments) -> Result<(), ProbeError> {
    println!("wait");
    stay()
}

/// Ignores SIGTERM, so that only SIGKILL ends it.
pub fn ignore_term(_: &mut Arguments) -> Result<(), ProbeError> {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    println!("ignore-term");
    stay()
}

/// Sleeps for this many milliseconds and then runs another command.
pub fn after(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let milliseconds = arguments.number("MS")?;
    let name = arguments.text("COMMAND")?;
    std::thread::sleep(Duration::from_millis(milliseconds));
    run(&name, arguments)
}

/// Keeps one CPU busy for ever.
pub fn spin(_: &mut Arguments) -> Result<(), ProbeError> {
    println!("spin");
    let mut turns = 0u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

/// Waits for a signal that ends the process.
pub fn stay() -> ! {
    loop {
        // SAFETY: pause(2) takes nothing.
        unsafe { libc::pause() };
    }
}
