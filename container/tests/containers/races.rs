//! Paths that somebody changes while the engine walks them, hundreds of times: what the QEMU tests of
//! the same names try a few times through the whole host.

use crate::host::{Host, bind};
use crate::root_file_system::tmpfs;
use crate::tests;
use container::*;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs;
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
            nix::unistd::ForkResult::Child => loop {
                // SAFETY: a number.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                let _ = renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE);
            },
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
    symlink(&victim, vol.join("l")).unwrap();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
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
            Setup::Failed(error) => assert_eq!(error.step, Step::Mounts, "{number}: {error}"),
            other => panic!("{number}: {other:?}"),
        }
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{number}: made on the host");
        // So that there is always something to be made.
        for name in ["a", "l"] {
            for made in ["by-mkdir", "by-mount"] {
                let _ = fs::remove_dir_all(vol.join(name).join(made));
            }
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
    fs::create_dir(&other).unwrap();
    let (ran, elsewhere) = start_again_and_again(host, &bind(&other, "/v/a/by-mount"));
    assert!(elsewhere > 0 && elsewhere < ran, "the exchanger was not there: {elsewhere} of {ran}");
}

fn cve_2024_45310_directories_are_made_inside_whatever_their_path_becomes(host: &mut Host) {
    let deep = tmpfs("/v/a/by-mkdir/deep/er", None);
    let (ran, elsewhere) = start_again_and_again(host, &deep);
    assert!(elsewhere > 0 && elsewhere < ran, "the exchanger was not there: {elsewhere} of {ran}");
}
