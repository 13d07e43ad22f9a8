//! Known attacks on programs that load or unpack images, by CVE number. With a vulnerable builder, each
//! image here would write, read or run something outside itself. A victim directory next to it must stay
//! unchanged.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod common;

use common::Scratch;
use common::layout::*;
use common::tarball::{Header, Tarball};
use image::oci::{pack_image, probe};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

/// The target of an attack: a directory with a private file.
struct Victim {
    scratch: Scratch,
    dir: PathBuf,
}

impl Victim {
    fn new() -> Victim {
        let scratch = Scratch::new();
        let dir = scratch.path("victim");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(dir.join("file"), "untouched").unwrap();
        fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
        Victim { scratch, dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// The victim's path relative to any directory that an image could be unpacked to.
    fn upwards(&self, name: &str) -> String {
        format!("{}{}", "../".repeat(12), self.path(name).trim_start_matches('/'))
    }

    /// Builds an image with one layer; returns the error if it was rejected.
    fn attack(&self, tar: Tarball) -> Option<String> {
        let tar = tar.end();
        let mut layout = Layout::default();
        let manifest = layout.image(&[(tar.clone(), tar, LAYER)], &json!({}));
        layout.index(json!([manifest]));
        let image = layout.dir(&self.scratch);
        let result = pack_image(&image, &self.scratch.path("layers"));
        fs::remove_dir_all(image).unwrap();
        self.check();
        result.err().map(|error| error.to_string())
    }

    fn check(&self) {
        let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&self.dir), mode(&self.dir.join("file"))), (0o700, 0o600));
        assert_eq!(fs::read_to_string(self.dir.join("file")).unwrap(), "untouched");
        assert_eq!(fs::metadata(self.dir.join("file")).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(&self.dir).unwrap().count(), 1);
        let mut others: Vec<String> = fs::read_dir(&self.scratch.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["layers", "victim", "image.tar", "image"].contains(&name.as_str()))
            .collect();
        others.sort();
        assert!(others.is_empty(), "{others:?}");
    }

    /// Builds an image with one layer, which must be rejected with this reason.
    fn rejects(&self, tar: Tarball, reason: &str) {
        let error = self.attack(tar);
        assert!(error.as_ref().is_some_and(|text| text.contains(reason)), "{reason}: {error:?}");
    }
}

/// Paths and links of a layer that lead out of the directory to which it is unpacked.
#[test]
fn cve_2014_9356_layers_and_archives_do_not_lead_out() {
    let victim = Victim::new();
    let (up, file) = (victim.upwards("new"), victim.path("file"));
    victim.rejects(Tarball::new().file(&up, b"x"), "path contains \"..\"");
    victim.rejects(
        Tarball::new().symlink("way", &victim.path("")).file("way/new", b"x"),
        "through a symbolic link",
    );
    victim.rejects(
        Tarball::new().symlink("way", &victim.upwards("")).file("way/new", b"x"),
        "through a symbolic link",
    );
    victim.rejects(Tarball::new().hard_link("name", &file), "does not precede it in this layer");
    victim.rejects(Tarball::new().hard_link("name", &victim.upwards("file")), "invalid path");
    victim
        .rejects(Tarball::new().file(&format!("../{}", ".wh.victim"), b""), "path contains \"..\"");
    // An absolute path is a path in the image: it is accepted, and nothing is written to the host.
    assert_eq!(victim.attack(Tarball::new().file(&victim.path("new"), b"x")), None);
    // Links can point anywhere: they are resolved in the container.
    assert_eq!(victim.attack(Tarball::new().symlink("link", &file)), None);

    // Archives from `docker save` name their parts by paths.
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
    for (config_at, layer_at) in [
        (victim.upwards("file").as_str(), "layer.tar"),
        (file.as_str(), "layer.tar"),
        ("config.json", victim.upwards("file").as_str()),
        ("config.json", "link"),
    ] {
        let manifest = json!([{"Config": config_at, "RepoTags": ["x:1"], "Layers": [layer_at]}]);
        let tar = Tarball::new()
            .file("manifest.json", manifest.to_string().as_bytes())
            .file("config.json", config.to_string().as_bytes())
            .symlink("link", &file);
        let archive = victim.scratch.path("image.tar");
        fs::write(&archive, tar.end()).unwrap();
        let error = pack_image(&archive, &victim.scratch.path("layers")).unwrap_err().to_string();
        assert!(error.contains("is missing from the image"), "{error}");
        assert!(!error.contains("untouched"));
        victim.check();
    }
}

/// A layer whose root, as "." or "/", is a link: all later entries would be written to its target.
#[test]
fn cve_2021_29136_the_root_of_a_layer_is_not_a_link() {
    let victim = Victim::new();
    for name in [".", "./", "/", "./."] {
        let tar = Tarball::new().symlink(name, &victim.path("")).file("new", b"x");
        victim.rejects(tar, "the root of a layer must be a directory");
        let tar = Tarball::new().hard_link(name, "file").dir(".", 0o777);
        victim.rejects(tar, "the root of a layer must be a directory");
    }
}

/// Hard links to symbolic links, with a mode that a vulnerable unpacker sets on the target.
#[test]
fn cve_2021_32760_modes_are_not_changed_through_links() {
    let victim = Victim::new();
    for target in [victim.path("file"), victim.upwards("file")] {
        let link =
            Header { name: b"hard", flag: b'1', link: b"soft", mode: 0o4777, ..Header::default() };
        let tar = Tarball::new().symlink("soft", &target).member(&link);
        victim.rejects(tar, "not a regular file");
        // The same link twice, the second time as a file with the mode.
        let again = Header { name: b"soft", mode: 0o4777, ..Header::default() };
        victim.rejects(Tarball::new().symlink("soft", &target).member(&again), "duplicate entry");
    }
}

/// A directory with the same name as a link, so that its mode is set on the link's target.
#[test]
fn cve_2026_33056_a_directory_over_a_link_does_not_change_the_target() {
    let victim = Victim::new();
    for (link, dir) in [("d", "d"), ("d", "./d/"), ("a/../d", "d"), ("./d", "d/.")] {
        let tar = Tarball::new().symlink(link, &victim.path("")).dir(dir, 0o777);
        let error = victim.attack(tar).unwrap();
        assert!(
            error.contains("duplicate entry") || error.contains("path contains \"..\""),
            "{error}"
        );
    }
}

/// Very large documents: they are not read, whatever their declared size.
#[test]
fn cve_2023_25153_the_size_of_documents_is_limited() {
    // A sparse file of 64 GiB takes no space.
    const HUGE: u64 = 64 << 30;
    for (name, limit) in [("oci-layout", 4 << 20), ("index.json", 4 << 20)] {
        let scratch = Scratch::new();
        let image = simple().dir(&scratch);
        fs::File::options().write(true).open(image.join(name)).unwrap().set_len(HUGE).unwrap();
        let error = probe(&image).unwrap_err().to_string();
        assert!(error.ends_with(&format!("{name} is {HUGE} (at most {limit})")), "{error}");
    }
    for (kind, limit) in [("manifest", 4 << 20), ("config", 32 << 20)] {
        let scratch = Scratch::new();
        let layout = simple();
        let image = layout.dir(&scratch);
        let key = match kind {
            "config" => "\"rootfs\"",
            _ => "\"layers\":[{",
        };
        let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(key);
        let name =
            layout.files.iter().find(|(name, bytes)| name.starts_with("blobs/") && has(bytes));
        let name = name.unwrap().0;
        fs::File::options().write(true).open(image.join(name)).unwrap().set_len(HUGE).unwrap();
        let error = probe(&image).unwrap_err().to_string();
        assert!(error.ends_with(&format!("{name} is {HUGE} (at most {limit})")), "{error}");
    }
}

/// Programs that builders run to unpack, provided by the image.
#[test]
fn cve_2026_41567_no_program_of_an_image_is_run_to_unpack_it() {
    const NAMES: [&str; 10] =
        ["unpigz", "pigz", "gzip", "gunzip", "zstd", "unzstd", "xz", "unxz", "tar", "sh"];
    const AGAIN: &str = "ATTACKS_AGAIN";
    let victim = Victim::new();
    let script = format!("#!/bin/sh\necho owned >{}\nexec cat\n", victim.path("new"));
    if std::env::var_os(AGAIN).is_none() {
        // Once more with these programs first in the search path.
        let scratch = Scratch::new();
        let decoys = scratch.path("decoys");
        fs::create_dir(&decoys).unwrap();
        for name in NAMES {
            fs::write(decoys.join(name), &script).unwrap();
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(decoys.join(name), mode).unwrap();
        }
        let done = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cve_2026_41567_no_program_of_an_image_is_run_to_unpack_it"])
            .env(AGAIN, "")
            .env("PATH", &decoys)
            .current_dir(&decoys)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
        victim.check();
    }
    let mut tar = Tarball::new();
    for name in NAMES {
        for dir in ["bin", "usr/bin", "usr/local/bin", "sbin"] {
            let name = format!("{dir}/{name}");
            let header = Header {
                name: name.as_bytes(),
                mode: 0o755,
                content: script.as_bytes(),
                ..Header::default()
            };
            tar = tar.member(&header);
        }
    }
    let tar = tar.end();
    let upper = upper();
    let mut layout = Layout::default();
    let layers = [
        (tar.clone(), gzip(&tar), "application/vnd.oci.image.layer.v1.tar+gzip"),
        (upper.clone(), zstd(&upper), "application/vnd.oci.image.layer.v1.tar+zstd"),
    ];
    let manifest = layout.image(&layers, &json!({"Env": ["PATH=/bin"]}));
    layout.index(json!([manifest]));
    let image = layout.dir(&victim.scratch);
    // Also next to the image, where a search path with an empty component looks.
    for name in ["unpigz", "tar"] {
        fs::write(image.join(name), &script).unwrap();
        fs::set_permissions(image.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    pack_image(&image, &victim.scratch.path("layers")).unwrap();
    victim.check();
}

fn config_refusal(config: &serde_json::Value) -> String {
    let mut layout = Layout::default();
    let manifest = layout.image(&[(base(), base(), LAYER)], config);
    layout.index(json!([manifest]));
    refusal(&layout)
}

/// Numbers that become 0 when truncated to 32 bits.
#[test]
fn cve_2024_40635_a_user_beyond_32_bits_is_rejected() {
    for (user, reason) in [
        ("4294967296", "an id must be 0 to 4294967294"),
        ("4294967295", "an id must be 0 to 4294967294"),
        ("18446744073709551616", "an id must be 0 to 4294967294"),
        ("1000:4294967296", "an id must be 0 to 4294967294"),
        ("-1", "an id must not have a sign"),
        ("+0", "an id must not have a sign"),
        ("1000:-4294967296", "an id must not have a sign"),
        ("1000:", "the user or group is empty"),
        (":0", "the user or group is empty"),
        ("a:b:c", "expected user or user:group"),
        ("root\n", "a name must not contain whitespace or control characters"),
    ] {
        let error = config_refusal(&json!({"User": user}));
        assert!(error.ends_with(&format!("config key User: {user:?}: {reason}")), "{error}");
    }
    for user in ["", "0", "1000:1000", "web", "web:www-data", "4294967294"] {
        let mut layout = Layout::default();
        let manifest = layout.image(&[], &json!({"User": user}));
        layout.index(json!([manifest]));
        assert_eq!(probe(&layout.dir(&Scratch::new())).unwrap().config.user, user);
    }
}

/// A volume whose path leaves the container, so that files of the host are copied into it.
#[test]
fn cve_2022_23648_a_volume_path_cannot_leave_the_container() {
    for path in ["/../etc", "/vol/../../etc", "/vol/..", "/.."] {
        let error = config_refusal(&json!({"Volumes": {path: {}}}));
        assert!(
            error.ends_with(&format!("config key Volumes: {path:?} contains \"..\"")),
            "{error}"
        );
    }
}

/// A working directory that leaves the container, so that directories are created on the host.
#[test]
fn cve_2026_55686_a_working_directory_cannot_leave_the_container() {
    for path in ["/../etc/made", "/srv/../../made", "/.."] {
        let error = config_refusal(&json!({"WorkingDir": path}));
        assert!(
            error.ends_with(&format!("config key WorkingDir: {path:?} contains \"..\"")),
            "{error}"
        );
    }
}

/// Images with values that are far too large: the message names the value.
#[test]
fn too_large_values_are_named() {
    let million: Vec<String> = (0..1_000_000).map(|n| format!("NAME{n}=x")).collect();
    let long = "x".repeat(10_000_000);
    for (config, end) in [
        (json!({"Env": million}), "config key Env: 1000000 entries (at most 1024)".to_owned()),
        (
            json!({"Env": [format!("A={long}")]}),
            "config key Env: a string of 10000002 bytes (at most 32768)".to_owned(),
        ),
    ]
    .into_iter()
    .chain(["Entrypoint", "Cmd"].map(|key| {
        (
            json!({key: [long]}),
            format!("config key {key}: a string of 10000000 bytes (at most 32768)"),
        )
    }))
    .chain(["User", "WorkingDir", "StopSignal"].map(|key| {
        (
            json!({key: long}),
            format!("config key {key}: a string of 10000000 bytes (at most 32768)"),
        )
    })) {
        let error = config_refusal(&config);
        assert!(error.ends_with(&end), "{:?}", error.get(..300));
    }
    let error = config_refusal(&json!({"Volumes": {format!("/{long}"): {}}}));
    assert!(error.ends_with("config key Volumes: a string of 10000001 bytes (at most 32768)"));
    // Numbers instead of strings.
    for user in [json!(-1), json!(4_294_967_296u64), json!(0)] {
        let error = config_refusal(&json!({"User": user}));
        assert!(error.ends_with("config key User: must be a string"), "{error}");
    }
}
