//! Reads valid and malicious tar streams into trees.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod common;

use common::Scratch;
use common::tarball::{Header, Tarball};
use image::tree::{Kind, LayerError, Limits, NodeId, OPAQUE, Tree, read_layer};
use proptest::prelude::*;

fn read(tar: Tarball) -> Result<Tree, LayerError> {
    read_bytes(&tar.end(), &Limits::default())
}

fn read_bytes(bytes: &[u8], limits: &Limits) -> Result<Tree, LayerError> {
    let scratch = Scratch::new();
    read_layer(&scratch.region(bytes), limits)
}

fn find(tree: &Tree, path: &str) -> Option<NodeId> {
    path.split('/').try_fold(Tree::ROOT, |at, name| tree.child(at, name.as_bytes()))
}

/// The error of a rejected layer, which must name the entry.
fn refusal(tar: Tarball) -> String {
    read(tar).unwrap_err().to_string()
}

#[test]
fn attributes_are_kept() {
    let header = Header { name: b"./a/f", mode: 0o4755, uid: 7, gid: 8, ..Header::default() };
    let tree = read(
        Tarball::new()
            .pax(&[
                (b"mtime", b"-3.5"),
                (b"uid", b"3000000"),
                (b"SCHILY.xattr.security.capability", b"\x01\n=\n"),
                (b"SCHILY.xattr.user.note", b"n"),
                (b"SCHILY.xattr.user.overlay.opaque", b"y"),
                (b"SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                (b"SCHILY.xattr.security.selinux", b"x"),
            ])
            .member(&Header { content: b"hello", ..header }),
    )
    .unwrap();
    let node = tree.get(find(&tree, "a/f").unwrap()).unwrap();
    assert_eq!((node.meta.mode, node.meta.uid, node.meta.gid), (0o4755, 3_000_000, 8));
    assert_eq!((node.meta.mtime.seconds, node.meta.mtime.nanos), (-4, 500_000_000));
    let names: Vec<&[u8]> = node.meta.xattrs.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [b"security.capability".as_slice(), b"user.note"]);
    assert!(tree.get(find(&tree, "a").unwrap()).unwrap().implied);
}

#[test]
fn a_repeated_directory_replaces_its_attributes() {
    let tar = Tarball::new().dir("d", 0o700).file("d/f", b"").dir("d/", 0o1777);
    let tree = read(tar).unwrap();
    assert_eq!(tree.get(find(&tree, "d").unwrap()).unwrap().meta.mode, 0o1777);
    assert!(find(&tree, "d/f").is_some());
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let tar = Tarball::new()
        .file("a/.wh.gone", b"")
        .file("b/kept", b"")
        .file("b/.wh.hidden", b"")
        .file("b/.wh..wh..opq", b"")
        .dir("new", 0o755)
        .file(".wh.new", b"")
        .file(".wh.file", b"")
        .file("file", b"")
        .member(&Header { name: b"native", flag: b'3', ..Header::default() });
    let tree = read(tar).unwrap();
    assert!(tree.is_whiteout(find(&tree, "a/gone").unwrap()));
    assert!(tree.is_whiteout(find(&tree, "native").unwrap()));
    let opaque = |path: &str| {
        let node = tree.get(find(&tree, path).unwrap()).unwrap();
        node.meta.xattrs.get(OPAQUE).map(Vec::as_slice)
    };
    assert_eq!(opaque("b"), Some(b"y".as_slice()));
    // A new directory of the layer in place of a removed one must not be merged.
    assert_eq!(opaque("new"), Some(b"y".as_slice()));
    assert_eq!(opaque("a"), None);
    assert!(find(&tree, "b/hidden").is_none());
    assert!(matches!(tree.get(find(&tree, "file").unwrap()).unwrap().kind, Kind::File(_)));
}

#[test]
fn rejected_entries_are_named() {
    let device = Header { name: b"dev/sda", flag: b'4', device: (8, 0), ..Header::default() };
    let cases = [
        (Tarball::new().file("a/../../etc/passwd", b""), "path contains \"..\""),
        (Tarball::new().symlink("l", "/etc").file("l/passwd", b""), "through a symbolic link"),
        (Tarball::new().file("f", b"").file("f/x", b""), "not a directory"),
        (Tarball::new().file("f", b"").file("./f", b""), "duplicate entry"),
        (Tarball::new().dir("f", 0o755).file("f", b""), "duplicate entry"),
        (Tarball::new().symlink("f", "x").dir("f", 0o777), "duplicate entry"),
        (Tarball::new().file(".wh.x", b"").file(".wh.x", b""), "duplicate entry"),
        (Tarball::new().file(".wh.", b""), "a whiteout without a name"),
        (Tarball::new().file(".wh...", b""), "a whiteout without a name"),
        (Tarball::new().dir(".wh.d", 0o755), "must be a regular file"),
        (Tarball::new().file(".wh.d/x", b""), "a whiteout cannot be a directory"),
        (Tarball::new().file(".wh..wh.plnk", b""), "AUFS"),
        (Tarball::new().file(".wh..wh..opq", b""), "root of a layer cannot be opaque"),
        (Tarball::new().hard_link("l", "/etc/passwd"), "does not precede it in this layer"),
        (Tarball::new().hard_link("l", "../passwd"), "invalid path"),
        (Tarball::new().dir("d", 0o755).hard_link("l", "d"), "not a regular file"),
        (Tarball::new().symlink("s", "x").hard_link("l", "s"), "not a regular file"),
        (Tarball::new().member(&device), "device nodes are not allowed in images"),
        (Tarball::new().file(".", b""), "must be a directory"),
        (Tarball::new().member(&Header { flag: b'S', ..Header::default() }), "sparse"),
        (Tarball::new().pax(&[(b"GNU.sparse.major", b"1")]).file("f", b""), "sparse"),
        (Tarball::new().pax(&[(b"uid", b"4294967295")]).file("f", b""), "out of range"),
        (
            Tarball::new().pax(&[(b"path", &[b'a'; 256])]).file("f", b""),
            "a file name has 256 bytes",
        ),
        (Tarball::new().pax(&[(b"path", &b"ab/".repeat(2000))]).file("f", b""), "longer than"),
        (Tarball::new().pax(&[(b"path", b"a\0b")]).file("f", b""), "NUL"),
        (Tarball::new().member(&Header { flag: b'!', ..Header::default() }), "unknown member"),
        (
            Tarball::new().member(&Header { flag: b'5', content: b"x", ..Header::default() }),
            "content",
        ),
        (
            Tarball::new().pax(&[(b"path", b"x")]).pax(&[(b"path", b"y")]).file("f", b""),
            "duplicate extended",
        ),
        (Tarball::new().pax(&[(b"path", b"x")]), "without a member"),
        (
            Tarball::new().member(&Header { size: Some(1 << 40), ..Header::default() }),
            "archive is truncated",
        ),
    ];
    for (tar, expected) in cases {
        let message = refusal(tar);
        assert!(message.contains(expected), "{message:?} does not contain {expected:?}");
    }
}

/// A file whose content is a tar archive, with its true size in PAX and another one in the header: a
/// reader that uses the header would see the content as further members.
fn size_in_the_header(stated: u64) {
    let inner = Tarball::new().file("smuggled", b"").end();
    let size = inner.len().to_string();
    let header =
        Header { name: b"outer", content: &inner, size: Some(stated), ..Header::default() };
    let tar = Tarball::new().pax(&[(b"size", size.as_bytes())]).member(&header);
    let tree = read(tar.file("after", b"")).unwrap();
    assert!(find(&tree, "smuggled").is_none());
    assert!(find(&tree, "after").is_some());
    match &tree.get(find(&tree, "outer").unwrap()).unwrap().kind {
        Kind::File(content) => assert_eq!(content.len(), inner.len() as u64),
        other => panic!("{other:?}"),
    }
}

/// Vulnerable readers use the size in the header, here 0.
#[test]
fn cve_2025_62518_the_pax_size_overrides_the_header() {
    size_in_the_header(0);
}

/// Vulnerable readers use the PAX size only if the header has none.
#[test]
fn cve_2026_33055_the_pax_size_overrides_a_different_size_in_the_header() {
    for stated in [1, 512, 1024, 1 << 30] {
        size_in_the_header(stated);
    }
}

#[test]
fn limits_are_enforced() {
    let small = Limits { entries: 3, bytes: 10, ..Limits::default() };
    let tar = Tarball::new().file("a/b/c/d", b"");
    assert!(read_bytes(&tar.end(), &small).unwrap_err().to_string().contains("3 entries"));
    let tar = Tarball::new().file("a", b"123456").file("b", b"123456");
    assert!(read_bytes(&tar.end(), &small).unwrap_err().to_string().contains("10 bytes"));
    let huge = Header { flag: b'x', size: Some(1 << 30), ..Header::default() };
    assert!(refusal(Tarball::new().member(&huge)).contains("the extended header has"));
}

#[test]
fn hard_links_share_one_node() {
    let tree = read(Tarball::new().file("a", b"x").hard_link("d/b", "./a")).unwrap();
    assert_eq!(find(&tree, "a"), find(&tree, "d/b"));
    assert_eq!(tree.get(find(&tree, "a").unwrap()).unwrap().names, 2);
}

/// Members of every kind with short names, so that they conflict.
fn member() -> impl Strategy<Value = (Vec<u8>, u8, Vec<u8>, Vec<u8>, u64)> {
    let name = "[ab./]{0,5}(\\.wh\\.)?[abc.]{0,3}".prop_map(String::into_bytes);
    let flag = prop::sample::select(b"0123456xgLKS\0".to_vec());
    let link = "[ab./]{0,4}".prop_map(String::into_bytes);
    let content = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u8>(), 0..700),
        1 => Just(b"12 path=a/b\n".to_vec()),
    ];
    (name, flag, link, content, 0u64..8)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any members with any corrupted bytes give a tree or an error, and the tree can be written.
    #[test]
    fn any_stream_is_handled(
        members in prop::collection::vec(member(), 0..12),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        whole: bool,
    ) {
        let mut tar = Tarball::new();
        for (name, flag, link, content, size) in &members {
            let size = (*size == 0).then_some(512);
            tar = tar.member(&Header {
                name, flag: *flag, link, content, size, ..Header::default()
            });
        }
        let mut bytes = tar.end();
        if !whole {
            for (at, value) in hits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let length = cut.index(bytes.len());
            bytes.truncate(length);
        }
        let scratch = Scratch::new();
        if let Ok(tree) = read_layer(&scratch.region(&bytes), &Limits::default()) {
            let mut out = std::io::Cursor::new(Vec::new());
            image::erofs::write_image(&tree, &Default::default(), &mut out).unwrap();
            common::reader::read(out.get_ref());
        }
    }
}
