//! Capability names, sets, and the default set (capabilities(7)).

use crate::sys::Result;
use nix::errno::Errno;
use std::fmt;
use units::capability::NAMES;

/// One capability.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Capability(u8);

impl Capability {
    /// Looks up a capability by its upper-case name, with or without `CAP_`.
    pub fn from_name(name: &str) -> Option<Capability> {
        let name = name.strip_prefix("CAP_").unwrap_or(name);
        let number = NAMES.iter().position(|known| *known == name)?;
        u8::try_from(number).ok().map(Capability)
    }

    /// The name, without `CAP_`.
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or("?")
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CapSet(u64);

impl CapSet {
    /// The empty set.
    pub const EMPTY: CapSet = CapSet(0);

    /// The default set of a container: CHOWN DAC_OVERRIDE FOWNER FSETID KILL
    /// SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP.
    pub const DEFAULT: CapSet = CapSet(
        1 << 0
            | 1 << 1
            | 1 << 3
            | 1 << 4
            | 1 << 5
            | 1 << 6
            | 1 << 7
            | 1 << 8
            | 1 << 10
            | 1 << 18
            | 1 << 31,
    );

    /// Every capability this crate knows.
    pub const ALL: CapSet = CapSet((1 << NAMES.len()) - 1);

    /// The default set without `drop`, then with `add`. `ALL` means every capability in either
    /// list, so `drop = ["ALL"], add = ["NET_BIND_SERVICE"]` leaves NET_BIND_SERVICE alone.
    ///
    /// # Errors
    /// The first unknown name.
    pub fn from_names<S: AsRef<str>>(add: &[S], drop: &[S]) -> std::result::Result<CapSet, String> {
        fn named<S: AsRef<str>>(names: &[S]) -> std::result::Result<CapSet, String> {
            names.iter().try_fold(CapSet::EMPTY, |set, name| match name.as_ref() {
                "ALL" => Ok(CapSet::ALL),
                name => Capability::from_name(name).map(|cap| set.with(cap)).ok_or(name.to_owned()),
            })
        }
        Ok(CapSet(CapSet::DEFAULT.0 & !named(drop)?.0 | named(add)?.0))
    }

    /// The set with `cap` added.
    #[must_use]
    pub fn with(self, cap: Capability) -> CapSet {
        CapSet(self.0 | 1 << cap.0)
    }

    /// The capabilities in both sets.
    #[must_use]
    pub fn intersection(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    /// The capabilities in this set that are not in `other`.
    #[must_use]
    pub fn without(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }

    /// The known capabilities of a bit mask.
    pub(crate) fn from_bits(bits: u64) -> CapSet {
        CapSet(bits & CapSet::ALL.0)
    }

    /// The capabilities, in numeric order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0u8..64).map(Capability).filter(move |cap| self.contains(*cap))
    }

    /// Whether the set contains `cap`.
    pub fn contains(self, cap: Capability) -> bool {
        self.0 & 1 << cap.0 != 0
    }

    /// The set as a bit mask, as in `/proc/PID/status`.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Drops every capability that is not in `keep` from the bounding set, which also limits what a
/// set-uid root program or file capabilities can grant. Needs CAP_SETPCAP.
pub(crate) fn limit_bounding_set(keep: CapSet) -> Result<()> {
    for number in 0..64u8 {
        if keep.contains(Capability(number)) {
            continue;
        }
        // SAFETY: prctl with integers only.
        let done =
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        match Errno::result(done) {
            Ok(_) => {}
            // Past the kernel's last capability.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The bounding set of this process.
pub(crate) fn bounding_set() -> CapSet {
    // SAFETY: prctl with integers only. An unknown capability is reported as an error.
    let has = |cap: &Capability| unsafe {
        libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(cap.0), 0, 0, 0) == 1
    };
    CapSet::ALL.iter().filter(has).fold(CapSet::EMPTY, CapSet::with)
}

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two 32-bit words per set.
const VERSION_3: u32 = 0x2008_0522;

/// Sets every capability set of this process except the bounding set. A non-empty inheritable set
/// would let a non-root program gain capabilities from files (CVE-2022-24769).
pub(crate) fn apply(permitted: CapSet, inheritable: CapSet, ambient: CapSet) -> Result<()> {
    // SAFETY: prctl with integers only.
    let done =
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Errno::result(done)?;
    let word = |shift: u32| {
        let bits = (permitted.0 >> shift) as u32;
        Data { effective: bits, permitted: bits, inheritable: (inheritable.0 >> shift) as u32 }
    };
    let header = Header { version: VERSION_3, pid: 0 };
    let data = [word(0), word(32)];
    // SAFETY: header and data have the layout of version 3 and outlive the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    Errno::result(done)?;
    for cap in ambient.iter() {
        let (raise, number) = (libc::PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(cap.0));
        // SAFETY: prctl with integers only.
        Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number, 0, 0) })?;
    }
    Ok(())
}

/// The capability sets of this process.
fn own() -> Result<[Data; 2]> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: header and data have the layout of version 3 and outlive the call.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    Errno::result(done).map(|_| data)
}

/// Copies the permitted set to the effective set.
pub(crate) fn raise() -> Result<()> {
    let data = own()?.map(|word| Data { effective: word.permitted, ..word });
    let header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: header and data have the layout of version 3 and outlive the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    Errno::result(done).map(drop)
}

/// The effective set of this process.
pub(crate) fn effective() -> Result<CapSet> {
    let [low, high] = own()?;
    Ok(CapSet(u64::from(low.effective) | u64::from(high.effective) << 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_the_documented_one() {
        let names = units::capability::DEFAULT;
        assert_eq!(CapSet::from_names(&names, &["ALL"]).unwrap(), CapSet::DEFAULT);
        assert_eq!(CapSet::DEFAULT.bits(), 0x8004_05fb);
    }

    #[test]
    fn names_and_numbers_agree_with_libc_order() {
        assert_eq!(Capability::from_name("CAP_SYS_ADMIN").unwrap().number(), 21);
        assert_eq!(Capability::from_name("NET_RAW").unwrap().number(), 13);
        assert_eq!(Capability::from_name("CHECKPOINT_RESTORE").unwrap().number(), 40);
        assert_eq!(Capability::from_name("net_raw"), None);
    }

    #[test]
    fn drop_is_applied_before_add_and_all_means_every_capability() {
        assert_eq!(CapSet::from_names::<&str>(&[], &["ALL"]).unwrap(), CapSet::EMPTY);
        let only = CapSet::from_names(&["NET_RAW"], &["ALL"]).unwrap();
        assert_eq!(only.bits(), 1 << 13);
        assert_eq!(CapSet::from_names(&["ALL"], &[]).unwrap(), CapSet::ALL);
        assert_eq!(CapSet::from_names(&["SYS_FUN"], &[]), Err("SYS_FUN".to_owned()));
    }
}
