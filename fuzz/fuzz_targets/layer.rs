//! Reads a layer's tar stream into a tree and writes the tree as a file system image, which an independent
//! reader reads back.
#![no_main]

use fuzz::{erofs, file, tar};
use image::erofs::{Options, identify, write_image};
use image::tree::{Kind, Limits, NodeId, Region, Tree, read_layer};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::io::Cursor;

const LIMITS: Limits = Limits { entries: 500, path: 4096, bytes: 1 << 20, xattrs: 4096 };

fuzz_target!(|data: &[u8]| {
    let mut stream = data.to_vec();
    tar::seal(&mut stream);
    let region = Region::whole(file(stream.len() as u64, &[(0, &stream)])).expect("fstat");
    let Ok(tree) = read_layer(&region, &LIMITS) else { return };
    let mut wanted = BTreeMap::new();
    walk(&tree, Tree::ROOT, &[], &mut wanted);
    for uncompressed in [true, false] {
        let options = Options { uncompressed, ..Options::default() };
        let mut image = Cursor::new(Vec::new());
        let Ok(stats) = write_image(&tree, &options, &mut image) else { continue };
        let image = image.into_inner();
        assert_eq!(stats.size, image.len() as u64);
        assert_eq!(identify(&mut image.as_slice()), Some(([0; 16], stats.size)));
        let found = erofs::read(&image);
        assert_eq!(found.len(), wanted.len());
        for (path, entry) in &found {
            let Some(id) = wanted.get(path) else { panic!("{} came out", path.escape_ascii()) };
            let Some(node) = tree.get(*id) else { panic!("a node is lost") };
            assert_eq!(entry.mode & 0o7777, node.meta.mode);
            assert_eq!((entry.uid, entry.gid), (node.meta.uid, node.meta.gid));
            assert_eq!(entry.mtime, (node.meta.mtime.seconds, node.meta.mtime.nanos));
            assert_eq!(entry.xattrs, node.meta.xattrs);
            match &node.kind {
                Kind::File(content) => {
                    let mut bytes = vec![0; usize::try_from(content.len()).expect("capped")];
                    content.read_exact_at(&mut bytes, 0).expect("inside the stream");
                    assert!(entry.content == bytes);
                }
                Kind::Symlink(target) => assert_eq!(entry.content, *target),
                _ => assert!(entry.content.is_empty()),
            }
        }
    }
});

fn walk(tree: &Tree, at: NodeId, path: &[u8], found: &mut BTreeMap<Vec<u8>, NodeId>) {
    for (name, child) in tree.entries(at) {
        assert!(!name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..");
        let path = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
        walk(tree, child, &path, found);
    }
    found.insert(path.to_vec(), at);
}
