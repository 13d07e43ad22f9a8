//! The limits of the OCI command line, with real controllers: in a unit with the host's rights, in the
//! cgroup that the host has given to it.

// A helper of a test fails the test.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use qemu_tests::{Folder, Guest, Options};

/// Makes the unit's own cgroup one in which containers can be: its processes move into a group of
/// their own, and the file system of cgroups is mounted anew, writable. Then one container after
/// another, each with the limits of the test; a line that begins with FAILED is a test that failed.
const SCRIPT: &str = r#"
check() { [ "$2" = "$3" ] && echo "ok: $1" || echo "FAILED: $1 is '$2', not '$3'"; }
umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup || echo "FAILED: no cgroups"
cg=/sys/fs/cgroup
for controller in cpu memory pids; do
    grep -qw $controller $cg/cgroup.controllers || echo "FAILED: no controller $controller here"
done
mkdir $cg/own && echo $$ >$cg/own/cgroup.procs
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
"#;

#[test]
fn limits_are_in_force_and_go_with_the_container() {
    let unit = format!(
        "enabled = false\ntype = \"oneshot\"\n[container]\nimage = \"./images/busybox\"\n\
         command = [\"-c\", '''{SCRIPT}''']\nnetwork = \"none\"\nuserns = \"host\"\n\
         cap_add = [\"SYS_ADMIN\", \"NET_ADMIN\", \"MKNOD\", \"SYS_RESOURCE\"]\nseccomp = \"unconfined\"\nvolumes = [\"/init:/bin/keel-oci:ro\"]\n"
    );
    let folder = Folder::host("hostname = \"oci\"\n", &[("judge", &unit)]);
    let mut guest = Guest::up(folder.path(), &Options::default());
    guest.ask::<serde_json::Value>(&ipc::control::Request::Start { name: "judge".to_owned() });
    guest.wait_log("judge", "end");
    let lines = guest.logs("judge", 200).into_iter().filter(|line| line.stream != "system");
    let lines: Vec<String> = lines.map(|line| line.text).collect();
    let failed: Vec<&String> = lines.iter().filter(|line| !line.starts_with("ok: ")).collect();
    assert_eq!(failed, ["end"], "{lines:#?}");
    assert!(lines.len() > 15, "{lines:#?}");
    assert!(guest.power_off().success());
}
