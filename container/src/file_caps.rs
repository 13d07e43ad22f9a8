//! File capabilities (capabilities(7), "File capabilities").

use crate::caps::CapSet;
use std::ffi::CStr;

/// The extended attribute that holds them.
const NAME: &CStr = c"security.capability";
/// Size of the largest value (linux/capability.h, `XATTR_CAPS_SZ`).
const MAX_SIZE: usize = 24;
/// `VFS_CAP_REVISION_MASK`: the bits of the first word that hold the revision.
const REVISION: u32 = 0xff00_0000;
/// `VFS_CAP_FLAGS_EFFECTIVE`: the exec fails unless all of the capabilities can be granted.
const EFFECTIVE: u32 = 1;

/// The decoded attribute of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCaps {
    /// Capabilities granted at exec, limited by the bounding set.
    pub permitted: CapSet,
    /// The kernel refuses to execute the file if one of `permitted` cannot be granted (EPERM).
    pub effective: bool,
}

impl FileCaps {
    /// Decodes the value of the attribute: `struct vfs_cap_data` or `struct vfs_ns_cap_data` of
    /// linux/capability.h. `None`: the kernel would not accept it, either. Unknown capabilities are
    /// left out.
    pub fn parse(value: &[u8]) -> Option<FileCaps> {
        let (words, rest) = value.as_chunks::<4>();
        let word = |index: usize| words.get(index).copied().map(u32::from_le_bytes);
        let magic = word(0)?;
        // One or two pairs of permitted and inheritable words; revision 3 is followed by the root
        // user id of the namespace it applies to.
        let (length, pairs) = match magic & REVISION {
            0x0100_0000 => (3, 1),
            0x0200_0000 => (5, 2),
            0x0300_0000 => (6, 2),
            _ => return None,
        };
        if words.len() != length || !rest.is_empty() {
            return None;
        }
        let high = if pairs == 2 { word(3)? } else { 0 };
        let permitted = CapSet::from_bits(u64::from(word(1)?) | u64::from(high) << 32);
        Some(FileCaps { permitted, effective: magic & EFFECTIVE != 0 })
    }

    /// The capabilities of a file; `None`: it has none, or they cannot be read.
    pub(crate) fn of(path: &CStr) -> Option<FileCaps> {
        let mut value = [0u8; MAX_SIZE];
        // SAFETY: the strings and the buffer outlive the call, and the buffer's length is passed.
        let size = unsafe {
            libc::getxattr(path.as_ptr(), NAME.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        FileCaps::parse(value.get(..usize::try_from(size).ok()?)?)
    }

    /// Why a process with this bounding set cannot execute a file with these capabilities, and the
    /// key that adds them; `None`: they are not the reason.
    pub fn refusal(&self, bounding: CapSet) -> Option<String> {
        let missing = self.permitted.without(bounding);
        if !self.effective || missing == CapSet::EMPTY {
            return None;
        }
        let quoted: Vec<String> = missing.iter().map(|cap| format!("\"{}\"", cap.name())).collect();
        Some(format!(
            "has the {}, which the container does not have; set cap_add = [{}]",
            describe(missing),
            quoted.join(", ")
        ))
    }

    /// Describes what executing the file would grant; `None`: nothing. (The file's inheritable set
    /// is ignored: a container's inheritable set is empty.)
    pub fn gain(&self) -> Option<String> {
        (self.permitted != CapSet::EMPTY).then(|| format!("has the {}", describe(self.permitted)))
    }
}

fn describe(set: CapSet) -> String {
    let names: Vec<&str> = set.iter().map(|cap| cap.name()).collect();
    let noun = if names.len() == 1 { "file capability" } else { "file capabilities" };
    format!("{noun} {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(names: &[&str]) -> CapSet {
        CapSet::from_names(names, &["ALL"]).unwrap()
    }

    /// The value in revision 2 or, with a root user id, revision 3.
    fn value(permitted: u64, effective: bool, root: Option<u32>) -> Vec<u8> {
        let revision: u32 = if root.is_some() { 0x0300_0000 } else { 0x0200_0000 };
        let words =
            [revision | u32::from(effective), permitted as u32, 7, (permitted >> 32) as u32, 7];
        words.into_iter().chain(root).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn a_missing_capability_is_named_with_its_key() {
        let ping = FileCaps::parse(&value(1 << 13, true, None)).unwrap();
        assert_eq!(
            ping.refusal(CapSet::DEFAULT).unwrap(),
            "has the file capability NET_RAW, which the container does not have; \
             set cap_add = [\"NET_RAW\"]"
        );
        assert_eq!(ping.refusal(set(&["NET_RAW"])), None);
        let two =
            FileCaps::parse(&value(1 << 12 | 1 << 13 | 1 << 10, true, Some(524_288))).unwrap();
        assert_eq!(
            two.refusal(CapSet::DEFAULT).unwrap(),
            "has the file capabilities NET_ADMIN, NET_RAW, which the container does not have; \
             set cap_add = [\"NET_ADMIN\", \"NET_RAW\"]"
        );
        assert_eq!(
            two.gain().unwrap(),
            "has the file capabilities NET_BIND_SERVICE, NET_ADMIN, NET_RAW"
        );
    }

    #[test]
    fn without_the_effective_flag_the_exec_is_not_refused() {
        let file = FileCaps::parse(&value(1 << 13, false, None)).unwrap();
        assert_eq!(file.refusal(CapSet::EMPTY), None);
    }

    proptest! {
        #[test]
        fn parsing_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(caps) = FileCaps::parse(&bytes) {
                prop_assert!([12, 20, 24].contains(&bytes.len()));
                let refused = caps.refusal(CapSet::DEFAULT).is_some();
                prop_assert!(!refused || caps.effective);
            }
        }

        #[test]
        fn an_encoded_value_is_parsed_back(
            bits in any::<u64>(),
            effective in any::<bool>(),
            root in proptest::option::of(any::<u32>()),
        ) {
            let caps = FileCaps::parse(&value(bits, effective, root)).unwrap();
            prop_assert_eq!(caps.permitted.bits(), bits & CapSet::ALL.bits());
            prop_assert_eq!(caps.effective, effective);
            prop_assert_eq!(caps.refusal(CapSet::ALL), None);
            prop_assert_eq!(caps.gain().is_some(), caps.permitted != CapSet::EMPTY);
        }

        #[test]
        fn a_wrong_length_is_refused(extra in 1usize..12, bits in any::<u64>()) {
            let whole = value(bits, true, Some(1));
            prop_assert!(FileCaps::parse(&whole[..whole.len() - extra]).is_none());
        }
    }
}
