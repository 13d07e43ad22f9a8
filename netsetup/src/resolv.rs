//! Writing small files: replacing them atomically, and rewriting resolv.conf in place.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces a file atomically, so that a reader sees either the old or the new content. No fsync,
/// because there is no disk below /run.
///
/// # Errors
/// The directory is missing or full.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    file.write_all(content)?;
    fs::rename(&new, path)
}

/// Rewrites a file that is mounted in containers. A mount refers to the inode, so running
/// containers would never see a new file in its place.
///
/// # Errors
/// The directory is missing or full.
pub fn rewrite(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(false).mode(mode).open(path)?;
    let old = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    // A single write, padded with empty lines to the old length: a reader sees either the old or
    // the new text, never an empty file and never the end of the old text.
    let padding = old.saturating_sub(text.len()).min(4096);
    file.write_all([text.as_bytes(), &vec![b'\n'; padding]].concat().as_slice())?;
    file.set_len(text.len() as u64)
}

/// The content of a resolv.conf(5).
pub fn text(servers: &[IpAddr], domain: Option<&str>) -> String {
    let search = domain.map(|domain| format!("search {domain}\n"));
    let servers = servers.iter().map(|server| format!("nameserver {server}\n"));
    search.into_iter().chain(servers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_containers_see_new_name_servers() {
        let path = std::env::temp_dir().join(format!("keel-resolv-{}", std::process::id()));
        let mut mounted = fs::File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        for text in ["nameserver 10.0.2.3\n", "nameserver 192.168.100.100\n", "", "x\n"] {
            rewrite(&path, text, 0o644).unwrap();
            let mut seen = String::new();
            io::Seek::rewind(&mut mounted).unwrap();
            io::Read::read_to_string(&mut mounted, &mut seen).unwrap();
            assert_eq!(seen, text);
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_format_of_resolv_conf() {
        let servers = ["10.0.2.3".parse().unwrap(), "fd00::1".parse().unwrap()];
        let expected = "search example.org\nnameserver 10.0.2.3\nnameserver fd00::1\n";
        assert_eq!(text(&servers, Some("example.org")), expected);
        assert_eq!(text(&[], None), "");
    }
}
