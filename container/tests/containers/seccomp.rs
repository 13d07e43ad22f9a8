//! The seccomp filter, seen from a program under it.

use crate::host::{Exit, Host, default_filter, field, pipe, process, read};
use crate::tests;
use container::seccomp::{Document, Filter, Kernel, Profile};
use container::*;
use std::arch::asm;
use std::os::fd::AsFd;

tests![
    calls_used_in_escapes_are_forbidden,
    a_capability_allows_its_calls,
    a_32_bit_call_kills_the_process,
    a_program_run_in_the_container_is_under_the_filter,
    programs_can_create_processes_and_threads,
    a_custom_profile_forbids_mkdir,
    a_profile_can_kill_the_process,
    a_missing_program_is_reported_under_a_minimal_profile,
    the_time_to_load_it,
];

/// Makes a number of calls and prints the error of each.
pub fn print_calls() {
    let null = std::ptr::null::<u8>();
    let show = |name: &str, result: libc::c_long| {
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        println!("{name}: {}", if result < 0 { error } else { 0 });
    };
    macro_rules! call {
        ($name:literal, $number:expr $(, $argument:expr)*) => {
            // SAFETY: the pointers are null or point to memory that outlives the call.
            show($name, unsafe { libc::syscall($number $(, $argument)*) })
        };
    }
    let upper = 1u64 << 32;
    call!("getppid", libc::SYS_getppid);
    call!("userfaultfd", libc::SYS_userfaultfd, 0x8000_0000u32);
    call!("io_uring_setup", libc::SYS_io_uring_setup, 0, null);
    call!("add_key", libc::SYS_add_key, null, null, null, 0, 0);
    call!("keyctl", libc::SYS_keyctl, 9999);
    call!("request_key", libc::SYS_request_key, null, null, null, 0);
    call!("AF_ALG", libc::SYS_socket, 38, 5, 0);
    call!("AF_ALG with upper bits", libc::SYS_socket, upper | 38, 5, 0);
    call!("AF_VSOCK", libc::SYS_socket, 40, 1, 0);
    call!("AF_UNIX", libc::SYS_socket, 1, 1, 0);
    call!("AF_NETLINK", libc::SYS_socket, 16, 3, 0);
    call!("TIOCSTI", libc::SYS_ioctl, 0, libc::TIOCSTI, c"x".as_ptr());
    call!("TIOCSTI with upper bits", libc::SYS_ioctl, 0, upper | libc::TIOCSTI, c"x".as_ptr());
    call!("TIOCLINUX", libc::SYS_ioctl, 0, libc::TIOCLINUX, c"\x02".as_ptr());
    call!("FIONREAD", libc::SYS_ioctl, 999, libc::FIONREAD, null);
    call!("clone3", libc::SYS_clone3, null, 0);
    call!("unshare", libc::SYS_unshare, libc::CLONE_NEWUSER);
    call!("clone with CLONE_NEWUSER", libc::SYS_clone, libc::CLONE_NEWUSER | libc::CLONE_THREAD, 0);
    call!("personality query", libc::SYS_personality, u32::MAX);
    call!("ADDR_NO_RANDOMIZE", libc::SYS_personality, 0x4_0000);
    call!("mount", libc::SYS_mount, null, null, null, 0, null);
    call!("bpf", libc::SYS_bpf, 9999, null, 0);
    call!("kexec_load", libc::SYS_kexec_load, 0, 0, null, 9999);
    call!("get_mempolicy", libc::SYS_get_mempolicy, null, null, 0, null, 0);
    call!("x32", 0x4000_0000i64 | 39);
    call!("unassigned number", 999);
}

/// Makes a call as a 32-bit program does: number 20, getpid.
pub fn call_of_32_bits() {
    let mut result = 20u64;
    // SAFETY: getpid takes no arguments, and the kernel preserves all registers except these.
    unsafe {
        asm!("int 0x80", inlateout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    println!("result: {result}");
}

fn with_probe(host: &Host) {
    std::fs::copy("/proc/self/exe", host.layer.join("bin/probe")).unwrap();
}

const CALLS: [&str; 2] = ["probe", crate::PRINT_CALLS];

fn leaked(profile: &Profile) -> &'static Filter {
    Box::leak(Box::new(Filter::new(profile).unwrap()))
}

fn from_json(text: &str) -> &'static Filter {
    let document = Document::parse(text.as_bytes()).unwrap();
    leaked(&document.profile(CapSet::DEFAULT, Kernel::running()).0)
}

const EPERM: i32 = libc::EPERM;
const ENOSYS: i32 = libc::ENOSYS;
const EAFNOSUPPORT: i32 = libc::EAFNOSUPPORT;

fn check(out: &str, expected: &[(&str, i32)]) {
    for (call, errno) in expected {
        assert_eq!(field(out, call), errno.to_string(), "{call} in {out}");
    }
}

fn calls_used_in_escapes_are_forbidden(host: &mut Host) {
    with_probe(host);
    let out = host.run(&CALLS, |_| {}).ok();
    check(
        &out,
        &[
            ("getppid", 0),
            ("userfaultfd", EPERM),
            ("io_uring_setup", EPERM),
            ("add_key", EPERM),
            ("keyctl", EPERM),
            ("request_key", EPERM),
            ("AF_ALG", EAFNOSUPPORT),
            ("AF_ALG with upper bits", EAFNOSUPPORT),
            ("AF_VSOCK", EAFNOSUPPORT),
            ("AF_UNIX", 0),
            ("AF_NETLINK", 0),
            ("TIOCSTI", EPERM),
            ("TIOCSTI with upper bits", EPERM),
            ("TIOCLINUX", EPERM),
            ("FIONREAD", libc::EBADF),
            ("clone3", ENOSYS),
            ("unshare", EPERM),
            ("clone with CLONE_NEWUSER", EPERM),
            ("personality query", 0),
            ("ADDR_NO_RANDOMIZE", EPERM),
            ("mount", EPERM),
            ("bpf", EPERM),
            ("kexec_load", EPERM),
            ("get_mempolicy", EPERM),
            ("x32", ENOSYS),
            ("unassigned number", ENOSYS),
        ],
    );
    // Without the filter the results differ: it was the filter that refused these calls.
    let open = host.run(&CALLS, |plan| plan.seccomp = None).ok();
    for call in ["io_uring_setup", "add_key", "keyctl", "TIOCSTI", "clone3", "ADDR_NO_RANDOMIZE"] {
        assert_ne!(field(&open, call), field(&out, call), "{call}");
    }
    let status = |out: String| field(&out, "Seccomp").to_owned();
    assert_eq!(status(host.run(&["cat", "/proc/self/status"], |_| {}).ok()), "2");
    let open = host.run(&["cat", "/proc/self/status"], |plan| plan.seccomp = None);
    assert_eq!(status(open.ok()), "0");
}

fn a_capability_allows_its_calls(host: &mut Host) {
    with_probe(host);
    let caps = CapSet::from_names(&["SYS_ADMIN", "SYS_NICE"], &[]).unwrap();
    let filter = leaked(&Profile::default_for(caps));
    let out = host.run(&CALLS, |plan| {
        plan.process.caps = caps;
        plan.seccomp = Some(filter);
    });
    let errno = |out: &str, call| field(out, call).parse::<i32>().unwrap();
    let out = out.ok();
    for call in ["mount", "bpf", "clone3"] {
        assert!([libc::EINVAL, libc::EFAULT].contains(&errno(&out, call)), "{call} in {out}");
    }
    assert_eq!(errno(&out, "get_mempolicy"), 0);
    check(&out, &[("kexec_load", EPERM), ("userfaultfd", EPERM), ("AF_ALG", EAFNOSUPPORT)]);
}

fn a_32_bit_call_kills_the_process(host: &mut Host) {
    with_probe(host);
    let outcome = host.run(&["probe", crate::CALL_OF_32_BITS], |_| {});
    assert_eq!((outcome.exit, outcome.out.as_str()), (Exit::Signal(libc::SIGSYS), ""));
}

fn a_program_run_in_the_container_is_under_the_filter(host: &mut Host) {
    with_probe(host);
    host.netns = Some(create_netns(host.userns.as_ref()).unwrap().ns);
    let mut running = host.start(&["sh", "-c", "echo up; exec sleep 1000"], |_| {});
    assert_eq!(running.line(), "up");
    let (out, stdout) = pipe();
    let executed = exec(&Execution {
        pidfd: running.spawned.pidfd.as_fd(),
        cgroup: &running.cgroup,
        ids: host.ids(),
        process: process(&CALLS),
        seccomp: Some(default_filter()),
        stdin: None,
        stdout: stdout.as_fd(),
        stderr: stdout.as_fd(),
    })
    .unwrap();
    drop(stdout);
    let out = read(out);
    assert_eq!(host.exit_of(executed.pid), Exit::Code(0), "{out}");
    host.exit_of(executed.helper);
    check(&out, &[("getppid", 0), ("clone3", ENOSYS), ("keyctl", EPERM), ("unshare", EPERM)]);
}

fn programs_can_create_processes_and_threads(host: &mut Host) {
    with_probe(host);
    let script = "for n in 1 2 3; do (probe --print-threads) & done; wait; echo x | cat | wc -c; \
        mkdir -p /tmp/a/b && mknod /tmp/pipe p && ln /etc/passwd /tmp/l && chroot / true && echo ok";
    let out = host.sh(script, |_| {}).ok();
    assert_eq!(out, "8\n8\n8\n2\nok\n");
}

/// Creates threads through the C library, which tries clone3 first.
pub fn print_threads() {
    let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(|| 1)).collect();
    println!("{}", threads.into_iter().map(|thread| thread.join().unwrap()).sum::<i32>());
}

fn a_custom_profile_forbids_mkdir(host: &mut Host) {
    let filter = from_json(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#,
    );
    let outcome = host.sh("touch /tmp/f && mkdir /tmp/d", |plan| plan.seccomp = Some(filter));
    assert_eq!(outcome.exit, Exit::Code(1));
    assert_eq!(outcome.err, "mkdir: can't create directory '/tmp/d': No space left on device\n");
}

fn a_profile_can_kill_the_process(host: &mut Host) {
    let filter = from_json(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#,
    );
    let outcome = host.run(&["mkdir", "/tmp/d"], |plan| plan.seccomp = Some(filter));
    assert_eq!(outcome.exit, Exit::Signal(libc::SIGSYS));
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
    let (profile, _) =
        Document::parse(text.as_bytes()).unwrap().profile(CapSet::DEFAULT, Kernel(6, 12));
    let refused = Filter::new(&profile).unwrap_err();
    assert_eq!(refused.to_string(), "forbids execve, which is needed to start the program");
}

fn a_missing_program_is_reported_under_a_minimal_profile(host: &mut Host) {
    let filter = from_json(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["execve", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"}]}"#,
    );
    let error = host.run(&["nothing"], |plan| plan.seccomp = Some(filter)).error();
    assert_eq!(error.step, Step::Exec);
    assert!(error.detail.starts_with("nothing: not found in PATH"), "{error}");
    let error = host.run(&["/bin/nothing"], |plan| plan.seccomp = Some(filter)).error();
    assert_eq!(error.to_string(), "exec: /bin/nothing: no such file in the image");
}

/// Prints how long the kernel takes to load the filter. Fails only if that is far too long.
fn the_time_to_load_it(_: &mut Host) {
    let filter = default_filter();
    let mut times: Vec<u128> = (0..200)
        .map(|_| {
            let (read_end, write_end) = pipe();
            // SAFETY: this program has one thread.
            match unsafe { libc::fork() } {
                0 => {
                    // SAFETY: prctl with integers only.
                    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
                    let begin = std::time::Instant::now();
                    let done = filter.load();
                    let time = begin.elapsed().as_nanos();
                    done.unwrap();
                    nix::unistd::write(&write_end, time.to_string().as_bytes()).unwrap();
                    // SAFETY: always safe.
                    unsafe { libc::_exit(0) }
                }
                child => {
                    drop(write_end);
                    // SAFETY: a null status is allowed.
                    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
                    read(read_end).parse().unwrap()
                }
            }
        })
        .collect();
    times.sort_unstable();
    let [median, worst] = [times[100], times[190]].map(|time| time / 1000);
    println!(
        "the default filter: {} instructions, loaded in {median} µs (95 of 100 within {worst} µs)",
        filter.instructions()
    );
    assert!(median < 20_000, "{median} µs");
}
