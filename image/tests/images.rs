//! Images in all supported formats.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod common;

use common::layout::*;
use common::tarball::Tarball;
use common::{Scratch, fsck, reader};
use image::oci::{Digest, pack_image, probe};
use serde_json::{Value, json};

#[test]
fn directory_and_archive_give_the_same_result() {
    let scratch = Scratch::new();
    let layout = simple();
    let layers = scratch.path("layers");
    let from_dir = pack_image(&layout.dir(&scratch), &layers).unwrap();
    assert_eq!(from_dir.config.entrypoint, ["/bin/app"]);
    assert_eq!(from_dir.config.cmd, [""; 0]);
    assert_eq!(from_dir.config.volumes, ["/data"]);
    assert_eq!(from_dir.layers[0], Digest::of(&base()).hex());
    let files = layers_in(&layers);
    assert_eq!(files.len(), 3);
    let archive = layout.archive(&scratch);
    let other = scratch.path("other");
    assert_eq!(pack_image(&archive, &other).unwrap(), from_dir);
    for name in files {
        let bytes = std::fs::read(layers.join(&name)).unwrap();
        assert_eq!(std::fs::read(other.join(&name)).unwrap(), bytes);
        fsck(&other.join(&name), None);
    }
    assert_eq!(probe(&archive).unwrap(), from_dir);
    let upper = std::fs::read(layers.join(format!("{}.erofs", from_dir.layers[1]))).unwrap();
    assert_eq!(reader::read(&upper)[b"bin/sh".as_slice()].mode, 0o020000);
}

#[test]
fn existing_layers_are_kept_and_damaged_ones_are_rewritten() {
    let scratch = Scratch::new();
    let (path, layers) = (simple().dir(&scratch), scratch.path("layers"));
    let image = pack_image(&path, &layers).unwrap();
    let file = layers.join(format!("{}.erofs", image.layers[0]));
    let before = std::fs::metadata(&file).unwrap().modified().unwrap();
    pack_image(&path, &layers).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), before);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..4096]).unwrap();
    pack_image(&path, &layers).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), whole);
}

/// Archives from `docker save`: an old one (with a link for a repeated layer), and one with a layer twice.
#[test]
fn docker_archives() {
    let scratch = Scratch::new();
    let diff_ids: Vec<_> = [base(), upper(), base()].map(|tar| Digest::of(&tar).to_string()).into();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let name = format!("{}.json", Digest::of(&config).hex());
    let manifest = json!([{
        "Config": name, "RepoTags": ["web:1"], "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"],
    }]);
    let build = |config: &[u8], manifest: &Value| {
        let manifest = manifest.to_string();
        let tar = Tarball::new()
            .file("a/layer.tar", &base())
            .file("b/layer.tar", &gzip(&upper()))
            .symlink("c/layer.tar", "../a/layer.tar")
            .file(&name, config)
            .file("manifest.json", manifest.as_bytes());
        let path = scratch.path("save.tar");
        std::fs::write(&path, tar.end()).unwrap();
        path
    };
    let image = pack_image(&build(&config, &manifest), &scratch.path("layers")).unwrap();
    assert_eq!(image.config.cmd, ["sh"]);
    // Of the layer that occurs twice, the last occurrence is kept.
    let expected = [upper(), base()].map(|tar| Digest::of(&tar).hex().to_string());
    assert_eq!(image.layers, expected);

    let forged = [config.as_slice(), b" "].concat();
    let error = probe(&build(&forged, &manifest)).unwrap_err().to_string();
    assert!(error.contains("damaged or forged"), "{error}");
    let two = json!([manifest[0], {"Config": name, "RepoTags": ["web:2"], "Layers": []}]);
    let error = probe(&build(&config, &two)).unwrap_err().to_string();
    assert!(error.contains("web:1, web:2"), "{error}");
}

#[test]
fn a_missing_image_lists_the_other_files() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("web.tar"), b"").unwrap();
    let error = probe(&scratch.path("wbe.tar")).unwrap_err().to_string();
    assert!(error.ends_with("not found; the directory contains web.tar"), "{error}");
    let error = probe(&scratch.path("web.tar")).unwrap_err().to_string();
    assert!(error.contains("neither index.json"), "{error}");
    std::fs::write(scratch.path("web.tar"), gzip(b"x")).unwrap();
    let error = probe(&scratch.path("web.tar")).unwrap_err().to_string();
    assert!(error.contains("gunzip"), "{error}");
}

#[test]
fn the_platform_is_selected_and_attestations_are_ignored() {
    let mut layout = Layout::default();
    let mut ours = layout.image(&[(base(), base(), LAYER)], &json!({}));
    ours["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let mut arm = layout.image(&[], &json!({}));
    arm["platform"] = json!({"architecture": "arm64", "os": "linux"});
    let mut unknown = layout.image(&[], &json!({"User": "x"}));
    unknown["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    let nested = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [arm, ours, unknown]});
    let nested = layout.document(INDEX, &nested);
    layout.index(json!([nested]));
    let scratch = Scratch::new();
    assert_eq!(probe(&layout.dir(&scratch)).unwrap().layers.len(), 1);
    layout.index(json!([arm]));
    assert!(refusal(&layout).contains("no image for linux/amd64; available: linux/arm64"));
}

/// A layer with `tmp/x` but without `tmp` must not change the attributes of `/tmp` in the layer below. The
/// same layer as the lowest of another image uses the default attributes.
#[test]
fn implied_directories_have_the_attributes_of_the_layer_below() {
    let scratch = Scratch::new();
    let sparse = Tarball::new().file("tmp/x", b"").end();
    let image = |layers: &[Vec<u8>]| {
        let scratch = Scratch::new();
        let mut layout = Layout::default();
        let layers: Vec<_> = layers.iter().map(|tar| (tar.clone(), tar.clone(), LAYER)).collect();
        let manifest = layout.image(&layers, &json!({}));
        layout.index(json!([manifest]));
        (layout.dir(&scratch), scratch)
    };
    let mode = |name: &str| {
        let bytes = std::fs::read(scratch.path(&format!("layers/{name}.erofs"))).unwrap();
        reader::read(&bytes)[b"tmp".as_slice()].mode & 0o7777
    };
    for _ in 0..2 {
        let (alone, _keep) = image(std::slice::from_ref(&sparse));
        let alone = pack_image(&alone, &scratch.path("layers")).unwrap();
        assert_eq!(mode(&alone.layers[0]), 0o755);
        let (above, _keep) = image(&[base(), sparse.clone()]);
        let above = pack_image(&above, &scratch.path("layers")).unwrap();
        assert_eq!(mode(&above.layers[1]), 0o1777);
    }
}
