//! Attacks on the kernel's own files: what the engine mounts, masks and writes below /proc, /sys and
//! /dev, and what a container finds there.

use crate::{Judge, Unit, both, has, has_not, judges, on_host, refused, said, script, text, unit};
use qemu_tests::Guest;

/// What it takes to be heard by the host: each setting would run a program as the host's root, or
/// harm it at once. Written by every way that leads there.
const SETTINGS: &str = "
try() { if sh -c \"$1\" 2>&1; then echo \"done: $1\"; fi; }
try 'echo \"|/attack\" >/proc/sys/kernel/core_pattern'
try 'echo \"|/attack\" >/settings/kernel/core_pattern'
try 'echo \"|/attack\" >/proc/1/root/proc/sys/kernel/core_pattern'
try 'echo /attack >/proc/sys/kernel/modprobe'
try 'echo h >/proc/sysrq-trigger'
try 'echo 1 >/proc/sys/vm/panic_on_oom'
try 'mount -o remount,rw /proc/sys'
try 'mount -o remount,bind,rw /proc/sys'
try 'umount /proc/sys'
try 'mount -t proc attack /elsewhere'";

/// A v1 hierarchy and its release_agent, which the kernel runs as the host's root.
const RELEASE_AGENT: &str = "
try() { if \"$@\" 2>&1; then echo \"done: $*\"; fi; }
for options in rdma memory none,name=attack; do
    try mount -t cgroup -o $options attack /elsewhere
    try /probe unshare mc mount -t cgroup -o $options attack /elsewhere
    try /probe unshare umc mount -t cgroup -o $options attack /elsewhere
done
for agent in $(find / -name release_agent 2>/dev/null); do
    echo /attack >$agent && echo \"done: $agent\"
done";

const CGROUPS: &str = "
try() { if sh -c \"$1\" 2>&1; then echo \"done: $1\"; fi; }
cat /proc/self/cgroup
echo \"sees $(ls /sys/fs/cgroup | grep -c -e '^units$' -e '^system$')\"
try 'mkdir /sys/fs/cgroup/attack'
try 'echo 1 >/sys/fs/cgroup/cgroup.procs'
try 'echo max >/sys/fs/cgroup/memory.max'
try 'echo 1 >/sys/fs/cgroup/cgroup.kill'
try 'mount -o remount,rw /sys/fs/cgroup'
try 'mount -t cgroup2 attack /elsewhere && mkdir /elsewhere/attack'";

const MASKS: &str = "
for path in /dev/null /proc/interrupts /proc/kcore /proc/keys /proc/timer_list; do
    [ ! -e $path ] || echo \"$path $(stat -c '%F %t:%T' $path)\"
    echo '|/attack' >$path
done
head -c 4 /proc/kcore | wc -c
ls -l /dev/console /dev/pts/0";

/// As it is, and with mounts and users of its own.
const LEAVE_ROOT: &str = "
/probe leave-root
/probe unshare m /probe leave-root
/probe unshare um /probe leave-root";

/// Where a link of the image leads a volume to.
const REDIRECTED: &str = "/self/attr";

pub fn units() -> Vec<Unit> {
    let ran = "echo \"$(stat -f -c %T /proc) $(stat -f -c %T /dev)\"";
    let mut units = vec![
        script("cve-2019-16884", "volume-proc", "", ran),
        script("cve-2019-19921", "linked-proc", "", ran),
        script("cve-2023-27561", "linked-proc", "volumes = [\"p27561:/elsewhere\"]", ran),
        script("cve-2023-28642", "linked-proc", "tmpfs = [\"/elsewhere\"]", ran),
        script("cve-2026-41579", "linked-dev", "", ran),
        script("cve-2026-41579-sys", "linked-sys", "", ran),
        script("cve-2026-47766", "linked-dev-out", "userns = \"host\"", ran),
        script("cve-2025-31133-device", "attacker", "devices = [\"/dev/full:/dev/null\"]", ran),
        script("cve-2025-52881", "attacker", &format!("volumes = [\"p52881:{REDIRECTED}\"]"), ran),
        script("cve-2025-52881-tmpfs", "attacker", "tmpfs = [\"/settings/kernel\"]", ran),
        script(
            "cve-2025-52881-write",
            "attacker",
            "sysctls = { \"net.core.somaxconn\" = \"1234\", \"kernel.msgmax\" = \"4321\" }",
            "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax",
        ),
        script(
            "cve-2022-0811-key",
            "attacker",
            "sysctls = { \"kernel.shm_rmid_forced\" = \"1+kernel.core_pattern=|/attack\", \"kernel.core_pattern\" = \"|/attack\" }",
            ran,
        ),
        script(
            "cve-2022-0811-lines",
            "attacker",
            "sysctls = { \"kernel.shm_rmid_forced\" = \"1\\nkernel.core_pattern=|/attack\" }",
            ran,
        ),
        script("cve-2022-0492-admin", "attacker", "cap_add = [\"SYS_ADMIN\"]", RELEASE_AGENT),
        unit("cve-2017-5226", "attacker", "entrypoint = [\"/probe\", \"tiocsti\"]"),
        unit(
            "cve-2017-5226-host",
            "attacker",
            "entrypoint = [\"/probe\", \"tiocsti\"]\nuserns = \"host\"",
        ),
    ];
    units.extend(both("leave-root", "attacker", "", LEAVE_ROOT));
    units.push(script(
        "leave-root-admin",
        "attacker",
        "cap_add = [\"SYS_ADMIN\"]\nseccomp = \"unconfined\"",
        LEAVE_ROOT,
    ));
    units.extend(both("cve-2022-0811", "attacker", "", SETTINGS));
    units.extend(both("cve-2022-0492", "attacker", "", RELEASE_AGENT));
    units.extend(both("cve-2023-25809", "attacker", "", CGROUPS));
    units.extend(both("cve-2025-31133", "linked-null", "", MASKS));
    units
}

pub const JUDGES: &[Judge] = judges![
    cve_2019_16884_proc_is_no_volume,
    cve_2019_19921_proc_is_no_link,
    cve_2023_27561_proc_is_no_link_to_a_volume,
    cve_2023_28642_proc_is_no_link_to_a_tmpfs,
    cve_2026_41579_dev_and_sys_are_no_links,
    cve_2026_47766_dev_is_no_link_to_the_host,
    cve_2025_31133_masks_are_the_null_device,
    cve_2025_52881_writes_to_proc_arrive_there,
    cve_2022_0811_settings_of_the_host_are_out_of_reach,
    cve_2022_0492_there_is_no_release_agent,
    cve_2023_25809_the_cgroup_cannot_be_written,
    cve_2017_5226_nothing_is_typed_into_a_terminal,
    the_hosts_ram_disk_stays_behind_the_root,
];

/// An image that declares /proc as a volume: the engine's own writes below it would go to files of
/// the image's.
fn cve_2019_16884_proc_is_no_volume(guest: &mut Guest) {
    let reason = "mount target \"/proc\": /proc and /sys take no mounts";
    refused(guest, "cve-2019-16884", &failed(reason));
}

/// What a unit that cannot be started gives as its reason.
pub fn failed(reason: &str) -> String {
    format!("could not be started: {reason}")
}

const LINKED_PROC: &str = "mount /proc: the image's /proc is a symbolic link";

fn cve_2019_19921_proc_is_no_link(guest: &mut Guest) {
    refused(guest, "cve-2019-19921", &failed(LINKED_PROC));
}

fn cve_2023_27561_proc_is_no_link_to_a_volume(guest: &mut Guest) {
    refused(guest, "cve-2023-27561", &failed(LINKED_PROC));
}

fn cve_2023_28642_proc_is_no_link_to_a_tmpfs(guest: &mut Guest) {
    refused(guest, "cve-2023-28642", &failed(LINKED_PROC));
}

fn cve_2026_41579_dev_and_sys_are_no_links(guest: &mut Guest) {
    let dev = "set up /dev: the image's /dev is a symbolic link";
    refused(guest, "cve-2026-41579", &failed(dev));
    let sys = "mount /sys: the image's /sys is a symbolic link";
    refused(guest, "cve-2026-41579-sys", &failed(sys));
}

fn cve_2026_47766_dev_is_no_link_to_the_host(guest: &mut Guest) {
    let dev = "set up /dev: the image's /dev is a symbolic link";
    refused(guest, "cve-2026-47766", &failed(dev));
}

/// The image's /dev/null is a link to a setting of the host; a unit's is another device. Files would
/// be masked by the one or the other, and what is written to them arrive there.
fn cve_2025_31133_masks_are_the_null_device(guest: &mut Guest) {
    for name in ["cve-2025-31133", "cve-2025-31133-host"] {
        let text = said(guest, name);
        for path in ["/dev/null", "/proc/kcore", "/proc/interrupts", "/proc/timer_list"] {
            has(&text, &format!("{path} character special file 1:3"));
        }
        // Nothing is read from a masked file.
        has(&text, "0");
        has_not(&text, "sysrq-trigger");
    }
    let reason = "mask kernel files: /dev/null is not the null device";
    refused(guest, "cve-2025-31133-device", &failed(reason));
}

/// Volumes whose targets are links into /proc, where the engine writes or has written.
fn cve_2025_52881_writes_to_proc_arrive_there(guest: &mut Guest) {
    let reason = format!("mount a volume: {REDIRECTED} leads into the kernel's own files");
    refused(guest, "cve-2025-52881", &failed(&reason));
    let reason = "mount a volume: /settings/kernel leads into the kernel's own files";
    refused(guest, "cve-2025-52881-tmpfs", &failed(reason));
    let text = said(guest, "cve-2025-52881-write");
    has(&text, "1234");
    has(&text, "4321");
}

/// Settings of the host, by a unit's `sysctls` and from inside.
fn cve_2022_0811_settings_of_the_host_are_out_of_reach(guest: &mut Guest) {
    for name in ["cve-2022-0811-key", "cve-2022-0811-lines"] {
        assert_eq!(guest.field(name, "state"), "failed");
        let reason = guest.field(name, "reason");
        assert!(reason.contains("invalid unit file"), "{reason}");
        assert_eq!(text(guest, name), "");
    }
    for name in ["cve-2022-0811", "cve-2022-0811-host"] {
        let text = said(guest, name);
        has_not(&text, "done: ");
        // With the host's users it is the read-only mount alone that stands in between.
        if name.ends_with("-host") {
            assert!(text.matches("Read-only file system").count() >= 5, "{text}");
        }
    }
    assert!(!guest.read("/proc/sys/kernel/core_pattern").contains("attack"));
    assert!(!guest.read("/proc/sys/kernel/modprobe").contains("attack"));
    assert_eq!(guest.read("/proc/sys/vm/panic_on_oom").trim(), "0");
}

fn cve_2022_0492_there_is_no_release_agent(guest: &mut Guest) {
    for name in ["cve-2022-0492", "cve-2022-0492-host", "cve-2022-0492-admin"] {
        let text = said(guest, name);
        has_not(&text, "done: ");
        // Three hierarchies in three ways; a controller that the host uses is not there for v1.
        let refused = |line: &&str| line.contains("ermi") || line.ends_with("Invalid argument");
        assert_eq!(text.lines().filter(refused).count(), 9, "{text}");
    }
}

fn cve_2023_25809_the_cgroup_cannot_be_written(guest: &mut Guest) {
    for name in ["cve-2023-25809", "cve-2023-25809-host"] {
        let text = said(guest, name);
        has(&text, "0::/");
        has(&text, "sees 0");
        has_not(&text, "done: ");
        assert!(text.matches("Read-only file system").count() >= 4, "{text}");
        let groups = on_host(guest, &format!("/sys/fs/cgroup/units/{name}"));
        assert!(!groups.iter().any(|group| group == "attack"), "{groups:?}");
    }
}

/// A terminal of the container's own, and its own session: none of a person who looks on.
fn cve_2017_5226_nothing_is_typed_into_a_terminal(guest: &mut Guest) {
    for name in ["cve-2017-5226", "cve-2017-5226-host"] {
        guest.wait_log(name, "typed: ");
        let text = text(guest, name);
        has(&text, "controlling terminal: ENXIO");
        for request in ["0x5412", "0x100005412", "0xffffffff00005412"] {
            // The filter says EPERM; a kernel that has turned the request off says EIO.
            has(&text, &format!("typing with {request}: EPERM"));
        }
        has(&text, "typed: 0");
    }
}

/// The host runs from its RAM disk, which no container can pivot away from.
fn the_hosts_ram_disk_stays_behind_the_root(guest: &mut Guest) {
    let host = on_host(guest, "/proc/1/root");
    assert!(host.iter().any(|name| name == "init"), "{host:?}");
    for name in ["leave-root", "leave-root-host", "leave-root-admin"] {
        let text = said(guest, name);
        // The attack has come as far as its capabilities lead.
        for line in ["chroot: done", "back: done", "up: done"] {
            has(&text, line);
        }
        let seen: Vec<&str> = text.lines().filter(|line| line.starts_with("by ")).collect();
        assert!(seen.len() >= 4, "{text}");
        for line in seen {
            let names: Vec<&str> = line.split(": ").nth(1).unwrap_or_default().split(' ').collect();
            assert!(names.contains(&"probe") && !names.contains(&"init"), "{name}: {line}");
        }
    }
}
