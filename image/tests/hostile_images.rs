//! Images that are damaged, forged or malicious: rejected with an error that names the invalid part.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod common;

use common::Scratch;
use common::layout::*;
use common::tarball::{Header, Tarball};
use image::oci::{Digest, pack_image, probe};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A document that some readers interpret as an index and others as a manifest.
#[test]
fn cve_2021_41190_manifest_and_index_are_not_confused() {
    let mut layout = simple();
    let index: Value = serde_json::from_slice(&layout.files["index.json"]).unwrap();
    let name =
        index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    let manifest: Value = serde_json::from_slice(&layout.files[&name]).unwrap();

    let mut both = manifest.clone();
    both["manifests"] = json!([]);
    let descriptor = layout.document(MANIFEST, &both);
    layout.index(json!([descriptor]));
    assert!(refusal(&layout).contains("both an index and a manifest"));

    let descriptor = layout.document(INDEX, &manifest);
    layout.index(json!([descriptor]));
    assert!(refusal(&layout).contains("mediaType is"));

    let mut artifact = manifest;
    artifact["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
    let descriptor = layout.document(MANIFEST, &artifact);
    layout.index(json!([descriptor]));
    assert!(refusal(&layout).contains("not a container image"));
}

/// Digests that are paths.
#[test]
fn cve_2024_3727_digests_are_not_paths() {
    let mut layout = simple();
    layout.files.insert("secret".into(), b"{}".to_vec());
    for digest in ["sha256:../../secret", "sha512:00", "sha256:ABCD", "../secret", "sha256:"] {
        layout.index(json!([{"mediaType": MANIFEST, "digest": digest, "size": 2}]));
        assert!(refusal(&layout).contains("invalid digest"));
    }
}

#[test]
fn damaged_blobs_are_detected() {
    let whole = simple();
    for name in whole.files.keys().filter(|name| name.starts_with("blobs/")) {
        let mut layout = whole.clone();
        let bytes = layout.files.get_mut(name).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let error = refusal(&layout);
        assert!(error.contains("damaged or forged") && error.contains(name), "{error}");
        layout.files.get_mut(name).unwrap().push(b' ');
        assert!(refusal(&layout).contains("damaged or forged"));
        layout.files.remove(name);
        assert!(refusal(&layout).contains(&format!("{name} is missing")));
    }
}

/// The blob matches the manifest, but its uncompressed content does not match the config.
#[test]
fn diff_ids_are_checked() {
    for blob in [gzip(&upper()), upper(), zstd(&upper())] {
        let mut layout = Layout::default();
        let manifest = layout.image(&[(base(), blob, LAYER)], &json!({}));
        layout.index(json!([manifest]));
        assert!(refusal(&layout).contains("damaged or forged"));
    }
}

#[test]
fn links_out_of_a_layout_are_rejected() {
    let scratch = Scratch::new();
    let path = simple().dir(&scratch);
    let index = path.join("index.json");
    std::fs::rename(&index, scratch.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(scratch.path("elsewhere"), &index).unwrap();
    let error = probe(&path).unwrap_err().to_string();
    assert!(error.contains("points outside the image"), "{error}");
}

#[test]
fn invalid_config_values_are_named() {
    let cases = [
        (json!({"Env": ["=x"]}), "config key Env"),
        (json!({"WorkingDir": "srv"}), "config key WorkingDir"),
        (json!({"Volumes": {"data": {}}}), "config key Volumes"),
        (json!({"Cmd": vec!["x"; 2000]}), "config key Cmd: 2000 entries"),
        (json!({"User": "x".repeat(40_000)}), "config key User: a string of 40000 bytes"),
        (
            json!({"Entrypoint": ["a\u{0}b"]}),
            "config key Entrypoint[0]: must not contain a NUL byte",
        ),
        (json!({"Cmd": "sh"}), "config key Cmd: must be a list"),
    ];
    for (config, expected) in cases {
        let mut layout = Layout::default();
        let manifest = layout.image(&[], &config);
        layout.index(json!([manifest]));
        let error = refusal(&layout);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn errors_name_the_layer_and_the_entry() {
    let mut layout = Layout::default();
    let bad = Tarball::new().file("../x", b"").end();
    let manifest = layout.image(&[(bad.clone(), bad.clone(), LAYER)], &json!({}));
    layout.index(json!([manifest]));
    let error = refusal(&layout);
    assert!(error.contains(Digest::of(&bad).hex()) && error.contains("entry \"../x\""), "{error}");
}

/// A decompression bomb in zstd: a frame that repeats one byte.
#[test]
fn decompression_bombs_are_stopped() {
    // Magic, a window of 1 MiB, and RLE blocks of 128 KiB each in 4 bytes.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    for _ in 0..4000 {
        let block: u32 = (128 << 10) << 3 | 1 << 1;
        bomb.extend(&block.to_le_bytes()[..3]);
        bomb.push(0);
    }
    let mut layout = Layout::default();
    let manifest = layout.image(&[(base(), bomb, LAYER)], &json!({}));
    layout.index(json!([manifest]));
    let error = refusal(&layout);
    assert!(error.contains("unpacked size") && error.contains("at most"), "{error}");
}

/// Three indexes that each refer to the next one 3,000 times: 27,000,000,000 paths.
#[test]
fn an_index_is_followed_once_even_if_referenced_repeatedly() {
    let mut layout = Layout::default();
    let mut inner = layout.image(&[(base(), base(), LAYER)], &json!({}));
    for _ in 0..3 {
        let index = json!({"schemaVersion": 2, "manifests": vec![inner; 3000]});
        inner = layout.document(INDEX, &index);
    }
    layout.index(json!([inner]));
    let scratch = Scratch::new();
    assert!(probe(&layout.archive(&scratch)).is_ok());
}

/// Any JSON value, with the relevant keys.
fn json_value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "schemaVersion",
        "mediaType",
        "manifests",
        "config",
        "layers",
        "digest",
        "size",
        "platform",
        "os",
        "linux",
        "amd64",
        "architecture",
        "rootfs",
        "diff_ids",
        MANIFEST,
        INDEX,
        "Config",
        "Layers",
        "imageLayoutVersion",
        "1.0.0",
        "../x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::from(2)),
        word.clone().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(word.clone().prop_map(String::from), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Replaced or corrupted documents: an image or an error, never a panic.
    #[test]
    fn any_documents_are_handled(
        value in json_value(),
        place in any::<prop::sample::Index>(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        replace: bool,
        rehash: bool,
    ) {
        let mut layout = simple();
        let names: Vec<String> = layout.files.keys().cloned().collect();
        let name = place.get(&names).clone();
        let mut bytes = layout.files[&name].clone();
        if replace {
            bytes = value.to_string().into_bytes();
        }
        for (at, value) in hits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if rehash && name.starts_with("blobs/") {
            let descriptor = layout.blob(MANIFEST, bytes);
            layout.index(json!([descriptor]));
        } else {
            layout.files.insert(name, bytes);
        }
        let scratch = Scratch::new();
        let _ = probe(&layout.archive(&scratch));
        let _ = pack_image(&layout.dir(&scratch), &scratch.path("layers"));
    }

    /// A config that is corrupted anywhere, with its new digest.
    #[test]
    fn any_config_is_handled(
        place in any::<prop::sample::Index>(),
        value in json_value(),
    ) {
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Entrypoint": ["x"], "Env": ["A=b"], "User": "", "Volumes": {}},
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        let keys = ["/architecture", "/config", "/config/Env", "/rootfs", "/rootfs/diff_ids",
            "/config/Entrypoint/0", "/config/Volumes"];
        let mut config = config;
        let key: &&str = place.get(&keys);
        *config.pointer_mut(key).unwrap() = value;
        let mut layout = Layout::default();
        let config = layout.document(CONFIG, &config);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
        let manifest = layout.document(MANIFEST, &manifest);
        layout.index(json!([manifest]));
        let scratch = Scratch::new();
        let _ = probe(&layout.dir(&scratch));
    }
}

#[test]
fn duplicate_members_of_an_archive_are_rejected() {
    let scratch = Scratch::new();
    let header = Header { name: b"index.json", content: b"{}", ..Header::default() };
    let path = scratch.path("image.tar");
    std::fs::write(&path, Tarball::new().member(&header).member(&header).end()).unwrap();
    let error = probe(&path).unwrap_err().to_string();
    assert!(error.contains("duplicate file index.json"), "{error}");
}
