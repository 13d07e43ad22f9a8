//! `keel --host` in tests, with configuration and state of its own.

use crate::guest::PATIENCE;
use crate::{Guest, keel};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The result of a command.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Makes a command use folders of the test instead of the user's configuration and state.
pub fn own_folders(command: &mut Command, scratch: &Path) {
    command.env("XDG_CACHE_HOME", scratch.join("cache"));
    command.env("XDG_CONFIG_HOME", scratch.join("config"));
    command.env_remove("KEEL_HOST");
}

impl Guest {
    /// A `keel` command for this host, which must have been booted with `api`, as the admin whose key
    /// `keel run` has generated.
    ///
    /// Waits until the API listens: before, QEMU accepts the connection and resets it. A host whose API
    /// never listens gets the command all the same, which then fails with the reason.
    pub fn command(&self, args: &[&str]) -> Command {
        let deadline = Instant::now() + PATIENCE;
        while !self.console().contains("host key ") && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut command = Command::new(keel());
        own_folders(&mut command, self.scratch.path());
        command.arg("--host").arg(self.api_address()).args(args);
        command
    }

    /// Runs such a command and waits for its end.
    pub fn keel(&self, args: &[&str]) -> Said {
        match self.command(args).output() {
            Ok(output) => output.into(),
            Err(error) => self.fail(&format!("keel {args:?}: {error}")),
        }
    }

    /// Runs such a command, which must succeed; returns its standard output.
    pub fn keel_ok(&self, args: &[&str]) -> String {
        let said = self.keel(args);
        if said.code != 0 {
            self.fail(&format!("keel {args:?}: {said:?}"));
        }
        said.out
    }

    /// The address of the API.
    pub fn api_address(&self) -> String {
        match self.api {
            Some(port) => format!("127.0.0.1:{port}"),
            None => panic!("the guest was booted without an API"),
        }
    }

    /// The file with the key and certificate that `keel run` has generated.
    pub fn identity(&self) -> PathBuf {
        let run = self.scratch.path().join("cache/keel/run");
        let folders = std::fs::read_dir(&run).into_iter().flatten().flatten();
        let mut keys = folders.map(|folder| folder.path().join("identity.pem"));
        match keys.find(|key| key.exists()) {
            Some(key) => key,
            None => self.fail(&format!("no identity.pem below {}", run.display())),
        }
    }

    /// A temporary folder of this guest.
    pub fn scratch(&self) -> PathBuf {
        self.scratch.path().to_owned()
    }
}
