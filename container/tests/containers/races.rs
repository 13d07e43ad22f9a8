//! Paths that another process changes during setup, hundreds of times. The QEMU tests of these
//! CVEs try this a few times on a whole host.

use crate::host::{Host, bind};
use crate::root_file_system::tmpfs;
use crate::tests;
use container::*;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;

tests![
    cve_2021_30465_a_mount_stays_inside_while_its_path_changes,
    cve_2024_45310_directories_are_created_inside_while_their_path_changes,
];

const STARTS: usize = 300;

/// A process that exchanges two names until this is dropped.
struct Exchanger(i32);

impl Exchanger {
    fn of(a: &Path, b: &Path) -> Exchanger {
        // SAFETY: the test is single-threaded; the child only makes system calls.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Parent { child } => Exchanger(child.as_raw()),
            nix::unistd::ForkResult::Child => {
                // SAFETY: prctl with integers only.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                loop {
                    let _ = renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE);
                }
            }
        }
    }
}

impl Drop for Exchanger {
    fn drop(&mut self) {
        // SAFETY: the child is ours and has not been waited for; a null status is allowed.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Starts containers with `made` mounted below a directory of a volume that is being exchanged with
/// a link to a directory of the host. Returns how many ran, and in how many the path went through
/// the link.
fn start_again_and_again(host: &mut Host, made: &Mount) -> (usize, usize) {
    let (vol, victim) = (host.dir.join("vol"), host.dir.join("victim"));
    for dir in [&vol.join("a"), &victim] {
        fs::create_dir_all(dir).unwrap();
    }
    let on_the_host = || {
        let mut found = vec![victim.clone()];
        let mut at = 0;
        while let Some(dir) = found.get(at).cloned() {
            found.extend(fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()));
            at += 1;
        }
        found.sort();
        found
    };
    let untouched = on_the_host();
    symlink(&victim, vol.join("l")).unwrap();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    // The directory itself, whatever its current name.
    let held = fs::File::open(vol.join("a")).unwrap();
    let directory = format!("/proc/self/fd/{}", held.as_raw_fd());
    let exchanger = Exchanger::of(&vol.join("a"), &vol.join("l"));
    let (mut ran, mut elsewhere) = (0, 0);
    for number in 0..STARTS {
        let out = host.sh("cat /proc/self/mounts", |plan| {
            plan.mounts = vec![bind(&vol, "/v"), made.clone()];
        });
        // A path that changes during the lookup may cause an error, but must not lead outside.
        match &out.setup {
            Setup::Done => {
                let mounted = |line: &&str| line.contains("/by-");
                let place = out.out.lines().find(mounted).unwrap_or_else(|| panic!("{out:?}"));
                ran += 1;
                elsewhere += usize::from(place.contains("victim"));
            }
            // The name changed from a link to a directory or back during the lookup.
            Setup::Failed(error) => {
                let moved = [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP, Errno::EINVAL];
                assert_eq!(error.step, Step::Mounts, "{number}: {error}");
                assert!(moved.contains(&error.errno), "{number}: {error}");
            }
            other => panic!("{number}: {other:?}"),
        }
        assert_eq!(on_the_host(), untouched, "{number}: the host was changed");
        // So that the next start has something to create again.
        for name in ["by-mount", "by-mkdir"] {
            let _ = fs::remove_dir_all(Path::new(&directory).join(name));
        }
    }
    drop(exchanger);
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    println!(
        "{STARTS} starts: {ran} ran, {elsewhere} of them through the link inside the container"
    );
    (ran, elsewhere)
}

fn cve_2021_30465_a_mount_stays_inside_while_its_path_changes(host: &mut Host) {
    let other = host.dir.join("other");
    // The path also exists on the host, where a misdirected mount would find it.
    for dir in [&other, &host.dir.join("victim/by-mount")] {
        fs::create_dir_all(dir).unwrap();
    }
    let (ran, elsewhere) = start_again_and_again(host, &bind(&other, "/v/a/by-mount"));
    assert_raced(ran, elsewhere);
}

/// The exact numbers depend on timing, but some starts must succeed and some must be disturbed.
fn assert_raced(ran: usize, elsewhere: usize) {
    assert!(ran > 0, "no start succeeded");
    assert!(ran - elsewhere < STARTS, "no start was disturbed");
}

fn cve_2024_45310_directories_are_created_inside_while_their_path_changes(host: &mut Host) {
    let deep = tmpfs("/v/a/by-mkdir/deep/er", None);
    let (ran, elsewhere) = start_again_and_again(host, &deep);
    assert_raced(ran, elsewhere);
}
