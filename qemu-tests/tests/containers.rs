//! The environment of a program in a container: the settings of the image and the unit, namespaces, file
//! systems, capabilities and limits; and the state of a host with many containers. One boot with many units,
//! each of which reports what it sees.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use ipc::Reply;
use ipc::control::Request;
use qemu_tests::{Folder, Guest, Options, root};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const HOST: &str = "hostname = \"boxes\"\n[network]\ndns = [\"192.0.2.53\"]\n";

/// A one-shot of the image `probe`, with additional keys of `[container]`.
fn probe(container: &str) -> String {
    format!("type = \"oneshot\"\n[container]\nimage = \"./images/probe\"\n{container}\n")
}

/// A one-shot shell script in the image `busybox`.
fn script(text: &str, container: &str) -> String {
    format!(
        "type = \"oneshot\"\n[container]\nimage = \"./images/busybox\"\ncommand = [\"-c\", '''{text}''']\n{container}\n"
    )
}

const INSIDE: &str = r#"
echo "comm $(cat /proc/1/comm)"
for d in $(cd /dev; ls); do echo "dev $(stat -c "%n %F" /dev/$d)"; done
awk '{ print "mounted", $2, $3, $4 }' /proc/self/mounts
while read line; do echo "hosts $line"; done </etc/hosts
while read line; do echo "resolv $line"; done </etc/resolv.conf
echo "hostname $(hostname) $(cat /etc/hostname)"
ip -o -4 addr show | awk '{ print "address", $2, $4 }'
ip route | while read line; do echo "route $line"; done
echo "processes $(ls -d /proc/[0-9]* | wc -l)"
try() { if "$@" 2>/dev/null; then echo "allowed $*"; else echo "refused $*"; fi; }
try touch /file
try sh -c 'echo x >/proc/sys/kernel/hostname'
try sh -c 'echo x >/proc/sysrq-trigger'
try sh -c 'echo 1 >/sys/fs/cgroup/cgroup.procs'
try mount -t tmpfs none /tmp
try mknod /dev/sda b 8 0
try dmesg -c
try umount /proc
try hostname other
echo end
"#;

#[test]
fn containers_match_their_image_and_unit() {
    let layers = "type = \"oneshot\"\n[container]\nimage = \"./images/layers\"\n";
    let units: Vec<(&str, String)> = vec![
        ("plain", probe("")),
        (
            "changed",
            probe(
                "entrypoint = [\"/probe\", \"report\"]\nenvironment = { OVERRIDE = \"unit\", EXTRA = \"two words\" }\n\
                 user = \"tester\"\nworking_dir = \"/made/for/it\"\nhostname = \"other-name\"\n\
                 cap_drop = [\"ALL\"]\ncap_add = [\"NET_BIND_SERVICE\"]",
            ),
        ),
        ("numeric", probe("command = [\"ids\"]\nuser = \"4242:4343\"")),
        ("named-group", probe("command = [\"ids\"]\nuser = \"tester:helpers\"")),
        ("nobody-such", probe("command = [\"ids\"]\nuser = \"stranger\"")),
        (
            "limited",
            "[container]\nimage = \"./images/probe\"\ncommand = [\"wait\"]\n\
             [limits]\nmemory = \"48M\"\nmemory_high = \"40M\"\nswap = \"1M\"\ncpu_weight = 50\ncpus = 0.25\npids = 17\nnofile = 321\n"
                .to_owned(),
        ),
        ("own-space", probe("command = [\"list\", \"/proc/self/ns\"]")),
        ("neighbour", probe("command = [\"list\", \"/proc/self/ns\"]")),
        ("host-net", probe("command = [\"list\", \"/proc/self/ns\"]\nnetwork = \"host\"")),
        (
            "host-view",
            probe(
                "command = [\"list\", \"/hostproc/1/ns\"]\nvolumes = [\"/proc:/hostproc:ro\"]\n\
                 cap_add = [\"SYS_PTRACE\"]\nuserns = \"host\"",
            ),
        ),
        ("inside", script(INSIDE, "")),
        (
            "closed",
            script(
                "touch /file 2>&1; touch /tmpfs/file && echo tmpfs; df -m /tmpfs | tail -n 1; \
                 stat -c %a /tmpfs; stat -c '%F %t:%T' /dev/nought; head -c 3 /dev/nought | wc -c; \
                 head -c 100 /dev/port; ip -o addr; echo end",
                "read_only = true\nnetwork = \"none\"\ntmpfs = [\"/tmpfs:size=3M,mode=750\"]\n\
                 devices = [\"/dev/zero:/dev/nought\"]",
            ),
        ),
        ("declared", "[container]\nimage = \"./images/declared\"\n".to_owned()),
        (
            "declared-ro",
            "[container]\nimage = \"./images/declared\"\nread_only = true\n".to_owned(),
        ),
        ("layers", layers.to_owned()),
        ("layers-too", format!("{layers}userns = \"host\"\n")),
    ];
    let pairs: Vec<(&str, &str)> =
        units.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let folder = Folder::host(HOST, &pairs);
    let mut guest = Guest::up(folder.path(), &Options::default());
    for name in ["plain", "changed", "numeric", "named-group", "own-space", "neighbour", "host-net"]
    {
        guest.wait_state(name, "done");
    }
    for name in ["host-view", "inside", "closed", "layers", "layers-too"] {
        guest.wait_state(name, "done");
    }
    let text = |guest: &Guest, name: &str| -> String {
        let lines = guest.logs(name, 5000);
        lines.into_iter().map(|line| line.text + "\n").collect()
    };
    // A unit is done when its process has ended, which may be before the logger has read its output.
    for (name, last) in
        [("plain", "report end"), ("changed", "report end"), ("inside", "end"), ("closed", "end")]
    {
        guest.wait_log(name, last);
    }

    settings_of_the_image(&text(&guest, "plain"));
    settings_of_the_unit(&text(&guest, "changed"));
    users(&guest, &text);
    limits(&mut guest);
    namespaces(&guest, &text);
    inside(&guest, &text(&guest, "inside"));
    closed(&text(&guest, "closed"));
    declared(&mut guest, &text);
    layers_are_shared(&guest, &text);
    nothing_remains_on_the_host(&guest);
    assert!(guest.power_off().success());
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
}

fn settings_of_the_image(report: &str) {
    has(report, "env FROM_IMAGE=yes");
    has(report, "env OVERRIDE=image");
    has(report, "env HOME=/root");
    assert!(report.contains("env PATH=/usr/local/sbin:"), "{report}");
    let names: Vec<&str> =
        report.lines().filter_map(|l| l.strip_prefix("env ")?.split('=').next()).collect();
    assert_eq!(
        names,
        ["FROM_IMAGE", "HOME", "OVERRIDE", "PATH"],
        "unexpected environment variables"
    );
    for line in ["uid 0 0 0 0", "gid 0 0 0 0", "pid 1", "parent 0", "session 1", "cwd /data"] {
        has(report, line);
    }
    has(report, "hostname plain");
    // A cgroup namespace hides the path of the container's cgroup.
    has(report, "cgroup 0::/");
    // The default set of container runtimes without NET_RAW, MKNOD and AUDIT_WRITE: see container::caps.
    let default: u64 = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31].iter().map(|bit| 1u64 << bit).sum();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        has(report, &format!("{set} {default:016x}"));
    }
    has(report, "CapInh 0000000000000000");
    has(report, "CapAmb 0000000000000000");
    has(report, "NoNewPrivs 1");
    let fds: Vec<&str> = report.lines().filter(|line| line.starts_with("fd ")).collect();
    assert_eq!(fds.len(), 3, "descriptors have leaked: {fds:?}");
    assert_eq!(fds[0], "fd 0 /dev/null");
    assert!(fds[1].starts_with("fd 1 pipe:") && fds[2].starts_with("fd 2 pipe:"), "{fds:?}");
}

fn settings_of_the_unit(report: &str) {
    has(report, "env FROM_IMAGE=yes");
    has(report, "env OVERRIDE=unit");
    has(report, "env EXTRA=two words");
    has(report, "env HOME=/data");
    has(report, "hostname other-name");
    has(report, "cwd /made/for/it");
    has(report, "uid 1000 1000 1000 1000");
    has(report, "gid 1000 1000 1000 1000");
    has(report, "groups 1000 2000 3000");
    has(report, "CapBnd 0000000000000400");
    // Only a program of root has the capabilities of the bounding set.
    has(report, "CapEff 0000000000000000");
    has(report, "NoNewPrivs 1");
}

fn users(guest: &Guest, text: &impl Fn(&Guest, &str) -> String) {
    let numeric = text(guest, "numeric");
    has(&numeric, "uid 4242 4242 4242 4242");
    has(&numeric, "gid 4343 4343 4343 4343");
    has(&numeric, "groups 4343");
    let named = text(guest, "named-group");
    has(&named, "uid 1000 1000 1000 1000");
    has(&named, "gid 2000 2000 2000 2000");
    has(&named, "groups 2000");
    let why = guest.field("nobody-such", "reason");
    assert!(why.contains("user \"stranger\" is not in the image's /etc/passwd"), "{why}");
}

fn limits(guest: &mut Guest) {
    guest.wait_state("limited", "running");
    let file = |name: &str| guest.read(&format!("/sys/fs/cgroup/units/limited/{name}"));
    assert_eq!(file("memory.max").trim(), (48u64 << 20).to_string());
    assert_eq!(file("memory.high").trim(), (40u64 << 20).to_string());
    // By default a unit has no swap.
    assert_eq!(file("memory.swap.max").trim(), (1u64 << 20).to_string());
    assert_eq!(file("cpu.weight").trim(), "50");
    assert_eq!(file("memory.oom.group").trim(), "1");
    assert_eq!(file("cpu.max").trim(), "25000 100000");
    assert_eq!(file("pids.max").trim(), "17");
    let pid = guest.field("limited", "pid");
    let limits = guest.read(&format!("/proc/{pid}/limits"));
    let nofile = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or("");
    assert_eq!(nofile.split_whitespace().filter(|word| *word == "321").count(), 2, "{limits}");
    let report = guest.unit("limited");
    assert_eq!(report.pids, Some(1));
    assert!(report.memory.is_some_and(|bytes| bytes < 48 << 20), "{report:?}");
}

/// Namespaces by kind, from a listing of `/proc/PID/ns`.
fn links(listing: &str) -> BTreeMap<String, String> {
    listing
        .lines()
        .filter_map(|line| line.split_once(" -> ")?.1.split_once(':'))
        .map(|(kind, number)| (kind.to_owned(), number.to_owned()))
        .collect()
}

fn namespaces(guest: &Guest, text: &impl Fn(&Guest, &str) -> String) {
    let host = links(&text(guest, "host-view"));
    let own = links(&text(guest, "own-space"));
    let neighbour = links(&text(guest, "neighbour"));
    let host_net = links(&text(guest, "host-net"));
    assert!(host.len() >= 8, "{host:?}");
    for kind in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
        let of = |all: &BTreeMap<String, String>| all.get(kind).cloned().expect(kind);
        let different = BTreeSet::from([of(&host), of(&own), of(&neighbour)]);
        assert_eq!(different.len(), 3, "{kind} is shared: {host:?} {own:?} {neighbour:?}");
        assert_eq!(of(&host_net) == of(&host), kind == "net", "{kind} with network = \"host\"");
    }
}

fn inside(guest: &Guest, text: &str) {
    has(text, "comm sh");
    let devices: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("dev /dev/")?.split(' ').next()).collect();
    let expected = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    assert_eq!(devices, BTreeSet::from(expected));
    for mounted in ["/ overlay", "/proc proc", "/sys sysfs", "/sys/fs/cgroup cgroup2", "/dev tmpfs"]
    {
        assert!(text.contains(&format!("mounted {mounted} ")), "{mounted}\n{text}");
    }
    let sys = text.lines().find(|line| line.starts_with("mounted /sys sysfs")).expect("sysfs");
    assert!(sys.contains(" ro,"), "{sys}");
    let address = guest.unit("inside").address.expect("an address on the bridge");
    has(text, &format!("hosts {address}\tinside"));
    let neighbour = guest.unit("limited").address.expect("an address on the bridge");
    has(text, &format!("hosts {neighbour}\tlimited"));
    has(text, "hosts 127.0.0.1\tlocalhost");
    has(text, "resolv nameserver 192.0.2.53");
    has(text, "hostname inside inside");
    assert!(text.contains(&format!("address eth0 {address}/")), "{text}");
    assert!(text.contains("route default via "), "{text}");
    // The shell and the counting program.
    let seen = text.lines().find_map(|line| line.strip_prefix("processes ")?.parse::<u32>().ok());
    assert!(seen.is_some_and(|count| count <= 5), "processes of others show: {seen:?}");
    has(text, "allowed touch /file");
    let refused: Vec<&str> = text.lines().filter(|line| line.starts_with("refused ")).collect();
    assert_eq!(refused.len(), 8, "{text}");
}

fn closed(text: &str) {
    assert!(text.contains("touch: /file: Read-only file system"), "{text}");
    has(text, "tmpfs");
    has(text, "750");
    assert!(text.lines().any(|line| line.split_whitespace().nth(1) == Some("3")), "3 MiB: {text}");
    has(text, "character special file 1:5");
    has(text, "3");
    assert!(text.contains("/dev/port: No such file or directory"), "{text}");
    let addresses: BTreeSet<&str> = text
        .lines()
        .filter(|l| l.contains(" inet"))
        .filter_map(|l| l.split_whitespace().nth(1))
        .collect();
    assert_eq!(addresses, BTreeSet::from(["lo"]), "{text}");
}

/// Settings that only the image has: user, volume, stop signal, working directory, variables. The volume
/// outlives the run and is writable although the root is read-only.
fn declared(guest: &mut Guest, text: &impl Fn(&Guest, &str) -> String) {
    for name in ["declared", "declared-ro"] {
        guest.wait_log(name, "ready");
        let first = text(guest, name);
        has(&first, "declared: 1000:2000:2000 in /kept");
        has(&first, "from the image");
        assert!(!first.lines().any(|line| line == "kept"), "{first}");
        guest.ask::<Reply>(&Request::Restart { name: name.to_owned() });
        guest.wait_log(name, "stopped by USR1");
        guest.wait_for("the second run", |guest| {
            text(guest, name).lines().any(|line| line == "kept").then_some(())
        });
        assert_eq!(guest.field(name, "failures"), "0");
    }
}

fn layers_are_shared(guest: &Guest, text: &impl Fn(&Guest, &str) -> String) {
    let expected =
        fs::read_to_string(root().join("qemu-tests/hosts/layers.expected")).expect("file");
    assert_eq!(text(guest, "layers-too"), expected, "the tree as the host's root sees it");
    // In a user namespace the container does not see these IDs.
    let own = expected.replace(" 3000000:3000000 ", " 65534:65534 ");
    assert_ne!(own, expected);
    assert_eq!(text(guest, "layers"), own, "the tree that layers sees");
    let mounts = guest.read("/proc/1/mounts");
    let layers: Vec<&str> = mounts
        .lines()
        .filter(|line| line.contains(" /run/keel/layers/"))
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    let different: BTreeSet<&str> = layers.iter().copied().collect();
    assert_eq!(layers.len(), different.len(), "a layer is mounted twice:\n{mounts}");
    // probe 1, busybox 1, declared 1 more, layers 3.
    assert_eq!(layers.len(), 6, "{mounts}");
}

fn nothing_remains_on_the_host(guest: &Guest) {
    let mounts = guest.read("/proc/1/mounts");
    for line in mounts.lines() {
        assert!(!line.starts_with("overlay "), "a container's mount is on the host: {line}");
        assert!(!line.contains("/run/keel/staging"), "a container's mount is on the host: {line}");
    }
}
