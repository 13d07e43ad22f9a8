//! Volumes, host paths, and the first use of a named volume.

use crate::host::{Host, bind};
use crate::root_file_system::tmpfs;
use crate::tests;
use container::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

tests![
    parents_are_mounted_before_children,
    read_only_volumes,
    a_host_file_and_a_missing_source,
    recursive_binds_include_submounts,
    a_link_instead_of_a_regular_file_is_refused,
    a_file_over_a_dangling_link_is_created_at_its_target,
    dangling_links_stay_in_the_root_and_loops_are_errors,
    a_new_volume_is_filled_from_the_image,
    a_filled_volume_is_not_filled_again,
    a_volume_with_data_is_used_as_it_is,
    an_interrupted_fill_is_restarted,
    two_containers_fill_one_volume_once,
];

fn parents_are_mounted_before_children(host: &mut Host) {
    let vol = host.dir.join("vol");
    fs::create_dir(&vol).unwrap();
    fs::write(vol.join("f"), "").unwrap();
    let out = host
        .sh("ls /a; ls /a/b; touch /a/b/c/t && ls /a/b/c", |plan| {
            plan.mounts = vec![tmpfs("/a/b/c", None), bind(&vol, "/a/b"), tmpfs("/a", None)];
        })
        .ok();
    assert_eq!(out, "b\nc\nf\nt\n");
    assert!(vol.join("c").is_dir());
}

fn read_only_volumes(host: &mut Host) {
    let vol = host.dir.join("vol");
    fs::create_dir(&vol).unwrap();
    let done = host.sh("touch /v/x; grep ' /v ' /proc/self/mounts", |plan| {
        plan.mounts = vec![Mount { read_only: true, ..bind(&vol, "/v") }];
    });
    assert!(done.err.contains("Read-only"));
    assert!(done.out.contains("ro,nosuid,nodev"), "{}", done.out);
}

fn a_host_file_and_a_missing_source(host: &mut Host) {
    let file = host.dir.join("one");
    fs::write(&file, "content").unwrap();
    let mounts = vec![bind(&file, "/etc/app/one.conf"), bind(&file, "/etc/group")];
    let out = host.sh("cat /etc/app/one.conf /etc/group", |plan| plan.mounts = mounts).ok();
    assert_eq!(out, "contentcontent");
    let error = host.sh("true", |plan| plan.mounts = vec![bind("/no/such".as_ref(), "/x")]).error();
    assert_eq!(error.to_string(), "open a mount source: /no/such: No such file or directory");
}

fn recursive_binds_include_submounts(host: &mut Host) {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let (vol, sub) = (host.dir.join("vol"), host.dir.join("vol/sub"));
    fs::create_dir_all(&sub).unwrap();
    mount(Some("t"), &sub, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::write(sub.join("below"), "").unwrap();
    for recursive in [true, false] {
        let source = MountSource::Bind { path: vol.clone(), recursive, copy_up: None };
        let mount = Mount { target: "/v".into(), read_only: true, no_exec: false, source };
        let done = host.sh("ls /v/sub; touch /v/sub/x", |plan| plan.mounts = vec![mount]);
        assert_eq!(done.out, if recursive { "below\n" } else { "" });
        assert!(done.err.contains("Read-only"), "{done:?}");
    }
    umount2(&sub, MntFlags::MNT_DETACH).unwrap();
}

/// Root mounts the file, but its directory belongs to another user.
fn a_link_instead_of_a_regular_file_is_refused(host: &mut Host) {
    let path = host.dir.join("resolv.conf");
    let mount = |path: &Path| {
        let source = MountSource::RegularFile { path: path.into() };
        Mount { target: "/etc/resolv.conf".into(), read_only: true, no_exec: false, source }
    };
    fs::write(&path, "nameserver 10.0.2.3\n").unwrap();
    let mounts = vec![mount(&path)];
    let script = "cat /etc/resolv.conf; echo x > /etc/resolv.conf";
    let done = host.sh(script, |plan| plan.mounts = mounts);
    assert_eq!(done.out, "nameserver 10.0.2.3\n");
    assert!(done.err.contains("Read-only"), "{}", done.err);
    let (secret, link, fifo) =
        (host.dir.join("secret"), host.dir.join("link"), host.dir.join("fifo"));
    fs::write(&secret, "of root").unwrap();
    symlink(&secret, &link).unwrap();
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [&link, &fifo, &host.dir.clone()] {
        let mounts = vec![mount(path)];
        let error = host.sh("cat /etc/resolv.conf", |plan| plan.mounts = mounts).error();
        assert_eq!(error.step, Step::Sources);
        assert!(error.to_string().contains("is not a regular file"), "{error}");
    }
}

/// Such as /etc/resolv.conf in images with systemd-resolved.
fn a_file_over_a_dangling_link_is_created_at_its_target(host: &mut Host) {
    let file = host.dir.join("one");
    fs::write(&file, "content").unwrap();
    host.image_link("/etc/up.conf", "../run/systemd/resolve/up.conf");
    host.image_link("/etc/down.conf", "/run/down/down.conf");
    host.image_link("/etc/twice.conf", "side.conf");
    host.image_link("/etc/side.conf", "../opt/side.conf");
    host.image_link("/linked/etc", "../etc");
    host.image_link("/etc/far.conf", "../far/far.conf");
    let paths = ["/etc/up.conf", "/etc/down.conf", "/etc/twice.conf/", "/linked/etc/far.conf"];
    let mounts: Vec<_> = paths.iter().map(|path| bind(&file, path)).collect();
    let script = "for at in /etc/up.conf /etc/down.conf /etc/twice.conf /linked/etc/far.conf \
                  /run/systemd/resolve/up.conf /run/down/down.conf /opt/side.conf /far/far.conf
                  do cat $at; echo \" $at\"; done
                  readlink /etc/up.conf";
    let out = host.sh(script, |plan| plan.mounts = mounts).ok();
    assert_eq!(out.matches("content /").count(), 8, "{out}");
    assert!(out.ends_with("\n../run/systemd/resolve/up.conf\n"), "{out}");
}

fn dangling_links_stay_in_the_root_and_loops_are_errors(host: &mut Host) {
    let file = host.dir.join("one");
    fs::write(&file, "content").unwrap();
    // `..` above the root and absolute targets are resolved inside the root.
    let name = host.dir.file_name().unwrap().to_str().unwrap().to_owned();
    let outside = std::env::temp_dir().join(format!("{name}-outside"));
    host.image_link("/etc/above", &format!("{}{}", "../".repeat(20), &outside.display()));
    host.image_link("/etc/absolute", outside.to_str().unwrap());
    for link in ["/etc/above", "/etc/absolute"] {
        let mounts = vec![bind(&file, link)];
        let script = format!("cat {}", outside.display());
        assert_eq!(host.sh(&script, |plan| plan.mounts = mounts).ok(), "content");
    }
    assert!(!outside.exists());
    // Two links that point to each other, and a chain longer than the kernel's limit.
    host.image_link("/etc/there", "back");
    host.image_link("/etc/back", "there");
    for n in 0..50 {
        host.image_link(&format!("/etc/chain{n}"), &format!("chain{}", n + 1));
    }
    for link in ["/etc/there", "/etc/chain0"] {
        let mounts = vec![bind(&file, link)];
        let error = host.sh("true", |plan| plan.mounts = mounts).error();
        assert_eq!(error.step, Step::Mounts);
        assert!(error.to_string().contains("Too many symbolic links"), "{error}");
    }
}

/// A named volume with its marker, in the layout that the caller uses.
fn named(host: &Host, name: &str, target: &str) -> (PathBuf, Mount) {
    let dir = host.dir.join("volumes").join(name);
    let path = dir.join("_data");
    fs::create_dir_all(&path).unwrap();
    let copy_up = Some(CopyUp { marker: dir.join("initialized") });
    let source = MountSource::Bind { path, recursive: false, copy_up };
    (dir, Mount { target: target.into(), read_only: false, no_exec: false, source })
}

fn image_content(host: &Host) {
    host.image_file("/srv/data/file", "from the image", 0o640);
    host.image_file("/srv/data/sub/suid", "#!", 0o4711);
    host.image_link("/srv/data/link", "/etc/passwd");
    let data = host.layer.join("srv/data");
    for path in ["file", "sub"] {
        chown(data.join(path), Some(1000), Some(1001)).unwrap();
    }
    chown(&data, Some(1000), Some(50)).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o2770)).unwrap();
}

fn a_new_volume_is_filled_from_the_image(host: &mut Host) {
    image_content(host);
    let (dir, mount) = named(host, "new", "/srv/data");
    let out = host.sh("cat /srv/data/file; echo more > /srv/data/own", |plan| {
        plan.mounts = vec![mount];
        plan.process.user = "web".into();
    });
    assert_eq!(out.ok(), "from the image");
    let data = dir.join("_data");
    let about = |path: &str| {
        let meta = fs::symlink_metadata(data.join(path)).unwrap();
        (meta.mode() & 0o7777, meta.uid(), meta.gid())
    };
    assert_eq!(about(""), (0o2770, 1000, 50));
    assert_eq!(about("file"), (0o640, 1000, 1001));
    assert_eq!(about("sub/suid"), (0o4711, 0, 0));
    assert_eq!(fs::read_link(data.join("link")).unwrap().to_str(), Some("/etc/passwd"));
    let image = fs::metadata(host.layer.join("srv/data/file")).unwrap();
    assert_eq!(fs::metadata(data.join("file")).unwrap().mtime(), image.mtime());
    assert!(dir.join("initialized").exists() && !dir.join("initialized.partial").exists());
}

fn a_filled_volume_is_not_filled_again(host: &mut Host) {
    image_content(host);
    let (dir, mount) = named(host, "kept", "/srv/data");
    for script in ["rm /srv/data/file", "test ! -e /srv/data/file"] {
        let mount = mount.clone();
        host.sh(script, |plan| plan.mounts = vec![mount]).ok();
    }
    assert!(!dir.join("_data/file").exists());
    // If the image has no content there, the volume stays empty and is marked.
    let (dir, mount) = named(host, "empty", "/not/in/image");
    assert_eq!(host.sh("ls -A /not/in/image", |plan| plan.mounts = vec![mount]).ok(), "");
    assert!(dir.join("initialized").exists());
}

fn a_volume_with_data_is_used_as_it_is(host: &mut Host) {
    image_content(host);
    let (dir, mut mount) = named(host, "restored", "/srv/data");
    fs::write(dir.join("_data/precious"), "").unwrap();
    mount.read_only = true;
    let done = host.sh("ls /srv/data; touch /srv/data/x", |plan| plan.mounts = vec![mount]);
    assert_eq!(done.out, "precious\n");
    assert!(done.err.contains("Read-only"), "{done:?}");
    assert!(dir.join("initialized").exists());
}

fn an_interrupted_fill_is_restarted(host: &mut Host) {
    image_content(host);
    let (dir, mount) = named(host, "broken", "/srv/data");
    let outside = host.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("keep"), "").unwrap();
    fs::create_dir_all(dir.join("_data/half/way")).unwrap();
    fs::write(dir.join("_data/half/way/file"), "ha").unwrap();
    fs::write(dir.join("_data/file"), "ha").unwrap();
    symlink(&outside, dir.join("_data/away")).unwrap();
    fs::write(dir.join("initialized.partial"), "filling\n").unwrap();
    let out = host.sh("ls /srv/data; cat /srv/data/file", |plan| plan.mounts = vec![mount]).ok();
    assert_eq!(out, "file\nlink\nsub\nfrom the image");
    assert!(outside.join("keep").exists());
    assert!(dir.join("initialized").exists() && !dir.join("initialized.partial").exists());
}

fn two_containers_fill_one_volume_once(host: &mut Host) {
    image_content(host);
    for n in 0..400 {
        host.image_file(&format!("/srv/data/many/{n}"), "x", 0o644);
    }
    let (dir, mount) = named(host, "shared", "/srv/data");
    let script = "echo $(ls /srv/data/many | wc -l); touch /srv/data/mine.$0";
    let all: Vec<_> = (0..4)
        .map(|n| {
            let mount = mount.clone();
            let name = n.to_string();
            host.start(&["sh", "-c", script, &name], |plan| plan.mounts = vec![mount])
        })
        .collect();
    for running in all {
        assert_eq!(host.finish(running).ok(), "400\n");
    }
    for n in 0..4 {
        assert!(dir.join(format!("_data/mine.{n}")).exists());
    }
}
