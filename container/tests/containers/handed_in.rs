//! Parts of a plan that units do not use: a root directory, descriptors that outlive the caller, a
//! terminal, more paths to protect, exact groups, a umask and every limit.

use crate::host::{Exit, Host, Running, bind, field};
use crate::tests;
use container::*;
use nix::fcntl::OFlag;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};
use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::PathBuf;

tests![
    a_directory_is_the_root,
    a_directory_can_be_read_only,
    a_missing_directory_is_reported_with_its_step,
    standard_input_is_passed_in,
    a_setup_outlives_its_caller,
    a_failure_after_prepared_is_reported,
    a_failure_before_prepared_is_reported,
    a_terminal_is_the_controlling_terminal,
    paths_of_the_plan_are_masked_and_read_only,
    a_path_to_protect_must_not_contain_a_link,
    a_mount_can_forbid_execution,
    groups_umask_and_every_limit,
    a_group_outside_the_ids_is_refused,
];

/// The layer as a root that the container may write to: its files belong to its own root.
fn root(host: &Host) -> Root {
    Root::Directory(host.layer.clone())
}

fn a_directory_is_the_root(host: &mut Host) {
    let root = root(host);
    let done =
        host.sh("id -u; echo written > /written; stat -c %u /bin/busybox; mkdir /d", |plan| {
            plan.root = root;
            plan.mounts = vec![bind(&PathBuf::from("/etc"), "/made/for/it")];
        });
    assert_eq!(done.ok(), "0\n0\n");
    let written = host.layer.join("written");
    assert_eq!(fs::read_to_string(&written).unwrap(), "written\n");
    assert_eq!(fs::metadata(&written).unwrap().uid(), 0, "no id of the user namespace on the disk");
    assert!(host.layer.join("made/for/it").is_dir());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(host.dir.to_str().unwrap()), "nothing is mounted on the host");
}

fn a_directory_can_be_read_only(host: &mut Host) {
    let root = root(host);
    let done = host.sh("touch /x; touch /dev/shm/y && echo shm", |plan| {
        plan.root = root;
        plan.read_only = true;
    });
    assert_eq!(done.out, "shm\n");
    assert!(done.err.contains("Read-only file system"), "{}", done.err);
}

fn a_missing_directory_is_reported_with_its_step(host: &mut Host) {
    let error = host.sh("true", |plan| plan.root = Root::Directory("/no/such".into())).error();
    assert_eq!(error.to_string(), "mount the root directory: /no/such: No such file or directory");
    let refused = host.try_start(&["true"], |plan| plan.root = Root::Directory("rel".into()));
    assert!(matches!(refused, Err(SpawnError::Plan(_))));
}

fn standard_input_is_passed_in(host: &mut Host) {
    let path = host.dir.join("input");
    fs::write(&path, "said\n").unwrap();
    let input = File::open(&path).unwrap();
    // SAFETY: the file lives longer than the plan.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(input.as_raw_fd()) };
    let running = host.start(&["cat"], |plan| plan.stdin = Some(fd));
    assert_eq!(host.finish(running).ok(), "said\n");
}

/// The two FIFOs of a handover, by their paths.
struct Fifos {
    go: PathBuf,
    status: PathBuf,
}

impl Fifos {
    fn new(host: &Host) -> Fifos {
        let fifos = Fifos { go: host.dir.join("go"), status: host.dir.join("status") };
        for path in [&fifos.go, &fifos.status] {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        }
        fifos
    }

    fn reader(&self) -> File {
        let flags = (OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
        File::options().read(true).custom_flags(flags).open(&self.status).unwrap()
    }

    /// Starts a container and closes every descriptor, like a caller that ends.
    fn start(&self, host: &mut Host, argv: &[&str], edit: impl Fn(&mut Plan)) -> Running {
        let reader = self.reader();
        let flags = (OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
        let writer = File::options().write(true).custom_flags(flags).open(&self.status).unwrap();
        // For reading and writing: the child must not see end of file.
        let go = File::options().read(true).write(true).open(&self.go).unwrap();
        // SAFETY: the three live to the end of this function, and the plan does not.
        let [go, status, status_reader] = [&go, &writer, &reader]
            .map(|file| unsafe { std::os::fd::BorrowedFd::borrow_raw(file.as_raw_fd()) });
        host.start(argv, |plan| {
            plan.handover = Some(Handover { go, status, status_reader });
            edit(plan);
        })
    }
}

fn wait(status: impl AsFd) -> Setup {
    loop {
        match read_status(&status).unwrap() {
            Setup::Pending => std::thread::sleep(std::time::Duration::from_millis(2)),
            other => return other,
        }
    }
}

fn a_setup_outlives_its_caller(host: &mut Host) {
    let fifos = Fifos::new(host);
    let running = fifos.start(host, &["echo", "gone on"], |_| {});
    assert_eq!(wait(&running.spawned.status), Setup::Prepared);
    let Running { spawned, cgroup, out, err } = running;
    let Spawned { pid, pidfd, status, go } = spawned;
    assert!(go.is_none());
    drop((status, pidfd));
    std::thread::sleep(std::time::Duration::from_millis(50));
    // Another process, later.
    let status: OwnedFd = fifos.reader().into();
    assert_eq!(read_status(&status), Ok(Setup::Pending));
    let flags = OFlag::O_NONBLOCK.bits();
    let open_go = || File::options().write(true).custom_flags(flags).open(&fifos.go);
    open_go().unwrap().write_all(b"!").unwrap();
    assert_eq!(wait(&status), Setup::Done);
    assert_eq!(crate::host::read(out), "gone on\n");
    assert_eq!(host.exit_of(pid), Exit::Code(0));
    assert_eq!(
        open_go().unwrap_err().raw_os_error(),
        Some(libc::ENXIO),
        "no process waits any more"
    );
    drop((cgroup, err));
}

fn a_failure_after_prepared_is_reported(host: &mut Host) {
    let fifos = Fifos::new(host);
    let running = fifos.start(host, &["/no/such/program"], |_| {});
    assert_eq!(wait(&running.spawned.status), Setup::Prepared);
    let flags = OFlag::O_NONBLOCK.bits();
    let mut go = File::options().write(true).custom_flags(flags).open(&fifos.go).unwrap();
    go.write_all(b"!").unwrap();
    match wait(&running.spawned.status) {
        Setup::Failed(error) => assert_eq!(error.step, Step::Exec),
        other => panic!("{other:?}"),
    }
}

fn a_failure_before_prepared_is_reported(host: &mut Host) {
    let fifos = Fifos::new(host);
    let running = fifos.start(host, &["true"], |plan| plan.process.user = "nobody".into());
    match wait(&running.spawned.status) {
        Setup::Failed(error) => assert_eq!(error.step, Step::ResolveUser),
        other => panic!("{other:?}"),
    }
}

fn a_terminal_is_the_controlling_terminal(host: &mut Host) {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags).unwrap();
    // SAFETY: the socket lives longer than the plan.
    let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(theirs.as_raw_fd()) };
    let script = "test -t 0 && test -t 1 && test -t 2 && echo three; \
        echo told > /dev/tty; echo console > /dev/console; stat -c %U /dev/pts/0; stty size";
    let running =
        host.start(&["sh", "-c", &format!("{script}; read line; echo got $line")], |plan| {
            plan.terminal = Some(Terminal { socket, size: Some((24, 80)) });
            plan.process.user = "web".into();
            plan.process.cwd = "/".into();
        });
    let mut byte = [0; 16];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut slices = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let got = recvmsg::<()>(ours.as_raw_fd(), &mut slices, Some(&mut space), flags).unwrap();
    let Some(ControlMessageOwned::ScmRights(fds)) = got.cmsgs().unwrap().next() else {
        panic!("no descriptor")
    };
    // SAFETY: the kernel has just created this descriptor.
    let mut master = unsafe { File::from_raw_fd(fds[0]) };
    nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_RDWR)).unwrap();
    master.write_all(b"words\n").unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 512];
    // EIO: the other end is closed.
    while let Ok(n @ 1..) = master.read(&mut buffer) {
        seen.extend(&buffer[..n]);
    }
    let seen = String::from_utf8_lossy(&seen).replace('\r', "");
    for line in ["three\n", "told\n", "console\n", "web\n", "24 80\n", "got words\n"] {
        assert!(seen.contains(line), "{line:?} in {seen:?}");
    }
    assert_eq!(host.finish(running).exit, Exit::Code(0));
}

fn paths_of_the_plan_are_masked_and_read_only(host: &mut Host) {
    host.image_file("/secret/key", "key", 0o644);
    host.image_file("/plain", "plain", 0o644);
    let vol = host.dir.join("vol");
    fs::create_dir_all(vol.join("kept")).unwrap();
    fs::write(vol.join("hidden"), "hidden").unwrap();
    let script = "ls /secret; cat /plain /v/hidden; touch /v/ok && echo ok; touch /v/kept/x; \
        touch /secret/x; cat /proc/uptime; umount /secret; ls /secret";
    let done = host.sh(script, |plan| {
        plan.mounts = vec![bind(&vol, "/v")];
        plan.masked = ["/secret", "/plain", "/v/hidden", "/no/such", "/proc/uptime", "/proc/keys"]
            .map(String::from)
            .into();
        plan.read_only_paths = ["/v/kept", "/no/such", "/proc/sys"].map(String::from).into();
    });
    assert_eq!(done.out, "ok\n", "{}", done.err);
    assert_eq!(done.err.matches("Read-only file system").count(), 2, "{}", done.err);
}

fn a_path_to_protect_must_not_contain_a_link(host: &mut Host) {
    host.image_file("/real/file", "", 0o644);
    symlink("real", host.layer.join("link")).unwrap();
    for hide in [true, false] {
        let error = host
            .sh("true", |plan| match hide {
                true => plan.masked = vec!["/link/file".into()],
                false => plan.read_only_paths = vec!["/link".into()],
            })
            .error();
        assert_eq!(error.step, Step::MorePaths);
        assert!(error.detail.contains("contains a symbolic link"), "{error}");
    }
    let refused = host.try_start(&["true"], |plan| plan.masked = vec!["/a/../b".into()]);
    assert!(matches!(refused, Err(SpawnError::Plan(_))));
}

fn a_mount_can_forbid_execution(host: &mut Host) {
    let bin = host.layer.join("bin");
    let script = "/v/busybox true; cp /bin/busybox /t/b; /t/b true";
    let done = host.sh(script, |plan| {
        let source = MountSource::Tmpfs { size: None, mode: 0o755 };
        let tmpfs = Mount { target: "/t".into(), read_only: false, no_exec: true, source };
        plan.mounts = vec![Mount { no_exec: true, ..bind(&bin, "/v") }, tmpfs];
    });
    assert_eq!(done.err.matches("Permission denied").count(), 2, "{}", done.err);
}

fn groups_umask_and_every_limit(host: &mut Host) {
    let own = fs::read_to_string("/proc/self/limits").unwrap();
    let done = host.sh("cat /proc/self/status /proc/self/limits; umask", |plan| {
        plan.process.user = "web:7".into();
        plan.process.groups = Some(vec![90, 91]);
        plan.process.umask = 0o027;
        plan.process.rlimits = Resource::ALL
            .iter()
            .filter(|resource| !matches!(resource, Resource::Nice | Resource::RtPriority))
            .map(|resource| {
                // Enough for a shell, whatever the unit.
                let number = if *resource == Resource::NoFile { 500 } else { 1 << 40 };
                Rlimit { resource: *resource, soft: number, hard: number }
            })
            // Without CAP_SYS_RESOURCE a limit cannot be raised.
            .filter(|limit| {
                limit.resource == Resource::NoFile || unlimited(&own, limit.resource.name())
            })
            .collect();
    });
    let out = done.ok();
    assert_eq!(field(&out, "Groups"), "90 91");
    assert_eq!(field(&out, "Gid"), "7\t7\t7\t7");
    assert!(out.ends_with("0027\n"), "{out}");
    assert!(unlimited_or(&out, "Max open files", "500"), "{out}");
    assert!(unlimited_or(&out, "Max address space", &(1u64 << 40).to_string()), "{out}");
    assert!(unlimited_or(&out, "Max cpu time", &(1u64 << 40).to_string()), "{out}");
}

fn unlimited_or(limits: &str, name: &str, value: &str) -> bool {
    limits.lines().any(|line| line.starts_with(name) && line.contains(value))
}

/// Whether this process has no such limit.
fn unlimited(limits: &str, name: &str) -> bool {
    let title = match name {
        "as" => "Max address space",
        "core" => "Max core file size",
        "cpu" => "Max cpu time",
        "data" => "Max data size",
        "fsize" => "Max file size",
        "locks" => "Max file locks",
        "rss" => "Max resident set",
        _ => return false,
    };
    limits.lines().any(|line| line.starts_with(title) && line.matches("unlimited").count() == 2)
}

fn a_group_outside_the_ids_is_refused(host: &mut Host) {
    if host.userns.is_some() {
        let groups = Some(vec![70_000]);
        let error = host.sh("true", |plan| plan.process.groups = groups).error();
        assert_eq!(error.step, Step::ResolveUser);
        assert!(error.detail.contains("70000"), "{error}");
    }
    let groups = Some(vec![u32::MAX]);
    let refused = host.try_start(&["true"], |plan| plan.process.groups = groups);
    assert!(matches!(refused, Err(SpawnError::Plan(_))));
}
