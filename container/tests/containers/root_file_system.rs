//! The root: layers, the writable layer, files, the kernel's file systems.

use crate::host::{Exit, Host, bind, layers};
use crate::tests;
use container::*;
use std::fs;
use std::process::Command;

tests![
    writes_are_discarded,
    a_read_only_root_refuses_writes,
    the_writable_layer_has_a_size_limit,
    a_hundred_and_thirty_layers,
    an_erofs_layer_is_mounted_from_its_file,
    files_replace_those_of_the_image,
    a_file_over_a_volume_does_not_modify_the_volume,
    the_kernels_file_systems_are_mounted_as_documented,
    a_missing_layer_is_named,
];

fn writes_are_discarded(host: &mut Host) {
    let script = "test ! -e /new && echo x > /new && rm /etc/group && cat /new";
    for _ in 0..2 {
        assert_eq!(host.sh(script, |_| {}).ok(), "x\n");
    }
    assert!(!host.layer.join("new").exists() && host.layer.join("etc/group").exists());
}

fn a_read_only_root_refuses_writes(host: &mut Host) {
    let script =
        "touch /x /srv/y /etc/hosts; touch /vol/z /tmp/t && cat /etc/hosts; echo > /dev/null";
    let vol = host.dir.join("vol");
    fs::create_dir(&vol).unwrap();
    let done = host.sh(script, |plan| {
        plan.read_only = true;
        plan.process.cwd = "/srv".into();
        plan.mounts = vec![bind(&vol, "/vol"), tmpfs("/tmp", None)];
        plan.files = vec![file("/etc/hosts", "127.0.0.1 localhost\n")];
    });
    assert_eq!(done.err.matches("Read-only file system").count(), 3, "{}", done.err);
    assert_eq!(done.out, "127.0.0.1 localhost\n");
    assert!(vol.join("z").exists());
}

pub fn tmpfs(target: &str, size: Option<u64>) -> Mount {
    let source = MountSource::Tmpfs { size, mode: 0o1777 };
    Mount { target: target.into(), read_only: false, no_exec: false, source }
}

pub fn file(path: &str, content: &str) -> InlineFile {
    InlineFile { path: path.into(), content: content.into(), mode: 0o644 }
}

fn the_writable_layer_has_a_size_limit(host: &mut Host) {
    let done = host.sh("dd if=/dev/zero of=/big bs=1M count=3", |plan| {
        plan.root = Root::Layers { layers: layers(plan).clone(), writable_size: Some(1 << 20) };
    });
    assert_eq!(done.exit, Exit::Code(1));
    assert!(done.err.contains("No space left"), "{}", done.err);
    let done = host.sh("dd if=/dev/zero of=/t/big bs=1M count=3", |plan| {
        plan.mounts = vec![tmpfs("/t", Some(1 << 20))];
    });
    assert!(done.err.contains("No space left"), "{}", done.err);
}

fn a_hundred_and_thirty_layers(host: &mut Host) {
    // Long names: a single option string for mount(2) would take nine pages.
    let many: Vec<_> = (0..130)
        .map(|n| {
            let dir = host.dir.join(format!("layers/{n}-{}", "x".repeat(200)));
            fs::create_dir_all(dir.join("l")).unwrap();
            fs::write(dir.join("l").join(n.to_string()), "").unwrap();
            fs::write(dir.join("which"), format!("{n}\n")).unwrap();
            dir
        })
        .collect();
    let out = host
        .sh("ls /l | wc -l; cat /which", |plan| {
            let base = std::mem::replace(layers(plan), many);
            layers(plan).extend(base);
        })
        .ok();
    assert_eq!(out, "130\n0\n", "the first layer is the topmost");
}

fn an_erofs_layer_is_mounted_from_its_file(host: &mut Host) {
    let (image, target) = (host.dir.join("layer.erofs"), host.dir.join("mounted"));
    fs::create_dir(&target).unwrap();
    let made = Command::new("mkfs.erofs").arg(&image).arg(&host.layer).output();
    let made = made.expect("mkfs.erofs is installed (Debian: erofs-utils)");
    assert!(made.status.success(), "{made:?}");
    mount_layer(&image, &target).unwrap();
    let done = host.sh("cat /etc/group; touch /x", |plan| *layers(plan) = vec![target.clone()]);
    unmount_layer(&target).unwrap();
    assert!(done.ok().starts_with("root:x:0:"));
    let error = mount_layer(&host.layer.join("etc/group"), &target).unwrap_err();
    assert!(error.to_string().starts_with("mount layer "), "{error}");
    assert!(unmount_layer(&target).is_err());
}

fn files_replace_those_of_the_image(host: &mut Host) {
    host.image_file("/etc/hosts", "of the image", 0o600);
    host.image_link("/etc/resolv.conf", "../run/nowhere/resolv.conf");
    let out = host
        .sh("cat /etc/hosts /etc/resolv.conf /opt/a/b; stat -c %a:%u /etc/hosts; ls /", |plan| {
            plan.files = vec![
                file("/etc/hosts", "1\n"),
                file("/etc/resolv.conf", "2\n"),
                file("/opt/a/b", "3\n"),
            ];
        })
        .ok();
    assert!(out.starts_with("1\n2\n3\n644:0\n"), "{out}");
    let error = host.sh("true", |plan| plan.files = vec![file("/bin", "x")]).error();
    assert_eq!(error.to_string(), "write a file: /bin: Is a directory");
}

fn a_file_over_a_volume_does_not_modify_the_volume(host: &mut Host) {
    let etc = host.dir.join("etc");
    fs::create_dir(&etc).unwrap();
    fs::write(etc.join("hosts"), "of the volume").unwrap();
    let out = host
        .sh("cat /etc/hosts; ls -A /", |plan| {
            plan.mounts = vec![bind(&etc, "/etc")];
            plan.files = vec![file("/etc/hosts", "of the plan\n")];
        })
        .ok();
    assert_eq!(out, "of the plan\nbin\ndev\netc\nproc\nsys\ntmp\n");
    assert_eq!(fs::read_to_string(etc.join("hosts")).unwrap(), "of the volume");
}

fn the_kernels_file_systems_are_mounted_as_documented(host: &mut Host) {
    let mounts = host.run(&["cat", "/proc/self/mounts"], |_| {}).ok();
    let options = |path: &str, kind: &str| -> Vec<String> {
        let line = mounts.lines().rev().find(|line| line.split(' ').nth(1) == Some(path));
        let fields: Vec<&str> =
            line.unwrap_or_else(|| panic!("{path}: {mounts}")).split(' ').collect();
        assert_eq!(fields[2], kind, "{path}");
        fields[3].split(',').map(str::to_owned).collect()
    };
    let terminals = format!("rw nosuid noexec gid={} mode=620 ptmxmode=666", host.outside(5));
    for (path, kind, wanted) in [
        ("/", "overlay", "rw nosuid nodev"),
        ("/proc", "proc", "rw nosuid nodev noexec"),
        ("/sys", "sysfs", "ro nosuid nodev noexec"),
        ("/sys/fs/cgroup", "cgroup2", "ro nosuid nodev noexec"),
        ("/dev", "tmpfs", "rw nosuid mode=755"),
        ("/dev/pts", "devpts", terminals.as_str()),
        ("/dev/shm", "tmpfs", "rw nosuid nodev noexec size=65536k"),
        ("/dev/mqueue", "mqueue", "rw nosuid nodev noexec"),
    ] {
        let options = options(path, kind);
        for option in wanted.split(' ') {
            assert!(options.iter().any(|o| o == option), "{path}: {option} in {options:?}");
        }
    }
    // The option is called "volatile" up to about Linux 6.12 and "fsync=volatile" later.
    assert!(options("/", "overlay").iter().any(|option| option.ends_with("volatile")));
}

fn a_missing_layer_is_named(host: &mut Host) {
    let error = host.sh("true", |plan| layers(plan).push("/no/such/layer".into())).error();
    assert_eq!(error.step, Step::OverlayRoot);
    assert!(error.to_string().contains("/no/such/layer"), "{error}");
}
