//! The `keel` command with a home folder of its own.

use super::fake::FakeHost;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A home folder of a test.
pub struct Home {
    /// Its path.
    pub dir: PathBuf,
}

impl Home {
    /// An empty one.
    pub fn empty() -> Home {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("remote-{}-{number}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Home { dir }
    }

    /// One with a key, and with the keys of these hosts pinned.
    pub fn knowing(hosts: &[&FakeHost]) -> Home {
        let home = Home::empty();
        assert!(home.keel(&["keygen"]).status.success());
        let lines: Vec<String> =
            hosts.iter().map(|host| format!("{} {}\n", host.address, host.key)).collect();
        std::fs::write(home.config("known_hosts"), lines.concat()).unwrap();
        home
    }

    /// The path of a configuration file.
    pub fn config(&self, name: &str) -> PathBuf {
        self.dir.join("config/keel").join(name)
    }

    /// A `keel` command that uses this home folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keel"));
        command
            .args(args)
            .current_dir(&self.dir)
            .env("HOME", &self.dir)
            .env("XDG_CONFIG_HOME", self.dir.join("config"))
            .env("XDG_CACHE_HOME", self.dir.join("cache"))
            .env_remove("KEEL_HOST");
        command
    }

    /// Runs `keel` without input.
    pub fn keel(&self, args: &[&str]) -> Output {
        self.command(args).stdin(std::process::Stdio::null()).output().unwrap()
    }

    /// Runs `keel` for this host.
    pub fn on(&self, host: &FakeHost, args: &[&str]) -> Output {
        let address = host.address.to_string();
        let mut all = vec!["--host", &address];
        all.extend(args);
        self.keel(&all)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Standard output as text.
pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error as text.
pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The exit code.
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}
