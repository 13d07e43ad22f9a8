//! Limits with real cgroup v2 controllers, of the OCI command line and of the engine below it, on plain Linux
//! with keel-os as the only program but without Keelhost's PID 1.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use qemu_tests::{Folder, root};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// PID 1 of the guest. pivot_root(2) does not work on the initial root file system, so its contents are
/// copied to a tmpfs first.
const FIRST: &str = r#"#!/bin/busybox sh
export PATH=/bin
# As the kernel would call it; here it is where its modules are.
for module in overlay erofs; do /sbin/modprobe -q -- $module; done
busybox mkdir /new && busybox mount -t tmpfs tmpfs /new && busybox cp -a /bin /init /judge /new
for dir in proc sys dev run tmp; do busybox mkdir /new/$dir; done
busybox mount -t proc proc /new/proc
busybox mount -t sysfs sysfs /new/sys
busybox mount -t devtmpfs devtmpfs /new/dev
busybox mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
exec busybox switch_root /new /judge
"#;

/// Runs containers one after the other, each with limits to be tested. A line that begins with FAILED is a
/// failed test.
const SCRIPT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
check() { [ "$2" = "$3" ] && echo "ok: $1" || echo "FAILED: $1 is '$2', not '$3'"; }
cg=/sys/fs/cgroup
for controller in cpu memory pids; do
    grep -qw $controller $cg/cgroup.controllers || echo "FAILED: no controller $controller here"
done
mkdir -p /b/rootfs/bin && cp /bin/busybox /b/rootfs/bin/busybox
for name in sh tail sleep; do ln -s busybox /b/rootfs/bin/$name; done
config() {
    cat >/b/config.json <<END
{ "ociVersion": "1.0.2", "root": { "path": "rootfs", "readonly": true },
  "process": { "cwd": "/", "user": { "uid": 0, "gid": 0 }, "noNewPrivileges": true,
    "env": ["PATH=/bin"], "args": ["sh", "-c", "$1"] },
  "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
  "linux": { "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "uts" },
      { "type": "ipc" }, { "type": "network" }, { "type": "cgroup" }],
    "resources": $2 } }
END
}
oci() { /bin/keel-oci --root /run/oci "$@"; }
stopped() {
    for n in $(seq 600); do
        oci state $1 | grep -q stopped && return
        sleep 0.1
    done
    echo "FAILED: $1 does not stop"
}
gone() { [ -e $cg/keel-oci ] && echo "FAILED: $cg/keel-oci is left" || echo "ok: removed after $1"; }

config "exec sleep 1000" '{
    "memory": { "limit": 33554432, "reservation": 16777216, "swap": 33554432 },
    "cpu": { "shares": 1024, "quota": 50000, "period": 100000 },
    "pids": { "limit": 10 }, "unified": { "memory.high": "25165824" } }'
oci create --bundle /b values && oci start values || echo "FAILED: values"
group=$cg/keel-oci/values
check memory.max "$(cat $group/memory.max)" 33554432
check memory.low "$(cat $group/memory.low)" 16777216
check memory.high "$(cat $group/memory.high)" 25165824
check memory.oom.group "$(cat $group/memory.oom.group)" 1
[ -e $group/memory.swap.max ] && check memory.swap.max "$(cat $group/memory.swap.max)" 0
check cpu.max "$(cat $group/cpu.max)" "50000 100000"
check cpu.weight "$(cat $group/cpu.weight)" 39
check pids.max "$(cat $group/pids.max)" 10
check processes "$(wc -l <$group/cgroup.procs)" 1
oci kill values KILL
stopped values
oci delete values || echo "FAILED: delete"
gone values

config "tail /dev/zero; echo survived" '{ "memory": { "limit": 16777216 } }'
oci create --bundle /b hog && oci start hog || echo "FAILED: hog"
stopped hog
kills=$(sed -n "s/^oom_kill //p" $cg/keel-oci/hog/memory.events)
[ "$kills" -ge 1 ] && echo "ok: oom_kill" || echo "FAILED: oom_kill is '$kills'"
oci delete hog
gone hog

config "exec 2>/dev/null; for n in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; exec sleep 1000" \
    '{ "pids": { "limit": 5 } }'
oci create --bundle /b bomb && oci start bomb || echo "FAILED: bomb"
for n in $(seq 600); do
    grep -q "max [1-9]" $cg/keel-oci/bomb/pids.events && break
    sleep 0.1
done
grep -q "max [1-9]" $cg/keel-oci/bomb/pids.events || echo "FAILED: the pids limit has not been hit"
peak=$(cat $cg/keel-oci/bomb/pids.peak 2>/dev/null || cat $cg/keel-oci/bomb/pids.current)
[ "$peak" -le 5 ] && echo "ok: pids" || echo "FAILED: $peak processes"
oci delete --force bomb
gone bomb

config "exit 0" '{ "cpu": { "shares": 4 }, "pids": { "limit": 3 } }'
oci run --bundle /b once || echo "FAILED: run"
gone once
echo end
poweroff -f
"#;

/// The kit's own initramfs with the program, followed by another archive with busybox and these executable
/// files (Documentation/driver-api/early-userspace/buffer-format.rst).
fn initrd(kit: &Path, folder: &Folder, files: &[(&str, &[u8])]) -> PathBuf {
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("busybox-static");
    symlink("busybox", tree.join("bin/sh")).unwrap();
    symlink("/init", tree.join("bin/keel-oci")).unwrap();
    let mut names = "bin\nbin/busybox\nbin/sh\nbin/keel-oci\n".to_owned();
    for (name, content) in files {
        fs::write(tree.join(name), content).unwrap();
        fs::set_permissions(tree.join(name), Permissions::from_mode(0o755)).unwrap();
        names.push_str(name);
        names.push('\n');
    }
    let mut archive = Command::new("/bin/busybox");
    archive.args(["cpio", "-o", "-H", "newc"]).current_dir(&tree);
    let mut archive =
        archive.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("busybox cpio");
    archive.stdin.take().unwrap().write_all(names.as_bytes()).unwrap();
    let own = archive.wait_with_output().unwrap();
    assert!(own.status.success());
    let mut both = fs::read(kit.join("base.img")).expect("the kit's base.img (make build)");
    // Each archive begins at a multiple of four bytes.
    both.resize(both.len().next_multiple_of(4), 0);
    both.extend(own.stdout);
    let path = folder.path().join("initrd");
    fs::write(&path, both).unwrap();
    path
}

/// Boots it and returns the console output, whose last line is "end".
fn console(files: &[(&str, &[u8])]) -> String {
    let kit = qemu_tests::kit();
    let folder = Folder::empty();
    let _slot = qemu_tests::guest::take_slot();
    let said = Command::new("timeout")
        .args(["900", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-machine", "q35", "-cpu", "max", "-m", "512", "-smp", "1"])
        .args(["-accel", "tcg", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kit.join("vmlinuz"))
        .arg("-initrd")
        .arg(initrd(&kit, &folder, files))
        .args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/first"])
        .stdin(Stdio::null())
        .output()
        .expect("timeout and qemu-system-x86_64");
    let console = String::from_utf8_lossy(&said.stdout).replace('\r', "");
    let ended = console.lines().any(|line| line == "end");
    assert!(ended, "{console}\n{}", String::from_utf8_lossy(&said.stderr));
    console
}

#[test]
fn limits_are_applied_and_removed_with_the_container() {
    let console = console(&[("first", FIRST.as_bytes()), ("judge", SCRIPT.as_bytes())]);
    let wrong = |line: &str| line.contains("FAILED") || line.starts_with("keel-oci:");
    assert!(!console.lines().any(wrong), "{console}");
    let good = console.lines().filter(|line| line.starts_with("ok: ")).count();
    assert_eq!(good, 15, "{console}");
}

/// The engine's own tests of limits, which need cgroup v2 controllers.
#[test]
fn the_tests_of_limits_of_the_engine_pass() {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["test", "--locked", "-p", "container", "--test", "containers", "--no-run"]);
    let built = cargo.arg("--message-format=json").current_dir(root()).output().expect("cargo");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8_lossy(&built.stdout);
    let program = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(message["executable"].as_str()?.to_owned())
    });
    let program = fs::read(program.expect("cargo names the program")).unwrap();
    let script = "#!/bin/busybox sh\nexport PATH=/bin:/sbin\n/bin/busybox --install -s /bin\n\
                  echo +cpu +memory +pids >/sys/fs/cgroup/cgroup.subtree_control\n\
                  /bin/containers limits_are_enforced_and_counted\necho \"code $?\"\necho end\n\
                  poweroff -f\n";
    let console = console(&[
        ("first", FIRST.as_bytes()),
        ("judge", script.as_bytes()),
        ("bin/containers", &program),
    ]);
    assert!(console.lines().any(|line| line == "code 0"), "{console}");
    // Once in a user namespace and once with the host's IDs.
    let said = console.contains("2 passed, 0 failed, 0 NOT RUN");
    assert!(said, "{console}");
}
