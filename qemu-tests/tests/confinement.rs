//! Which system calls and devices a container's program can use, by default and with the keys that change
//! this.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use qemu_tests::{Folder, Guest, Options, disk};

/// A one-shot shell script in the image `busybox`, with additional keys of `[container]`.
fn script(text: &str, container: &str) -> String {
    format!(
        "type = \"oneshot\"\n[container]\nimage = \"./images/busybox\"\ncommand = [\"-c\", '''{text}''']\n{container}\n"
    )
}

/// Creates nodes for all devices of a host and tries to open each one for reading and for writing. Nothing is
/// written.
const NODES: &str = r#"
cd /dev
for numbers in $(cd /sys/dev/block; ls); do
    echo "disk $numbers"
    mknod disk b ${numbers%:*} ${numbers#*:} && echo made || echo cannot make
    (: <disk) 2>/dev/null && echo OPENED disk $numbers
    (: >>disk) 2>/dev/null && echo OPENED disk $numbers
    rm disk
done
for numbers in 1:1 1:4 1:11 4:0 4:64 5:1 10:229 10:237; do
    mknod other c ${numbers%:*} ${numbers#*:} || echo cannot make
    (: <other) 2>/dev/null && echo OPENED $numbers
    (: >>other) 2>/dev/null && echo OPENED $numbers
    rm other
done
mknod nil c 1 3 && (: <nil) && (: >>nil) && echo nil opens
head -c 1 /dev/urandom | wc -c
echo end
"#;

const CALLS: &str = r#"
grep Seccomp: /proc/self/status
mkdir /tmp/d && echo made
(sleep 0 & wait) && echo forked
echo end
"#;

const NO_MKDIR: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;

#[test]
fn only_permitted_system_calls_and_devices_are_available() {
    let units = [
        // Only the host's root can create nodes, so this unit has no user namespace.
        (
            "nodes",
            script(
                NODES,
                "cap_add = [\"MKNOD\", \"SYS_ADMIN\", \"SYS_RAWIO\", \"SYSLOG\"]\nuserns = \"host\"\n\
                 # It waits for the disk.\nvolumes = [\"data:/data\"]",
            ),
        ),
        (
            "given",
            script(
                "(: <>/dev/log) && echo opened; echo end",
                "devices = [\"/dev/kmsg:/dev/log\"]\ncap_add = [\"SYSLOG\"]\nuserns = \"host\"",
            ),
        ),
        ("calls", script(CALLS, "")),
        ("ids", script("cat /proc/self/uid_map; echo end", "")),
        ("other-ids", script("cat /proc/self/uid_map; echo end", "")),
        ("own", script(CALLS, "seccomp = \"./profiles/no-mkdir.json\"")),
        ("open", script(CALLS, "seccomp = \"unconfined\"")),
        (
            "unmasked",
            script(
                "echo 5 >/proc/sys/net/ipv4/tcp_retries2 && echo its own; \
                 echo x >/proc/sys/kernel/hostname && echo a name; \
                 echo core >/proc/sys/kernel/core_pattern && echo of the host; \
                 wc -c </proc/interrupts; stat -c %F /proc/timer_list; echo end",
                "unmask = [\"/proc/sys\"]\ncap_add = [\"NET_ADMIN\"]",
            ),
        ),
        ("up", script("exec sleep 100000", "").replace("oneshot", "service")),
    ];
    let pairs: Vec<(&str, &str)> =
        units.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let folder = Folder::host("hostname = \"walls\"\n", &pairs);
    folder.write("profiles/no-mkdir.json", NO_MKDIR);
    let data = folder.path().join("data.img");
    disk::make(&data, 64);
    let options = Options { data: Some(data), api: true, ..Options::default() };
    let mut guest = Guest::up(folder.path(), &options);
    let mut text = |name: &str| -> String {
        guest.wait_log(name, "end");
        guest.logs(name, 1000).into_iter().map(|line| line.text + "\n").collect()
    };

    let nodes = text("nodes");
    assert!(nodes.contains("disk ") && nodes.contains("made\n"), "no disk was tried: {nodes}");
    assert!(!nodes.contains("OPENED") && !nodes.contains("cannot make"), "{nodes}");
    assert!(nodes.contains("nil opens\n1\n"), "{nodes}");

    assert_eq!(text("given"), "opened\nend\n");

    assert_eq!(text("calls"), "Seccomp:\t2\nmade\nforked\nend\n");
    // Root in a container is an unprivileged user on the host, a different one for each unit.
    let map = |text: String| -> Vec<u32> {
        text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let (ids, others) = (map(text("ids")), map(text("other-ids")));
    assert!(ids[0] == 0 && ids[1] >= 524_288 && ids[2] == 65_536 && ids.len() == 3, "{ids:?}");
    assert!(others[1].abs_diff(ids[1]) >= 65_536, "{ids:?} {others:?}");
    let own = text("own");
    assert!(own.contains("Seccomp:\t2\n") && own.contains("No space left"), "{own}");
    assert!(!own.contains("made\n") && own.contains("forked\n"), "{own}");
    assert_eq!(text("open"), "Seccomp:\t0\nmade\nforked\nend\n");

    // Apart from the mounts, file permissions apply: files of the host's root are not accessible.
    let unmasked = text("unmasked");
    assert!(unmasked.starts_with("its own\n"), "{unmasked}");
    assert_eq!(unmasked.matches("Permission denied").count(), 2, "{unmasked}");
    assert!(
        unmasked.ends_with("Permission denied\n0\ncharacter special file\nend\n"),
        "{unmasked}"
    );

    let weak = |name: &str| guest.unit(name).weakenings;
    assert_eq!(weak("open"), ["has no seccomp filter"]);
    assert_eq!(weak("own"), ["uses its own seccomp profile ./profiles/no-mkdir.json"]);
    assert_eq!(
        weak("unmasked"),
        ["has added capabilities: NET_ADMIN", "sees and writes kernel files: /proc/sys"]
    );
    assert_eq!(weak("calls"), [""; 0]);

    // The unit's filter applies to programs started with `keel exec`, too.
    guest.wait_state("up", "running");
    let said = guest.keel_ok(&["exec", "up", "--", "grep", "Seccomp:", "/proc/self/status"]);
    assert_eq!(said, "Seccomp:\t2\n");
}
