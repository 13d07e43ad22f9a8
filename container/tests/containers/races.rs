//! Paths that somebody changes while the engine walks them, hundreds of times: what the QEMU tests of
//! the same names try a few times through the whole host.

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
    cve_2021_30465_a_mount_lands_inside_whatever_its_path_becomes,
    cve_2024_45310_directories_are_made_inside_whatever_their_path_becomes,
];

const STARTS: usize = 300;

/// A process that exchanges two names for as long as this is there.
struct Exchanger(i32);

impl Exchanger {
    fn of(a: &Path, b: &Path) -> Exchanger {
        // SAFETY: the test is single-threaded; the child makes system calls only.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Parent { child } => Exchanger(child.as_raw()),
            nix::unistd::ForkResult::Child => {
                // SAFETY: a number.
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

/// Starts containers with this mounted below a directory of a volume that is exchanged with a link to
/// a directory of the host. How many ran, and in how many the directory had just been the link.
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
    // The directory itself, whatever it is called at the moment.
    let held = fs::File::open(vol.join("a")).unwrap();
    let directory = format!("/proc/self/fd/{}", held.as_raw_fd());
    let exchanger = Exchanger::of(&vol.join("a"), &vol.join("l"));
    let (mut ran, mut elsewhere) = (0, 0);
    for number in 0..STARTS {
        let out = host.sh("cat /proc/self/mounts", |plan| {
            plan.mounts = vec![bind(&vol, "/v"), made.clone()];
        });
        // A path that changes in the middle may well end in an error; it may not end elsewhere.
        match &out.setup {
            Setup::Done => {
                let mounted = |line: &&str| line.contains("/by-");
                let place = out.out.lines().find(mounted).unwrap_or_else(|| panic!("{out:?}"));
                ran += 1;
                elsewhere += usize::from(place.contains("victim"));
            }
            // The name was a link a moment ago and is a directory now, or the other way round.
            Setup::Failed(error) => {
                let moved = [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP, Errno::EINVAL];
                assert_eq!(error.step, Step::Mounts, "{number}: {error}");
                assert!(moved.contains(&error.errno), "{number}: {error}");
            }
            other => panic!("{number}: {other:?}"),
        }
        assert_eq!(on_the_host(), untouched, "{number}: the host was changed");
        // So that there is always something to be made.
        for name in ["by-mount", "by-mkdir"] {
            let _ = fs::remove_dir_all(Path::new(&directory).join(name));
        }
    }
    drop(exchanger);
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    println!(
        "{STARTS} starts: {ran} ran, {elsewhere} of them where the link leads in the container"
    );
    (ran, elsewhere)
}

fn cve_2021_30465_a_mount_lands_inside_whatever_its_path_becomes(host: &mut Host) {
    let other = host.dir.join("other");
    // On the host there is what a mount that goes astray would find.
    for dir in [&other, &host.dir.join("victim/by-mount")] {
        fs::create_dir_all(dir).unwrap();
    }
    let (ran, elsewhere) = start_again_and_again(host, &bind(&other, "/v/a/by-mount"));
    assert_raced(ran, elsewhere);
}

/// How many find a path that holds still is up to the processors; some do, and some are disturbed.
fn assert_raced(ran: usize, elsewhere: usize) {
    assert!(ran > 0, "no path was ever found");
    assert!(ran - elsewhere < STARTS, "nobody exchanged anything");
}

fn cve_2024_45310_directories_are_made_inside_whatever_their_path_becomes(host: &mut Host) {
    let deep = tmpfs("/v/a/by-mkdir/deep/er", None);
    let (ran, elsewhere) = start_again_and_again(host, &deep);
    assert_raced(ran, elsewhere);
}
