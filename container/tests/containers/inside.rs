//! Files and terminals of a running container, opened from outside.

use crate::host::{Exit, Host, Running, default_filter, process};
use crate::tests;
use container::*;
use nix::errno::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

tests![
    a_file_is_read_and_written_from_outside,
    links_are_resolved_inside_the_container,
    only_regular_files_are_opened,
    a_program_gets_a_terminal,
    a_program_reads_its_standard_input,
];

fn running(host: &mut Host, script: &str) -> Running {
    let script = format!("{script}; echo up; exec sleep 1000");
    let mut running = host.start(&["sh", "-c", &script], |_| {});
    assert_eq!(running.line(), "up");
    running
}

fn open(running: &Running, path: &str, access: Access) -> Result<File, InsideError> {
    open_file(running.spawned.pid, running.spawned.pidfd.as_fd(), path, access).map(File::from)
}

fn text(running: &Running, path: &str) -> String {
    let mut text = String::new();
    open(running, path, Access::Read).unwrap().read_to_string(&mut text).unwrap();
    text
}

fn a_file_is_read_and_written_from_outside(host: &mut Host) {
    let running = running(host, "echo hidden > /tmp/f");
    assert_eq!(text(&running, "/tmp/f"), "hidden\n");
    let write = Access::Write { mode: 0o640, owner: host.outside(0) };
    for words in ["longer than the next", "short"] {
        open(&running, "/tmp/new", write).unwrap().write_all(words.as_bytes()).unwrap();
        assert_eq!(text(&running, "/tmp/new"), words);
    }
    let missing = open(&running, "/tmp/none", Access::Read).unwrap_err();
    assert_eq!(missing, InsideError::Sys { call: "open", errno: Errno::ENOENT });
    let relative = open(&running, "tmp/f", Access::Read).unwrap_err();
    assert_eq!(relative, InsideError::Path);
}

fn links_are_resolved_inside_the_container(host: &mut Host) {
    let script = "echo mine > /etc/secret; cd /tmp; ln -s /etc/secret a; \
        ln -s ../../../../../../etc/secret b; ln -s /proc/1/root/etc/secret c; ln -s /etc/made d";
    let running = running(host, script);
    assert_eq!(text(&running, "/tmp/a"), "mine\n");
    assert_eq!(text(&running, "/tmp/b"), "mine\n");
    assert_eq!(text(&running, "/../../etc/secret"), "mine\n");
    // Magic links do not resolve by path and cannot be confined to the root, so they are refused.
    assert!(open(&running, "/tmp/c", Access::Read).is_err());
    // A file is created only if nothing exists at the path, not even a dangling link.
    assert!(
        open(&running, "/tmp/d", Access::Write { mode: 0o600, owner: host.outside(0) }).is_err()
    );
}

fn only_regular_files_are_opened(host: &mut Host) {
    let running = running(host, "mkfifo /tmp/pipe");
    for path in ["/tmp/pipe", "/tmp", "/dev/null"] {
        for access in [Access::Read, Access::Write { mode: 0o600, owner: host.outside(0) }] {
            assert_eq!(open(&running, path, access).unwrap_err(), InsideError::NotAFile, "{path}");
        }
    }
}

fn a_program_gets_a_terminal(host: &mut Host) {
    let running = running(host, "true");
    let (ours, theirs) = open_terminal(running.spawned.pid, running.spawned.pidfd.as_fd()).unwrap();
    resize_terminal(&ours, 33, 101).unwrap();
    let executed = exec(&Execution {
        pidfd: running.spawned.pidfd.as_fd(),
        cgroup: &running.cgroup,
        ids: host.ids(),
        process: process(&["sh", "-c", "tty; stty size; read word; echo got $word > /dev/tty"]),
        seccomp: Some(default_filter()),
        stdin: Some(theirs.as_fd()),
        stdout: theirs.as_fd(),
        stderr: theirs.as_fd(),
    })
    .unwrap();
    drop(theirs);
    let mut terminal = File::from(ours);
    terminal.write_all(b"back\n").unwrap();
    assert_eq!(host.exit_of(executed.pid), Exit::Code(0));
    host.exit_of(executed.helper);
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    // Reading a terminal whose other end is closed ends with EIO.
    while let Ok(got) = terminal.read(&mut buffer) {
        said.extend_from_slice(&buffer[..got]);
    }
    let said = String::from_utf8_lossy(&said);
    for expected in ["/dev/pts/0\r\n", "33 101\r\n", "got back\r\n"] {
        assert!(said.contains(expected), "{said:?}");
    }
}

fn a_program_reads_its_standard_input(host: &mut Host) {
    let running = running(host, "true");
    let (stdin, mut to) = std::io::pipe().unwrap();
    let (mut from, stdout) = std::io::pipe().unwrap();
    let executed = exec(&Execution {
        pidfd: running.spawned.pidfd.as_fd(),
        cgroup: &running.cgroup,
        ids: host.ids(),
        process: process(&["cat"]),
        seccomp: Some(default_filter()),
        stdin: Some(stdin.as_fd()),
        stdout: stdout.as_fd(),
        stderr: stdout.as_fd(),
    })
    .unwrap();
    drop((stdin, stdout));
    to.write_all(b"through and back").unwrap();
    drop(to);
    let mut back = String::new();
    from.read_to_string(&mut back).unwrap();
    assert_eq!(back, "through and back");
    assert_eq!(host.exit_of(executed.pid), Exit::Code(0));
    host.exit_of(executed.helper);
}
