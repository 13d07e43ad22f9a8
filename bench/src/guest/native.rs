//! The native variant: the VM's file system is entered on this machine.
//!
//! It has its own mount namespace, so that the machine's mounts stay unchanged and the tree can be
//! the root, as pivot_root(2) in the runtimes requires. Only crun and runc are measured: they need no
//! daemon.

use crate::{controllers, mounts, stage};
use engine_bench::{Failure, Naming};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};

/// Enters the tree and measures. The report goes to standard output.
pub fn main(tree: &str) -> Result<(), Failure> {
    let none = None::<&str>;
    let report = "/proc/self/fd/1";
    unshare(CloneFlags::CLONE_NEWNS).naming("a mount namespace (this takes root)")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).naming("private mounts")?;
    mount(Some(tree), tree, none, MsFlags::MS_BIND, none).naming(tree)?;
    chdir(tree).naming(tree)?;
    pivot_root(".", ".").naming("pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH).naming("the old root")?;
    chdir("/").naming("/")?;
    mounts::all()?;
    // SAFETY: the process has one thread.
    unsafe { std::env::set_var("PATH", "/usr/sbin:/usr/bin:/sbin:/bin") };
    let done = stage::main(report, &[]);
    controllers::clean_up()?;
    done
}
