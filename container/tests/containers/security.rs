//! Known attacks on container runtimes.

use crate::host::{Host, bind, field, not_run};
use crate::root_file_system::tmpfs;
use crate::tests;
use container::*;
use std::fs;
use std::os::unix::fs::symlink;

tests![
    capabilities_are_exactly_the_plans,
    cve_2022_24769_the_inheritable_set_is_empty,
    no_new_privs_disables_set_uid,
    cve_2022_0811_sysctls_of_the_host_cannot_be_changed,
    kernel_files_are_masked,
    kernel_files_are_read_only,
    only_unmasked_paths_are_accessible,
    cve_2019_19921_a_symlinked_proc_is_refused,
    cve_2026_41579_symlinked_dev_and_sys_are_refused,
    cve_2021_30465_a_volume_target_through_a_link_stays_inside,
    cve_2024_45310_missing_directories_are_created_only_inside,
    a_volume_cannot_cover_kernel_files_through_a_link,
    cve_2024_21626_no_descriptor_leaks,
    cve_2024_21626_the_working_directory_is_inside,
    cve_2026_55686_a_linked_working_directory_creates_nothing_on_the_host,
    cve_2026_47262_an_endless_group_file,
    user_databases_that_are_not_regular_files,
    cve_2024_40635_a_user_beyond_32_bits,
    cve_2022_0492_cgroups_cannot_be_changed,
    cve_2016_9962_the_child_is_not_dumpable,
    it_has_its_own_session_keyring,
    chroot_and_dot_dot_do_not_reach_the_old_root,
];

fn status(host: &mut Host, edit: impl for<'p> FnOnce(&mut Plan<'p>)) -> String {
    host.run(&["cat", "/proc/self/status"], edit).ok()
}

fn capabilities_are_exactly_the_plans(host: &mut Host) {
    let default = format!("{:016x}", CapSet::DEFAULT.bits());
    let root = status(host, |_| {});
    for set in ["CapBnd", "CapPrm", "CapEff"] {
        assert_eq!(field(&root, set), default, "{set}");
    }
    let user = status(host, |plan| plan.process.user = "web".into());
    assert_eq!(field(&user, "CapBnd"), default);
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(field(&user, set), "0000000000000000", "{set}");
    }
    let none = status(host, |plan| plan.process.caps = CapSet::EMPTY);
    for set in ["CapBnd", "CapPrm", "CapEff"] {
        assert_eq!(field(&none, set), "0000000000000000", "{set}");
    }
    let more = CapSet::from_names(&["NET_ADMIN"], &["CHOWN"]).unwrap();
    let some = status(host, |plan| plan.process.caps = more);
    assert_eq!(field(&some, "CapEff"), format!("{:016x}", more.bits()));
}

fn cve_2022_24769_the_inheritable_set_is_empty(host: &mut Host) {
    for user in ["", "web"] {
        let status = status(host, |plan| plan.process.user = user.into());
        assert_eq!(field(&status, "CapInh"), "0000000000000000");
        assert_eq!(field(&status, "CapAmb"), "0000000000000000");
    }
}

fn no_new_privs_disables_set_uid(host: &mut Host) {
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(field(&status(host, |_| {}), "NoNewPrivs"), "1");
    // Not busybox, which drops privileges that it does not need.
    let suid = host.layer.join("bin/suid");
    fs::copy("/proc/self/exe", &suid).unwrap();
    fs::set_permissions(&suid, fs::Permissions::from_mode(0o4755)).unwrap();
    for (no_new_privs, effective) in [(true, "1000\n"), (false, "0\n")] {
        let out = host.run(&["suid", crate::PRINT_USER], |plan| {
            plan.process.user = "web".into();
            plan.process.no_new_privs = no_new_privs;
        });
        // Without this warning the user would not know.
        let said = "suid is set-user-id (mode 4755), which has no effect: it runs as user 1000";
        assert_eq!(out.err.contains(said), no_new_privs, "{out:?}");
        assert_eq!(out.ok(), effective);
    }
}

fn cve_2022_0811_sysctls_of_the_host_cannot_be_changed(host: &mut Host) {
    host.netns = Some(create_netns(host.userns.as_ref()).unwrap().ns);
    let set = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let script = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax";
    let before = fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    let out = host.sh(script, |plan| {
        plan.sysctls = [set("net.core.somaxconn", "1234"), set("kernel.msgmax", "4321")].concat();
    });
    assert_eq!(out.ok(), "1234\n4321\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), before);
    for name in ["kernel.core_pattern", "kernel.shmmax/../core_pattern", "vm.swappiness"] {
        let refused = host.try_start(&["true"], |plan| plan.sysctls = set(name, "x"));
        assert!(matches!(refused, Err(SpawnError::Plan(_))), "{name}");
    }
    let missing = host.sh("true", |plan| plan.sysctls = set("net.no.such", "1")).error();
    assert_eq!(missing.step, Step::Sysctls);
    assert!(missing.to_string().contains("net/no/such"), "{missing}");
}

fn kernel_files_are_masked(host: &mut Host) {
    let script = "cd /proc; for f in interrupts kcore keys latency_stats timer_list timer_stats \
        sched_debug; do test -e $f && echo $f $(stat -c '%F %t:%T' $f) $(cat $f | wc -c); done; \
        for d in /proc/acpi /proc/asound /proc/scsi /sys/firmware /sys/devices/virtual/powercap \
        /sys/fs/selinux /sys/devices/system/cpu/cpu0/thermal_throttle; do \
        test -e $d && echo $d $(ls -A $d | wc -l) && touch $d/x; done; true";
    let done = host.sh(script, |_| {});
    let mut seen = 0;
    for line in done.out.lines() {
        assert!(line.ends_with(" character special file 1:3 0") || line.ends_with(" 0"), "{line}");
        seen += 1;
    }
    for masked in ["/proc/interrupts", "/proc/timer_list", "/proc/kcore", "/proc/keys"] {
        let name = masked.trim_start_matches("/proc/");
        assert_eq!(fs::exists(masked).unwrap(), done.out.contains(name), "{masked}");
    }
    assert!(seen > 1, "there was nothing to mask: {done:?}");
    let directories = done.out.lines().filter(|line| line.starts_with('/')).count();
    assert_eq!(done.err.matches("Read-only").count(), directories, "{done:?}");
}

fn kernel_files_are_read_only(host: &mut Host) {
    let script = "cat /proc/self/mounts; echo x > /proc/sys/kernel/hostname";
    let done = host.sh(script, |plan| plan.process.caps = CapSet::ALL);
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
        let mount = format!("proc {path} proc ro,nosuid,nodev,noexec,relatime 0 0\n");
        assert_eq!(done.out.contains(&mount), fs::exists(path).unwrap(), "{path}: {}", done.out);
    }
    assert!(done.err.contains("Read-only"), "{}", done.err);
}

fn only_unmasked_paths_are_accessible(host: &mut Host) {
    let open = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let script = "wc -c </proc/interrupts; stat -c %F /proc/timer_list; \
        grep -c ' /proc/sys ' /proc/self/mounts; grep -c ' /proc/irq ' /proc/self/mounts";
    let some = host.sh(script, |plan| plan.unmasked = open(&["/proc/interrupts", "/proc/sys"]));
    let lines: Vec<&str> = some.out.lines().collect();
    assert!(lines[0].parse::<u32>().unwrap() > 0, "{some:?}");
    assert_eq!(&lines[1..], ["character special file", "0", "1"], "{some:?}");
    let none = host.sh("grep -E ' /(proc|sys)/' /proc/self/mounts", |plan| {
        plan.unmasked = units::kernel_files::all().map(str::to_owned).collect();
    });
    assert!(none.out.lines().all(|line| line.contains(" /sys/fs/cgroup ")), "{none:?}");
    assert!(!none.out.is_empty(), "{none:?}");
    let refused = host.try_start(&["true"], |plan| plan.unmasked = open(&["/proc"]));
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("neither masked nor read-only"), "{error}");
}

fn refused(host: &mut Host, dir: &str, step: Step) {
    let victim = host.dir.join("victim");
    fs::create_dir_all(&victim).unwrap();
    fs::create_dir_all(host.layer.join("elsewhere")).unwrap();
    for target in ["/elsewhere", "elsewhere", victim.to_str().unwrap(), "/nowhere"] {
        host.image_link(dir, target);
        let error = host.sh("true", |_| {}).error();
        assert_eq!(error.step, step);
        assert_eq!(error.detail, format!("the image's {dir} is a symbolic link"));
        fs::remove_file(host.layer.join(dir.trim_start_matches('/'))).unwrap();
    }
    host.image_file(dir, "", 0o644);
    let error = host.sh("true", |_| {}).error();
    assert_eq!(error.detail, format!("the image's {dir} is not a directory"));
}

fn cve_2019_19921_a_symlinked_proc_is_refused(host: &mut Host) {
    refused(host, "/proc", Step::Proc);
}

fn cve_2026_41579_symlinked_dev_and_sys_are_refused(host: &mut Host) {
    refused(host, "/sys", Step::Sys);
    fs::remove_file(host.layer.join("sys")).unwrap();
    refused(host, "/dev", Step::Dev);
}

fn cve_2021_30465_a_volume_target_through_a_link_stays_inside(host: &mut Host) {
    let (vol, victim) = (host.dir.join("vol"), host.dir.join("victim"));
    fs::create_dir_all(&victim).unwrap();
    fs::create_dir_all(&vol).unwrap();
    fs::write(vol.join("hello"), "").unwrap();
    let up = format!("../../../../../../../..{}", victim.display());
    for (link, target) in [("a", victim.to_str().unwrap()), ("b", up.as_str())] {
        host.image_link(&format!("/links/{link}"), target);
        let inside = format!("ls {}/x", victim.display());
        let out = host
            .sh(&inside, |plan| plan.mounts = vec![bind(&vol, &format!("/links/{link}/x"))])
            .ok();
        assert_eq!(out, "hello\n");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    }
    // A link inside a volume that is mounted first.
    symlink("/", vol.join("root")).unwrap();
    let out = host
        .sh("ls /data/hello /etc/m; touch /etc/m/t", |plan| {
            plan.mounts = vec![bind(&vol, "/data"), tmpfs("/data/root/etc/m", None)];
        })
        .ok();
    assert_eq!(out, "/data/hello\n\n/etc/m:\n");
    assert!(!fs::exists("/etc/m").unwrap());
}

fn cve_2024_45310_missing_directories_are_created_only_inside(host: &mut Host) {
    let outside = host.dir.join("outside");
    host.image_link("/var/run", outside.to_str().unwrap());
    host.image_link("/loop/a", "b");
    host.image_link("/loop/b", "a");
    let path = format!("{}/deep/er", outside.display());
    let out = host
        .sh(&format!("stat -c %a:%u {path}"), |plan| {
            plan.mounts = vec![tmpfs("/var/run/deep/er", None)];
        })
        .ok();
    assert_eq!(out, "1777:0\n");
    assert!(!outside.exists());
    let error = host.sh("true", |plan| plan.mounts = vec![tmpfs("/loop/a/x", None)]).error();
    assert_eq!(error.errno, nix::errno::Errno::ELOOP);
}

fn a_volume_cannot_cover_kernel_files_through_a_link(host: &mut Host) {
    host.image_link("/p", "/proc/sys");
    host.image_link("/s", "/sys/fs/cgroup");
    host.image_link("/m", "/proc/self/fd");
    let vol = host.dir.join("vol");
    fs::create_dir(&vol).unwrap();
    for target in ["/p", "/p/kernel", "/s", "/m"] {
        let error = host.sh("true", |plan| plan.mounts = vec![bind(&vol, target)]).error();
        assert_eq!(error.step, Step::Mounts, "{error}");
        let error = host.sh("true", |plan| plan.mounts = vec![tmpfs(target, None)]).error();
        assert!(error.detail.contains("resolves into a kernel file system"), "{error}");
    }
}

fn cve_2024_21626_no_descriptor_leaks(host: &mut Host) {
    // SAFETY: opens descriptors that are deliberately not close-on-exec, at several numbers.
    unsafe {
        for number in [40, 50, 140, 200] {
            let fd = libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY);
            assert!(libc::dup2(fd, number) == number);
        }
    }
    let vol = host.dir.join("vol");
    fs::create_dir(&vol).unwrap();
    host.netns = Some(create_netns(host.userns.as_ref()).unwrap().ns);
    for go in [false, true] {
        let running = host.start(&["ls", "/proc/self/fd"], |plan| {
            plan.mounts = vec![bind(&vol, "/vol"), tmpfs("/t", None)];
            plan.wait_for_go = go;
        });
        if let Some(go) = &running.spawned.go {
            nix::unistd::write(go, b"!").unwrap();
        }
        // 3 is the directory that ls itself reads.
        assert_eq!(host.finish(running).ok(), "0\n1\n2\n3\n");
    }
}

fn cve_2024_21626_the_working_directory_is_inside(host: &mut Host) {
    for number in 3..12 {
        let cwd = format!("/proc/self/fd/{number}");
        let error = host.run(&["pwd"], |plan| plan.process.cwd = cwd).error();
        assert_eq!(error.step, Step::WorkingDir, "{error}");
    }
    host.image_link("/w", "/proc/self/cwd");
    let error = host.run(&["pwd"], |plan| plan.process.cwd = "/w".into()).error();
    assert_eq!(error.step, Step::WorkingDir, "{error}");
}

fn cve_2026_55686_a_linked_working_directory_creates_nothing_on_the_host(host: &mut Host) {
    let outside = host.dir.join("outside");
    host.image_link("/w", outside.to_str().unwrap());
    let out = host.run(&["/bin/pwd"], |plan| plan.process.cwd = "/w/x".into()).ok();
    assert_eq!(out.trim(), outside.join("x").to_str().unwrap());
    assert!(!outside.exists());
}

fn cve_2026_47262_an_endless_group_file(host: &mut Host) {
    host.image_file("/etc/group", &"x".repeat(2 << 20), 0o644);
    let error = host.run(&["id"], |plan| plan.process.user = "web".into()).error();
    assert_eq!(error.to_string(), "look up the user: the image's /etc/group is larger than 1 MiB");
    // With numeric user and group the file is not even opened.
    let out = host.run(&["id", "-u"], |plan| plan.process.user = "1000:1000".into());
    assert_eq!(out.exit, crate::host::Exit::Code(0));
}

fn user_databases_that_are_not_regular_files(host: &mut Host) {
    let passwd = host.layer.join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    for target in ["/dev/zero", "/dev", "/proc/self/fd/0"] {
        host.image_link("/etc/passwd", target);
        let error = host.run(&["id"], |_| {}).error();
        assert_eq!(error.step, Step::ResolveUser, "{error}");
        fs::remove_file(&passwd).unwrap();
    }
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = host.run(&["id"], |_| {}).error();
    assert_eq!(error.detail, "the image's /etc/passwd is not a regular file");
}

fn cve_2024_40635_a_user_beyond_32_bits(host: &mut Host) {
    host.image_file("/etc/passwd", "big:x:4294967296:0::/:/\nneg:x:-1:0::/:/\n", 0o644);
    for user in ["big", "neg"] {
        let error = host.run(&["id"], |plan| plan.process.user = user.into()).error();
        assert!(error.detail.contains("with an invalid id"), "{error}");
    }
}

fn cve_2022_0492_cgroups_cannot_be_changed(host: &mut Host) {
    let done = host.sh("mkdir /sys/fs/cgroup/x; echo 1 > /sys/fs/cgroup/cgroup.procs", |_| {});
    assert_eq!(done.err.matches("Read-only").count(), 2, "{done:?}");
    let done = host.sh("mount -o remount,rw /sys/fs/cgroup; mount -t tmpfs t /tmp", |_| {});
    assert!(
        done.err.contains("ermission denied") || done.err.contains("not permitted"),
        "{done:?}"
    );
}

fn cve_2016_9962_the_child_is_not_dumpable(host: &mut Host) {
    use std::os::unix::fs::MetadataExt;
    let running = host.start(&["true"], |plan| {
        plan.process.user = "web".into();
        plan.wait_for_go = true;
    });
    let proc = format!("/proc/{}", running.spawned.pid);
    while !fs::read_to_string(format!("{proc}/status")).unwrap().contains("NoNewPrivs:\t1") {
        std::thread::yield_now();
    }
    // The /proc files of an undumpable process belong to root, whatever its user.
    assert_eq!(fs::metadata(format!("{proc}/fd")).unwrap().uid(), 0);
}

/// Prints the id of this process's session keyring; runs inside a container.
pub fn print_session_keyring() {
    println!("{}", session_keyring());
}

/// Prints the effective user of this process; runs inside a container.
pub fn print_user() {
    println!("{}", nix::unistd::geteuid());
}

/// `keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, create)`.
fn session_keyring() -> i64 {
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 1) }
}

fn it_has_its_own_session_keyring(host: &mut Host) {
    // SAFETY: no memory is passed. (KEYCTL_JOIN_SESSION_KEYRING)
    if unsafe { libc::syscall(libc::SYS_keyctl, 1, std::ptr::null::<u8>()) } < 0 {
        not_run("this kernel does not support keyrings");
    }
    let own = session_keyring();
    fs::copy("/proc/self/exe", host.layer.join("bin/probe")).unwrap();
    let mut seen = vec![own];
    for _ in 0..2 {
        // The default filter forbids keyctl.
        let probe = ["probe", crate::PRINT_SESSION_KEYRING];
        let out = host.run(&probe, |plan| plan.seccomp = None).ok();
        let inside: i64 = out.trim().parse().unwrap();
        assert!(inside > 0 && !seen.contains(&inside), "{inside} {seen:?}");
        seen.push(inside);
    }
}

fn chroot_and_dot_dot_do_not_reach_the_old_root(host: &mut Host) {
    let script = "mkdir /jail; cp=/bin; ln -s /bin/busybox /x; \
        cd /; ls ../../../..; chroot ../../.. /bin/ls /";
    let out = host.sh(script, |_| {}).ok();
    assert!(!out.contains("home") && !out.contains("boot"), "{out}");
}
