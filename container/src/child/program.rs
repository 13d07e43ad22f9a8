//! Finds the program in the container's `PATH`, executes it, and explains why an exec failed.

use super::{Problem, StepResult};
use crate::caps;
use crate::file_caps::FileCaps;
use crate::plan::{DEFAULT_PATH, Process};
use crate::user::Identity;
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Machine number of x86-64 in ELF headers (elf.h's EM_X86_64).
const EM_X86_64: u16 = 62;
/// Program header type of the dynamic loader's path (elf.h's PT_INTERP).
const PT_INTERP: u32 = 3;

/// The arguments of `execve(2)`.
pub(super) struct Program {
    name: String,
    path: String,
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

fn c_strings<'s>(texts: impl Iterator<Item = &'s str>) -> StepResult<Vec<CString>> {
    texts.map(|text| CString::new(text).map_err(|_| Errno::EINVAL.into())).collect()
}

/// The null-terminated array of pointers for `execve(2)`.
fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

impl Program {
    /// Completes the environment and lists the candidate paths of the program.
    pub(super) fn new(process: &Process, identity: &Identity) -> StepResult<Program> {
        let name = process.argv.first().ok_or(Errno::EINVAL)?.clone();
        let variable =
            |prefix| process.env.iter().rev().find_map(|v: &String| v.strip_prefix(prefix));
        let path = variable("PATH=").unwrap_or(DEFAULT_PATH).to_owned();
        let mut env = c_strings(process.env.iter().map(String::as_str))?;
        if variable("PATH=").is_none() {
            env.extend(c_strings([format!("PATH={path}").as_str()].into_iter())?);
        }
        if variable("HOME=").is_none() {
            env.extend(c_strings([format!("HOME={}", identity.home).as_str()].into_iter())?);
        }
        let candidates = match name.contains('/') {
            true => c_strings([name.as_str()].into_iter())?,
            false => {
                // An empty element would mean the working directory; it is ignored.
                let all: Vec<String> = path
                    .split(':')
                    .filter(|dir| !dir.is_empty())
                    .map(|dir| format!("{}/{name}", dir.trim_end_matches('/')))
                    .collect();
                c_strings(all.iter().map(String::as_str))?
            }
        };
        let argv = c_strings(process.argv.iter().map(String::as_str))?;
        Ok(Program { name, path, candidates, argv, env })
    }

    /// Warns on standard error if no_new_privs makes the program's set-user-id bit or file
    /// capabilities ineffective: the kernel does not report it, and the program would fail later
    /// with an unrelated error. Root needs no warning: it has nothing to gain.
    pub(super) fn warn(&self, identity: &Identity) {
        if identity.uid == 0 {
            return;
        }
        let found = self.candidates.iter().find(|path| as_path(path).exists());
        let Some((path, gain)) =
            found.and_then(|path| Some((path, gain(as_path(path), identity)?)))
        else {
            return;
        };
        let text = format!(
            "keel: {} {gain}, which has no effect: it runs as user {} with no_new_privileges\n",
            path.to_string_lossy(),
            identity.uid
        );
        // If standard error is closed, nobody reads the warning.
        let _ = nix::unistd::write(std::io::stderr(), text.as_bytes());
    }

    /// Executes the first candidate that the kernel accepts; returns only if there is none. As in a
    /// shell, a candidate without execute permission is skipped in favour of a later one.
    pub(super) fn execute(&self) -> Problem {
        let (argv, env) = (pointers(&self.argv), pointers(&self.env));
        let mut failed = None;
        for candidate in &self.candidates {
            // SAFETY: both arrays end in a null pointer and point to strings that live on.
            unsafe { libc::execve(candidate.as_ptr(), argv.as_ptr(), env.as_ptr()) };
            let errno = Errno::last();
            let missing = matches!(errno, Errno::ENOENT | Errno::ENOTDIR);
            if missing && std::fs::symlink_metadata(as_path(candidate)).is_err() {
                continue;
            }
            failed.get_or_insert((errno, candidate));
            if errno != Errno::EACCES {
                break;
            }
        }
        match failed {
            Some((errno, candidate)) => {
                let path = candidate.to_string_lossy();
                Problem::new(errno, format!("{path}: {}", explain(as_path(candidate), errno)))
            }
            None if self.name.contains('/') => {
                Problem::new(Errno::ENOENT, format!("{}: no such file in the image", self.name))
            }
            None => {
                let text = format!("{}: not found in PATH ({})", self.name, self.path);
                Problem::new(Errno::ENOENT, text)
            }
        }
    }
}

/// Describes what privilege a set-user-id bit, a set-group-id bit or file capabilities would grant
/// this user; `None` if none.
fn gain(path: &Path, identity: &Identity) -> Option<String> {
    let meta = std::fs::metadata(path).ok()?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o4000 != 0 && meta.uid() != identity.uid {
        return Some(format!("is set-user-id (mode {mode:04o})"));
    }
    if mode & 0o2010 == 0o2010 && meta.gid() != identity.gid {
        return Some(format!("is set-group-id (mode {mode:04o})"));
    }
    file_caps(path)?.gain()
}

fn file_caps(path: &Path) -> Option<FileCaps> {
    FileCaps::of(&CString::new(path.as_os_str().as_bytes()).ok()?)
}

fn as_path(path: &CStr) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()))
}

/// Why the kernel refused to execute an existing file.
fn explain(path: &Path, errno: Errno) -> String {
    let target = std::fs::metadata(path);
    match (errno, target) {
        (_, Ok(meta)) if meta.is_dir() => "is a directory".into(),
        (Errno::ENOENT, Err(_)) => "is a symbolic link to a file that is not in the image".into(),
        (Errno::EACCES, Ok(meta)) => explain_access(&meta),
        (Errno::ENOENT | Errno::ENOEXEC, Ok(_)) => match start_of(path) {
            Some(start) => explain_format(&start, errno),
            None => errno.desc().into(),
        },
        (Errno::EPERM, Ok(_)) => match explain_capabilities(path) {
            Some(words) => words,
            None => errno.desc().into(),
        },
        (Errno::E2BIG, _) => "the arguments and the environment are too long".into(),
        _ => errno.desc().into(),
    }
}

fn explain_access(meta: &Metadata) -> String {
    if !meta.is_file() {
        "is not a regular file".into()
    } else if meta.mode() & 0o111 == 0 {
        format!("is not executable (mode {:04o})", meta.mode() & 0o7777)
    } else {
        let uid = nix::unistd::geteuid();
        format!("permission denied for user {uid} (mode {:04o})", meta.mode() & 0o7777)
    }
}

/// Explains an EPERM that is due to file capabilities of the program or of a script's interpreter.
fn explain_capabilities(path: &Path) -> Option<String> {
    let bounding = caps::bounding_set();
    if let Some(words) = file_caps(path).and_then(|caps| caps.refusal(bounding)) {
        return Some(words);
    }
    let start = start_of(path)?;
    let name = interpreter(start.strip_prefix(b"#!")?)?;
    let words = file_caps(Path::new(&name))?.refusal(bounding)?;
    Some(format!("its interpreter {name} {words}"))
}

/// The interpreter that a script names after `#!`, if any.
fn interpreter(rest: &[u8]) -> Option<String> {
    let line = rest.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    line.split_ascii_whitespace().next().map(str::to_owned)
}

/// The first 4 KiB, which hold the `#!` line or the ELF headers.
fn start_of(path: &Path) -> Option<Vec<u8>> {
    let mut options = std::fs::OpenOptions::new();
    let file: File = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let mut start = Vec::new();
    file.take(4096).read_to_end(&mut start).ok()?;
    Some(start)
}

/// Why the kernel does not execute a file that begins with these bytes.
pub fn explain_format(start: &[u8], errno: Errno) -> String {
    if let Some(line) = start.strip_prefix(b"#!") {
        let first = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let hint = if first.ends_with(b"\r") { " (the script has DOS line endings)" } else { "" };
        return match interpreter(line) {
            Some(name) => format!("its interpreter {name} is not in the image{hint}"),
            None => "has no interpreter after #!".into(),
        };
    }
    if !start.starts_with(b"\x7fELF") {
        return match start.is_empty() {
            true => "is empty".into(),
            false => "is not an executable (neither ELF nor #!)".into(),
        };
    }
    match (number::<2>(start, 18), errno) {
        (Some(machine), _) if machine != u64::from(EM_X86_64) => {
            format!("is built for another architecture (ELF machine {machine})")
        }
        (_, Errno::ENOENT) => match loader(start) {
            Some(loader) => format!("its loader {loader} is not in the image"),
            None => "its loader is not in the image".into(),
        },
        _ => "is an ELF file that the kernel cannot execute".into(),
    }
}

/// A little-endian number of `N` bytes.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(N)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// The dynamic loader that a 64-bit ELF file asks for (elf(5)).
fn loader(elf: &[u8]) -> Option<String> {
    let offset = usize::try_from(number::<8>(elf, 32)?).ok()?;
    let size = usize::try_from(number::<2>(elf, 54)?).ok()?;
    let count = usize::try_from(number::<2>(elf, 56)?).ok()?;
    (0..count).find_map(|index| {
        let header = elf.get(offset.checked_add(index.checked_mul(size)?)?..)?;
        if number::<4>(header, 0)? != u64::from(PT_INTERP) {
            return None;
        }
        let at = usize::try_from(number::<8>(header, 8)?).ok()?;
        let length = usize::try_from(number::<8>(header, 32)?).ok()?;
        let path = elf.get(at..at.checked_add(length)?)?;
        let path = path.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(path).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_missing_interpreter_or_loader_is_named() {
        let explain = |start: &[u8]| explain_format(start, Errno::ENOENT);
        assert_eq!(explain(b"#!/bin/bash -e\n"), "its interpreter /bin/bash is not in the image");
        assert!(explain(b"#!/bin/sh\r\n").contains("DOS"));
        assert_eq!(explain(b"hello"), "is not an executable (neither ELF nor #!)");
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(loader(&own), None, "the test itself is static");
        let mut arm = own[..64].to_vec();
        arm[18] = 183;
        assert!(explain(&arm).contains("ELF machine 183"));
    }

    proptest! {
        #[test]
        fn damaged_programs_are_explained_without_a_panic(
            noise in proptest::collection::vec((0usize..128, any::<u8>()), 0..40),
            length in 0usize..256,
        ) {
            let mut elf = vec![0u8; 256];
            elf[..4].copy_from_slice(b"\x7fELF");
            elf[18] = 62;
            elf[32] = 64;
            elf[54] = 56;
            elf[56] = 2;
            elf[64] = 3;
            for (at, byte) in noise {
                elf[at + 4] = byte;
            }
            let _ = explain_format(&elf[..length], Errno::ENOENT);
        }
    }
}
