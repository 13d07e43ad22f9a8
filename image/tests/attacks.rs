//! Attacks that others have suffered while an image was loaded or unpacked, by their names. Each
//! image here would write, read or run something outside itself with a builder that takes it at its
//! word; a victim stands beside it, and must be as it was.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::Scratch;
use common::layout::*;
use common::tarball::{Header, Tarball};
use image::oci::{pack_image, probe};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

/// What an attack is after: a directory with a private file.
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

    /// The victim's path for somebody who unpacks to wherever beside it.
    fn upwards(&self, name: &str) -> String {
        format!("{}{}", "../".repeat(12), self.path(name).trim_start_matches('/'))
    }

    /// Builds an image of one layer and says why it was refused, if it was.
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
        let mut beside: Vec<String> = fs::read_dir(&self.scratch.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["layers", "victim", "image.tar", "image"].contains(&name.as_str()))
            .collect();
        beside.sort();
        assert!(beside.is_empty(), "{beside:?}");
    }

    /// Builds it, and it must be refused with this reason.
    fn refused(&self, tar: Tarball, reason: &str) {
        let error = self.attack(tar);
        assert!(error.as_ref().is_some_and(|text| text.contains(reason)), "{reason}: {error:?}");
    }
}

/// Paths and links of a layer that lead out of the directory it is unpacked to.
#[test]
fn cve_2014_9356_layers_and_archives_do_not_lead_out() {
    let victim = Victim::new();
    let (up, file) = (victim.upwards("new"), victim.path("file"));
    victim.refused(Tarball::new().file(&up, b"x"), "\"..\" in a path");
    victim.refused(
        Tarball::new().symlink("way", &victim.path("")).file("way/new", b"x"),
        "below a symbolic link",
    );
    victim.refused(
        Tarball::new().symlink("way", &victim.upwards("")).file("way/new", b"x"),
        "below a symbolic link",
    );
    victim.refused(Tarball::new().hard_link("name", &file), "not before it in this layer");
    victim.refused(Tarball::new().hard_link("name", &victim.upwards("file")), "impossible path");
    victim.refused(Tarball::new().file(&format!("../{}", ".wh.victim"), b""), "\"..\" in a path");
    // An absolute path is one of the image's: it is taken in, and nothing is written to the host.
    assert_eq!(victim.attack(Tarball::new().file(&victim.path("new"), b"x")), None);
    // Links may point anywhere: where they lead to is decided in the container.
    assert_eq!(victim.attack(Tarball::new().symlink("link", &file)), None);

    // What `docker save` writes names its parts by paths.
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

/// A layer whose root, as "." or "/", is a link: everything after it lands where the link leads.
#[test]
fn cve_2021_29136_the_root_of_a_layer_is_no_link() {
    let victim = Victim::new();
    for name in [".", "./", "/", "./."] {
        let tar = Tarball::new().symlink(name, &victim.path("")).file("new", b"x");
        victim.refused(tar, "the root of a layer must be a directory");
        let tar = Tarball::new().hard_link(name, "file").dir(".", 0o777);
        victim.refused(tar, "the root of a layer must be a directory");
    }
}

/// Modes of hard links to links, which an unpacker would change through them.
#[test]
fn cve_2021_32760_modes_are_not_changed_through_links() {
    let victim = Victim::new();
    for target in [victim.path("file"), victim.upwards("file")] {
        let link =
            Header { name: b"hard", flag: b'1', link: b"soft", mode: 0o4777, ..Header::default() };
        let tar = Tarball::new().symlink("soft", &target).member(&link);
        victim.refused(tar, "not a regular file");
        // The same link twice, the second time as the file that is to have the mode.
        let again = Header { name: b"soft", mode: 0o4777, ..Header::default() };
        victim.refused(Tarball::new().symlink("soft", &target).member(&again), "named twice");
    }
}

/// A directory in the place of a link of the same name, so that its mode goes to the link's target.
#[test]
fn cve_2026_33056_a_directory_over_a_link_does_not_change_the_target() {
    let victim = Victim::new();
    for (link, dir) in [("d", "d"), ("d", "./d/"), ("a/../d", "d"), ("./d", "d/.")] {
        let tar = Tarball::new().symlink(link, &victim.path("")).dir(dir, 0o777);
        let error = victim.attack(tar).unwrap();
        assert!(error.contains("named twice") || error.contains("\"..\" in a path"), "{error}");
    }
}

/// Documents without end: they are not read, whatever their size is said to be.
#[test]
fn cve_2023_25153_documents_have_a_largest_size() {
    // A hole of 64 GiB costs nothing, unless it is read.
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

/// Programs that builders call to unpack, as the image would have them.
#[test]
fn cve_2026_41567_no_program_of_an_image_is_run_to_unpack_it() {
    const NAMES: [&str; 10] =
        ["unpigz", "pigz", "gzip", "gunzip", "zstd", "unzstd", "xz", "unxz", "tar", "sh"];
    const AGAIN: &str = "ATTACKS_AGAIN";
    let victim = Victim::new();
    let script = format!("#!/bin/sh\necho owned >{}\nexec cat\n", victim.path("new"));
    if std::env::var_os(AGAIN).is_none() {
        // The same once more where each of them is the first that is found.
        let scratch = Scratch::new();
        let snares = scratch.path("snares");
        fs::create_dir(&snares).unwrap();
        for name in NAMES {
            fs::write(snares.join(name), &script).unwrap();
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(snares.join(name), mode).unwrap();
        }
        let done = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cve_2026_41567_no_program_of_an_image_is_run_to_unpack_it"])
            .env(AGAIN, "")
            .env("PATH", &snares)
            .current_dir(&snares)
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
    // Also beside the image, where a search path with an empty part looks.
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

/// Numbers that become 0 when only their lower 32 bits count.
#[test]
fn cve_2024_40635_a_user_beyond_32_bits_is_refused() {
    for (user, reason) in [
        ("4294967296", "an id is 0 to 4294967294"),
        ("4294967295", "an id is 0 to 4294967294"),
        ("18446744073709551616", "an id is 0 to 4294967294"),
        ("1000:4294967296", "an id is 0 to 4294967294"),
        ("-1", "an id has no sign"),
        ("+0", "an id has no sign"),
        ("1000:-4294967296", "an id has no sign"),
        ("1000:", "a part is empty"),
        (":0", "a part is empty"),
        ("a:b:c", "it is not user or user:group"),
        ("root\n", "a name has no blanks or control characters"),
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

/// A volume whose path climbs out of the container, to have files of the host copied into it.
#[test]
fn cve_2022_23648_a_volume_path_does_not_climb() {
    for path in ["/../etc", "/vol/../../etc", "/vol/..", "/.."] {
        let error = config_refusal(&json!({"Volumes": {path: {}}}));
        assert!(error.ends_with(&format!("config key Volumes: {path:?} holds \"..\"")), "{error}");
    }
}

/// A working directory that climbs out of the container, to have directories made on the host.
#[test]
fn cve_2026_55686_a_working_directory_does_not_climb() {
    for path in ["/../etc/made", "/srv/../../made", "/.."] {
        let error = config_refusal(&json!({"WorkingDir": path}));
        assert!(
            error.ends_with(&format!("config key WorkingDir: {path:?} holds \"..\"")),
            "{error}"
        );
    }
}

/// Images whose values are far too large: the message names the value.
#[test]
fn values_without_measure_are_named() {
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
    // Numbers where texts belong.
    for user in [json!(-1), json!(4_294_967_296u64), json!(0)] {
        let error = config_refusal(&json!({"User": user}));
        assert!(error.contains("config key User: invalid type: "), "{error}");
        assert!(error.ends_with("expected a string"), "{error}");
    }
}
