//! The environment of the program, and other programs in its container.

use crate::bundle::Bundle;
use serde_json::json;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

fn field<'t>(text: &'t str, name: &str) -> &'t str {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

#[test]
fn the_process_has_the_configured_attributes() {
    let mut bundle = Bundle::new("cat /proc/self/status /proc/self/limits; umask; pwd; env");
    bundle.set(
        "/process/user",
        json!({ "uid": 1000, "gid": 1001, "umask": 0o77,
        "additionalGids": [5, 6] }),
    );
    bundle.set("/process/cwd", json!("/tmp"));
    bundle.set("/process/env", json!(["A=1", "PATH=/bin", "HOME=/h"]));
    bundle.set("/process/oomScoreAdj", json!(100));
    bundle.set("/process/capabilities", json!({ "bounding": ["CAP_KILL", "CAP_NO_SUCH"] }));
    let said = bundle.run();
    assert!(said.err.contains("CAP_NO_SUCH"), "{said:?}");
    let out = said.ok();
    assert_eq!(field(&out, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&out, "Gid"), "1001\t1001\t1001\t1001");
    assert_eq!(field(&out, "Groups"), "5 6");
    assert_eq!(field(&out, "CapBnd"), "0000000000000020");
    assert_eq!(field(&out, "CapEff"), "0000000000000000");
    assert_eq!(field(&out, "NoNewPrivs"), "1");
    assert!(out.contains("Max open files            1024                 1024"), "{out}");
    assert!(out.contains("0077\n/tmp\n"), "{out}");
    assert!(out.contains("A=1\n") && out.contains("HOME=/h\n"), "{out}");
}

#[test]
fn a_user_namespace_maps_root_and_binds() {
    let mut bundle = Bundle::new(
        "id -u; cat /proc/self/uid_map; stat -c %u /bin/busybox /v/f; \
        echo x > /v/new",
    );
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 1_000_000, "size": 65536 }]);
    bundle.set("/linux/uidMappings", map.clone());
    bundle.set("/linux/gidMappings", map);
    let vol = bundle.dir.join("vol");
    fs::create_dir(&vol).unwrap();
    fs::write(vol.join("f"), "").unwrap();
    bundle.mount(json!({ "destination": "/v", "type": "bind", "source": "vol",
        "options": ["rbind", "rw"] }));
    fs::create_dir(bundle.rootfs().join("v")).unwrap();
    let out = bundle.run().ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "1000000", "65536", "0", "0"]);
    assert_eq!(fs::read_to_string(vol.join("new")).unwrap(), "x\n");
    bundle.nothing_is_left();
}

#[test]
fn namespaces_are_shared_by_path() {
    let mut first = Bundle::new("exec sleep 1000");
    first.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 2_000_000, "size": 1000 }]);
    first.set("/linux/uidMappings", map.clone());
    first.set("/linux/gidMappings", map);
    first.create().ok();
    first.start().ok();
    let pid = first.pid();
    let mut second = Bundle::new(
        "readlink /proc/self/ns/net; readlink /proc/self/ns/user; cat /proc/self/uid_map",
    );
    let net = json!({ "type": "network", "path": format!("/proc/{pid}/ns/net") });
    second.set(
        "/linux/namespaces",
        json!([net, { "type": "pid" }, { "type": "ipc" },
        { "type": "uts" }, { "type": "mount" },
        { "type": "user", "path": format!("/proc/{pid}/ns/user") }]),
    );
    let out = second.run().ok();
    for kind in ["net", "user"] {
        let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert!(out.contains(link.to_str().unwrap()), "{kind}: {out}");
    }
    assert!(out.contains("2000000"), "{out}");
}

#[test]
fn mounts_paths_settings_and_devices() {
    let mut bundle = Bundle::new(
        "cat /m/f /etc/masked; touch /m/x /t/x /ro/x; ls -l /dev/kmsg; \
        cat /proc/sys/kernel/msgmax; grep ' /t ' /proc/mounts; grep ' /dev/shm ' /proc/mounts",
    );
    fs::write(bundle.dir.join("f"), "bound\n").unwrap();
    fs::write(bundle.rootfs().join("etc/masked"), "masked\n").unwrap();
    for dir in ["m", "t", "ro"] {
        fs::create_dir(bundle.rootfs().join(dir)).unwrap();
    }
    let dir = bundle.dir.clone();
    bundle.mount(
        json!({ "destination": "/m", "type": "none", "source": dir, "options": ["bind", "ro"] }),
    );
    bundle.mount(json!({ "destination": "/t", "type": "tmpfs", "source": "tmpfs",
        "options": ["noexec", "size=1m", "mode=0700"] }));
    bundle.config["mounts"][3]["options"] = json!(["nosuid", "noexec", "nodev", "size=2m"]);
    bundle.set("/root/readonly", json!(false));
    bundle.config["linux"]["maskedPaths"].as_array_mut().unwrap().push(json!("/etc/masked"));
    bundle.config["linux"]["readonlyPaths"].as_array_mut().unwrap().push(json!("/ro"));
    bundle.set("/linux/sysctl", json!({ "kernel.msgmax": "16000" }));
    if Path::new("/dev/kmsg").exists() {
        bundle.set(
            "/linux/devices",
            json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11 }]),
        );
    }
    let said = bundle.run();
    assert!(said.out.contains("bound\n") && !said.out.contains("masked\n"), "{said:?}");
    assert!(said.out.contains("16000\n"), "{said:?}");
    assert!(said.out.contains("noexec,relatime,size=1024k,mode=700"), "{said:?}");
    assert!(said.out.contains("size=2048k"), "{said:?}");
    assert_eq!(said.err.matches("Read-only file system").count(), 2, "{said:?}");
}

#[test]
fn exec_runs_a_program_and_returns_its_exit_code() {
    let mut bundle = Bundle::new("echo up; exec sleep 1000");
    bundle.set("/process/env", json!(["PATH=/bin", "FROM=config"]));
    bundle.create().ok();
    bundle.start().ok();
    bundle.output_with("up");
    let id = bundle.id.clone();
    let said = bundle.call(&[
        "exec",
        "-e",
        "MORE=1",
        "--cwd",
        "/tmp",
        &id,
        "sh",
        "-c",
        "env; pwd; hostname; exit 5",
    ]);
    assert_eq!(said.code, Some(5), "{said:?}");
    for word in ["FROM=config\n", "MORE=1\n", "/tmp\n", "runc\n"] {
        assert!(said.out.contains(word), "{word}: {said:?}");
    }
    let said =
        bundle.call(&["exec", "--user", "7:8", "-g", "9,10", &id, "cat", "/proc/self/status"]);
    assert_eq!(field(&said.out, "Groups"), "9 10");
    assert_eq!(field(&said.out, "Uid"), "7\t7\t7\t7");
    let said = bundle.call(&["exec", &id, "/no/such"]);
    assert!(said.refused().contains("no such file"));

    let file = bundle.dir.join("process.json");
    fs::write(
        &file,
        json!({ "args": ["sh", "-c", "echo $0 $X; kill -TERM $$"], "cwd": "/",
        "env": ["X=y", "PATH=/bin"] })
        .to_string(),
    )
    .unwrap();
    let said = bundle.call(&["exec", "--process", file.to_str().unwrap(), &id]);
    assert_eq!((said.code, said.out.as_str()), (Some(128 + 15), "sh y\n"), "{said:?}");

    let pid_file = bundle.dir.join("exec.pid");
    let mut command = bundle.command(&["exec", "--detach", "--pid-file"]);
    command.arg(&pid_file).args([&id, "sleep", "1000"]);
    assert!(command.status().unwrap().success());
    let pid = fs::read_to_string(&pid_file).unwrap();
    let procs = fs::read_to_string(bundle.cgroup().join("cgroup.procs")).unwrap();
    assert!(procs.lines().any(|line| line == pid), "{pid} in {procs}");
}

/// Receives a terminal on the socket that a manager listens on.
fn receive(listener: &UnixListener) -> File {
    let (socket, _) = listener.accept().unwrap();
    let mut bytes = [0; 64];
    let mut slices = [std::io::IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let got = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty());
    let got = got.unwrap();
    let Some(ControlMessageOwned::ScmRights(fds)) = got.cmsgs().unwrap().next() else {
        panic!("no descriptor")
    };
    // SAFETY: the kernel has just created it.
    let file = unsafe { File::from_raw_fd(fds[0]) };
    // SAFETY: sets flags of a descriptor that is open.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_RDWR) };
    file
}

fn rest(mut terminal: File) -> String {
    let (mut seen, mut buffer) = (Vec::new(), [0; 512]);
    // EIO: the other end is closed.
    while let Ok(n @ 1..) = terminal.read(&mut buffer) {
        seen.extend(&buffer[..n]);
    }
    String::from_utf8_lossy(&seen).replace('\r', "")
}

#[test]
fn terminals_are_sent_to_the_console_socket() {
    let mut bundle = Bundle::new(
        "tty; stty size; echo on console > /dev/console; read a; echo got $a; \
        exec sleep 1000",
    );
    bundle.set("/process/terminal", json!(true));
    bundle.set("/process/consoleSize", json!({ "height": 30, "width": 100 }));
    let said = bundle.create();
    assert!(said.err.contains("--console-socket"), "{said:?}");
    let path = bundle.dir.join("console");
    let listener = UnixListener::bind(&path).unwrap();
    let mut command = bundle.command(&["create", "--bundle"]);
    command.arg(&bundle.dir).arg("--console-socket").arg(&path).arg(&bundle.id);
    assert!(command.status().unwrap().success());
    let mut terminal = receive(&listener);
    bundle.start().ok();
    terminal.write_all(b"words\n").unwrap();
    let mut command = bundle.command(&["exec", "--tty", "--detach", "--console-socket"]);
    command.arg(&path).args([&bundle.id, "sh", "-c", "tty; echo from exec"]);
    assert!(command.status().unwrap().success());
    let seen = rest(receive(&listener));
    assert!(seen.contains("/dev/pts/1\nfrom exec\n"), "{seen:?}");
    let mut seen = String::new();
    let mut buffer = [0; 512];
    while !seen.contains("got words") {
        let n = terminal.read(&mut buffer).unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]).replace('\r', ""));
    }
    for line in ["/dev/pts/0\n", "30 100\n", "on console\n"] {
        assert!(seen.contains(line), "{line:?} in {seen:?}");
    }
}

#[test]
fn only_allowed_devices_can_be_opened() {
    let script = "mknod /tmp/zero c 1 5; mknod /tmp/kmsg c 1 11; cat /dev/null && echo null; \
        test -r /tmp/zero; : < /tmp/zero && echo zero; : < /tmp/kmsg && echo kmsg";
    let mut bundle = Bundle::new(script);
    bundle.set("/root/readonly", json!(false));
    let caps = json!(["CAP_MKNOD", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    bundle.set("/process/capabilities", json!({ "bounding": caps }));
    // The root is mounted with nodev; the program's own mount is not.
    let own = format!("mount -t tmpfs tmpfs /tmp; {script}");
    bundle.set("/process/args", json!(["sh", "-c", own]));
    let said = bundle.run();
    assert_eq!(said.out, "null\nzero\n", "{said:?}");
    assert!(said.err.contains("not permitted"), "{said:?}");
    bundle.set(
        "/linux/resources/devices",
        json!([{ "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" }]),
    );
    let said = bundle.run();
    assert_eq!(said.out, "null\nzero\nkmsg\n", "{said:?}");
}

#[test]
fn the_seccomp_filter_applies() {
    let mut bundle = Bundle::new("mkdir /tmp/x; echo $?; exec sleep 1000");
    bundle.set("/root/readonly", json!(false));
    bundle.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }] }));
    bundle.create().ok();
    bundle.start().ok();
    assert!(bundle.output_with("1\n").contains("No space left"), "{}", bundle.output());
    let said = bundle.call(&["exec", &bundle.id, "mkdir", "/tmp/y"]);
    assert!(said.err.contains("No space left"), "{said:?}");
}
