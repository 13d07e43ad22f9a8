//! Capability names, sets, and the default set (capabilities(7)).

use crate::sys::Result;
use nix::errno::Errno;
use std::fmt;
use units::capability::NAMES;

/// One capability.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Capability(u8);

impl Capability {
    /// By its name, upper case, with or without `CAP_`.
    pub fn from_name(name: &str) -> Option<Capability> {
        let name = name.strip_prefix("CAP_").unwrap_or(name);
        let number = NAMES.iter().position(|known| *known == name)?;
        u8::try_from(number).ok().map(Capability)
    }

    /// Its name, without `CAP_`.
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or("?")
    }

    /// Its number.
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
    /// No capability.
    pub const EMPTY: CapSet = CapSet(0);

    /// What a container gets unless its unit says otherwise: CHOWN DAC_OVERRIDE FOWNER FSETID KILL
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

    /// The default set with `drop` taken away, then `add` added. `ALL` stands for every capability
    /// on either side, so that `drop = ["ALL"], add = ["NET_BIND_SERVICE"]` means what it says.
    ///
    /// # Errors
    /// The first name that is no capability's.
    pub fn from_names<S: AsRef<str>>(add: &[S], drop: &[S]) -> std::result::Result<CapSet, String> {
        fn named<S: AsRef<str>>(names: &[S]) -> std::result::Result<CapSet, String> {
            names.iter().try_fold(CapSet::EMPTY, |set, name| match name.as_ref() {
                "ALL" => Ok(CapSet::ALL),
                name => Capability::from_name(name).map(|cap| set.with(cap)).ok_or(name.to_owned()),
            })
        }
        Ok(CapSet(CapSet::DEFAULT.0 & !named(drop)?.0 | named(add)?.0))
    }

    /// With one more.
    #[must_use]
    pub fn with(self, cap: Capability) -> CapSet {
        CapSet(self.0 | 1 << cap.0)
    }

    /// What both hold.
    #[must_use]
    pub fn intersection(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    /// What this one holds and the other does not.
    #[must_use]
    pub fn without(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }

    /// Those of a bit mask that this crate knows.
    pub(crate) fn from_bits(bits: u64) -> CapSet {
        CapSet(bits & CapSet::ALL.0)
    }

    /// Each of them, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0u8..64).map(Capability).filter(move |cap| self.contains(*cap))
    }

    /// Whether it holds `cap`.
    pub fn contains(self, cap: Capability) -> bool {
        self.0 & 1 << cap.0 != 0
    }

    /// As the bit mask of `/proc/PID/status`.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Drops everything that is not in `keep` from the bounding set, which also limits what a set-uid
/// root program or file capabilities could give back. Needs CAP_SETPCAP.
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
            // The kernel's last capability has been passed: it knows no more of them.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The bounding set of this process.
pub(crate) fn bounding_set() -> CapSet {
    // SAFETY: prctl with integers only. A capability that the kernel does not know is an error.
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

/// Sets all sets of this process but the bounding one. An inheritable set that is not empty gives the
/// program of another user than root capabilities through those of files (CVE-2022-24769).
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
    // SAFETY: header and data have the layout of version 3 and live over the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    Errno::result(done)?;
    for cap in ambient.iter() {
        let (raise, number) = (libc::PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(cap.0));
        // SAFETY: prctl with integers only.
        Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number, 0, 0) })?;
    }
    Ok(())
}

/// The sets of this process.
fn own() -> Result<[Data; 2]> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: header and data have the layout of version 3 and live over the call.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    Errno::result(done).map(|_| data)
}

/// Makes everything effective that is permitted.
pub(crate) fn raise() -> Result<()> {
    let data = own()?.map(|word| Data { effective: word.permitted, ..word });
    let header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: header and data have the layout of version 3 and live over the call.
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
    fn drop_comes_before_add_and_all_means_all() {
        assert_eq!(CapSet::from_names::<&str>(&[], &["ALL"]).unwrap(), CapSet::EMPTY);
        let only = CapSet::from_names(&["NET_RAW"], &["ALL"]).unwrap();
        assert_eq!(only.bits(), 1 << 13);
        assert_eq!(CapSet::from_names(&["ALL"], &[]).unwrap(), CapSet::ALL);
        assert_eq!(CapSet::from_names(&["SYS_FUN"], &[]), Err("SYS_FUN".to_owned()));
    }
}
