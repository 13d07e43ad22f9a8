//! The processes of the host, from /proc.

use super::errno_of;
use crate::kernel::{CallError, Errno, ProcessStatus};
use api_types::Process;
use ipc::Service;
use layout::paths;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Maximum number of listed processes.
const MAX: usize = 4096;

/// Maximum number of bytes shown of a command line.
const COMMAND: u64 = 1024;

/// All processes but the kernel's own threads, by number. One that ends meanwhile is left out.
pub fn list() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter().filter_map(report).take(MAX).collect()
}

fn report(pid: i32) -> Option<Process> {
    // Not UTF-8 where the process has chosen such a name (PR_SET_NAME).
    let read = |file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    // Not all of it: a program may have megabytes of arguments.
    let mut shown = Vec::new();
    let command = File::open(format!("/proc/{pid}/cmdline")).ok()?;
    command.take(COMMAND).read_to_end(&mut shown).ok()?;
    let stat = read("stat")?;
    let status = read("status")?;
    let field = |name: &str| status_field(&status, name);
    // A kernel thread has no memory of its own.
    let rss = field("VmRSS")?.split_whitespace().next()?.parse::<u64>().ok()? * 1024;
    let (state, parent, ticks) = parse_stat(&stat)?;
    // SAFETY: takes and returns numbers.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100);
    let words: Vec<_> = shown
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    Some(Process {
        pid,
        parent,
        unit: read("cgroup").as_deref().and_then(unit_of),
        name: field("Name")?.to_owned(),
        command: words.join(" "),
        state: state.to_string(),
        rss,
        cpu_ms: ticks.saturating_mul(1000) / per_second.max(1),
        uid: field("Uid")?.split_whitespace().next()?.parse().ok()?,
    })
}

/// The processes of a cgroup, without those of the cgroups below it (cgroups(7)).
///
/// # Errors
/// The cgroup does not exist.
pub fn of_cgroup(cgroup: &Path) -> io::Result<Vec<i32>> {
    let list = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    Ok(list.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Whether a process runs its own program, and not this process's.
///
/// # Errors
/// It does not exist (any more).
pub fn is_executed(pid: i32) -> Result<bool, CallError> {
    // By its inode: a container's own program may have the name of ours.
    let identity = |path: String| match fs::metadata(&path) {
        Ok(file) => Ok((file.dev(), file.ino())),
        Err(error) => Err(CallError::new(path, errno_of(&error))),
    };
    let theirs = identity(format!("/proc/{pid}/exe"))?;
    Ok(identity("/proc/self/exe".to_owned())? != theirs)
}

/// What /proc/PID/status says.
///
/// # Errors
/// The process is gone, or the file cannot be read.
pub fn status(pid: i32) -> Result<ProcessStatus, CallError> {
    let path = format!("/proc/{pid}/status");
    let failed = |errno| CallError::new(path.clone(), errno);
    // Not UTF-8 where the process has chosen such a name (PR_SET_NAME).
    let bytes = fs::read(&path).map_err(|error| failed(errno_of(&error)))?;
    let text = String::from_utf8_lossy(&bytes);
    let parent = status_field(&text, "PPid").and_then(|number| number.parse().ok());
    let ids = status_field(&text, "NSpid").unwrap_or_default();
    let ns_pids = ids.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect();
    Ok(ProcessStatus { parent: parent.ok_or_else(|| failed(Errno::EBADMSG))?, ns_pids })
}

/// Sends a signal to the process in a service's cgroup.
///
/// # Errors
/// The service does not run.
pub fn signal_service(service: Service, signal: i32) -> Result<i32, CallError> {
    let name = service.applet();
    let failed = |errno| CallError::new(name, errno);
    let pids = of_cgroup(&Path::new(paths::CGROUP_SYSTEM).join(name));
    let pids = pids.map_err(|error| failed(errno_of(&error)))?;
    let pid = *pids.first().ok_or_else(|| failed(Errno::ESRCH))?;
    // SAFETY: plain numbers; the process is one of ours, as its cgroup says.
    let done = unsafe { libc::kill(pid, signal) };
    Errno::result(done).map_err(failed)?;
    Ok(pid)
}

/// One field of /proc/PID/status (proc_pid_status(5)).
fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// State, parent and CPU time (in clock ticks) from /proc/PID/stat (proc_pid_stat(5)). The name
/// before them is in parentheses and may contain anything.
fn parse_stat(text: &str) -> Option<(char, i32, u64)> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    // utime is field 14, stime 15; the state was field 3.
    let mut times = fields.skip(9).map(|field| field.parse::<u64>().ok());
    Some((state, parent, times.next()??.saturating_add(times.next()??)))
}

/// The unit in whose cgroup a process is: `0::/units/web/…` (cgroups(7)).
fn unit_of(text: &str) -> Option<String> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/units/"))?;
    path.split('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_is_not_utf8_hides_no_process() {
        use std::io::Read;
        // A child that has given itself such a name, and says so.
        let (mut said, says) = std::io::pipe().unwrap();
        // SAFETY: the child makes system calls only, and ends in _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: the name ends with a NUL; the descriptor is open; `pause` returns at a signal.
            unsafe {
                libc::prctl(libc::PR_SET_NAME, c"\xff\xfe".as_ptr());
                libc::write(std::os::fd::AsRawFd::as_raw_fd(&says), b"n".as_ptr().cast(), 1);
                libc::pause();
                libc::_exit(0)
            }
        }
        said.read_exact(&mut [0]).unwrap();
        let (status, report) = (status(child), report(child));
        // SAFETY: the process is a child of this one that nobody has waited for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        assert_eq!(status.unwrap().parent, i32::try_from(std::process::id()).unwrap());
        assert_eq!(report.unwrap().pid, child);
    }

    #[test]
    fn this_process_is_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        let all = list();
        let found = all.iter().find(|process| process.pid == own).unwrap();
        assert!(found.rss > 0 && found.command.contains("supervisor"), "{found:?}");
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) R 1 (b) S 3 7 7 0 -1 4194560 1 2 3 4 11 22 5 6 20 0 1 0 99";
        assert_eq!(parse_stat(line), Some(('S', 3, 33)));
        assert_eq!(unit_of("0::/units/web/child\n").as_deref(), Some("web"));
        assert_eq!(unit_of("0::/system/keel-api\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC*") {
            parse_stat(&text);
            status_field(&text, "Name");
            unit_of(&text);
        }
    }
}
