//! User namespaces: root inside is an unprivileged user outside.

use crate::host::{Host, bind, field, pipe, process, read};
use crate::tests;
use container::*;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

tests![
    root_inside_is_another_user_outside,
    files_have_the_owners_that_the_image_specifies,
    files_in_a_volume_have_the_containers_ids_on_the_disk,
    a_volume_is_filled_with_the_images_owners,
    a_private_host_file_is_read_by_root_inside,
    ids_outside_the_namespace_are_refused,
    an_added_capability_applies_only_to_the_units_own_network,
    sys_admin_can_mount_but_not_remove_masks,
    a_program_run_later_is_in_the_same_namespace,
    a_copied_file_belongs_to_root_inside,
    terminals_and_devices_belong_to_root_inside,
    added_capabilities_cannot_change_the_host,
    two_units_have_different_ids,
    an_existing_namespace_can_be_used,
];

fn root_inside_is_another_user_outside(host: &mut Host) {
    let mut running =
        host.start(&["sh", "-c", "id -u; cat /proc/self/uid_map; exec sleep 1000"], |_| {});
    assert_eq!(running.line(), "0");
    let map: Vec<String> = running.line().split_whitespace().map(str::to_owned).collect();
    assert_eq!(map, ["0".to_owned(), host.outside(0).to_string(), "65536".to_owned()]);
    let status = fs::read_to_string(format!("/proc/{}/status", running.spawned.pid)).unwrap();
    let root = host.outside(0).to_string();
    assert_eq!(field(&status, "Uid"), [root.as_str(); 4].join("\t"));
    assert_eq!(field(&status, "Gid"), [root.as_str(); 4].join("\t"));
    running.cgroup.kill().unwrap();
}

fn files_have_the_owners_that_the_image_specifies(host: &mut Host) {
    host.image_file("/srv/own", "", 0o600);
    chown(host.layer.join("srv/own"), Some(1000), Some(1001)).unwrap();
    host.image_file("/srv/far", "", 0o644);
    chown(host.layer.join("srv/far"), Some(70_000), Some(0)).unwrap();
    let script = "stat -c '%u:%g' / /bin /srv/own /srv/far /dev /dev/null /dev/pts /tmp; \
        touch /tmp/new; stat -c '%u:%g' /tmp/new; ln -s a /srv/link; stat -c %u /srv/link";
    let out = host.sh(script, |_| {}).ok();
    // 70000 is not mapped inside and shows as nobody.
    assert_eq!(out, "0:0\n0:0\n1000:1001\n65534:0\n0:0\n0:0\n0:0\n0:0\n0:0\n0\n");
}

fn files_in_a_volume_have_the_containers_ids_on_the_disk(host: &mut Host) {
    let vol = host.dir.join("vol");
    fs::create_dir(&vol).unwrap();
    fs::set_permissions(&vol, fs::Permissions::from_mode(0o777)).unwrap();
    for user in ["", "web"] {
        let script = "touch /v/$(id -u)";
        host.sh(script, |plan| {
            plan.process.user = user.into();
            plan.mounts = vec![bind(&vol, "/v")];
        })
        .ok();
    }
    let owner = |name: &str| fs::metadata(vol.join(name)).map(|m| (m.uid(), m.gid())).unwrap();
    assert_eq!((owner("0"), owner("1000")), ((0, 0), (1000, 1001)));
    // A unit with another range sees the files as its own.
    host.userns = Some(create_userns(IdRange::nth(9).unwrap()).unwrap());
    let out = host.sh("cd /v; stat -c %u 0 1000; rm 0 1000", |plan| {
        plan.mounts = vec![bind(&vol, "/v")];
    });
    assert_eq!(out.ok(), "0\n1000\n");
}

fn a_volume_is_filled_with_the_images_owners(host: &mut Host) {
    for (name, owner) in [("own", 1000), ("roots", 0), ("far", 3_000_000)] {
        host.image_file(&format!("/srv/{name}"), "", if owner > 65_535 { 0o644 } else { 0o600 });
        chown(host.layer.join("srv").join(name), Some(owner), Some(owner)).unwrap();
    }
    let vol = host.dir.join("vol");
    fs::create_dir(&vol).unwrap();
    let marker = host.dir.join("marker");
    let copy_up = Some(CopyUp { marker });
    let source = MountSource::Bind { path: vol.clone(), recursive: false, copy_up };
    let again = source.clone();
    let out = host.sh("cd /srv; stat -c %u own roots far", |plan| {
        plan.mounts =
            vec![Mount { target: "/srv".into(), read_only: false, no_exec: false, source }];
    });
    assert_eq!(out.ok(), "1000\n0\n65534\n");
    let owner = |name: &str| fs::metadata(vol.join(name)).unwrap().uid();
    assert_eq!(["own", "roots", "far"].map(owner), [1000, 0, 65_534]);
    // A file that cannot be read is an error, not silently left out.
    let far = host.layer.join("srv/far");
    fs::set_permissions(&far, fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(host.dir.join("marker")).unwrap();
    fs::remove_dir_all(&vol).and_then(|()| fs::create_dir(&vol)).unwrap();
    let refused = host.sh("true", |plan| {
        plan.mounts =
            vec![Mount { target: "/srv".into(), read_only: false, no_exec: false, source: again }];
    });
    let text = refused.error().to_string();
    assert!(text.starts_with("mount a volume: far is owned by an id that"), "{text}");
}

fn a_private_host_file_is_read_by_root_inside(host: &mut Host) {
    let file = host.dir.join("key");
    fs::write(&file, "secret").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mounts = vec![Mount { read_only: true, ..bind(&file, "/etc/key") }];
    let read = |host: &mut Host, user: &str| {
        host.sh("cat /etc/key", |plan| {
            plan.process.user = user.into();
            plan.mounts = mounts.clone();
        })
    };
    assert_eq!(read(host, "").ok(), "secret");
    assert!(read(host, "web").err.contains("Permission denied"));
}

fn ids_outside_the_namespace_are_refused(host: &mut Host) {
    for user in ["65536", "0:70000"] {
        let error = host.sh("true", |plan| plan.process.user = user.into()).error();
        assert_eq!(error.step, Step::ResolveUser);
        assert!(error.to_string().contains("outside the 65536 ids"), "{error}");
    }
    assert_eq!(host.sh("id -u", |plan| plan.process.user = "65535".into()).ok(), "65535\n");
}

fn an_added_capability_applies_only_to_the_units_own_network(host: &mut Host) {
    let admin = CapSet::from_names(&["NET_ADMIN"], &[]).unwrap();
    let script = "ip link set lo mtu 1234 && ip link show lo";
    // Created one after the other, and both at once.
    let (userns, net) = create_userns_and_netns(IdRange::nth(9).unwrap()).unwrap();
    let together = (Some(userns), net.ns);
    let net = create_netns(host.userns.as_ref()).unwrap().ns;
    for (userns, net) in [together, (host.userns.take(), net)] {
        (host.userns, host.netns) = (userns, Some(net));
        let own = host.sh(script, |plan| plan.process.caps = admin);
        assert!(own.out.contains("mtu 1234"), "{own:?}");
    }
    let without = host.sh(script, |_| {});
    assert!(without.err.contains("not permitted"), "{without:?}");
    host.netns = None;
    let hosts = host.sh("ip link set lo mtu 65536", |plan| plan.process.caps = admin);
    assert!(hosts.err.contains("not permitted"), "{hosts:?}");
}

fn sys_admin_can_mount_but_not_remove_masks(host: &mut Host) {
    let script = "mount -t tmpfs x /tmp && echo mounted; umount /proc/sys; \
        umount /proc/interrupts; umount -l /proc; mount -o remount,rw,bind /proc/sys; \
        mount -o remount,rw,bind /sys; wc -c < /proc/interrupts; echo 1 > /proc/sys/vm/swappiness";
    let done = host.sh(script, |plan| {
        plan.process.caps = CapSet::from_names(&["SYS_ADMIN"], &[]).unwrap();
        plan.seccomp = None;
    });
    assert_eq!(done.out, "mounted\n0\n", "{done:?}");
    let refused = done.err.matches("Invalid argument").count()
        + done.err.matches("not permitted").count()
        + done.err.matches("ermission denied").count();
    assert!(refused >= 5 && done.err.contains("Read-only"), "{done:?}");
    let without = host.sh("mount -t tmpfs x /tmp", |_| {});
    assert!(without.err.contains("ermission denied") || without.err.contains("not permitted"));
}

fn a_program_run_later_is_in_the_same_namespace(host: &mut Host) {
    let script = "readlink /proc/self/ns/user; exec sleep 1000";
    let mut running = host.start(&["sh", "-c", script], |_| {});
    let namespace = running.line();
    let (out, stdout) = pipe();
    let executed = exec(&Execution {
        pidfd: running.spawned.pidfd.as_fd(),
        cgroup: &running.cgroup,
        ids: host.ids(),
        seccomp: None,
        process: process(&["sh", "-c", "readlink /proc/self/ns/user; id -u; echo x > /dev/stdout"]),
        stdin: None,
        stdout: stdout.as_fd(),
        stderr: stdout.as_fd(),
    })
    .unwrap();
    drop(stdout);
    assert_eq!(read(out), format!("{namespace}\n0\nx\n"));
    host.exit_of(executed.pid);
    running.cgroup.kill().unwrap();
}

fn a_copied_file_belongs_to_root_inside(host: &mut Host) {
    let vol = host.dir.join("vol");
    fs::create_dir(&vol).unwrap();
    let mut running = host.start(&["sh", "-c", "echo up; exec sleep 1000"], |plan| {
        plan.mounts = vec![bind(&vol, "/v")];
    });
    assert_eq!(running.line(), "up");
    for path in ["/tmp/in", "/v/in"] {
        let access = Access::Write { mode: 0o644, owner: host.outside(0) };
        open_file(running.spawned.pid, running.spawned.pidfd.as_fd(), path, access).unwrap();
    }
    let root = format!("/proc/{}/root", running.spawned.pid);
    assert_eq!(fs::metadata(format!("{root}/tmp/in")).unwrap().uid(), host.outside(0));
    assert_eq!(fs::metadata(vol.join("in")).unwrap().uid(), 0, "on the disk it belongs to root");
    // The caller creates files as before.
    fs::write(vol.join("own"), "").unwrap();
    assert_eq!(fs::metadata(vol.join("own")).unwrap().uid(), 0);
    running.cgroup.kill().unwrap();
}

fn terminals_and_devices_belong_to_root_inside(host: &mut Host) {
    let out = host.sh("stat -c '%u:%g' /dev/pts/ptmx /dev/a; head -c 1 /dev/a | wc -c", |plan| {
        plan.devices = vec![Device { source: "/dev/zero".into(), target: "/dev/a".into() }];
    });
    assert_eq!(out.ok(), "0:0\n0:0\n1\n");
}

fn added_capabilities_cannot_change_the_host(host: &mut Host) {
    let script = "cp=$(mknod /tmp/n b 259 0 2>&1); echo $cp; chroot / true && echo chroot; \
        hostname other; echo 5 > /proc/sys/kernel/printk";
    let done = host.sh(script, |plan| plan.process.caps = CapSet::ALL);
    assert!(done.out.contains("not permitted") && done.out.contains("chroot"), "{done:?}");
    assert!(done.err.contains("Read-only"), "{done:?}");
}

fn two_units_have_different_ids(host: &mut Host) {
    let vol = host.dir.join("vol");
    fs::create_dir(&vol).unwrap();
    let running = host.start(&["sleep", "1000"], |_| {});
    host.userns = Some(create_userns(IdRange::nth(8).unwrap()).unwrap());
    let other = host.start(&["sleep", "1000"], |_| {});
    let owner = |pid: i32| fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while owner(other.spawned.pid) == 0 || owner(running.spawned.pid) == 0 {
        assert!(std::time::Instant::now() < until, "still in setup");
    }
    assert_ne!(owner(running.spawned.pid), owner(other.spawned.pid));
    running.cgroup.kill().unwrap();
    other.cgroup.kill().unwrap();
}

fn an_existing_namespace_can_be_used(host: &mut Host) {
    let mut running = host.start(&["sh", "-c", "echo up; exec sleep 1000"], |_| {});
    assert_eq!(running.line(), "up");
    let open = |pid: &str| fs::File::open(format!("/proc/{pid}/ns/user")).unwrap().into();
    let joined = join_userns(open(&running.spawned.pid.to_string())).unwrap();
    assert_eq!(Some(joined.range()), host.ids());
    host.userns = Some(joined);
    assert!(host.sh("cat /proc/self/uid_map", |_| {}).ok().contains("65536"));
    // The host's own: its mapping is not one that a container can have.
    let error = join_userns(open("self")).unwrap_err();
    assert!(error.to_string().contains("user namespace"), "{error}");
}
