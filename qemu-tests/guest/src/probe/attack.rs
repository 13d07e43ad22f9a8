//! Attacks that a shell script cannot make. Each prints the kernel's answer as a name of errno(3).

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::time::Duration;

use crate::{Arguments, Named, ProbeError};

/// The name of a system call's error, or `done`.
fn answer(result: i64) -> String {
    if result >= 0 {
        return "done".to_owned();
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error().unwrap_or_default() {
        libc::EPERM => "EPERM".to_owned(),
        libc::EACCES => "EACCES".to_owned(),
        libc::EROFS => "EROFS".to_owned(),
        libc::ETXTBSY => "ETXTBSY".to_owned(),
        libc::EIO => "EIO".to_owned(),
        libc::ENXIO => "ENXIO".to_owned(),
        libc::ENOENT => "ENOENT".to_owned(),
        libc::ESRCH => "ESRCH".to_owned(),
        libc::EAFNOSUPPORT => "EAFNOSUPPORT".to_owned(),
        libc::ECONNREFUSED => "ECONNREFUSED".to_owned(),
        _ => error.to_string(),
    }
}

/// Injects input into its own terminal with TIOCSTI, also with upper bits of the request that a filter may
/// compare and the kernel ignores. Prints whether the input arrived, and which processes have a terminal.
pub fn tiocsti(_: &mut Arguments) -> Result<(), ProbeError> {
    // SAFETY: a path and flags.
    let tty = unsafe { libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    println!("controlling terminal: {}", answer(tty.into()));
    // SAFETY: flags only.
    let master = unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY) };
    // SAFETY: the descriptor is the one just opened, or -1.
    let ready = unsafe { libc::grantpt(master) | libc::unlockpt(master) };
    let mut number: libc::c_uint = 0;
    // SAFETY: writes one number that lives through the call.
    let numbered = unsafe { libc::ioctl(master, libc::TIOCGPTN, &raw mut number) };
    if master < 0 || ready != 0 || numbered != 0 {
        return Err(io::Error::last_os_error()).named("a terminal");
    }
    let path = CString::new(format!("/dev/pts/{number}")).unwrap_or_default();
    // SAFETY: the path lives through the call. Without O_NOCTTY it becomes the controlling terminal
    // of a session that has none, as TIOCSTI wants it.
    let slave = unsafe { libc::open(path.as_ptr(), libc::O_RDWR) };
    if slave < 0 {
        return Err(io::Error::last_os_error()).named("the terminal's other end");
    }
    for high in [0u64, 1 << 32, 0xffff_ffff << 32] {
        let request = high | libc::TIOCSTI;
        // SAFETY: reads one byte that lives through the call.
        let done = unsafe { libc::syscall(libc::SYS_ioctl, slave, request, c"x".as_ptr()) };
        println!("typing with {request:#x}: {}", answer(done));
    }
    let mut waiting: libc::c_int = -1;
    // SAFETY: writes one number that lives through the call.
    unsafe { libc::ioctl(slave, libc::FIONREAD, &raw mut waiting) };
    println!("typed: {waiting}");
    Ok(())
}

/// Listens on a name in the abstract namespace and answers `secret` to all clients.
pub fn abstract_listen(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let name = arguments.text("NAME")?;
    let address = SocketAddr::from_abstract_name(&name).named(&name)?;
    let listener = UnixListener::bind_addr(&address).named(&name)?;
    println!("listens at @{name}");
    loop {
        let (mut stream, _) = listener.accept().named("accept")?;
        // The client may have disconnected.
        let _ = stream.write_all(b"secret");
    }
}

/// Connects to a name in the abstract namespace and prints the answer; with a number of attempts, one per
/// second, if the listener may still be starting.
pub fn abstract_connect(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let name = arguments.text("NAME")?;
    let tries: u32 = arguments.number_or("TRIES", 1)?;
    let address = SocketAddr::from_abstract_name(&name).named(&name)?;
    for left in (0..tries).rev() {
        match UnixStream::connect_addr(&address) {
            Ok(mut stream) => {
                let mut text = String::new();
                stream.read_to_string(&mut text).named("read")?;
                println!("connected to @{name}: {text}");
                return Ok(());
            }
            Err(error) if left == 0 => println!("not connected to @{name}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
    Ok(())
}

/// Opens sockets of these address families and prints the kernel's answer.
pub fn families(arguments: &mut Arguments) -> Result<(), ProbeError> {
    while let Ok(family) = arguments.number::<libc::c_int>("FAMILY") {
        // SAFETY: numbers only.
        let done = unsafe { libc::socket(family, libc::SOCK_SEQPACKET, 0) };
        println!("socket of family {family}: {}", answer(done.into()));
    }
    Ok(())
}

/// Tries to leave the container's root, behind which is the host's initramfs: with a directory that is kept
/// open over chroot(2), and with mounts. Prints the contents of the root after each attempt.
pub fn leave_root(_: &mut Arguments) -> Result<(), ProbeError> {
    let look = |how: &str, path: &str| {
        let names = fs::read_dir(path).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        println!("by {how}: {}", names.join(" "));
    };
    look("nothing", "/");
    let root = File::open("/").named("/")?;
    let own = File::open("/proc/self/ns/mnt").named("/proc/self/ns/mnt")?;
    let _ = fs::create_dir("/cell");
    // SAFETY: paths that live through the calls, and descriptors that are open.
    unsafe {
        println!("chroot: {}", answer(libc::chroot(c"/cell".as_ptr()).into()));
        println!("back: {}", answer(libc::fchdir(root.as_raw_fd()).into()));
        for _ in 0..64 {
            libc::chdir(c"..".as_ptr());
        }
        println!("up: {}", answer(libc::chroot(c".".as_ptr()).into()));
    }
    look("chroot", ".");
    let none = std::ptr::null();
    // SAFETY: as above; no data is given.
    unsafe {
        println!("umount: {}", answer(libc::umount2(c"/".as_ptr(), libc::MNT_DETACH).into()));
        let moved =
            libc::mount(c"/".as_ptr(), c"/elsewhere".as_ptr(), none, libc::MS_MOVE, none.cast());
        println!("move: {}", answer(moved.into()));
        let pivoted = libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c"/elsewhere".as_ptr());
        println!("pivot: {}", answer(pivoted));
        println!("setns: {}", answer(libc::setns(own.as_raw_fd(), libc::CLONE_NEWNS).into()));
    }
    look("mounts", "/");
    look("what is above", "/..");
    Ok(())
}

/// Exchanges two names for ever, so that path resolution finds one or the other. With `empty`, the contents of
/// the directory are removed repeatedly.
pub fn exchange(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let (directory, link) = (arguments.text("DIRECTORY")?, arguments.text("LINK")?);
    let empty = arguments.text("empty").is_ok();
    let c = |text: &str| CString::new(text).unwrap_or_default();
    let (a, b) = (c(&directory), c(&link));
    let mut rounds = 0u64;
    loop {
        // SAFETY: both paths live through the call.
        let done = unsafe {
            libc::renameat2(
                libc::AT_FDCWD,
                a.as_ptr(),
                libc::AT_FDCWD,
                b.as_ptr(),
                libc::RENAME_EXCHANGE,
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error()).named("renameat2");
        }
        rounds += 1;
        if rounds == 1 {
            println!("exchanging");
        }
        if empty
            && rounds.is_multiple_of(64)
            && !fs::symlink_metadata(&directory).named(&directory)?.is_symlink()
        {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                // Mount points of another container cannot be removed.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Watches for processes that are neither its own descendants nor of its own program, tries to inspect each
/// one and to change its program. Prints each different answer once.
pub fn watch(_: &mut Arguments) -> Result<(), ProbeError> {
    let own = fs::read_to_string("/proc/self/comm").named("/proc/self/comm")?;
    let mut said = BTreeSet::new();
    println!("watching");
    loop {
        for entry in fs::read_dir("/proc").named("/proc")?.flatten() {
            let path = entry.path();
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let Ok(comm) = fs::read_to_string(path.join("comm")) else { continue };
            if comm == own {
                continue;
            }
            let mut answers = Vec::new();
            look_into(pid, &mut |text| answers.push(text));
            change_program(pid, &mut |text| answers.push(text));
            // After exec(2), some answers were those of the previous program.
            if fs::read_to_string(path.join("comm")).ok().as_ref() != Some(&comm) {
                continue;
            }
            for answer in answers {
                let line = format!("{}: {answer}", comm.trim_end());
                if said.insert(line.clone()) {
                    println!("{line}");
                }
            }
        }
    }
}

/// Descriptors, directories and memory of a process.
fn look_into(pid: i32, say: &mut impl FnMut(String)) {
    match fs::read_dir(format!("/proc/{pid}/fd")) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => say("fd EACCES".to_owned()),
        Err(_) => {}
        Ok(entries) => {
            for entry in entries.flatten() {
                if let Ok(target) = fs::read_link(entry.path()) {
                    say(format!("fd {}", target.display()));
                }
            }
        }
    }
    for name in ["root", "cwd"] {
        if let Ok(target) = fs::read_link(format!("/proc/{pid}/{name}")) {
            say(format!("{name} {}", target.display()));
        }
    }
    match File::open(format!("/proc/{pid}/mem")) {
        Ok(_) => say("mem opened".to_owned()),
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => say("mem EACCES".to_owned()),
        Err(_) => {}
    }
    let none = std::ptr::null::<u8>();
    // SAFETY: seizing takes numbers; a seized process keeps running.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) };
    match answer(seized) {
        text if text == "ESRCH" => {}
        text => say(format!("ptrace {text}")),
    }
    if seized == 0 {
        // SAFETY: as above. A process that has not stopped cannot be detached, but it can be waited for.
        unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, none, none) };
        // SAFETY: the status is not requested.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, none, none) };
    }
}

/// Tries to write to a process's program and to change its mode, through a descriptor that outlives the
/// process. (The mode is the better test: a running program can never be written to.)
fn change_program(pid: i32, say: &mut impl FnMut(String)) {
    let exe = format!("/proc/{pid}/exe");
    let Ok(target) = fs::read_link(&exe) else { return };
    let Ok(held) = File::open(&exe) else { return };
    let again = CString::new(format!("/proc/self/fd/{}", held.as_raw_fd())).unwrap_or_default();
    // SAFETY: the path lives through the call.
    let written = unsafe { libc::open(again.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    let written_answer = answer(written.into());
    if written >= 0 {
        // SAFETY: closes the descriptor opened above, which is not used elsewhere.
        unsafe { libc::close(written) };
    }
    // SAFETY: numbers only.
    let mode = unsafe { libc::fchmod(held.as_raw_fd(), 0o777) };
    say(format!(
        "program {} write {written_answer}, chmod {}",
        target.display(),
        answer(mode.into())
    ));
}

/// Creates namespaces (`u`, `m`, `c`: user, mount, cgroup) and executes a program in them.
pub fn unshare(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let mut flags = 0;
    for letter in arguments.text("NAMESPACES")?.chars() {
        flags |= match letter {
            'u' => libc::CLONE_NEWUSER,
            'm' => libc::CLONE_NEWNS,
            _ => libc::CLONE_NEWCGROUP,
        };
    }
    // SAFETY: numbers only.
    if unsafe { libc::unshare(flags) } != 0 {
        return Err(io::Error::last_os_error()).named("unshare");
    }
    if flags & libc::CLONE_NEWUSER != 0 {
        for (file, text) in [("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")] {
            fs::write(format!("/proc/self/{file}"), text).named(file)?;
        }
    }
    let mut command = std::process::Command::new(arguments.text("COMMAND")?);
    while let Ok(word) = arguments.text("WORD") {
        command.arg(word);
    }
    Err(command.exec()).named("exec")
}
