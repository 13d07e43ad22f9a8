//! Images written from random trees, read back by two independent readers.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod common;

use common::{Scratch, fsck, reader};
use image::erofs::{Options, write_image};
use image::tree::{Content, Kind, Meta, NodeId, Time, Tree};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Cursor;

fn image_of(tree: &Tree, options: &Options) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let stats = write_image(tree, options, &mut out).unwrap();
    assert_eq!(stats.size, out.get_ref().len() as u64);
    out.into_inner()
}

/// The expected entries, by path.
fn expected(tree: &Tree) -> BTreeMap<Vec<u8>, (NodeId, reader::Entry)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![(Vec::new(), Tree::ROOT)];
    while let Some((path, id)) = waiting.pop() {
        let node = tree.get(id).unwrap();
        let mut dirs = 0;
        for (name, child) in tree.entries(id) {
            dirs += u32::from(matches!(tree.get(child).unwrap().kind, Kind::Dir(_)));
            let path = match path.is_empty() {
                true => name.to_vec(),
                false => [path.as_slice(), b"/", name].concat(),
            };
            waiting.push((path, child));
        }
        let encode = |major: u32, minor: u32| minor & 0xff | major << 8 | (minor & !0xff) << 12;
        let (kind, content, device) = match &node.kind {
            Kind::Dir(_) => (0o040000, Vec::new(), 0),
            Kind::File(content) => {
                let mut bytes = vec![0; content.len() as usize];
                content.read_exact_at(&mut bytes, 0).unwrap();
                (0o100000, bytes, 0)
            }
            Kind::Symlink(target) => (0o120000, target.clone(), 0),
            Kind::Fifo => (0o010000, Vec::new(), 0),
            Kind::Socket => (0o140000, Vec::new(), 0),
            Kind::Char { major, minor } => (0o020000, Vec::new(), encode(*major, *minor)),
            Kind::Block { major, minor } => (0o060000, Vec::new(), encode(*major, *minor)),
        };
        let meta = &node.meta;
        let device = if device == 0 && matches!(kind, 0o010000 | 0o140000) { 0 } else { device };
        let links = if kind == 0o040000 { dirs + 2 } else { node.names };
        let entry = reader::Entry {
            nid: 0,
            mode: kind | meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            mtime: (meta.mtime.seconds, meta.mtime.nanos),
            links,
            device,
            xattrs: meta.xattrs.clone(),
            content,
        };
        found.insert(path, (id, entry));
    }
    found
}

/// Compares an image with its tree, and checks that all names of a node have the same inode.
fn compare(tree: &Tree, image: &[u8]) {
    let expected = expected(tree);
    let found = reader::read(image);
    let names = |keys: Vec<&Vec<u8>>| keys.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(names(found.keys().collect()), names(expected.keys().collect()));
    let mut nids = BTreeMap::new();
    for (path, (id, entry)) in expected {
        let mut got = found[&path].clone();
        assert_eq!(*nids.entry(id).or_insert(got.nid), got.nid);
        got.nid = 0;
        assert!(got == entry, "{}: {got:?} is not {entry:?}", path.escape_ascii());
    }
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        3 => 0usize..600,
        3 => (0usize..40, 0usize..7).prop_map(|(blocks, off)| (blocks * 4096 + off).saturating_sub(3)),
        1 => 0usize..200_000,
    ];
    let word = vec(any::<u8>(), 1..40);
    (length, word, 0u8..5, any::<u64>()).prop_map(|(length, word, how, seed)| {
        let mut state = seed | 1;
        let mut noise = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..length)
            .map(|at| match how {
                0 => 0,
                1 => word[at % word.len()],
                2 => noise(),
                // Half of it is compressible: clusters of both kinds in one file.
                3 if at / 65536 % 2 == 0 => noise(),
                3 => word[at % word.len()],
                _ => word[noise() as usize % word.len()] & 0x0f,
            })
            .collect()
    })
}

fn meta() -> impl Strategy<Value = Meta> {
    let id = prop_oneof![0u32..2000, any::<u32>()];
    let name = prop_oneof![
        Just(b"security.capability".to_vec()),
        Just(b"trusted.overlay.opaque".to_vec()),
        "user\\.[a-z]{1,60}".prop_map(String::into_bytes),
    ];
    let value = prop_oneof![9 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 0..6000)];
    let xattrs = prop_oneof![4 => Just(BTreeMap::new()), 1 => btree_map(name, value, 0..4)];
    (0u16..0o10000, id.clone(), id, any::<i64>(), 0u32..1_000_000_000, xattrs).prop_map(
        |(mode, uid, gid, seconds, nanos, xattrs)| {
            let mtime = Time { seconds, nanos };
            Meta { mode, uid, gid, mtime, xattrs }
        },
    )
}

fn kind(devices: bool) -> impl Strategy<Value = Kind> {
    let number = if devices { 0u32..0xfff } else { 0u32..1 };
    prop_oneof![
        6 => content().prop_map(|bytes| Kind::File(Content::Bytes(bytes.into()))),
        4 => Just(Kind::Dir(BTreeMap::new())),
        2 => vec(1u8.., 1..300).prop_map(Kind::Symlink),
        1 => vec(1u8.., 3900..4095).prop_map(Kind::Symlink),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Socket),
        1 => (number.clone(), number).prop_map(|(major, minor)| Kind::Char { major, minor }),
    ]
}

/// A tree of up to 60 nodes in random directories, some with a second name.
fn tree(devices: bool) -> impl Strategy<Value = Tree> {
    let name = prop_oneof![
        6 => "[a-z!.-]{1,12}".prop_map(String::into_bytes),
        1 => vec(prop_oneof![Just(b'-'), 1u8..], 1..255),
    ];
    let name =
        name.prop_filter("a name", |name| !name.contains(&b'/') && name != b"." && name != b"..");
    let node = (any::<prop::sample::Index>(), name, meta(), kind(devices), 0u8..8);
    (meta(), vec(node, 0..60)).prop_map(|(root, nodes)| {
        let mut tree = Tree::new();
        tree.get_mut(Tree::ROOT).unwrap().meta = root;
        let mut dirs = vec![Tree::ROOT];
        let mut others = Vec::new();
        for (place, name, meta, kind, link) in nodes {
            let parent = *place.get(&dirs);
            if link == 0 && !others.is_empty() {
                let _ = tree.link(parent, &name, *place.get(&others));
                continue;
            }
            let is_dir = matches!(kind, Kind::Dir(_));
            if let Ok(id) = tree.add(parent, &name, meta, kind) {
                if is_dir { dirs.push(id) } else { others.push(id) }
            }
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn trees_round_trip(tree in tree(true), uncompressed: bool) {
        let options = Options { uncompressed, ..Options::default() };
        let image = image_of(&tree, &options);
        compare(&tree, &image);
        prop_assert_eq!(image_of(&tree, &options), image);
    }

    #[test]
    fn erofs_utils_accept_the_images(mut tree in tree(false)) {
        // The user who runs the test must be able to read what is extracted.
        for (id, _) in expected(&tree).into_values() {
            tree.get_mut(id).unwrap().meta.mode |= 0o700;
        }
        let scratch = Scratch::new();
        let (file, out) = (scratch.path("layer.erofs"), scratch.path("out"));
        std::fs::write(&file, image_of(&tree, &Options::default())).unwrap();
        fsck(&file, Some(&out));
        for (path, (_, entry)) in expected(&tree) {
            use std::os::unix::ffi::OsStrExt;
            let at = out.join(std::ffi::OsStr::from_bytes(&path));
            match entry.mode & 0o170000 {
                0o100000 => prop_assert!(std::fs::read(&at).unwrap() == entry.content),
                0o120000 => {
                    let target = std::fs::read_link(&at).unwrap();
                    prop_assert_eq!(target.as_os_str().as_bytes(), &entry.content);
                }
                _ => prop_assert!(std::fs::symlink_metadata(&at).is_ok()),
            }
        }
    }
}

#[test]
fn large_directories_span_blocks() {
    let mut tree = Tree::new();
    let dir = tree.add(Tree::ROOT, b"many", Meta::default(), Kind::Dir(BTreeMap::new())).unwrap();
    for number in 0..5000 {
        let name = format!("{number}-{}", "x".repeat(number % 200));
        let content = Content::Bytes(name.clone().into_bytes().into());
        tree.add(dir, name.as_bytes(), Meta::default(), Kind::File(content)).unwrap();
    }
    let image = image_of(&tree, &Options::default());
    compare(&tree, &image);
    let scratch = Scratch::new();
    std::fs::write(scratch.path("image"), &image).unwrap();
    fsck(&scratch.path("image"), None);
}

#[test]
fn text_is_compressed_and_random_data_does_not_grow() {
    let text: Vec<u8> =
        (0..100_000).flat_map(|n: u32| format!("line {n}\n").into_bytes()).collect();
    let sizes = |content: &[u8]| {
        let mut tree = Tree::new();
        let content = Content::Bytes(content.into());
        tree.add(Tree::ROOT, b"f", Meta::default(), Kind::File(content)).unwrap();
        [false, true].map(|uncompressed| {
            image_of(&tree, &Options { uncompressed, ..Options::default() }).len()
        })
    };
    let [packed, plain] = sizes(&text);
    assert!(packed * 2 < plain, "{packed} of {plain}");
    let mut state = 1u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let [packed, plain] = sizes(&noise.take(300_000).collect::<Vec<u8>>());
    assert_eq!(packed, plain);
}
