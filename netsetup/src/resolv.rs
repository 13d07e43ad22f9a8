//! Small files that are replaced as a whole, and the one with the name servers.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces a file, so that a reader sees the old content or the new one, whatever happens.
/// Below /run there is no disk to wait for, hence no fsync.
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

/// The text of a resolv.conf(5).
pub fn text(servers: &[IpAddr], domain: Option<&str>) -> String {
    let search = domain.map(|domain| format!("search {domain}\n"));
    let servers = servers.iter().map(|server| format!("nameserver {server}\n"));
    search.into_iter().chain(servers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_as_resolvers_read_it() {
        let servers = ["10.0.2.3".parse().unwrap(), "fd00::1".parse().unwrap()];
        let expected = "search example.org\nnameserver 10.0.2.3\nnameserver fd00::1\n";
        assert_eq!(text(&servers, Some("example.org")), expected);
        assert_eq!(text(&[], None), "");
    }
}
